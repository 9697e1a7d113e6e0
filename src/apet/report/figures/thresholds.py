"""E5: low and high thresholds as ranges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.markers import CARETLEFT, CARETRIGHT

from apet.analysis.board import Scale
from apet.analysis.study import Analysis
from apet.analysis.thresholds import Kind, Threshold
from apet.report import captions
from apet.report.colours import look
from apet.report.figures import canvas, plot
from apet.report.wording import bracket, named, threshold_notes

TITLE = "E5: low and high thresholds"
KINDS: tuple[Kind, ...] = ("low", "high")


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """Low at the left, high at the right; a row for each backbone, thin lines are tasks, thick ones their median."""
    scales = list(dict.fromkeys(t.scale for t in a.thresholds))
    methods = [m for m in a.board.methods if any(t.method == m for t in a.thresholds)]
    figure, axes = canvas.sheet(1, 2, width=4.4, height=max(2.2, 0.16 * len(scales) * (len(methods) + 1)))
    for axis, kind in zip(axes[0], KINDS, strict=True):
        for row, scale in enumerate(scales):
            for i, method in enumerate(methods):
                y = row + 0.8 * ((i + 0.5) / len(methods) - 0.5)
                _row(axis, y, _of(a, scale, method, kind), method)
        axis.set_yticks(range(len(scales)), [f"{s.name}\n({canvas.short(s.parameters)})" for s in scales])
        axis.set_ylim(len(scales) - 0.45, -0.55)
        canvas.log_counts(axis, "trained parameters")
        axis.set_title(f"{kind} threshold")
    caption = f"Thin: one task; thick: the median over tasks of both ends. {captions.thresholds(a)}"
    return {"e5_thresholds": canvas.finish(figure, TITLE, caption, methods, partial, plain=False)}


def _of(a: Analysis, scale: Scale, method: str, kind: Kind) -> list[Threshold]:
    found = [t for t in a.thresholds if t.scale == scale and t.method == method and t.kind == kind]
    return [t for t in found if t.task is not None]


def _row(axis: Any, y: float, found: list[Threshold], method: str) -> None:
    if not found:
        return
    k = look(method)
    starts = [t.bracket.above or t.tried[0] for t in found]
    ends = [t.bracket.reached for t in found]
    for start, end, t in zip(starts, ends, found, strict=True):
        axis.plot([start, min(end, t.tried[-1])], [y, y], color=k.colour, linewidth=1, alpha=0.35)
    start, end = float(np.median(starts)), float(np.median(ends))
    most = max(t.tried[-1] for t in found)
    axis.plot([start, min(end, most)], [y, y], color=k.colour, linewidth=3, solid_capstyle="butt")
    axis.plot([start], [y], marker=k.marker, color=k.colour, markersize=4.5)
    if math.isinf(end):
        axis.plot([most, 1.5 * most], [y, y], color=k.colour, linewidth=1.2, linestyle=":")
        axis.plot([1.5 * most], [y], marker=CARETRIGHT, color=k.colour, markersize=6)
    if np.median([t.bracket.above for t in found]) == 0:
        axis.plot([start / 1.5, start], [y, y], color=k.colour, linewidth=1.2, linestyle=":")
        axis.plot([start / 1.5], [y], marker=CARETLEFT, color=k.colour, markersize=6)


def view(a: Analysis) -> plot.View:
    """Choices: threshold, task."""
    plots: dict[str, dict[str, Any]] = {}
    tasks = [plot.MEAN, *a.board.categories]
    for kind in KINDS:
        for task in tasks:
            mine = [t for t in a.thresholds if t.kind == kind and (t.task or plot.MEAN) == task]
            if mine:
                layout = plot.layout("trained parameters", "")
                rows = len({(t.scale, t.method) for t in mine})
                labels = {"type": "category", "autorange": "reversed", "automargin": True, "dtick": 1}
                more = {"yaxis": labels, "height": max(280, 120 + 24 * rows)}
                plots[f"{kind}|{task}"] = {"data": [_range(t) for t in mine], "layout": layout | more}
    tasks = [t for t in tasks if any(k.endswith(f"|{t}") for k in plots)]
    return plot.View("e5", TITLE, captions.thresholds(a), {"threshold": list(KINDS), "task": tasks}, plots)


def _range(t: Threshold) -> dict[str, Any]:
    start, end = t.bracket.above or t.tried[0], min(t.bracket.reached, t.tried[-1])
    notes = threshold_notes(t)
    text = (
        f"{named(t.method)} on {t.scale.name}, {t.task or plot.MEAN}\n"
        f"{t.kind} threshold: {bracket(t.bracket, t.tried)}\n"
        f"{len(t.tried)} counts tried, {t.tried[0]:,} to {t.tried[-1]:,}; {t.seeds} seeds or more"
        + (f"\n{notes}" if notes else "")
    )
    k = look(t.method)
    row = f"{t.scale.name} · {named(t.method)}"
    open_ended = math.isinf(t.bracket.reached)
    symbols = [k.symbol, "triangle-right-open" if open_ended else k.symbol]
    return plot.trace(
        t.method,
        [start, end],
        [row, row],
        [text, text],
        line={"color": k.colour, "width": 5, "dash": "dot" if open_ended else "solid"},
        marker={"color": k.colour, "symbol": symbols, "size": 11},
    )
