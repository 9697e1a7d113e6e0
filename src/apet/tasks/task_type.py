"""Which type of task a column of answers is: told by its values where they leave no doubt, else asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apet.errors import ApetError
from apet.tasks.metrics import TaskType
from apet.tasks.rows import Row
from apet.tasks.targets import as_list, as_number, to_text, what_is_missing

MANY, MIN_ROWS_PER_CLASS = 20, 3
"""Up to so many values are always classes; more are, where each has so many rows on average."""
MIN_NUMBERS = 10
"""Different numbers, some of them with fractions, that make a quantity of a column."""


@dataclass(frozen=True)
class Told:
    """A type, and by what it is known.

    Attributes:
        type: of the task.
        why: one line where the values told it, empty where it is the usual one or was asked for.
        choices: of multiple choice, the column with the choices.
    """

    type: TaskType
    why: str = ""
    choices: str | None = None


def tell_type(rows: Sequence[Row], text: Sequence[str], label: str, asked: TaskType | None) -> Told:
    """The type of a file's task.

    Args:
        rows: of the training data; each has the columns.
        text: columns that are read.
        label: column with the answers.
        asked: what was asked for; None = what the values tell.

    Returns:
        The type.

    Raises:
        ApetError: the values are neither few labels, nor numbers, nor lists; or those of another type than asked for.
    """
    values = [v for row in rows if not what_is_empty(v := row.values[label])]
    lists = [c for c in text if _are_lists([row.values[c] for row in rows])]
    found = _told(values, lists, label)
    if asked is not None and asked != found.type:
        return _as_asked(asked, values, lists, label)
    if asked is None and isinstance(found, _Refused):
        raise ApetError(found.why)
    return Told(found.type, "" if asked else found.why, found.choices)


class _Refused(Told):
    """A type that only somebody who asks for it means; ``why`` is the message."""


def _told(values: Sequence[object], lists: Sequence[str], label: str) -> Told:
    if _are_lists(values):
        if lists:
            return Told("token-classification", f"{lists[0]!r} and {label!r} hold lists")
        return Told("multi-label", f"{label!r} holds lists of labels")
    if lists:
        return Told("multiple-choice", f"{lists[-1]!r} holds lists of choices", lists[-1])
    texts = {to_text(v).strip() for v in values}
    numbers = [as_number(v) for v in values]
    if numbers and None not in numbers:
        different = {n for n in numbers if n is not None}
        if different == set(range(int(min(different)), int(min(different)) + len(values))) and len(values) > MANY:
            return _Refused("regression", f"column {label!r} numbers the rows; give the column with the answers")
        has_fractions = any(n != int(n) for n in different)
        if len(different) > MANY or (has_fractions and len(different) >= MIN_NUMBERS):
            return Told("regression", f"{label!r} holds {len(different)} different numbers")
    elif len(texts) > MANY and len(values) < MIN_ROWS_PER_CLASS * len(texts):
        # A column of names or texts was given by mistake: a class for each value would learn nothing.
        return _Refused(
            "text-generation",
            f"column {label!r} has {len(texts)} different values in {len(values)} rows; labels are few. For free text"
            " give --task-type text-generation",
        )
    return Told("single-label")


def _as_asked(asked: TaskType, values: Sequence[object], lists: Sequence[str], label: str) -> Told:
    if asked == "multiple-choice" and not lists:
        raise ApetError("multiple-choice needs a column with lists of choices; name it with --text, too")
    if asked == "regression" and (bad := next((v for v in values if as_number(v) is None), None)) is not None:
        raise ApetError(f"regression needs numbers; column {label!r} has {to_text(bad)[:40]!r}")
    if asked == "single-label" and _are_lists(values):
        raise ApetError(f"column {label!r} holds lists; give --task-type multi-label, or leave it out")
    return Told(asked, choices=lists[-1] if asked == "multiple-choice" else None)


def what_is_empty(value: object) -> bool:
    """Whether a row has no answer: an empty list is one."""
    return not isinstance(value, list | tuple) and what_is_missing(value) is not None


def _are_lists(values: Sequence[object]) -> bool:
    given = [v for v in values if not what_is_empty(v)]
    return bool(given) and all(as_list(v) is not None for v in given)
