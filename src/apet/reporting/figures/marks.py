"""Marks of the printed figures: curves and whiskers, and the legend entries that explain them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from apet.analysis.intervals import Estimate
from apet.reporting.formatting import display_name
from apet.reporting.style import GRAY, method_style

_ITEM_DASHES = (0, (2.0, 1.5))
"""Of the intervals that one seed has."""
ONE_SEED = "one seed: interval over the items"
INCOMPLETE = "hollow: planned runs are missing (†)"


def line_legend(methods: Sequence[str]) -> list[Artist]:
    """Entries of the legend where methods are lines."""
    return [
        Line2D([], [], color=s.color, marker=s.marker, markersize=5, linewidth=1.4, label=display_name(m))
        for m, s in ((m, method_style(m)) for m in methods)
    ]


def bar_legend(methods: Sequence[str]) -> list[Artist]:
    """Entries of the legend where methods are bars."""
    return [
        Patch(facecolor=s.color, hatch=s.hatch, edgecolor="white", label=display_name(m))
        for m, s in ((m, method_style(m)) for m in methods)
    ]


def mark_legend(estimates: Iterable[Estimate | None], bars: bool = False) -> list[Artist]:
    """Entries for what these numbers need: dashed whiskers of one seed, hollow marks where runs are missing.

    Args:
        estimates: that are drawn.
        bars: whether they are bars, not points.

    Returns:
        The entries; none where every number has several seeds and all of its runs.
    """
    known = [e for e in estimates if e is not None]
    entries: list[Artist] = []
    if any(e.num_seeds < 2 and not math.isnan(e.item_ci_low) for e in known):
        entries.append(Line2D([], [], color=GRAY, linestyle=_ITEM_DASHES, linewidth=0.9, label=ONE_SEED))
    if any(is_incomplete(e) for e in known):
        entries.append(
            Patch(facecolor="white", edgecolor=GRAY, hatch="//", label=INCOMPLETE)
            if bars
            else Line2D(
                [], [], color=GRAY, label=INCOMPLETE, linestyle="", marker="o", markersize=5, markerfacecolor="white"
            )
        )
    return entries


def is_incomplete(e: Estimate) -> bool:
    """Whether planned runs are missing; such a number is hollow everywhere."""
    return e.num_missing > 0


def whiskers(axis: Axes, x: Sequence[float], estimates: Sequence[Estimate], color: str, zorder: float = 2) -> None:
    """Intervals in percent: solid over seeds; of one seed thin and dashed, over its items."""
    placed = list(zip(x, estimates, strict=True))
    over_seeds = [(v, e.ci_low, e.ci_high) for v, e in placed if e.num_seeds > 1]
    over_items = [
        (v, e.item_ci_low, e.item_ci_high) for v, e in placed if e.num_seeds < 2 and not math.isnan(e.item_ci_low)
    ]
    for ends, linewidth, linestyle in ((over_seeds, 1.0, "solid"), (over_items, 0.8, _ITEM_DASHES)):
        if ends:
            xs, low, high = np.array(ends).T
            axis.vlines(
                xs,
                100 * low,
                100 * high,
                color=color,
                alpha=0.8,
                zorder=zorder,
                linewidth=linewidth,
                linestyle=linestyle,
            )


def curve(axis: Axes, x: Sequence[float], estimates: Sequence[Estimate], method: str) -> None:
    """Points joined by a line, with their intervals in percent; hollow where planned runs are missing."""
    style = method_style(method)
    xs, ys = np.array(x, dtype=float), np.array([100 * e.score for e in estimates])
    axis.plot(xs, ys, color=style.color, linewidth=1.3, zorder=3)
    whiskers(axis, x, estimates, style.color)
    incomplete = np.array([is_incomplete(e) for e in estimates], dtype=bool)
    for points, fill in ((incomplete, "white"), (~incomplete, style.color)):
        if points.any():
            axis.plot(
                xs[points], ys[points], style.marker, color=style.color, markerfacecolor=fill, markersize=5, zorder=4
            )
