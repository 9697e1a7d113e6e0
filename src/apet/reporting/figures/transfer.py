"""E7: relative transfer as heat maps, tasks grouped by category (figure 9 of the paper)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from apet.analysis.study import Analysis
from apet.analysis.transfer import TransferScore
from apet.reporting import captions
from apet.reporting.figures import plotly_data, sheet
from apet.reporting.figures.plotly_data import InteractiveFigure, PlotlyData
from apet.reporting.formatting import both_intervals, display_name, percent

TITLE = "E7: relative transfer"
ScoresByPair = dict[tuple[str, str], TransferScore]
"""(source, target) -> score."""


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """For print: a figure for each backbone and method."""
    figures = {}
    for (backbone, method), by_pair in _heat_maps(a).items():
        tasks = _ordered_tasks(a, by_pair)
        figure, axes = sheet.panels(1, 1, width=1.6 + 0.55 * len(tasks), height=1.2 + 0.42 * len(tasks))
        image = _draw_map(axes[0][0], tasks, by_pair, a.data.categories)
        figure.colorbar(image, ax=axes[0][0], label="zero-shot / target's score (%)", shrink=0.8)
        name = re.sub(r"[^\w.-]+", "-", f"transfer_{backbone}_{method}")
        title = f"{TITLE}, {display_name(method)} on {backbone}"
        figures[name] = sheet.finish(figure, title, captions.transfer(a), [], partial, plain=False)
    return figures


def _heat_maps(a: Analysis) -> dict[tuple[str, str], ScoresByPair]:
    """(backbone, method) -> scores."""
    maps: dict[tuple[str, str], ScoresByPair] = {}
    for t in a.transfer_scores:
        maps.setdefault((t.backbone, t.method), {})[t.source, t.target] = t
    return maps


def _ordered_tasks(a: Analysis, by_pair: ScoresByPair) -> list[str]:
    """By category; tasks of unknown category last, by name."""
    tasks = {t for pair in by_pair for t in pair}
    ordered = [t for t in a.data.categories if t in tasks]
    return ordered + sorted(tasks - set(ordered))


def _draw_map(axis: Axes, tasks: list[str], by_pair: ScoresByPair, categories: Mapping[str, str]) -> AxesImage:
    values = np.array(_percents(tasks, by_pair), dtype=float)
    image = axis.imshow(values, cmap="cividis", vmin=0, vmax=max(100, np.nanmax(values)))
    axis.set_xticks(range(len(tasks)), tasks, rotation=35, ha="right")
    axis.set_yticks(range(len(tasks)), tasks)
    axis.set_xlabel("target (zero-shot)")
    axis.set_ylabel("source (trained on)")
    axis.grid(visible=False)
    for (i, j), v in np.ndenumerate(values):
        if not math.isnan(v):
            axis.text(j, i, f"{v:.0f}", ha="center", va="center", fontsize=7, color="white" if v < 60 else "black")
    category_of_row = [categories.get(t, "") for t in tasks]
    for i in range(1, len(tasks)):
        if category_of_row[i] != category_of_row[i - 1]:
            axis.axhline(i - 0.5, color="white", linewidth=2)
            axis.axvline(i - 0.5, color="white", linewidth=2)
    return image


def _percents(tasks: list[str], by_pair: ScoresByPair) -> list[list[float | None]]:
    """Relative transfer in percent, (sources, targets)."""
    return [[100 * by_pair[s, t].relative.score if (s, t) in by_pair else None for t in tasks] for s in tasks]


def interactive_figure(a: Analysis) -> InteractiveFigure:
    """For the page. Choices: backbone, method."""
    heat_maps = _heat_maps(a)
    plots = {f"{backbone}|{method}": _plot(a, by_pair) for (backbone, method), by_pair in heat_maps.items()}
    backbones, methods = (list(dict.fromkeys(names)) for names in zip(*heat_maps, strict=True))
    choices = {"backbone": backbones, "method": methods}
    return InteractiveFigure("transfer", TITLE, captions.transfer(a), choices, plots, log=False)


def _plot(a: Analysis, by_pair: ScoresByPair) -> PlotlyData:
    tasks = _ordered_tasks(a, by_pair)
    labels = [f"{t} ({a.data.categories.get(t, 'other')})" for t in tasks]
    texts = [[plotly_data.plotly_text(_hover_text(by_pair.get((s, t)), s, t)) for t in tasks] for s in tasks]
    percents = _percents(tasks, by_pair)
    heat_map = {
        "type": "heatmap",
        "x": labels,
        "y": labels,
        "z": [[None if v is None else plotly_data.json_number(v) for v in row] for row in percents],
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "colorscale": "Cividis",
        "zmin": 0,
        "zmax": max(100.0, *(float(f"{v:.5g}") for row in percents for v in row if v is not None)),
        "texttemplate": "%{z:.0f}",
        "colorbar": {"title": {"text": "%"}, "thickness": 12},
    }
    layout = plotly_data.axes_layout("target (zero-shot)", "source (trained on)", log=False)
    layout["xaxis"] |= {"type": "category", "automargin": True, "tickangle": -40}
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "automargin": True}
    return {"data": [heat_map], "layout": layout | {"height": max(380, 190 + 34 * len(tasks))}}


def _hover_text(t: TransferScore | None, source: str, target: str) -> str:
    if t is None:
        return f"{source} to {target}: not measured"
    return (
        f"{source} to {target}\nzero-shot {percent(t.zero_shot)} %, target's score {percent(t.own_score)} %\n"
        f"relative {percent(t.relative.score)} %\n" + both_intervals(t.relative).replace("; ", "\n")
    )
