"""E2: at each method's count, the method against APET-adjacent and APET-discrete (figure 5)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from apet.analysis.frames import ADJACENT, DISCRETE
from apet.analysis.intervals import Estimate
from apet.analysis.structure import Structure
from apet.analysis.study import Analysis
from apet.report import captions
from apet.report.colours import look
from apet.report.figures import canvas, plot
from apet.report.wording import named, points

TITLE = "E2: structure at equal counts"
WIDTH = 0.26


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """A panel for each backbone, a group of bars for each count."""
    scales = list(dict.fromkeys(s.scale for s in a.structures))
    columns = min(3, len(scales))
    rows = math.ceil(len(scales) / columns)
    figure, axes = canvas.sheet(rows, columns, width=3.6)
    for axis in axes.flat[len(scales) :]:
        axis.set_visible(False)
    for axis, scale in zip(axes.flat, scales, strict=False):
        mine = [s for s in a.structures if s.scale == scale and s.task is None]
        for i, s in enumerate(mine):
            for j, method in enumerate((s.method, ADJACENT, DISCRETE)):
                if method in s.levels:
                    _bar(axis, i + (j - 1) * WIDTH, s.levels[method], method)
        axis.set_xticks(range(len(mine)), [f"{named(s.method)}\n{s.n:,}" for s in mine])
        axis.set_title(f"{scale.name} ({canvas.short(scale.parameters)})")
        axis.set_ylabel("validation measure (%)")
        axis.grid(axis="x", visible=False)
    shown = [m for m in a.board.methods if any(m in s.levels for s in a.structures)]
    figure = canvas.finish(figure, TITLE, captions.structure(a), [], partial)
    _legend(figure, shown)
    return {"e2_structure": figure}


def _bar(axis: Any, x: float, e: Estimate, method: str) -> None:
    k = look(method)
    ends = None if math.isnan(e.low) else np.array([[100 * (e.value - e.low)], [100 * (e.high - e.value)]])
    axis.bar(
        x,
        100 * e.value,
        WIDTH,
        color=k.colour,
        hatch=k.hatch,
        edgecolor="white",
        linewidth=0.6,
        yerr=ends,
        ecolor="black",
        error_kw={"linewidth": 1, "capsize": 2},
    )


def _legend(figure: Figure, methods: list[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=look(m).colour, hatch=look(m).hatch, edgecolor="white", label=named(m)) for m in methods]
    figure.legend(handles=handles, loc="upper right", ncols=len(handles), fontsize=7, frameon=False)


def view(a: Analysis) -> plot.View:
    """Choices: backbone, task."""
    plots: dict[str, dict[str, Any]] = {}
    for s in a.structures:
        plots.setdefault(f"{s.scale.name}|{s.task or plot.MEAN}", {})
    for key in plots:
        mine = [s for s in a.structures if f"{s.scale.name}|{s.task or plot.MEAN}" == key]
        plots[key] = {"data": _bars(a, mine), "layout": _layout()}
    scales = list(dict.fromkeys(s.scale.name for s in a.structures))
    tasks = list(dict.fromkeys(s.task or plot.MEAN for s in a.structures))
    return plot.View("e2", TITLE, captions.structure(a), {"backbone": scales, "task": tasks}, plots, log=False)


def _layout() -> dict[str, Any]:
    made = plot.layout("the method whose count it is, and the count", "validation measure (%)", log=False)
    return made | {"barmode": "group", "xaxis": made["xaxis"] | {"type": "category"}}


def _bars(a: Analysis, mine: list[Structure]) -> list[dict[str, Any]]:
    data = []
    for method in a.board.methods:
        shown = [s for s in mine if method in s.levels]
        if not shown:
            continue
        k = look(method)
        e = [s.levels[method] for s in shown]
        texts = [plot.hover(f"{named(method)}, N = {s.n:,}", s.levels[method]) + _against(s) for s in shown]
        x = [f"{named(s.method)}<br>{s.n:,}" for s in shown]
        more = {
            "type": "bar",
            "offsetgroup": method if method in (ADJACENT, DISCRETE) else "own",
            "error_y": plot.bars(e),
            "marker": {"color": k.colour, "pattern": _pattern(k.pattern)},
            "textposition": "none",
        }
        data.append(plot.trace(method, x, [100 * v.value for v in e], texts, **more))
    return data


def _pattern(shape: str) -> dict[str, Any]:
    """White lines on the method's colour, as in print."""
    return {"shape": shape, "fillmode": "overlay", "fgcolor": "#ffffff", "fgopacity": 0.7, "size": 9, "solidity": 0.15}


def _against(s: Structure) -> str:
    words = {"method-adjacent": "method − adjacent", "method-discrete": "method − discrete"}
    words["adjacent-discrete"] = "adjacent − discrete"
    return "".join(f"\n{words[p]}: {points(d.value)} ({d.verdict})" for p, d in s.differences.items())
