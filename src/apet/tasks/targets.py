"""What a row asks and which answer is right, by type of task: a label, several, a number, tags, a choice, a text."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apet.errors import ApetError, UnknownNameError, shortened
from apet.tasks.rows import Ambiguous, Row
from apet.tasks.task import Task

SEPARATORS = re.compile(r"\s*[;|,]\s*")
"""Between the labels of a cell that holds several."""


MAX_SHOWN = 10
"""Rows that a message names."""


@dataclass(frozen=True)
class Target:
    """The right answer of a row, or why there is none.

    Attributes:
        references: accepted answers as text.
        wrong: what is missing or does not fit.
        unknown: a label that the task has not.
    """

    references: tuple[str, ...] = ()
    wrong: str | None = None
    unknown: str | None = None


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


def read_target(task: Task, values: Mapping[str, object], texts: Mapping[str, str]) -> Target:
    """The right answer of a row.

    Args:
        task: whose type says how it is written.
        values: of the row.
        texts: its input columns as text.

    Returns:
        The answer; a number, labels as a JSON list, tags with spaces between them, the text of a choice.
    """
    value = values[task.target]
    if task.task_type == "regression":
        number = as_number(value)
        return Target((repr(number),)) if number is not None else Target(wrong=_no_number(task, value))
    if task.task_type == "multi-label":
        return _labels(task, value)
    if task.task_type == "token-classification":
        return _tags(task, value, texts)
    if task.task_type == "multiple-choice":
        return _choice(task, value, texts)
    if task.task_type == "single-label":
        why = what_is_missing(value)
        return Target(wrong=f"{task.target!r} {why}") if why else _label(task, value)
    # Of several accepted texts some may be empty, not all.
    accepted = _accepted(value)
    reasons = [what_is_missing(v) for v in accepted] or ["is an empty list"]
    why = reasons[0] if all(reasons) else next((r for r in reasons if r and "no text" in r), None)
    if why:
        return Target(wrong=f"{task.target!r} {why}")
    return Target(tuple(to_text(v) for v in accepted if not what_is_missing(v)))


def read_inputs(task: Task, values: Mapping[str, object]) -> dict[str, str] | str:
    """The columns that a task reads as text; lists of tokens and of choices as JSON.

    Args:
        task: whose columns.
        values: of the row; each column is there.

    Returns:
        The texts by column, or what is missing.
    """
    texts = {}
    for column in task.inputs:
        value = values[column]
        if task.task_type == "token-classification" or column == task.choices:
            parts = as_list(value)
            if parts is None and task.choices is None and isinstance(value, str):
                parts = list(value.split())
            if parts is None or any(isinstance(p, list | dict) or p is None for p in parts):
                return f"{column!r} {what_is_missing(value) or 'is no list'}"
            if len(parts) < (2 if task.choices else 1):
                return f"{column!r} is a list of {len(parts)}"
            texts[column] = json.dumps([to_text(p) for p in parts], ensure_ascii=False)
            continue
        why = what_is_missing(value)
        if why:
            return f"{column!r} {why}"
        texts[column] = to_text(value)
    return texts


def _label(task: Task, value: object) -> Target:
    text = to_text(value).strip()
    # JSON's true is "true"; who writes files with Python calls it "True".
    word = task.labels.get(text) or (task.labels.get(str(value)) if isinstance(value, bool) else None)
    return Target((word,)) if word is not None else Target(unknown=f"label {to_text(value)!r}")


def _labels(task: Task, value: object) -> Target:
    parts = as_labels(value)
    if parts is None:
        return Target(wrong=f"{task.target!r} is a {type(value).__name__}, no list of labels")
    words = [task.labels.get(p) for p in parts]
    if None in words:
        return Target(unknown=f"label {parts[words.index(None)]!r}")
    # In the order of the task's labels: the same labels are the same answer.
    return Target((json.dumps([w for w in task.label_words if w in words], ensure_ascii=False),))


def _tags(task: Task, value: object, texts: Mapping[str, str]) -> Target:
    parts = as_list(value)
    if parts is None and isinstance(value, str) and value.strip():
        parts = list(value.split())
    if parts is None:
        return Target(wrong=f"{task.target!r} {what_is_missing(value) or 'is no list of tags'}")
    num_tokens = len(json.loads(texts[task.columns[0]]))
    if len(parts) != num_tokens:
        return Target(wrong=f"{task.target!r} has {len(parts)} tags for {num_tokens} tokens")
    tags = [task.labels.get(to_text(p).strip()) for p in parts]
    if None in tags:
        return Target(unknown=f"tag {to_text(parts[tags.index(None)])!r}")
    return Target((" ".join(str(t) for t in tags),))


def _choice(task: Task, value: object, texts: Mapping[str, str]) -> Target:
    choices: list[str] = json.loads(texts[str(task.choices)])
    text = to_text(value).strip()
    if not text:
        return Target(wrong=f"{task.target!r} is missing")
    if text in choices:
        return Target((text,))
    place = int(text) if text.isdecimal() else ord(text.upper()) - ord("A") if len(text) == 1 else -1
    if 0 <= place < len(choices):
        return Target((choices[place],))
    return Target(unknown=f"choice {text!r} (of {len(choices)})")


def as_list(value: object) -> list[object] | None:
    """A list, also as JSON or Python writes it in a cell of a table; None where it is none."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) else None
    return None


def as_labels(value: object) -> list[str] | None:
    """Several labels: a list, or a text with ``;``, ``|`` or ``,`` between them; none of them is an answer, too."""
    parts = as_list(value)
    if parts is None:
        if isinstance(value, dict | bytes):
            return None
        text = "" if value is None or value != value else to_text(value)
        parts = list(SEPARATORS.split(text.strip())) if text.strip() else []
    return [to_text(p).strip() for p in parts if to_text(p).strip()]


def as_number(value: object) -> float | None:
    """A finite number, also as text, with a decimal comma, too; None where it is none."""
    if isinstance(value, str):
        value = value.strip().replace(",", ".") if value.count(",") == 1 and "." not in value else value.strip()
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _no_number(task: Task, value: object) -> str:
    return f"{task.target!r} {what_is_missing(value) or f'is no number: {shortened(to_text(value))!r}'}"


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


def new_inputs(task: Task, rows: Sequence[Row]) -> list[dict[str, str]]:
    """The columns that a task reads of new rows, whose answer nobody knows.

    Args:
        task: whose columns.
        rows: with their places.

    Returns:
        Texts by column, a row each.

    Raises:
        ApetError: a column is not there; or, all together, rows without a text.
    """
    found = []
    missing = Offenders()
    for row in rows:
        for column in task.inputs:
            if column not in row.values:
                raise ApetError(f"{row.location}: {UnknownNameError('column', column, row.values)}")
            if isinstance(row.values[column], Ambiguous):
                raise ApetError(f"{row.location.rpartition(':')[0]}: two columns are called {column!r}; rename one")
        texts = read_inputs(task, row.values)
        if isinstance(texts, str):
            missing.add(row.location, texts)
        else:
            found.append(texts)
    if missing:
        raise ApetError(f"{missing.shown()}; mend {'it' if missing.total == 1 else 'them'}, or leave such rows out")
    return found


def refuse_input(task: Task, values: Mapping[str, object], where: str) -> dict[str, str]:
    """The texts of a new row.

    Returns:
        By column.

    Raises:
        ApetError: a column is not there, or holds no text; the place is named.
    """
    missing = [c for c in task.inputs if c not in values]
    if missing:
        raise ApetError(
            f"{where}: there is no column {missing[0]!r}; task {task.name!r} reads {', '.join(task.inputs)}"
        )
    # A text may be empty here: it has an answer, too, though nobody would learn from it.
    if task.type is None:
        return {c: to_text(values[c]) for c in task.columns}
    texts = read_inputs(task, values)
    if isinstance(texts, str):
        raise ApetError(f"{where}: {texts}")
    return texts
