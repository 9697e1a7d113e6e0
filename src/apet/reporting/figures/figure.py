"""A figure as a value: one Vega-Lite spec without data, and the rows that it draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from apet.reporting.style import MethodStyle, method_style

Cell = str | float | int | bool | None
Row = dict[str, Cell]
Spec = dict[str, Any]
"""Vega-Lite as JSON has it."""

ROWS = "rows"
"""Name of the data in every spec."""
HIDDEN = "hidden"
"""Name of the parameter that holds the methods that are switched off."""
VEGA_LITE = "6.4"
"""What vl-convert and the page draw: it takes what altair writes for 5, and goes with the Vega that both have."""


@dataclass(frozen=True)
class Choice:
    """What a reader of the page may choose; print has the first option unless a view says another.

    Attributes:
        name: of the field that it is about, and of the parameter.
        options: the first is shown at the start; every one of them has something to draw.
        shows_all: an option that leaves nothing out; None = there is none.
    """

    name: str
    options: tuple[str, ...]
    shows_all: str | None = None

    @property
    def filter(self) -> str:
        """Which rows are shown, as an expression of Vega; a row that lacks the field always is."""
        always = f"{self.name} == {self.shows_all!r} || " if self.shows_all else ""
        return f"{always}datum.{self.name} == null || datum.{self.name} == {self.name}"


@dataclass(frozen=True)
class Figure:
    """A figure of the page and of print.

    Attributes:
        name: of its files and of its section.
        title: a line.
        caption: what is seen, and what was run.
        description: what somebody reads who does not see it.
        chart: Vega-Lite without data, transforms and parameters.
        rows: what it draws, scores in percent.
        methods: in the order of the study, or other things that have a color and a shape each.
        choices: of the page.
        columns: of panels where there is room.
        panel_height: in pixels, which are points in print.
        views: file name in print -> options chosen there; empty = one file, by the figure's name.
        styles: looks of ``methods`` where they are something else; None = each is a method.
    """

    name: str
    title: str
    caption: str
    description: str
    chart: alt.TopLevelMixin
    rows: Sequence[Row]
    methods: Sequence[str]
    choices: tuple[Choice, ...] = ()
    columns: int = 1
    panel_height: float = 240
    views: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    styles: Sequence[MethodStyle] | None = None

    @property
    def spec(self) -> Spec:
        """Vega-Lite with parameters and filters, and its data by name alone.

        Raises:
            SchemaValidationError: the chart is none of Vega-Lite.
        """
        chart: Spec = self.chart.to_dict()
        for altairs_own in ("config", "$schema"):
            chart.pop(altairs_own, None)
        chart["params"] = [
            {"name": HIDDEN, "value": []},
            *({"name": c.name, "value": c.options[0]} for c in self.choices),
        ]
        filters = [f"datum.method == null || indexof({HIDDEN}, datum.method) < 0", *(c.filter for c in self.choices)]
        chart["transform"] = [{"filter": f} for f in filters]
        chart["data"] = {"name": ROWS}
        return chart

    @property
    def looks(self) -> Sequence[MethodStyle]:
        """A look for each of the methods."""
        return self.styles or [method_style(m) for m in self.methods]


def number(v: float) -> float | None:
    """A number as JSON has it, to five digits, which are enough to draw; None where it is unknown or infinite."""
    if not math.isfinite(v):
        return None
    return int(v) if float(v).is_integer() else float(f"{v:.5g}")


def packed(rows: Sequence[Row]) -> dict[str, object]:
    """Rows by column, each distinct value once where values repeat: a fifth of their size as a list of objects.

    Returns:
        ``rows``, their number, and ``columns``: name -> cells, or ``[values, which of them each row has]``.
    """
    columns: dict[str, object] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        cells = [row.get(name) for row in rows]
        distinct: dict[tuple[type, Cell], int] = {}
        places = [distinct.setdefault((type(cell), cell), len(distinct)) for cell in cells]
        columns[name] = [[v for _, v in distinct], places] if 2 * len(distinct) < len(cells) else [cells]
    return {"rows": len(rows), "columns": columns}
