"""E5: low and high thresholds as ranges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFT, CARETRIGHT

from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.analysis.thresholds import Kind, State, Threshold
from apet.report import captions
from apet.report.figures import canvas, plot
from apet.report.figures.behind import Behind
from apet.report.formatting import bracket, named, threshold_notes
from apet.report.style import look

OPEN = (0, (3, 2))
"""Dashes of an open end."""
BEYOND = 1.5
"""Factor beyond the counts tried, at which an arrow ends."""
TITLE = "E5: low and high thresholds"
WORDS: dict[State, str] = {"passes": "passes", "fails": "fails", "undecided": "decides nothing"}
KINDS: tuple[Kind, ...] = ("low", "high")


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """Low at the left, high at the right; a row for each backbone, thin lines are tasks, thick ones their median."""
    scales = list(dict.fromkeys(t.scale for t in a.thresholds))
    methods = [m for m in a.data.methods if any(t.method == m for t in a.thresholds)]
    figure, axes = canvas.sheet(1, 2, width=4.4, height=max(2.2, 0.16 * len(scales) * (len(methods) + 1)))
    for axis, kind in zip(axes[0], KINDS, strict=True):
        for row, scale in enumerate(scales):
            for i, method in enumerate(methods):
                y = row + 0.8 * ((i + 0.5) / len(methods) - 0.5)
                _row(axis, y, _of(a, scale, method, kind), method)
        axis.set_yticks(range(len(scales)), [f"{s.name}\n({canvas.short(s.num_parameters)})" for s in scales])
        axis.set_ylim(len(scales) - 0.45, -0.55)
        canvas.log_counts(axis, "trained parameters")
        axis.set_title(f"{kind} threshold")
    caption = f"Thin: one task; thick: the median over tasks of both ends; dashed: open. {captions.thresholds(a)}"
    legend = canvas.lines(methods)
    return {"e5_thresholds": canvas.finish(figure, TITLE, caption, legend, partial, plain=False, marks=_marks())}


def _marks() -> list[Artist]:
    grey: dict[str, Any] = {"color": canvas.GREY}
    hollow: dict[str, Any] = {"marker": CARETRIGHT, "markersize": 6, "markerfacecolor": "white"}
    return [
        Line2D([], [], linewidth=3, label="range that holds the threshold", **grey),
        Line2D(
            [],
            [],
            linewidth=1.2,
            linestyle=OPEN,
            label="open: the counts tried do not settle this end",
            **grey,
            **hollow,
        ),
    ]


def _of(a: Analysis, scale: Scale, method: str, kind: Kind) -> list[Threshold]:
    found = [t for t in a.thresholds if t.scale == scale and t.method == method and t.kind == kind]
    return [t for t in found if t.task is not None]


def _row(axis: Any, y: float, found: list[Threshold], method: str) -> None:
    """Solid is a range that holds the threshold; dashed with a hollow arrow is what the counts tried leave open."""
    if not found:
        return
    colour, marker = look(method).colour, look(method).marker
    starts = [t.bracket.lower or t.tried[0] for t in found]
    ends = [t.bracket.upper for t in found]
    for start, end, t in zip(starts, ends, found, strict=True):
        how: dict[str, Any] = {"linestyle": OPEN} if math.isinf(end) else {}
        axis.plot([start, min(end, t.tried[-1])], [y, y], color=colour, linewidth=1, alpha=0.4, **how)
    start, end = float(np.median(starts)), float(np.median(ends))
    closed = not math.isinf(end)
    if closed:
        axis.plot([start, end], [y, y], color=colour, linewidth=3, solid_capstyle="butt")
    else:
        most = max(t.tried[-1] for t in found)
        _arrow(axis, start, BEYOND * most, y, colour, CARETRIGHT)
    if np.median([t.bracket.lower for t in found]) == 0:
        _arrow(axis, start, start / BEYOND, y, colour, CARETLEFT)
    axis.plot([start], [y], marker=marker, color=colour, markersize=4.5, markerfacecolor=colour if closed else "white")


def _arrow(axis: Any, start: float, end: float, y: float, colour: str, head: int) -> None:
    axis.plot([start, end], [y, y], color=colour, linewidth=1.2, linestyle=OPEN)
    axis.plot([end], [y], marker=head, color=colour, markersize=6, markerfacecolor="white")


def view(a: Analysis) -> plot.View:
    """Choices: threshold, task."""
    plots: dict[str, dict[str, Any]] = {}
    tasks, at = [plot.MEAN, *a.data.categories], _measured(a)
    for kind in KINDS:
        for task in tasks:
            mine = [t for t in a.thresholds if t.kind == kind and (t.task or plot.MEAN) == task]
            if mine:
                layout = plot.layout("trained parameters", "")
                rows = len({(t.scale, t.method) for t in mine})
                labels = {"type": "category", "autorange": "reversed", "automargin": True, "dtick": 1}
                more = {"yaxis": labels, "height": max(280, 120 + 24 * rows)}
                plots[f"{kind}|{task}"] = {"data": [_range(t, at) for t in mine], "layout": layout | more}
    tasks = [t for t in tasks if any(k.endswith(f"|{t}") for k in plots)]
    caption = f"Thin, dashed, with an arrow: open; the counts tried do not settle that end. {captions.thresholds(a)}"
    return plot.View("e5", TITLE, caption, {"threshold": list(KINDS), "task": tasks}, plots)


def _range(t: Threshold, at: Callable[[Threshold, float], str]) -> dict[str, Any]:
    """A range; what is open is thin, dashed and ends in an arrow.

    Args:
        t: the threshold.
        at: what was measured at one of its counts, in words.
    """
    start, end = t.bracket.lower or t.tried[0], min(t.bracket.upper, t.tried[-1])
    notes = threshold_notes(t)
    text = (
        f"{named(t.method)} on {t.scale.name}, {t.task or plot.MEAN}\n"
        f"{t.kind} threshold: {bracket(t.bracket, t.tried)}\n"
        f"{len(t.tried)} counts tried, {t.tried[0]:,} to {t.tried[-1]:,}; {t.seeds} seeds or more"
        + (f"\n{notes}" if notes else "")
    )
    k = look(t.method)
    row = f"{t.scale.name} · {named(t.method)}"
    open_ended = math.isinf(t.bracket.upper)
    symbols = [
        k.symbol if t.bracket.lower else "triangle-left-open",
        "triangle-right-open" if open_ended else k.symbol,
    ]
    return plot.trace(
        t.method,
        [start, end],
        [row, row],
        [f"{text}\n{at(t, n)}" for n in (start, end)],
        line={"color": k.colour, "width": 1.5 if open_ended else 5, "dash": "dash" if open_ended else "solid"},
        marker={"color": k.colour, "symbol": symbols, "size": 11},
    )


def _measured(a: Analysis) -> Callable[[Threshold, float], str]:
    """Of a threshold and a count that was tried: the number that decided there, and what stands behind it."""
    behind = Behind.of(a)
    levels = {(x.scale.name, x.task, x.method, x.num_trainable): x for x in a.budget_points}

    def at(t: Threshold, n: float) -> str:
        x = levels[t.scale.name, t.task, t.method, int(n)]
        low = t.kind == "low"
        e, unit = (x.score, "%") if low else (x.gap, "points behind full fine-tuning")
        if e is None:
            return f"at N = {x.num_trainable:,}: no seed shared with full fine-tuning"
        state = t.states[t.tried.index(x.num_trainable)]
        return behind.text(
            f"at N = {x.num_trainable:,}, which {WORDS[state]}:", t.scale, t.method, x.num_trainable, t.task, e, unit
        )

    return at
