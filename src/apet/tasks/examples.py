"""From rows to examples, strictly: whatever does not fit is named with its file and line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from apet.errors import ApetError, UnknownNameError
from apet.tasks.files import Row
from apet.tasks.task import Task


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        texts: by input column.
        answers: accepted answers; for a classification task the one label word.
        where: ``file:line``.
    """

    texts: dict[str, str]
    references: tuple[str, ...]
    location: str

    @property
    def key(self) -> str:
        """The text, case and white space folded: what makes two examples the same."""
        return "\x1f".join(" ".join(t.lower().split()) for t in self.texts.values())


def read_examples(task: Task, rows: Iterable[Row]) -> list[Example]:
    """Rows of one split as examples.

    Raises:
        ApetError: a missing column, an empty or unknown label, an answer that is no text, a repeated id.
    """
    examples, ids = [], dict[str, str]()
    for row in rows:
        for column in (*task.columns, task.target):
            if column not in row.values:
                raise ApetError(f"{row.location}: {UnknownNameError('column', column, row.values)}")
        own_id = row.values.get("id")
        if own_id not in (None, ""):
            if str(own_id) in ids:
                raise ApetError(f"{row.location}: id {own_id!r} was used at {ids[str(own_id)]}; ids must be unique")
            ids[str(own_id)] = row.location
        texts = {c: to_text(row.values[c]) for c in task.columns}
        examples.append(Example(texts, _answers(task, row), row.location))
    return examples


def _answers(task: Task, row: Row) -> tuple[str, ...]:
    value = row.values[task.target]
    if task.is_classification:
        word = task.labels.get(to_text(value).strip())
        if word is None:
            known = ", ".join(repr(k) for k in task.labels)
            raise ApetError(f"{row.location}: label {value!r} is unknown; {task.name} has {known}")
        return (word,)
    many = value if isinstance(value, list | tuple) else _listed(value)
    answers = tuple(to_text(v) for v in many if to_text(v).strip())
    if not answers:
        raise ApetError(
            f"{row.location}: column {task.target!r} holds no answer ({value!r}); give a text or a list of texts"
        )
    return answers


def _listed(value: Any) -> list[Any]:
    """A CSV cell may hold a JSON list of accepted answers."""
    if isinstance(value, str) and value.startswith('["'):
        try:
            return list(json.loads(value))
        except ValueError:
            pass
    return [value]


def to_text(value: Any) -> str:
    """As text that every tokenizer takes: None is empty, whole floats are whole numbers, lone surrogates go."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode("utf-8", "replace").decode("utf-8")


def check_overlap(task: Task, train: Sequence[Example], held: Sequence[Example]) -> tuple[list[Example], int]:
    """Training examples whose text is not held out, and how many were left out.

    Raises:
        ApetError: there are some and the task says ``on_overlap: refuse``.
    """
    seen = {e.key: e.location for e in held}
    kept = [e for e in train if e.key not in seen]
    dropped = len(train) - len(kept)
    if dropped and task.on_overlap == "refuse":
        twin = next(e for e in train if e.key in seen)
        raise ApetError(
            f"{twin.location}: the same text is held out at {seen[twin.key]} ({dropped} such); remove it from one of the"
            " two, or let the task's YAML say on_overlap: drop"
        )
    return kept, dropped


def sample(examples: Sequence[Example], most: int | None) -> list[Example]:
    """At most so many, chosen by a hash of the text: stable when rows move; in their order."""
    if most is None or len(examples) <= most:
        return list(examples)
    last = sorted(_rank(e) for e in examples)[most - 1]
    return [e for e in examples if _rank(e) <= last][:most]


def hold_out(examples: Sequence[Example], share: float = 0.1, most: int = 1000) -> tuple[list[Example], list[Example]]:
    """Split off a validation part by a hash of the text; equal texts stay together."""
    wanted = min(most, max(1, round(share * len(examples))))
    held = {e.key for e in sample(examples, wanted)}
    return [e for e in examples if e.key not in held], [e for e in examples if e.key in held]


def _rank(example: Example) -> bytes:
    return hashlib.sha256(example.key.encode()).digest()


def examples_fingerprint(examples: Iterable[Example]) -> str:
    """Fingerprint of examples in their order, 16 hex digits."""
    h = hashlib.sha256()
    for e in examples:
        h.update(json.dumps([list(e.texts.values()), e.references]).encode())
    return h.hexdigest()[:16]
