"""E2: at each method's count, the method against APET-adjacent and APET-discrete (figure 5)."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

from matplotlib.figure import Figure

from apet.analysis.frames import ADJACENT, APET_PREFIX, DISCRETE
from apet.analysis.intervals import Estimate
from apet.analysis.structure import Structure, distribution
from apet.analysis.study import Analysis
from apet.report import captions
from apet.report.figures import canvas, plot
from apet.report.figures.behind import Behind
from apet.report.formatting import named, points
from apet.report.style import look

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
                if method in s.scores:
                    _bar(axis, i + (j - 1) * WIDTH, s.scores[method], method)
        axis.set_xticks(range(len(mine)), [f"{named(s.method)}\n{s.num_trainable:,}" for s in mine])
        axis.set_title(f"{scale.name} ({canvas.short(scale.num_parameters)})")
        axis.set_ylabel("validation measure (%)")
        axis.grid(axis="x", visible=False)
    here = [s for s in a.structures if s.task is None]
    shown = [m for m in a.data.methods if any(m in s.scores for s in here)]
    marks = canvas.marks((e for s in here for e in s.scores.values()), bars=True)
    return {
        "e2_structure": canvas.finish(figure, TITLE, captions.structure(a), canvas.patches(shown), partial, marks=marks)
    }


def _bar(axis: Any, x: float, e: Estimate, method: str) -> None:
    """Hollow where planned runs are missing."""
    k, hollow = look(method), canvas.torn(e)
    fill = {"color": "white", "edgecolor": k.colour} if hollow else {"color": k.colour, "edgecolor": "white"}
    axis.bar(x, 100 * e.score, WIDTH * (0.94 if hollow else 1), hatch=k.hatch, linewidth=1.0 if hollow else 0.6, **fill)
    canvas.whiskers(axis, [x], [e], "black", over=3)


def view(a: Analysis) -> plot.View:
    """Choices: backbone, task."""
    plots: dict[str, dict[str, Any]] = {}
    behind = Behind.of(a)
    for s in a.structures:
        plots.setdefault(f"{s.scale.name}|{s.task or plot.MEAN}", {})
    for key in plots:
        mine = [s for s in a.structures if f"{s.scale.name}|{s.task or plot.MEAN}" == key]
        plots[key] = {"data": _bars(a, behind, mine), "layout": _layout(mine)}
    scales = list(dict.fromkeys(s.scale.name for s in a.structures))
    tasks = list(dict.fromkeys(s.task or plot.MEAN for s in a.structures))
    caption = f"{plot.BAR_MARKS} {captions.structure(a)}"
    return plot.View("e2", TITLE, caption, {"backbone": scales, "task": tasks}, plots, log=False)


def _layout(mine: list[Structure]) -> dict[str, Any]:
    made = plot.layout("the method whose count it is, and the count", "validation measure (%)", log=False)
    order = {"type": "category", "categoryorder": "array", "categoryarray": [_group(s) for s in mine]}
    return made | {"barmode": "group", "xaxis": made["xaxis"] | order}


def _group(s: Structure) -> str:
    return f"{named(s.method)}<br>{s.num_trainable:,}"


def _bars(a: Analysis, behind: Behind, mine: list[Structure]) -> list[dict[str, Any]]:
    """A method's bars; those of one seed and those that miss runs apart, because they look different."""
    data = []
    for method in a.data.methods:
        shown = [(s, s.scores[method]) for s in mine if method in s.scores]
        for one_seed, hollow in product((False, True), repeat=2):
            here = [s for s, e in shown if (plot.single(e), canvas.torn(e)) == (one_seed, hollow)]
            if here:
                data.append(_series(behind, method, here, one_seed, hollow))
    return data


def _series(behind: Behind, method: str, shown: list[Structure], one_seed: bool, hollow: bool) -> dict[str, Any]:
    k = look(method)
    e = [s.scores[method] for s in shown]
    texts = [
        behind.text(
            f"{named(method)} on {s.scale.name}, N = {s.num_trainable:,}",
            s.scale,
            method,
            s.num_trainable,
            s.task,
            s.scores[method],
        )
        + _against(s)
        for s in shown
    ]
    marker: dict[str, Any] = {"color": k.colour, "pattern": _pattern(k.pattern)}
    if hollow:
        marker = {"color": "#ffffff", "line": {"color": k.colour, "width": 1.5}}
        marker["pattern"] = _pattern(k.pattern) | {"fgcolor": k.colour}
    ends = plot.thin_bars(e) if one_seed else plot.bars(e) | {"color": "#1c2430"}
    return plot.trace(
        method,
        [_group(s) for s in shown],
        [100 * v.score for v in e],
        texts,
        type="bar",
        offsetgroup=method if method.startswith(APET_PREFIX) else "own",
        error_y=ends,
        marker=marker,
        textposition="none",
    )


def _pattern(shape: str) -> dict[str, Any]:
    """Lines on the bar, as in print."""
    return {"shape": shape, "fillmode": "overlay", "fgcolor": "#ffffff", "fgopacity": 0.7, "size": 9, "solidity": 0.15}


def _against(s: Structure) -> str:
    sides = {name: ["method" if m == s.method else distribution(m) for m in pair] for name, pair in s.pairs.items()}
    return "".join(f"\n{' − '.join(sides[p])}: {points(d.score)} ({d.verdict})" for p, d in s.differences.items())
