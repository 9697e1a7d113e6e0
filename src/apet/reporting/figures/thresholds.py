"""E5: low and high thresholds as ranges of N."""

from __future__ import annotations

import math

import altair as alt

from apet.analysis.curve_values import ThresholdKind
from apet.analysis.study import Analysis
from apet.analysis.thresholds import Threshold
from apet.reporting import captions
from apet.reporting.figures import log_axis, marks
from apet.reporting.figures.figure import ROWS, Choice, Figure, Row, number
from apet.reporting.formatting import MEAN_OVER_TASKS, display_name

TITLE = "E5: low and high thresholds"
KINDS: tuple[ThresholdKind, ...] = ("low", "high")
ARROW_FACTOR = 1.5
"""How far beyond the counts tried an arrow ends, as a factor."""


def figure(a: Analysis) -> Figure:
    """Low left, high right, a panel for each backbone; choice: task."""
    rows = [_row(t) for t in a.thresholds]
    tasks = tuple(t for t in (MEAN_OVER_TASKS, *a.data.categories) if any(r["task"] == t for r in rows))
    panels = [_panel(s.name, kind) for s in dict.fromkeys(t.scale for t in a.thresholds) for kind in KINDS]
    chart = alt.layer(*_layers(a, rows)).facet(
        facet=alt.Facet("panel:N", title=None, sort=panels), data=alt.NamedData(ROWS), columns=2
    )
    methods = [m for m in a.data.methods if any(t.method == m for t in a.thresholds)]
    return Figure(
        "thresholds",
        TITLE,
        captions.thresholds(a),
        f"Ranges of the number of trained parameters for {len(rows)} thresholds. All ranges stand in the table below.",
        chart,
        rows,
        a.data.methods,
        (Choice("task", tasks),),
        columns=2,
        panel_height=24 + 22 * len(methods),
    )


def _panel(backbone: str, kind: ThresholdKind) -> str:
    return f"{kind} threshold, {backbone}"


def _layers(a: Analysis, rows: list[Row]) -> list[alt.Chart]:
    ends = [float(r[c] or math.nan) for r in rows for c in ("start", "end", "arrow_low", "arrow_high") if r[c]]
    x = log_axis.count_axis("start", "trained parameters", ends)
    y = alt.Y("method:N", title=None, sort=[display_name(m) for m in a.data.methods], axis=alt.Axis(grid=False))
    # no legend: the axis names them
    color, shape = marks.method_color(a.data.methods, ()), marks.method_shape(a.data.methods, ())
    tooltip = [
        marks.tooltip("method", "method"),
        marks.tooltip("panel", "threshold"),
        marks.tooltip("task", "task"),
        marks.tooltip("range", "range of N"),
        marks.tooltip("tried", "counts tried"),
    ]
    chart = alt.Chart()

    def at(field: str) -> alt.X:
        other: alt.X = x.copy()
        other.shorthand = f"{field}:Q"
        return other

    def line(condition: str, style: str, start: str, end: str) -> alt.Chart:
        drawn = chart.transform_filter(condition).mark_rule(style=style)
        return drawn.encode(x=at(start), x2=f"{end}:Q", y=y, color=color, tooltip=tooltip)

    def mark(condition: str, style: str, field: str, **fixed: str) -> alt.Chart:
        drawn = chart.transform_filter(condition).mark_point(style=style, **fixed)
        return drawn.encode(x=at(field), y=y, color=color, tooltip=tooltip)

    return [
        line("!datum.open_low && !datum.open_high", "range", "start", "end"),
        line("datum.open_low || datum.open_high", "open", "start", "end"),
        line("datum.open_high", "open", "end", "arrow_high"),
        line("datum.open_low", "open", "arrow_low", "start"),
        mark("datum.open_high", "hollow", "arrow_high", shape="triangle-right"),
        mark("datum.open_low", "hollow", "arrow_low", shape="triangle-left"),
        mark("isValid(datum.median)", "solid", "median").encode(shape=shape),
    ]


def _row(t: Threshold) -> Row:
    """A range; what is open ends in an arrow beyond the counts that were tried."""
    low, high = t.answer.ci_low, t.answer.ci_high
    open_low, open_high = not low, math.isinf(high)
    start, end = low or t.tried[0], min(high, t.tried[-1])
    # below all counts, or above them: a point would say that it is this one
    inside = 0 < t.answer.median < math.inf
    return {
        "backbone": t.scale.name,
        "panel": _panel(t.scale.name, t.kind),
        "task": t.task or MEAN_OVER_TASKS,
        "method": display_name(t.method),
        "start": number(start),
        "end": number(end),
        "median": number(t.answer.median) if inside else None,
        "open_low": open_low,
        "open_high": open_high,
        "arrow_low": number(t.tried[0] / ARROW_FACTOR) if open_low else None,
        "arrow_high": number(t.tried[-1] * ARROW_FACTOR) if open_high else None,
        "range": t.answer.describe(),
        "tried": f"{len(t.tried)}, {t.tried[0]:,} to {t.tried[-1]:,}; {t.seeds} seeds or more",
    }
