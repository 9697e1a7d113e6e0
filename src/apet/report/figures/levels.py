"""E4: the measure over the number of trained parameters, with both thresholds (figure 7)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from apet.analysis.frames import FULL, complete
from apet.analysis.score_by_budget import BudgetPoint
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.analysis.thresholds import Threshold
from apet.report import captions
from apet.report.figures import canvas, plot
from apet.report.figures.behind import Behind
from apet.report.formatting import bracket, named, points
from apet.report.style import look

TITLE = "E4: measure over the number of trained parameters"
Curves = dict[tuple[str, str | None], list[BudgetPoint]]


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """A figure for each backbone, a panel for each task, the mean first."""
    found = _curves(a.budget_points)
    figures = {}
    for scale in a.data.scales:
        tasks = [t for b, t in found if b == scale.name]
        if not any(t.scale == scale for t in a.thresholds):
            continue
        columns = min(4, len(tasks))
        rows = math.ceil(len(tasks) / columns)
        figure, axes = canvas.sheet(rows, columns, width=2.9, height=2.3)
        for axis in axes.flat[len(tasks) :]:
            axis.set_visible(False)
        for axis, task in zip(axes.flat, tasks, strict=False):
            _panel(axis, a, scale, task, found[scale.name, task])
        title = f"{TITLE}, {scale.name} ({canvas.short(scale.num_parameters)} parameters)"
        name = "e4_levels_" + re.sub(r"[^\w.-]+", "-", scale.name)
        legend = canvas.lines([m for m in a.data.methods if m != FULL])
        marks = canvas.marks(x.score for t in tasks for x in found[scale.name, t] if x.method != FULL)
        figures[name] = canvas.finish(figure, title, captions.levels(a, scale), legend, partial, marks=marks)
    return figures


def _curves(levels: Sequence[BudgetPoint]) -> Curves:
    """Levels by backbone and task, the mean over tasks first."""
    found: Curves = {}
    for x in sorted(levels, key=lambda x: (x.task is not None, x.num_trainable)):
        found.setdefault((x.scale.name, x.task), []).append(x)
    return found


def _panel(axis: Any, a: Analysis, scale: Scale, task: str | None, here: list[BudgetPoint]) -> None:
    full = next((x for x in here if x.method == FULL), None)
    for method in a.data.methods:
        mine = [x for x in here if x.method == method and method != FULL]
        canvas.curve(axis, [x.num_trainable for x in mine], [x.score for x in mine], method)
    axis.axhline(100 * here[0].untrained_baseline, color=canvas.GREY, linestyle=":", linewidth=1)
    if full is not None:
        axis.axhline(100 * full.score.score, color="black", linestyle="--", linewidth=1)
    for t, row in _of(a.thresholds, scale, task):
        _mark(axis, t, row)
    axis.set_title(task or plot.MEAN)
    axis.set_ylabel("measure (%)")
    canvas.log_counts(axis, "trained parameters")


def _of(found: Sequence[Threshold], scale: Scale, task: str | None) -> list[tuple[Threshold, int]]:
    """Closed ranges of one panel, each with its row: low ones count from the bottom, high ones from the top."""
    mine = [t for t in found if t.scale == scale and t.task == task and math.isfinite(t.bracket.upper)]
    return [(t, row) for kind in ("low", "high") for row, t in enumerate(t for t in mine if t.kind == kind)]


def _mark(axis: Any, t: Threshold, row: int) -> None:
    """The range on the axis: low at the bottom, high at the top."""
    y = 0.012 + 0.02 * row if t.kind == "low" else 0.988 - 0.02 * row
    start = t.bracket.lower or t.tried[0]
    axis.plot(
        [start, t.bracket.upper],
        [y, y],
        transform=axis.get_xaxis_transform(),
        color=look(t.method).colour,
        linewidth=2.5,
        alpha=0.8,
        solid_capstyle="butt",
        clip_on=False,
    )


def view(a: Analysis) -> plot.View:
    """Choices: backbone, task. Lines are means with their intervals, small points single runs."""
    runs = complete(a.data.runs)
    behind = Behind.of(a)
    by_cell = dict(list(runs.groupby(["backbone", "task", "method"], sort=False)))
    plots = {}
    for (backbone, task), here in _curves(a.budget_points).items():
        data: list[dict[str, Any]] = []
        for method in a.data.methods:
            mine = [x for x in here if x.method == method]
            if not mine:
                continue
            if method == FULL:
                data.append(_full(behind, mine[0], here))
                continue
            data += _means(behind, method, mine)
            single = by_cell.get((backbone, task, method))
            if single is not None:
                data.append(_singles(method, single))
        line, label = plot.level_line(100 * here[0].untrained_baseline, "baseline", "dot")
        shapes = [line, *_ranges(a, here[0].scale, task)]
        layout = plot.layout("trained parameters", "validation measure (%)", shapes=shapes, annotations=[label])
        plots[f"{backbone}|{task or plot.MEAN}"] = {"data": data, "layout": layout}
    tasks = [plot.MEAN, *a.data.categories]
    tasks = [t for t in tasks if any(k.endswith(f"|{t}") for k in plots)]
    choices = {"backbone": [s.name for s in a.data.scales], "task": tasks}
    caption = f"Lines: means with their intervals; small points: single runs. {plot.MARKS} {captions.levels(a)}"
    return plot.View("e4", TITLE, caption, choices, plots)


def _full(behind: Behind, full: BudgetPoint, here: list[BudgetPoint]) -> dict[str, Any]:
    """Full fine-tuning as a dashed line over the counts of the others; its own count lies far to the right."""
    counts = [x.num_trainable for x in here if x.method != FULL] or [full.num_trainable]
    head = f"{named(FULL)}, N = {full.num_trainable:,}\non {full.scale.name}"
    text = behind.text(head, full.scale, FULL, full.num_trainable, full.task, full.score)
    x = sorted(set(counts))
    line = {"color": look(FULL).colour, "width": 1.5, "dash": "dash"}
    return plot.trace(FULL, x, [100 * full.score.score] * len(x), [text] * len(x), mode="lines", line=line)


def _means(behind: Behind, method: str, mine: list[BudgetPoint]) -> list[dict[str, Any]]:
    texts = []
    for x in mine:
        head = f"{named(method)}, N = {x.num_trainable:,} ({x.trainable_percent:.3g} %)\non {x.scale.name}"
        less = "" if x.gap is None else f"\n{points(x.gap.score)} points behind full fine-tuning"
        texts.append(behind.text(head, x.scale, method, x.num_trainable, x.task, x.score) + less)
    return plot.points_of(method, [x.num_trainable for x in mine], [x.score for x in mine], texts)


def _singles(method: str, runs: pd.DataFrame) -> dict[str, Any]:
    texts = [
        f"{r.seed:.0f}\nrun {r.run_id}\nitems: {points(r.ci_low)} to {points(r.ci_high)}" for r in runs.itertuples()
    ]
    k = look(method)
    return plot.trace(
        method,
        runs["num_trainable"].tolist(),
        (100 * runs["score"]).tolist(),
        texts,
        mode="markers",
        hovertemplate=f"{named(method)}, N = %{{x:,}}, %{{y:.1f}} %<br>seed %{{text}}<extra></extra>",
        marker={"color": k.colour, "symbol": k.symbol + "-open", "size": 5, "opacity": 0.7},
    )


def _ranges(a: Analysis, scale: Scale, task: str | None) -> list[dict[str, Any]]:
    shapes = []
    for t, row in _of(a.thresholds, scale, task):
        y = 0.01 + 0.02 * row if t.kind == "low" else 0.99 - 0.02 * row
        shapes.append(
            {
                "type": "line",
                "yref": "paper",
                "x0": t.bracket.lower or t.tried[0],
                "x1": t.bracket.upper,
                "y0": y,
                "y1": y,
                "line": {"color": look(t.method).colour, "width": 4},
                "name": f"{named(t.method)}, {t.kind} threshold: {bracket(t.bracket, t.tried)}",
            }
        )
    return shapes
