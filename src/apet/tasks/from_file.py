"""A classification task over the user's own file: the common case, with one flag for each thing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from apet.errors import ApetError, UnknownNameError
from apet.tasks.examples import to_text, what_is_missing
from apet.tasks.rows import Reading, Row
from apet.tasks.splits import LocalData, read_splits
from apet.tasks.task import Task, validate_task
from apet.tasks.template import TARGET

MANY, MIN_ROWS_PER_CLASS = 20, 3
"""Up to so many values are always classes; more are, where each has so many rows on average."""


def task_from_file(
    data: str,
    text: Sequence[str],
    label: str,
    reading: Reading = Reading(),  # noqa: B008, frozen
    read: Callable[[Path, Reading], LocalData] = read_splits,
    labels: Mapping[str, str] | None = None,
) -> Task:
    """A classification task whose labels are the values of a column.

    Args:
        data: a data file, or a folder with ``train.*`` and, where there is one, ``validation.*``.
        text: columns to read.
        label: column with the class; its values are the label words.
        reading: how text files are read.
        read: reads local files by split.
        labels: value in the column -> label word; None = every value is its own word.

    Returns:
        The task; it is called as the file is.

    Raises:
        ApetError: bad data, a missing column, an empty label, or a column of free text.
    """
    if label in text:
        raise ApetError(f"column {label!r} is both text and label; the answer must not be read")
    if not labels:
        rows = read(Path(data).expanduser().resolve(), reading).rows["train"]
        labels = {w: w for w in _labels(rows, label)}
    raw = {
        "name": Path(data).stem,
        "description": f"rows of {Path(data).name}",
        "category": "classification",
        "source": {
            "files": {"train": str(Path(data).expanduser().resolve())},
            "encoding": reading.encoding,
            "separator": reading.separator,
        },
        "splits": {"train": "train"},
        "columns": tuple(text),
        "target": label,
        "template": "\n".join(f"{{{c}}}" for c in text) + f"\n{label}: {{{TARGET}}}",
        "labels": dict(labels),
        # Most of what an untrained writer writes is no label; of words it has never seen, the likeliest is one.
        "scoring": "likelihood",
    }
    return validate_task(raw, f"data={data!r}")


def _labels(rows: Sequence[Row], column: str) -> list[str]:
    for row in rows:
        if column not in row.values:
            raise ApetError(f"{row.location}: {UnknownNameError('column', column, row.values)}")
    # Rows without a label are the reader's matter: it names them, or leaves them out where that is asked for.
    values = [row.values[column] for row in rows if not what_is_missing(row.values[column])]
    # Shorter ones first, so that 2 comes before 10. The order is that of the classes: it must not depend on the rows'.
    labels = sorted({to_text(v).strip() for v in values}, key=lambda v: (len(v), v))
    # A column of names, numbers or texts was given by mistake: a class for each value would learn nothing.
    if len(labels) > MANY and (len(values) < MIN_ROWS_PER_CLASS * len(labels) or _are_measures(labels)):
        raise ApetError(
            f"column {column!r} has {len(labels)} different values in {len(values)} rows; labels are few."
            " For free text write a task file (metric: f1 or rouge-l)"
        )
    if len(labels) < 2:
        there = f"one value, {labels[0]!r}," if labels else "no value"
        raise ApetError(f"column {column!r} has {there} in {len(rows)} rows; a class needs another to differ from")
    return labels


def _are_measures(labels: Sequence[str]) -> bool:
    """Whether values are numbers with fractions: a quantity, not a class."""
    return all(re.fullmatch(r"[-+]?[0-9]*[.,]?[0-9]+(?:[eE][-+]?[0-9]+)?", v) for v in labels) and any(
        "." in v or "," in v for v in labels
    )
