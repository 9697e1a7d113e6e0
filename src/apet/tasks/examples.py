"""From rows to examples, strictly: whatever does not fit is named with its file and line."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apet.errors import ApetError, UnknownNameError, shortened
from apet.tasks.rows import Ambiguous, Row
from apet.tasks.task import Task

MAX_SHOWN = 10
"""Rows that a message names."""
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
        for column in (*task.columns, task.target):
            if column not in row.values:
                raise ApetError(f"{row.location}: {UnknownNameError('column', column, row.values)}")
            if isinstance(row.values[column], Ambiguous):
                raise ApetError(f"{row.location.rpartition(':')[0]}: two columns are called {column!r}; rename one")
        wrong = next((f"{c!r} {w}" for c in task.columns if (w := what_is_missing(row.values[c]))), None)
        wrong = wrong or _missing_target(task, row.values[task.target])
        if wrong:
            missing.add(row.location, wrong)
            continue
        references = _references(task, row)
        if not references:
            unknown.add(row.location, f"label {to_text(row.values[task.target])!r}")
            continue
        if row.values.get("id") not in (None, ""):
            ids[str(row.values["id"])] = ids.get(str(row.values["id"]), 0) + 1
        examples.append(Example({c: to_text(row.values[c]) for c in task.columns}, references, row.location))
    if unknown:
        known = ", ".join(repr(k) for k in list(task.labels)[:20])
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


class Offenders:
    """Rows that do not fit: all are counted, the first few are shown."""

    def __init__(self) -> None:
        self.total = 0
        self._first: list[str] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self.total > 0

    def add(self, location: str, what: str) -> None:
        """Count one."""
        self.total += 1
        if len(self._first) < MAX_SHOWN:
            self._first.append(f"{location}: {shortened(what)}")

    def shown(self) -> str:
        """The first ones, and how many there are."""
        more = f" … ({self.total} rows in all)" if self.total > len(self._first) else ""
        return "; ".join(self._first) + more


def what_is_missing(value: object) -> str | None:
    """Why a value is no text; None where it is one.

    Returns:
        Such as ``is empty`` or ``is a list``.
    """
    if value is None or (isinstance(value, float) and value != value):
        return "is missing"
    if isinstance(value, str):
        if "\0" in value:
            return "holds a NUL character"
        return None if value.strip() else "is empty"
    if isinstance(value, bool | int | float):
        return None if not isinstance(value, float) or math.isfinite(value) else "is infinite"
    if isinstance(value, dict | list | tuple | set | bytes):
        return f"is a {type(value).__name__}, no text"
    return None


def _missing_target(task: Task, value: object) -> str | None:
    """What is missing of a label, or of the accepted answers, of which a free text may have several and some empty."""
    answers = [value] if task.is_classification else _accepted(value)
    reasons = [what_is_missing(v) for v in answers] or ["is an empty list"]
    wrong = reasons[0] if all(reasons) else next((r for r in reasons if r and "no text" in r), None)
    return f"{task.target!r} {wrong}" if wrong else None


def _references(task: Task, row: Row) -> tuple[str, ...]:
    """The label word, or the accepted answers; none where the label is unknown."""
    value = row.values[task.target]
    if task.is_classification:
        text = to_text(value).strip()
        # JSON's true is "true"; who writes files with Python calls it "True".
        word = task.labels.get(text) or (task.labels.get(str(value)) if isinstance(value, bool) else None)
        return (word,) if word is not None else ()
    return tuple(to_text(v) for v in _accepted(value) if not what_is_missing(v))


def is_unlabeled(task: Task, rows: Sequence[Row]) -> bool:
    """Whether a split has no labels at all, as test files of competitions: no such column, or each is empty or -1."""
    if not task.is_classification or "-1" in task.labels:
        nothing: tuple[str, ...] = ()
    else:
        nothing = ("-1",)
    values = [row.values.get(task.target) for row in rows]
    return all(v is None or what_is_missing(v) or to_text(v).strip() in nothing for v in values)


def _accepted(value: object) -> list[object]:
    """Accepted answers: a list of them, also as JSON in a CSV cell, or one."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str) and value.startswith('["'):
        try:
            return list(json.loads(value))
        except (ValueError, RecursionError):
            pass
    return [value]


def to_text(value: object) -> str:
    """A value as text that every tokenizer takes.

    Returns:
        None is empty, whole floats are whole numbers, booleans are written as in JSON, lone surrogates go.
    """
    if value is None:
        return ""
    # A column of integers with gaps is read as floats; its labels are 1 in the task's file, not 1.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        value = str(value).lower()
    return str(value).encode("utf-8", "replace").decode("utf-8")


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
