"""E4: the score over the number of trained parameters, with both thresholds (figure 7 of the paper)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from apet.analysis.frames import FULL, complete
from apet.analysis.score_by_budget import BudgetPoint
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.analysis.thresholds import Threshold
from apet.reporting import captions
from apet.reporting.figures import log_axis, marks, plotly_data, sheet
from apet.reporting.figures.plotly_data import InteractiveFigure, PlotlyData
from apet.reporting.figures.point_details import PointDetails
from apet.reporting.formatting import MEAN_OVER_TASKS, display_name, interval, percent
from apet.reporting.style import GRAY, method_style

TITLE = "E4: score over the number of trained parameters"
PointsByPanel = dict[tuple[str, str | None], list[BudgetPoint]]
"""(backbone, task) -> points of all methods; task None = the mean over tasks."""


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """For print: a figure for each backbone, a panel for each task, the mean first."""
    points = _by_panel(a.budget_points)
    figures = {}
    for scale in a.data.scales:
        tasks = [t for backbone, t in points if backbone == scale.name]
        if not any(t.scale == scale for t in a.thresholds):
            continue
        columns = min(4, len(tasks))
        rows = math.ceil(len(tasks) / columns)
        figure, axes = sheet.panels(rows, columns, width=2.9, height=2.3)
        for axis in axes.flat[len(tasks) :]:
            axis.set_visible(False)
        for axis, task in zip(axes.flat, tasks, strict=False):
            _panel(axis, a, scale, task, points[scale.name, task])
        title = f"{TITLE}, {scale.name} ({log_axis.short_count(scale.num_parameters)} parameters)"
        name = "score_by_budget_" + re.sub(r"[^\w.-]+", "-", scale.name)
        legend = marks.line_legend([m for m in a.data.methods if m != FULL])
        needed_marks = marks.mark_legend(p.score for t in tasks for p in points[scale.name, t] if p.method != FULL)
        caption = captions.score_by_budget(a, scale)
        figures[name] = sheet.finish(figure, title, caption, legend, partial, marks=needed_marks)
    return figures


def _by_panel(points: Sequence[BudgetPoint]) -> PointsByPanel:
    """Points by backbone and task, the mean over tasks first, ascending in N."""
    by_panel: PointsByPanel = {}
    for p in sorted(points, key=lambda p: (p.task is not None, p.num_trainable)):
        by_panel.setdefault((p.scale.name, p.task), []).append(p)
    return by_panel


def _panel(axis: Axes, a: Analysis, scale: Scale, task: str | None, points: list[BudgetPoint]) -> None:
    full = next((p for p in points if p.method == FULL), None)
    for method in a.data.methods:
        of_method = [p for p in points if p.method == method and method != FULL]
        marks.curve(axis, [p.num_trainable for p in of_method], [p.score for p in of_method], method)
    axis.axhline(100 * points[0].untrained_baseline, color=GRAY, linestyle=":", linewidth=1)
    if full is not None:
        axis.axhline(100 * full.score.score, color="black", linestyle="--", linewidth=1)
    for t, row in _closed_ranges(a.thresholds, scale, task):
        _draw_range(axis, t, row)
    axis.set_title(task or MEAN_OVER_TASKS)
    axis.set_ylabel("score (%)")
    log_axis.log_count_axis(axis, "trained parameters")


def _closed_ranges(thresholds: Sequence[Threshold], scale: Scale, task: str | None) -> list[tuple[Threshold, int]]:
    """Closed ranges of one panel, each with its row: low ones count from the bottom, high ones from the top."""
    closed = [t for t in thresholds if t.scale == scale and t.task == task and math.isfinite(t.answer.ci_high)]
    return [(t, row) for kind in ("low", "high") for row, t in enumerate(t for t in closed if t.kind == kind)]


def _draw_range(axis: Axes, t: Threshold, row: int) -> None:
    """The range on the frame: low at the bottom, high at the top."""
    y = 0.012 + 0.02 * row if t.kind == "low" else 0.988 - 0.02 * row
    start = t.answer.ci_low or t.tried[0]
    axis.plot(
        [start, t.answer.ci_high],
        [y, y],
        transform=axis.get_xaxis_transform(),  # x in counts, y in shares of the panel's height
        color=method_style(t.method).color,
        linewidth=2.5,
        alpha=0.8,
        solid_capstyle="butt",
        clip_on=False,
    )


def interactive_figure(a: Analysis) -> InteractiveFigure:
    """For the page. Choices: backbone, task. Lines are means with their intervals, small points single runs."""
    runs = complete(a.data.runs)
    details = PointDetails.of(a)
    runs_by_curve = dict(list(runs.groupby(["backbone", "task", "method"], sort=False)))
    plots = {}
    for (backbone, task), points in _by_panel(a.budget_points).items():
        traces: list[PlotlyData] = []
        for method in a.data.methods:
            of_method = [p for p in points if p.method == method]
            if not of_method:
                continue
            if method == FULL:
                traces.append(_full_trace(details, of_method[0], points))
                continue
            traces += _mean_traces(details, method, of_method)
            single_runs = runs_by_curve.get((backbone, task, method))
            if single_runs is not None:
                traces.append(_single_run_trace(method, single_runs))
        line, label = plotly_data.horizontal_line(100 * points[0].untrained_baseline, "baseline", "dot")
        shapes = [line, *_range_shapes(a, points[0].scale, task)]
        layout = plotly_data.axes_layout(
            "trained parameters", "validation score (%)", shapes=shapes, annotations=[label]
        )
        plots[f"{backbone}|{task or MEAN_OVER_TASKS}"] = {"data": traces, "layout": layout}
    tasks = [MEAN_OVER_TASKS, *a.data.categories]
    tasks = [t for t in tasks if any(name.endswith(f"|{t}") for name in plots)]
    choices = {"backbone": [s.name for s in a.data.scales], "task": tasks}
    caption = (
        f"Lines: means with their intervals; small points: single runs. {plotly_data.POINT_MARKS}"
        f" {captions.score_by_budget(a)}"
    )
    return InteractiveFigure("score_by_budget", TITLE, caption, choices, plots)


def _full_trace(details: PointDetails, full: BudgetPoint, points: list[BudgetPoint]) -> PlotlyData:
    """Full fine-tuning as a dashed line over the counts of the others; its own count lies far to the right."""
    counts = [p.num_trainable for p in points if p.method != FULL] or [full.num_trainable]
    head = f"{display_name(FULL)}, N = {full.num_trainable:,}\non {full.scale.name}"
    text = details.text(head, full.scale, FULL, full.num_trainable, full.task, full.score)
    x = sorted(set(counts))
    line = {"color": method_style(FULL).color, "width": 1.5, "dash": "dash"}
    return plotly_data.trace(FULL, x, [100 * full.score.score] * len(x), [text] * len(x), mode="lines", line=line)


def _mean_traces(details: PointDetails, method: str, points: list[BudgetPoint]) -> list[PlotlyData]:
    texts = []
    for p in points:
        head = f"{display_name(method)}, N = {p.num_trainable:,} ({p.trainable_percent:.3g} %)\non {p.scale.name}"
        gap = "" if p.gap is None else f"\n{percent(p.gap.score)} points behind full fine-tuning"
        texts.append(details.text(head, p.scale, method, p.num_trainable, p.task, p.score) + gap)
    return plotly_data.mean_traces(method, [p.num_trainable for p in points], [p.score for p in points], texts)


def _single_run_trace(method: str, runs: pd.DataFrame) -> PlotlyData:
    texts = [f"{r.seed:.0f}\nrun {r.run_id}\nitems: {interval(r.ci_low, r.ci_high)}" for r in runs.itertuples()]
    style = method_style(method)
    return plotly_data.trace(
        method,
        runs["num_trainable"].tolist(),
        (100 * runs["score"]).tolist(),
        texts,
        mode="markers",
        hovertemplate=f"{display_name(method)}, N = %{{x:,}}, %{{y:.1f}} %<br>seed %{{text}}<extra></extra>",
        marker={"color": style.color, "symbol": style.symbol + "-open", "size": 5, "opacity": 0.7},
    )


def _range_shapes(a: Analysis, scale: Scale, task: str | None) -> list[PlotlyData]:
    shapes = []
    for t, row in _closed_ranges(a.thresholds, scale, task):
        y = 0.01 + 0.02 * row if t.kind == "low" else 0.99 - 0.02 * row
        shapes.append(
            {
                "type": "line",
                "yref": "paper",
                "x0": t.answer.ci_low or t.tried[0],
                "x1": t.answer.ci_high,
                "y0": y,
                "y1": y,
                "line": {"color": method_style(t.method).color, "width": 4},
                "name": f"{display_name(t.method)}, {t.kind} threshold: {t.answer.describe()}",
            }
        )
    return shapes
