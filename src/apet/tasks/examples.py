"""From rows to examples, strictly: whatever does not fit is named with its file and line."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apet.errors import ApetError, UnknownNameError
from apet.tasks.rows import Ambiguous, Row
from apet.tasks.targets import Offenders, Target, read_inputs, read_target, to_text, what_is_missing
from apet.tasks.task import Task

MIN_HELD_OUT = 30
"""Examples of each class in a validation part, where there are twice as many."""


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        texts: column that is read -> its text.
        references: accepted answers; for a classification task the one label word.
        location: ``file:line`` it came from.
    """

    texts: dict[str, str]
    references: tuple[str, ...]
    location: str

    @property
    def normalized_text(self) -> str:
        """The text with case and white space folded; examples that have the same one count as the same."""
        return "\x1f".join(" ".join(t.lower().split()) for t in self.texts.values())


def read_examples(task: Task, rows: Sequence[Row], notes: list[str] | None = None) -> list[Example]:
    """Rows of one split as examples.

    Args:
        task: whose columns are read.
        rows: of one split.
        notes: gets a line for what was found or left out.

    Returns:
        The examples, in the order of the rows.

    Raises:
        ApetError: a missing column; and, all together, rows whose text or label is missing, nested or unreadable
            (unless the task says ``on_missing: drop``), and unknown labels.
    """
    notes = notes if notes is not None else []
    examples: list[Example] = []
    missing = Offenders()
    unknown = Offenders()
    ids: dict[str, int] = {}
    for row in rows:
        for column in (*task.inputs, task.target):
            if column not in row.values:
                raise ApetError(f"{row.location}: {UnknownNameError('column', column, row.values)}")
            if isinstance(row.values[column], Ambiguous):
                raise ApetError(f"{row.location.rpartition(':')[0]}: two columns are called {column!r}; rename one")
        texts = read_inputs(task, row.values)
        target = Target(wrong=texts) if isinstance(texts, str) else read_target(task, row.values, texts)
        if isinstance(texts, str) or target.wrong:
            missing.add(row.location, str(target.wrong))
            continue
        if target.unknown:
            unknown.add(row.location, target.unknown)
            continue
        if row.values.get("id") not in (None, ""):
            ids[str(row.values["id"])] = ids.get(str(row.values["id"]), 0) + 1
        examples.append(Example(texts, target.references, row.location))
    if unknown:
        known = ", ".join(repr(k) for k in list(task.labels)[:20]) or "no such one"
        verb = "is" if unknown.total == 1 else "are"
        raise ApetError(f"{unknown.shown()} {verb} unknown; {task.name} has {known}")
    if missing and task.on_missing == "refuse":
        raise ApetError(
            f"{missing.shown()}; mend {'it' if missing.total == 1 else 'them'}, or leave such rows out: on_missing=drop"
        )
    if missing:
        notes.append(f"{missing.total} of {len(rows)} rows left out: {missing.shown()}")
    repeated = sum(n > 1 for n in ids.values())
    if repeated:
        notes.append(f"{repeated} ids come more than once; rows are told apart by their text")
    return examples


def is_unlabeled(task: Task, rows: Sequence[Row]) -> bool:
    """Whether a split has no labels at all, as test files of competitions: no such column, or each is empty or -1."""
    if not task.is_classification or "-1" in task.labels:
        nothing: tuple[str, ...] = ()
    else:
        nothing = ("-1",)
    values = [row.values.get(task.target) for row in rows]
    return all(
        v is None or (not isinstance(v, list | tuple) and (what_is_missing(v) or to_text(v).strip() in nothing))
        for v in values
    )


def check_overlap(task: Task, train: Sequence[Example], held_out: Sequence[Example]) -> tuple[list[Example], int]:
    """Training examples whose text is not held out.

    Returns:
        Them, and how many were left out.

    Raises:
        ApetError: some are held out, too, and the task says ``on_overlap: refuse``.
    """
    location_of = {e.normalized_text: e.location for e in held_out}
    kept = [e for e in train if e.normalized_text not in location_of]
    num_dropped = len(train) - len(kept)
    if num_dropped and task.on_overlap == "refuse":
        twin = next(e for e in train if e.normalized_text in location_of)
        raise ApetError(
            f"{twin.location}: the same text is held out at {location_of[twin.normalized_text]} ({num_dropped} such);"
            " remove it from one of the two, or leave it out of train: on_overlap=drop"
        )
    return kept, num_dropped


def sample(examples: Sequence[Example], max_samples: int | None) -> list[Example]:
    """At most so many examples, in their order; None = all.

    They are chosen by a hash of their text: the choice stays the same when rows move.

    Returns:
        The examples that were chosen.
    """
    if max_samples is None or len(examples) <= max_samples:
        return list(examples)
    # Equal texts have equal ranks, so that more than asked for may pass the last one: the cut comes after.
    last = sorted(_rank(e) for e in examples)[max_samples - 1]
    return [e for e in examples if _rank(e) <= last][:max_samples]


def hold_out(
    task: Task, examples: Sequence[Example], fraction: float = 0.1, max_samples: int = 1000
) -> tuple[list[Example], list[Example]]:
    """Split off a validation part by a hash of the text, class by class; equal texts stay together.

    Of each class a tenth is held out, or 30 where that would be fewer, but never more than half of it: accuracy on six
    rows of one class says nothing. A class of one row stays in train.

    Args:
        task: whose classes count; free text is one class.
        examples: to part.
        fraction: of each class.
        max_samples: in all, as far as 30 of each class leave it.

    Returns:
        Training examples, validation examples.
    """
    by_class: dict[str, list[Example]] = defaultdict(list)
    for e in examples:
        by_class[e.references[0] if task.is_classification else ""].append(e)
    fraction = min(fraction, max_samples / max(1, len(examples)))
    held_out: set[str] = set()
    for group in by_class.values():
        num_samples = min(max(round(fraction * len(group)), MIN_HELD_OUT), len(group) // 2)
        held_out |= {e.normalized_text for e in sample(group, num_samples)} if num_samples else set()
    return (
        [e for e in examples if e.normalized_text not in held_out],
        [e for e in examples if e.normalized_text in held_out],
    )


def _rank(example: Example) -> bytes:
    return hashlib.sha256(example.normalized_text.encode()).digest()


def examples_fingerprint(examples: Iterable[Example]) -> str:
    """Fingerprint of examples in their order, 16 hex digits."""
    h = hashlib.sha256()
    for e in examples:
        h.update(json.dumps([list(e.texts.values()), e.references]).encode())
    return h.hexdigest()[:16]
