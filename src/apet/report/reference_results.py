"""The paper's own numbers (table 2, in percent), to stand beside ours and never among them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

SOURCE = (
    "Su et al. 2023, table 2, on the real datasets (a task of ours named microworld-… is synthetic and another task,"
    " whatever dataset it takes its form from)"
)


@dataclass(frozen=True)
class Printed:
    """A row of table 2.

    Attributes:
        backbone, family, method: as we name them.
        trainable_percent: trained parameters in percent of the backbone.
        values: task (as we name it) -> percent; illegible and missing ones are left out.
    """

    backbone: str
    family: str
    method: str
    trainable_percent: float
    values: dict[str, float]


def table2() -> list[Printed]:
    """Every row, in the order of the paper."""
    text = (files("apet.report") / "table2.csv").read_text("utf-8")
    return [
        Printed(
            r["backbone"],
            r["family"],
            r["method"],
            float(r["trainable_percent"]),
            {k.replace("_", "-"): float(v) for k, v in list(r.items())[5:] if v},
        )
        for r in csv.DictReader(text.splitlines())
    ]


def mirrored(families: set[str]) -> list[Printed]:
    """Rows of the families that were run."""
    return [p for p in table2() if p.family in families]
