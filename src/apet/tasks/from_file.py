"""A classification task over the user's own file: the common case, with one flag for each thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from apet.errors import ApetError, UnknownNameError
from apet.tasks.examples import to_text
from apet.tasks.files import Row
from apet.tasks.sources import local_splits
from apet.tasks.task import Task, validate_task
from apet.tasks.template import TARGET


def task_from_file(
    data: str, text: Sequence[str], label: str, read: Callable[[Path], dict[str, list[Row]]] = local_splits
) -> Task:
    """A classification task whose labels are the values of a column.

    Args:
        data: CSV, TSV, JSONL or Parquet file, or a folder with ``train.*`` and, where there is one, ``validation.*``.
        text: columns to read.
        label: column with the class; its values are the label words.
        read: reads local files by split.

    Returns:
        The task; it is called as the file is.

    Raises:
        ApetError: bad data, a missing column, an empty label, or a column of free text.
    """
    if label in text:
        raise ApetError(f"column {label!r} is both text and label; the answer must not be read")
    rows = read(Path(data).expanduser().resolve())["train"]
    words = _labels(rows, label)
    raw = {
        "name": Path(data).stem,
        "description": f"rows of {Path(data).name}",
        "category": "classification",
        "source": {"files": {"train": str(Path(data).expanduser().resolve())}},
        "splits": {"train": "train"},
        "columns": tuple(text),
        "target": label,
        "template": "\n".join(f"{{{c}}}" for c in text) + f"\n{label}: {{{TARGET}}}",
        "labels": {w: w for w in words},
    }
    return validate_task(raw, f"data={data!r}")


def _labels(rows: Sequence[Row], column: str) -> list[str]:
    for row in rows:
        if column not in row.values:
            raise ApetError(f"{row.location}: {UnknownNameError('column', column, row.values)}")
        if not to_text(row.values[column]).strip():
            raise ApetError(f"{row.location}: column {column!r} is empty; every example needs a label")
    # Shorter ones first, so that 2 comes before 10. The order is that of the classes: it must not depend on the rows'.
    labels = sorted({to_text(row.values[column]).strip() for row in rows}, key=lambda v: (len(v), v))
    # A column of names, numbers or texts was given by mistake: a class for each value would learn nothing.
    if len(labels) > max(20, len(rows) // 10):
        raise ApetError(
            f"column {column!r} has {len(labels)} different values in {len(rows)} rows; labels are few."
            " For free text write a task file (metric: f1 or rouge-l)"
        )
    return labels
