"""From rows to examples, strictly: whatever does not fit is named with its file and line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apet.errors import ApetError, UnknownNameError
from apet.tasks.files import Row
from apet.tasks.task import Task


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


def read_examples(task: Task, rows: Iterable[Row]) -> list[Example]:
    """Rows of one split as examples.

    Returns:
        The examples, in the order of the rows.

    Raises:
        ApetError: a missing column, an empty or unknown label, an empty answer, a repeated id.
    """
    examples: list[Example] = []
    ids: dict[str, str] = {}
    for row in rows:
        for column in (*task.columns, task.target):
            if column not in row.values:
                raise ApetError(f"{row.location}: {UnknownNameError('column', column, row.values)}")
        row_id = row.values.get("id")
        if row_id not in (None, ""):
            if str(row_id) in ids:
                raise ApetError(f"{row.location}: id {row_id!r} was used at {ids[str(row_id)]}; ids must be unique")
            ids[str(row_id)] = row.location
        texts = {c: to_text(row.values[c]) for c in task.columns}
        examples.append(Example(texts, _references(task, row), row.location))
    return examples


def _references(task: Task, row: Row) -> tuple[str, ...]:
    value = row.values[task.target]
    if task.is_classification:
        word = task.labels.get(to_text(value).strip())
        if word is None:
            known = ", ".join(repr(k) for k in task.labels)
            raise ApetError(f"{row.location}: label {value!r} is unknown; {task.name} has {known}")
        return (word,)
    accepted = value if isinstance(value, list | tuple) else _parse_list(value)
    references = tuple(to_text(v) for v in accepted if to_text(v).strip())
    if not references:
        raise ApetError(
            f"{row.location}: column {task.target!r} holds no answer ({value!r}); give a text or a list of texts"
        )
    return references


def _parse_list(value: object) -> list[object]:
    """A CSV cell may hold a JSON list of accepted answers."""
    if isinstance(value, str) and value.startswith('["'):
        try:
            return list(json.loads(value))
        except ValueError:
            pass
    return [value]


def to_text(value: object) -> str:
    """A value as text that every tokenizer takes: None is empty, whole floats are whole numbers, lone surrogates go."""
    if value is None:
        return ""
    # A column of integers with gaps is read as floats; its labels are 1 in the task's file, not 1.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
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
            " remove it from one of the two, or let the task's YAML say on_overlap: drop"
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
    examples: Sequence[Example], fraction: float = 0.1, max_samples: int = 1000
) -> tuple[list[Example], list[Example]]:
    """Split off a validation part by a hash of the text; equal texts stay together.

    Returns:
        Training examples, validation examples.
    """
    num_samples = min(max_samples, max(1, round(fraction * len(examples))))
    held_out = {e.normalized_text for e in sample(examples, num_samples)}
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
