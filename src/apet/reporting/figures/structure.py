"""E2: at each method's count, the method against the variants of APET (figure 5 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from apet.analysis.intervals import Estimate
from apet.analysis.structure import Structure
from apet.analysis.study import Analysis
from apet.reporting import captions
from apet.reporting.figures import log_axis, marks, plotly_data, sheet
from apet.reporting.figures.plotly_data import InteractiveFigure, PlotlyData
from apet.reporting.figures.point_details import PointDetails
from apet.reporting.formatting import MEAN_OVER_TASKS, display_name, percent
from apet.reporting.style import method_style
from apet.reporting.variants import difference_headings, structure_variants

TITLE = "E2: structure at equal counts"
GROUP_WIDTH = 0.78
"""Of the distance between two groups of bars, what the bars of a group take."""


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """For print: a panel for each backbone, a group of bars for each count."""
    scales = list(dict.fromkeys(s.scale for s in a.structures))
    variants = structure_variants(a)
    columns = min(3, len(scales))
    rows = math.ceil(len(scales) / columns)
    figure, axes = sheet.panels(rows, columns, width=3.6)
    for axis in axes.flat[len(scales) :]:
        axis.set_visible(False)
    for axis, scale in zip(axes.flat, scales, strict=False):
        _panel(axis, [s for s in a.structures if s.scale == scale and s.task is None], variants)
        axis.set_title(f"{scale.name} ({log_axis.short_count(scale.num_parameters)})")
    means = [s for s in a.structures if s.task is None]
    legend = marks.bar_legend([m for m in a.data.methods if any(m in s.scores for s in means)])
    needed_marks = marks.mark_legend((e for s in means for e in s.scores.values()), bars=True)
    return {"structure": sheet.finish(figure, TITLE, captions.structure(a), legend, partial, marks=needed_marks)}


def _panel(axis: Axes, structures: Sequence[Structure], variants: Sequence[str]) -> None:
    width = GROUP_WIDTH / (1 + len(variants))
    for i, s in enumerate(structures):
        for j, method in enumerate((s.method, *variants)):
            if method in s.scores:
                _bar(axis, i + (j - len(variants) / 2) * width, width, s.scores[method], method)
    axis.set_xticks(range(len(structures)), [f"{display_name(s.method)}\n{s.num_trainable:,}" for s in structures])
    axis.set_ylabel("validation score (%)")
    axis.grid(axis="x", visible=False)


def _bar(axis: Axes, x: float, width: float, e: Estimate, method: str) -> None:
    """Hollow where planned runs are missing."""
    style, hollow = method_style(method), marks.is_incomplete(e)
    fill, edge = ("white", style.color) if hollow else (style.color, "white")
    # outlines of neighbors would lie on each other: hollow bars are a little narrower
    axis.bar(
        x,
        100 * e.score,
        width * (0.94 if hollow else 1),
        hatch=style.hatch,
        linewidth=1.0 if hollow else 0.6,
        color=fill,
        edgecolor=edge,
    )
    marks.whiskers(axis, [x], [e], "black", zorder=3)


def interactive_figure(a: Analysis) -> InteractiveFigure:
    """For the page. Choices: backbone, task."""
    by_plot: dict[str, list[Structure]] = {}
    for s in a.structures:
        by_plot.setdefault(f"{s.scale.name}|{s.task or MEAN_OVER_TASKS}", []).append(s)
    details = PointDetails.of(a)
    variants = structure_variants(a)
    plots = {
        name: {"data": _bar_traces(a, details, structures, variants), "layout": _layout(structures)}
        for name, structures in by_plot.items()
    }
    scales = list(dict.fromkeys(s.scale.name for s in a.structures))
    tasks = list(dict.fromkeys(s.task or MEAN_OVER_TASKS for s in a.structures))
    caption = f"{plotly_data.BAR_MARKS} {captions.structure(a)}"
    return InteractiveFigure("structure", TITLE, caption, {"backbone": scales, "task": tasks}, plots, log=False)


def _layout(structures: Sequence[Structure]) -> PlotlyData:
    layout = plotly_data.axes_layout(
        "the method whose count it is, and the count", "validation score (%)", log=False, barmode="group"
    )
    # without an order plotly sorts the groups by when they first occur in a trace, and some traces lack some
    layout["xaxis"] |= {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": [_group(s) for s in structures],
    }
    return layout


def _group(s: Structure) -> str:
    return f"{display_name(s.method)}<br>{s.num_trainable:,}"


def _bar_traces(
    a: Analysis, details: PointDetails, structures: Sequence[Structure], variants: Sequence[str]
) -> list[PlotlyData]:
    """A method's bars; those of one seed and those that miss runs apart, because they look different."""
    traces = []
    for method in a.data.methods:
        with_score = [(s, s.scores[method]) for s in structures if method in s.scores]
        for one_seed, hollow in product((False, True), repeat=2):
            alike = [
                s for s, e in with_score if (plotly_data.has_one_seed(e), marks.is_incomplete(e)) == (one_seed, hollow)
            ]
            if alike:
                traces.append(_bar_trace(details, method, alike, variants, one_seed, hollow))
    return traces


def _bar_trace(
    details: PointDetails,
    method: str,
    structures: Sequence[Structure],
    variants: Sequence[str],
    one_seed: bool,
    hollow: bool,
) -> PlotlyData:
    style = method_style(method)
    estimates = [s.scores[method] for s in structures]
    texts = [_hover_text(details, s, method) for s in structures]
    marker: PlotlyData = {"color": style.color, "pattern": _pattern(style.pattern)}
    if hollow:
        marker = {"color": "#ffffff", "line": {"color": style.color, "width": 1.5}}
        marker["pattern"] = _pattern(style.pattern) | {"fgcolor": style.color}
    error_bars = (
        plotly_data.item_error_bars(estimates)
        if one_seed
        else plotly_data.seed_error_bars(estimates) | {"color": "#1c2430"}
    )
    return plotly_data.trace(
        method,
        [_group(s) for s in structures],
        [100 * e.score for e in estimates],
        texts,
        type="bar",
        offsetgroup=method if method in variants else "method",  # a group has one method: all share one place
        error_y=error_bars,
        marker=marker,
        textposition="none",
    )


def _pattern(shape: str) -> PlotlyData:
    """Lines on the bar, as in print."""
    return {"shape": shape, "fillmode": "overlay", "fgcolor": "#ffffff", "fgopacity": 0.7, "size": 9, "solidity": 0.15}


def _hover_text(details: PointDetails, s: Structure, method: str) -> str:
    """What stands behind a bar, and every difference of its group."""
    head = f"{display_name(method)} on {s.scale.name}, N = {s.num_trainable:,}"
    differences = "".join(
        f"\n{heading}: {percent(s.differences[key].score)} ({s.differences[key].verdict})"
        for key, heading in difference_headings([s]).items()
    )
    return details.text(head, s.scale, method, s.num_trainable, s.task, s.scores[method]) + differences
