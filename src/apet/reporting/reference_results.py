"""The paper's own numbers (table 2, in percent), to stand beside measured ones and never among them."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from importlib.resources import files

SOURCE = (
    "Su et al. 2023, table 2, on the real datasets (a task here that is named microworld-… is synthetic and another"
    " task, whatever dataset it takes its form from)"
)
_FIRST_TASK_COLUMN = 5


@dataclass(frozen=True)
class ReferenceRow:
    """A row of table 2.

    Attributes:
        backbone, family, method: by the names that apet uses.
        trainable_percent: trained parameters in percent of the backbone.
        scores: task (by apet's name) -> percent; illegible and missing ones are left out.
    """

    backbone: str
    family: str
    method: str
    trainable_percent: float
    scores: dict[str, float]


def table2() -> list[ReferenceRow]:
    """Every row, in the order of the paper."""
    text = (files("apet.reporting") / "table2.csv").read_text("utf-8")
    return [
        ReferenceRow(
            row["backbone"],
            row["family"],
            row["method"],
            float(row["trainable_percent"]),
            {k.replace("_", "-"): float(v) for k, v in list(row.items())[_FIRST_TASK_COLUMN:] if v},
        )
        for row in csv.DictReader(text.splitlines())
    ]


def rows_of_families(families: Collection[str]) -> list[ReferenceRow]:
    """Rows of the given families of backbones, in the order of the paper."""
    return [row for row in table2() if row.family in families]
