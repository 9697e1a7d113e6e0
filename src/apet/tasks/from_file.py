"""A task over the user's own file: the common case, with one flag for each thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from apet.errors import ApetError, UnknownNameError
from apet.tasks.metrics import TaskType
from apet.tasks.rows import Reading, Row
from apet.tasks.splits import LocalData, read_splits
from apet.tasks.targets import as_labels, as_list, as_number, to_text
from apet.tasks.task import WITH_LABELS, Task, validate_task
from apet.tasks.task_type import Told, tell_type, what_is_empty
from apet.tasks.template import TARGET

METRIC: dict[TaskType, str] = {
    "single-label": "accuracy",
    "multi-label": "micro-f1",
    "regression": "pearson",
    "token-classification": "seqeval-f1",
    "multiple-choice": "accuracy",
    "text-generation": "rouge-l",
}
"""What scores a type's answers where nobody says otherwise; all of them are the field's first choice."""
CATEGORY = {"regression": "regression", "multiple-choice": "multiple-choice", "text-generation": "generation"}
GENERATED = 64
"""Tokens of a free text, at most, where nobody says otherwise."""


def task_from_file(
    data: str,
    text: Sequence[str],
    label: str,
    reading: Reading = Reading(),  # noqa: B008, frozen
    read: Callable[[Path, Reading], LocalData] = read_splits,
    labels: Mapping[str, str] | None = None,
    task_type: TaskType | None = None,
) -> Task:
    """A task whose answers are the values of a column.

    Args:
        data: a data file, or a folder with ``train.*`` and, where there is one, ``validation.*``.
        text: columns to read.
        label: column with the answers; of a classification task its values are the label words.
        reading: how text files are read.
        read: reads local files by split.
        labels: value in the column -> label word; None = every value is its own word.
        task_type: what is asked; None = what the values tell.

    Returns:
        The task; it is called as the file is.

    Raises:
        ApetError: bad data, a missing column, an empty label, or values that leave the type open.
    """
    if label in text:
        raise ApetError(f"column {label!r} is both text and label; the answer must not be read")
    rows = read(Path(data).expanduser().resolve(), reading).rows["train"]
    _require_columns(rows, [*text, label] if not labels or task_type else [label])
    # With label words of one's own nothing is left to tell, unless lists hold them.
    told = tell_type(rows, text, label, task_type)
    columns = tuple(c for c in text if c != told.choices)
    if not columns:
        raise ApetError(f"{told.choices!r} holds the choices; give the column with the question, too: --text")
    words = dict(labels or {})
    if told.type in WITH_LABELS and not words:
        words = {w: w for w in _labels(rows, label, told.type)}
    raw = {
        "name": Path(data).stem,
        "description": f"rows of {Path(data).name}",
        "category": CATEGORY.get(told.type, "classification"),
        "type": None if told.type == "single-label" else told.type,
        "source": {
            "files": {"train": str(Path(data).expanduser().resolve())},
            "encoding": reading.encoding,
            "separator": reading.separator,
            "note": _note(told),
        },
        "splits": {"train": "train"},
        "columns": columns,
        "choices": told.choices,
        "target": label,
        "template": "\n".join(f"{{{c}}}" for c in columns) + f"\n{label}: {{{TARGET}}}",
        "labels": words if told.type in WITH_LABELS else {},
        "metric": _metric(told.type, words),
        # Most of what an untrained writer writes is no label; of words it has never seen, the likeliest is one.
        "scoring": "likelihood",
        **(_moments(rows, label) if told.type == "regression" else {}),
        **({"max_target_length": GENERATED} if told.type == "text-generation" else {}),
    }
    return validate_task(raw, f"data={data!r}")


def _note(told: Told) -> str | None:
    """What is said of a type that was told by the values."""
    if not told.why:
        return None
    return f"{told.type}, as {told.why}; --task-type says otherwise"


def _metric(task_type: TaskType, words: Mapping[str, str]) -> str:
    tags = [w for w in words.values() if w != "O"]
    has_entities = any(t[:2] in ("B-", "I-", "S-", "E-") for t in tags)
    return "tag-accuracy" if task_type == "token-classification" and not has_entities else METRIC[task_type]


def _moments(rows: Sequence[Row], column: str) -> dict[str, float]:
    """Mean and spread of the training targets: a head learns a number of the size of 1 at the usual rates."""
    numbers = np.array([n for row in rows if (n := as_number(row.values[column])) is not None])
    if not len(numbers) or np.ptp(numbers) == 0:
        raise ApetError(f"column {column!r} has no two different numbers in {len(rows)} rows; nothing can be learned")
    return {"target_mean": float(numbers.mean()), "target_std": float(numbers.std())}


def _require_columns(rows: Sequence[Row], columns: Sequence[str]) -> None:
    for row in rows:
        for column in columns:
            if column not in row.values:
                raise ApetError(f"{row.location}: {UnknownNameError('column', column, row.values)}")


def _labels(rows: Sequence[Row], column: str, task_type: TaskType) -> list[str]:
    # Rows without a label are the reader's matter: it names them, or leaves them out where that is asked for.
    values = [row.values[column] for row in rows if not what_is_empty(row.values[column])]
    if task_type == "multi-label":
        found = [label for v in values for label in as_labels(v) or []]
    elif task_type == "token-classification":
        found = [to_text(tag).strip() for v in values for tag in as_list(v) or str(v).split()]
    else:
        found = [to_text(v).strip() for v in values]
    # Shorter ones first, so that 2 comes before 10. The order is that of the classes: it must not depend on the rows'.
    labels = sorted(set(found), key=lambda v: (len(v), v))
    if len(labels) < 2 and (task_type != "multi-label" or not labels):
        there = f"one value, {labels[0]!r}," if labels else "no value"
        raise ApetError(f"column {column!r} has {there} in {len(rows)} rows; a class needs another to differ from")
    return labels
