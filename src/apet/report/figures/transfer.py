"""E7: relative transfer as heat maps, tasks grouped by category (figure 9)."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from apet.analysis.study import Analysis
from apet.analysis.transfer import TransferScore
from apet.report import captions
from apet.report.figures import canvas, plot
from apet.report.formatting import both, named, points

TITLE = "E7: relative transfer"


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """A figure for each backbone and method."""
    figures = {}
    for backbone, method in dict.fromkeys((r.backbone, r.method) for r in a.transfer_scores):
        found = {(r.source, r.target): r for r in a.transfer_scores if (r.backbone, r.method) == (backbone, method)}
        tasks = _tasks(a, found)
        figure, axes = canvas.sheet(1, 1, width=1.6 + 0.55 * len(tasks), height=1.2 + 0.42 * len(tasks))
        image = _map(axes[0][0], tasks, found, a.data.categories)
        figure.colorbar(image, ax=axes[0][0], label="zero-shot / target's own (%)", shrink=0.8)
        name = re.sub(r"[^\w.-]+", "-", f"e7_transfer_{backbone}_{method}")
        title = f"{TITLE}, {named(method)} on {backbone}"
        figures[name] = canvas.finish(figure, title, captions.transfer(a), [], partial, plain=False)
    return figures


def _tasks(a: Analysis, found: dict[tuple[str, str], TransferScore]) -> list[str]:
    named_ = {t for pair in found for t in pair}
    ordered = [t for t in a.data.categories if t in named_]
    return ordered + sorted(named_ - set(ordered))


def _map(axis: Any, tasks: list[str], found: dict[tuple[str, str], TransferScore], categories: dict[str, str]) -> Any:
    values = np.array(_values(tasks, found), dtype=float)
    image = axis.imshow(values, cmap="cividis", vmin=0, vmax=max(100, np.nanmax(values)))
    axis.set_xticks(range(len(tasks)), tasks, rotation=35, ha="right")
    axis.set_yticks(range(len(tasks)), tasks)
    axis.set_xlabel("target (zero-shot)")
    axis.set_ylabel("source (trained on)")
    axis.grid(visible=False)
    for (i, j), v in np.ndenumerate(values):
        if not math.isnan(v):
            axis.text(j, i, f"{v:.0f}", ha="center", va="center", fontsize=7, color="white" if v < 60 else "black")
    kinds = [categories.get(t, "") for t in tasks]
    for i in range(1, len(tasks)):
        if kinds[i] != kinds[i - 1]:
            axis.axhline(i - 0.5, color="white", linewidth=2)
            axis.axvline(i - 0.5, color="white", linewidth=2)
    return image


def _values(tasks: list[str], found: dict[tuple[str, str], TransferScore]) -> list[list[float | None]]:
    return [[100 * found[s, t].relative.score if (s, t) in found else None for t in tasks] for s in tasks]


def view(a: Analysis) -> plot.View:
    """Choices: backbone, method."""
    plots: dict[str, dict[str, Any]] = {}
    for backbone, method in dict.fromkeys((r.backbone, r.method) for r in a.transfer_scores):
        found = {(r.source, r.target): r for r in a.transfer_scores if (r.backbone, r.method) == (backbone, method)}
        tasks = _tasks(a, found)
        labels = [f"{t} ({a.data.categories.get(t, 'other')})" for t in tasks]
        texts = [[plot.safe(_text(found.get((s, t)), s, t)) for t in tasks] for s in tasks]
        cells = [[None if v is None else plot.number(v) for v in row] for row in _values(tasks, found)]
        heat = {
            "type": "heatmap",
            "x": labels,
            "y": labels,
            "z": cells,
            "text": texts,
            "hovertemplate": "%{text}<extra></extra>",
            "colorscale": "Cividis",
            "zmin": 0,
            "zmax": max(100.0, *(v for row in cells for v in row if v is not None)),
            "texttemplate": "%{z:.0f}",
            "colorbar": {"title": {"text": "%"}, "thickness": 12},
        }
        layout = plot.layout("target (zero-shot)", "source (trained on)", log=False)
        layout["xaxis"] |= {"type": "category", "automargin": True, "tickangle": -40}
        layout["yaxis"] |= {"type": "category", "autorange": "reversed", "automargin": True}
        plots[f"{backbone}|{method}"] = {"data": [heat], "layout": layout | {"height": max(380, 190 + 34 * len(tasks))}}
    backbones, methods = ([*dict.fromkeys(getattr(r, f) for r in a.transfer_scores)] for f in ("backbone", "method"))
    choices = {"backbone": backbones, "method": methods}
    return plot.View("e7", TITLE, captions.transfer(a), choices, plots, log=False)


def _text(r: TransferScore | None, source: str, target: str) -> str:
    if r is None:
        return f"{source} to {target}: not measured"
    return (
        f"{source} to {target}\nzero-shot {points(r.zero_shot)} %, own {points(r.own_score)} %\n"
        f"relative {points(r.relative.score)} %\n" + both(r.relative).replace("; ", "\n")
    )
