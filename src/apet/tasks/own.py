"""A classification task over the user's own file: the common case, with one flag for each thing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from apet.errors import ApetError, UnknownName
from apet.tasks.examples import clean
from apet.tasks.files import Row
from apet.tasks.sources import local_splits
from apet.tasks.task import Task, made
from apet.tasks.template import ANSWER


def task_over(data: str, text: Sequence[str], label: str) -> Task:
    """A task whose labels are the values of a column.

    Args:
        data: CSV, TSV, JSONL or Parquet file, or a folder with ``train.*`` and, where there is one, ``validation.*``.
        text: columns to read.
        label: column with the class; its values are the label words.

    Raises:
        ApetError: bad data, a missing column, an empty label, or a column that is no label.
    """
    if label in text:
        raise ApetError(f"column {label!r} is both text and label; the answer must not be read")
    rows = local_splits(Path(data).expanduser())["train"]
    words = _labels(rows, label)
    raw = {
        "name": Path(data).stem,
        "about": f"rows of {Path(data).name}",
        "category": "classification",
        "source": {"files": {"train": str(Path(data).expanduser().resolve())}},
        "splits": {"train": "train"},
        "columns": tuple(text),
        "answer": label,
        "template": "\n".join(f"{{{c}}}" for c in text) + f"\n{label}: {{{ANSWER}}}",
        "labels": {w: w for w in words},
    }
    return made(raw, f"data={data!r}")


def _labels(rows: Sequence[Row], column: str) -> list[str]:
    for row in rows:
        if column not in row.values:
            raise ApetError(f"{row.where}: {UnknownName('column', column, row.values)}")
        if not clean(row.values[column]).strip():
            raise ApetError(f"{row.where}: column {column!r} is empty; every example needs a label")
    found = sorted({clean(row.values[column]).strip() for row in rows}, key=lambda v: (len(v), v))
    if len(found) > max(20, len(rows) // 10):
        raise ApetError(
            f"column {column!r} has {len(found)} different values in {len(rows)} rows; labels are few."
            " For free text write a task file (measure: f1 or rouge-l)"
        )
    return found
