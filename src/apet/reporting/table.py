"""A table of raw values: every column with its heading for people and its name for programs, in one place."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apet.analysis.intervals import Estimate
from apet.reporting.formatting import UNKNOWN, count, mean_and_intervals, significant

Value = str | float | Estimate | None
"""A raw cell; None or NaN = unknown."""
CsvValue = str | float


@dataclass(frozen=True)
class Column:
    """A column of texts or numbers.

    Attributes:
        heading: for people, with the unit: in Markdown, LaTeX and on the page.
        show: number -> text; None = the column holds text.
        name: for programs: the header in CSV, ASCII snake_case; by default made from the heading.
        integer: whether the numbers are whole, so that CSV has ``53152`` and not ``53152.0``.
        unknown: what people read where the value is unknown; CSV has an empty cell.
    """

    heading: str
    show: Callable[[float], str] | None = None
    name: str = ""
    integer: bool = False
    unknown: str = UNKNOWN

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers, which are set at the right."""
        return self.show is not None

    def csv_names(self) -> list[str]:
        """Headers in CSV."""
        return [self.name or snake_case(self.heading)]

    def csv_values(self, value: Value) -> list[CsvValue]:
        """Cells in CSV, as many as headers: fractions stay fractions, and what is unknown is empty."""
        if value is None or isinstance(value, Estimate) or _is_unknown(value):
            return [""]
        if self.integer:
            return [int(_number(value))]
        return [value]

    def text(self, value: Value) -> str:
        """A cell as people read it."""
        if _is_unknown(value):
            return self.unknown
        return str(value) if self.show is None else self.show(_number(value))

    def sort_key(self, value: Value) -> float | None:
        """The number to sort by, in a form that JSON has; None where it is unknown."""
        number = value.score if isinstance(value, Estimate) else value
        if number is None or isinstance(number, str) or math.isnan(number):
            return None
        return math.copysign(1e300, number) if math.isinf(number) else float(f"{float(number):.6g}")


def integer_column(name: str, heading: str = "", unknown: str = UNKNOWN) -> Column:
    """A column of whole numbers, with thousands marked."""
    return Column(heading or name.replace("_", " "), count, name, integer=True, unknown=unknown)


_ESTIMATE_FIELDS: tuple[tuple[str, Callable[[Estimate], CsvValue | None]], ...] = (
    ("", lambda e: e.score),
    ("num_seeds", lambda e: e.num_seeds),
    ("sd_seeds", lambda e: e.sd),
    ("ci_low_seeds", lambda e: e.ci_low),
    ("ci_high_seeds", lambda e: e.ci_high),
    ("num_examples", lambda e: e.num_examples or None),  # what has no items, such as steps, says 0
    ("ci_low_items", lambda e: e.item_ci_low),
    ("ci_high_items", lambda e: e.item_ci_high),
    ("ci_method", lambda e: e.ci_method),
    ("num_tasks", lambda e: e.num_tasks),
    ("num_missing", lambda e: e.num_missing),
)
"""Ending of the header in CSV -> value: a mean with its two intervals and what stands behind them."""


@dataclass(frozen=True)
class EstimateColumn(Column):
    """A column of means with their intervals: one for people, one a number in CSV.

    Attributes:
        show_estimate: estimate -> text.
    """

    show_estimate: Callable[[Estimate], str] = mean_and_intervals

    @property
    def numeric(self) -> bool:
        """Estimates are numbers."""
        return True

    def csv_names(self) -> list[str]:
        """The score under the column's name, the rest with an ending each."""
        (name,) = super().csv_names()
        return [f"{name}_{ending}" if ending else name for ending, _ in _ESTIMATE_FIELDS]

    def csv_values(self, value: Value) -> list[CsvValue]:
        """The score, both intervals and what stands behind them; all empty where there is no estimate."""
        if not isinstance(value, Estimate):
            return [""] * len(_ESTIMATE_FIELDS)
        fields = [get(value) for _, get in _ESTIMATE_FIELDS]
        return ["" if x is None or (isinstance(x, float) and math.isnan(x)) else x for x in fields]

    def text(self, value: Value) -> str:
        """A cell as people read it."""
        return self.show_estimate(value) if isinstance(value, Estimate) else self.unknown


def estimate_column(name: str, heading: str, show: Callable[[Estimate], str] = mean_and_intervals) -> EstimateColumn:
    """A column of means with their intervals."""
    return EstimateColumn(heading, name=name, show_estimate=show)


@dataclass(frozen=True)
class Table:
    """Raw values with their columns; texts are made where they are written.

    Attributes:
        name: of the files.
        title: a line.
        caption: what was run, what the intervals are.
        columns: in order.
        rows: a value for each column.
    """

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Value]]

    def texts(self) -> list[list[str]]:
        """Every cell as people read it."""
        return [[c.text(v) for c, v in zip(self.columns, row, strict=True)] for row in self.rows]

    def csv_header(self) -> list[str]:
        """A name for each column of the CSV file; of equal names the later ones are numbered."""
        header: list[str] = []
        for name in (n for c in self.columns for n in c.csv_names()):
            same = sum(n == name or re.fullmatch(rf"{re.escape(name)}_\d+", n) is not None for n in header)
            header.append(f"{name}_{same + 1}" if name in header else name)
        return header


def snake_case(text: str) -> str:
    """Any text as a name in ASCII: ``% of backbone`` -> ``of_backbone``, ``nq-open`` -> ``nq_open``."""
    spelled = unicodedata.normalize("NFKD", text.replace("−", " minus ")).encode("ascii", "ignore").decode()
    name = "_".join(re.findall(r"[a-z0-9]+", spelled.lower()))
    return name if name[:1].isalpha() else f"column_{name}".removesuffix("_")


def _is_unknown(value: Value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _number(value: Value) -> float:
    """The value of a column of numbers.

    Returns:
        The value, which is a number now to the type checker, too.

    Raises:
        TypeError: it is something else, which is an error of whoever made the table.
    """
    if value is None or isinstance(value, str | Estimate):
        raise TypeError(f"{value!r} is not a number; give the column no show, or use an EstimateColumn")
    return value


BACKBONE, TASK, METHOD = Column("backbone"), Column("task"), Column("method")
N = integer_column("num_trainable", "N")
TRAINABLE_PERCENT = Column("% of backbone", significant, "trainable_percent")
