"""E5: low and high thresholds as ranges of N."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFT, CARETRIGHT

from apet.analysis.curve_values import ThresholdKind
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.analysis.thresholds import Threshold
from apet.reporting import captions
from apet.reporting.figures import log_axis, marks, plotly_data, sheet
from apet.reporting.figures.plotly_data import InteractiveFigure, PlotlyData
from apet.reporting.figures.point_details import PointDetails
from apet.reporting.formatting import MEAN_OVER_TASKS, display_name
from apet.reporting.style import GRAY, method_style

OPEN_DASHES = (0, (3, 2))
"""Of an open end."""
ARROW_FACTOR = 1.5
"""How far beyond the counts tried an arrow ends, as a factor."""
TITLE = "E5: low and high thresholds"
KINDS: tuple[ThresholdKind, ...] = ("low", "high")


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """For print: low left, high right; a row for each backbone, thin lines are tasks, thick ones their median."""
    scales = list(dict.fromkeys(t.scale for t in a.thresholds))
    methods = [m for m in a.data.methods if any(t.method == m for t in a.thresholds)]
    figure, axes = sheet.panels(1, 2, width=4.4, height=max(2.2, 0.16 * len(scales) * (len(methods) + 1)))
    for axis, kind in zip(axes[0], KINDS, strict=True):
        for row, scale in enumerate(scales):
            for i, method in enumerate(methods):
                y = row + 0.8 * ((i + 0.5) / len(methods) - 0.5)
                _draw_row(axis, y, _of_tasks(a, scale, method, kind), method)
        axis.set_yticks(range(len(scales)), [f"{s.name}\n({log_axis.short_count(s.num_parameters)})" for s in scales])
        axis.set_ylim(len(scales) - 0.45, -0.55)
        log_axis.log_count_axis(axis, "trained parameters")
        axis.set_title(f"{kind} threshold")
    caption = f"Thin: one task; thick: the median over tasks of both ends; dashed: open. {captions.thresholds(a)}"
    legend = marks.line_legend(methods)
    return {"thresholds": sheet.finish(figure, TITLE, caption, legend, partial, plain=False, marks=_mark_legend())}


def _mark_legend() -> list[Artist]:
    return [
        Line2D([], [], linewidth=3, label="range that holds the threshold", color=GRAY),
        Line2D(
            [],
            [],
            linewidth=1.2,
            linestyle=OPEN_DASHES,
            label="open: the counts tried do not settle this end",
            color=GRAY,
            marker=CARETRIGHT,
            markersize=6,
            markerfacecolor="white",
        ),
    ]


def _of_tasks(a: Analysis, scale: Scale, method: str, kind: ThresholdKind) -> list[Threshold]:
    """Thresholds of single tasks, not of their mean."""
    return [
        t for t in a.thresholds if t.scale == scale and t.method == method and t.kind == kind and t.task is not None
    ]


def _draw_row(axis: Axes, y: float, thresholds: list[Threshold], method: str) -> None:
    """Solid is a range that holds the threshold; dashed with a hollow arrow is what the counts tried leave open."""
    if not thresholds:
        return
    style = method_style(method)
    starts = [t.answer.ci_low or t.tried[0] for t in thresholds]
    ends = [t.answer.ci_high for t in thresholds]
    for start, end, t in zip(starts, ends, thresholds, strict=True):
        linestyle = OPEN_DASHES if math.isinf(end) else "-"
        axis.plot(
            [start, min(end, t.tried[-1])], [y, y], color=style.color, linewidth=1, alpha=0.4, linestyle=linestyle
        )
    start, end = float(np.median(starts)), float(np.median(ends))
    closed = not math.isinf(end)
    if closed:
        axis.plot([start, end], [y, y], color=style.color, linewidth=3, solid_capstyle="butt")
    else:
        largest = max(t.tried[-1] for t in thresholds)
        _arrow(axis, start, ARROW_FACTOR * largest, y, style.color, CARETRIGHT)
    open_below = np.median([t.answer.ci_low for t in thresholds]) == 0
    if open_below:
        _arrow(axis, start, start / ARROW_FACTOR, y, style.color, CARETLEFT)
    fill = style.color if closed and not open_below else "white"
    axis.plot([start], [y], marker=style.marker, color=style.color, markersize=4.5, markerfacecolor=fill)


def _arrow(axis: Axes, start: float, end: float, y: float, color: str, head: int) -> None:
    axis.plot([start, end], [y, y], color=color, linewidth=1.2, linestyle=OPEN_DASHES)
    axis.plot([end], [y], marker=head, color=color, markersize=6, markerfacecolor="white")


def interactive_figure(a: Analysis) -> InteractiveFigure:
    """For the page. Choices: threshold, task."""
    plots: dict[str, PlotlyData] = {}
    tasks, measured = [MEAN_OVER_TASKS, *a.data.categories], _measured(a)
    for kind in KINDS:
        for task in tasks:
            thresholds = [t for t in a.thresholds if t.kind == kind and (t.task or MEAN_OVER_TASKS) == task]
            if thresholds:
                layout = plotly_data.axes_layout("trained parameters", "")
                num_rows = len({(t.scale, t.method) for t in thresholds})
                labels = {"type": "category", "autorange": "reversed", "automargin": True, "dtick": 1}
                rows = {"yaxis": labels, "height": max(280, 120 + 24 * num_rows)}
                traces = [_range_trace(t, measured) for t in thresholds]
                plots[f"{kind}|{task}"] = {"data": traces, "layout": layout | rows}
    tasks = [t for t in tasks if any(name.endswith(f"|{t}") for name in plots)]
    caption = f"Thin, dashed, with an arrow: open; the counts tried do not settle that end. {captions.thresholds(a)}"
    choices: dict[str, list[str]] = {"threshold": list(KINDS), "task": tasks}
    return InteractiveFigure("thresholds", TITLE, caption, choices, plots)


def _range_trace(t: Threshold, measured: Callable[[Threshold, int], str]) -> PlotlyData:
    """A range; what is open is thin, dashed and ends in an arrow.

    Args:
        t: the threshold.
        measured: what was measured at one of its counts, in words.

    Returns:
        A line from end to end as plotly's script reads it.
    """
    start, end = t.answer.ci_low or t.tried[0], min(t.answer.ci_high, t.tried[-1])
    text = (
        f"{display_name(t.method)} on {t.scale.name}, {t.task or MEAN_OVER_TASKS}\n"
        f"{t.kind} threshold: {t.answer.describe()}\n"
        f"{len(t.tried)} counts tried, {t.tried[0]:,} to {t.tried[-1]:,}; {t.seeds} seeds or more"
    )
    # The counts that enclose the interval: what was measured there is most of what it rests on.
    below = max((n for n in t.tried if n <= start), default=t.tried[0])
    above = min((n for n in t.tried if n >= end), default=t.tried[-1])
    style = method_style(t.method)
    row = f"{t.scale.name} · {display_name(t.method)}"
    open_above = math.isinf(t.answer.ci_high)
    is_open = open_above or not t.answer.ci_low
    symbols = [
        style.symbol if t.answer.ci_low else "triangle-left-open",
        "triangle-right-open" if open_above else style.symbol,
    ]
    if start == end:  # below all counts, or above them: a symbol would say that it is this one
        symbols = [symbols[1 if open_above else 0]] * 2
    return plotly_data.trace(
        t.method,
        [start, end],
        [row, row],
        [f"{text}\n{measured(t, below)}", f"{text}\n{measured(t, above)}"],
        line={"color": style.color, "width": 1.5 if is_open else 5, "dash": "dash" if is_open else "solid"},
        marker={"color": style.color, "symbol": symbols, "size": 11},
    )


def _measured(a: Analysis) -> Callable[[Threshold, int], str]:
    """A function from a threshold and a count that was tried to the score there, and what stands behind it."""
    details = PointDetails.of(a)
    points = {(p.scale.name, p.task, p.method, p.num_trainable): p for p in a.budget_points}

    def measured(t: Threshold, n: int) -> str:
        p = points[t.scale.name, t.task, t.method, n]
        return details.text(f"at N = {n:,}:", t.scale, t.method, n, t.task, p.score, "%")

    return measured
