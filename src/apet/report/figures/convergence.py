"""E3: the validation measure over steps (figure 6)."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from apet.analysis.board import Scale
from apet.analysis.convergence import Race
from apet.analysis.frames import ADJACENT, DISCRETE, complete
from apet.analysis.intervals import Floats, t_interval
from apet.analysis.study import Analysis
from apet.report import captions
from apet.report.colours import look
from apet.report.figures import canvas, plot
from apet.report.wording import named

TITLE = "E3: convergence"
POINTS = 60
"""Of a curve on the page."""


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """A column for each backbone, a row for each of up to three counts: both distributions, mean over tasks."""
    scales = list(dict.fromkeys(r.scale for r in a.races))
    counts = {s: _spread([r for r in a.races if r.scale == s and r.n is not None], 3) for s in scales}
    figure, axes = canvas.sheet(max(map(len, counts.values())), len(scales), height=2.3)
    for column, scale in enumerate(scales):
        for axis in axes[len(counts[scale]) :, column]:
            axis.set_visible(False)
        for axis, race in zip(axes[:, column], counts[scale], strict=False):
            for method, steps in ((ADJACENT, race.adjacent), (DISCRETE, race.discrete)):
                _mean_curve(axis, a, scale, method, race.n or 0)
                axis.axvline(steps, color=look(method).colour, linestyle=":", linewidth=1.2)
            axis.set_title(
                f"{scale.name}, N = {race.n:,} ({captions.plural(race.pairs, 'pair')} of curves)", fontsize=8
            )
            axis.set_xlabel("steps")
            axis.set_ylabel("measure (%)")
    return {"e3_convergence": canvas.finish(figure, TITLE, captions.convergence(a), [ADJACENT, DISCRETE], partial)}


def _spread(races: list[Race], most: int) -> list[Race]:
    """Small, middle and large."""
    if len(races) <= most:
        return races
    return [races[round(i)] for i in np.linspace(0, len(races) - 1, most)]


def _mean_curve(axis: Any, a: Analysis, scale: Scale, method: str, n: int) -> None:
    steps, mean, low, high = mean_curve(a, scale, method, n, None)
    k = look(method)
    axis.plot(steps, 100 * mean, color=k.colour, marker=k.marker, markersize=3, markevery=0.2, linewidth=1.3)
    axis.fill_between(steps, 100 * low, 100 * high, color=k.colour, alpha=0.15, linewidth=0)


def mean_curve(
    a: Analysis, scale: Scale, method: str, n: int, task: str | None
) -> tuple[Floats, Floats, Floats, Floats]:
    """Steps, mean and the seeds' interval; over the steps and seeds that every task of the cell has."""
    runs = a.board.cells[scale.name, method, n]
    runs = runs if task is None else runs[runs["task"] == task]
    found = [(seed, *a.by_run[key]) for key, seed in zip(runs["key"], runs["seed"], strict=True) if key in a.by_run]
    common = reduce(np.intersect1d, [steps for _, steps, _ in found])
    by_seed: dict[int, list[Floats]] = {}
    for seed, steps, values in found:
        by_seed.setdefault(int(seed), []).append(values[np.isin(steps, common)])
    mean, _, low, high = t_interval(np.array([np.mean(v, axis=0) for v in by_seed.values()]).T)
    return common, mean, low, high


def view(a: Analysis) -> plot.View:
    """Choices: backbone, task. Each method at its own size, APET at the largest count that both have."""
    runs = complete(a.board.runs)
    both = {s: max((r.n or 0 for r in a.races if r.scale == s), default=0) for s in a.board.scales}
    wanted = {
        (s.name, m, both[s] if m in (ADJACENT, DISCRETE) and both[s] else a.board.own_sizes[s.name, m])
        for s in a.board.scales
        for m in a.board.methods
        if (s.name, m) in a.board.own_sizes
    }
    at = pd.MultiIndex.from_frame(runs[["backbone", "method", "trainable_parameters"]])
    runs = runs[at.isin(wanted)]
    found = a.converged
    ended = dict(zip(found["key"], zip(found["state"], found["convergence_steps"], strict=True), strict=True))
    plots = {}
    for (backbone, task), mine in runs.groupby(["backbone", "task"], sort=False):
        data = [_line(r, *a.by_run[r.key], ended) for r in mine.itertuples() if r.key in a.by_run]
        if data:
            plots[f"{backbone}|{task}"] = {
                "data": data,
                "layout": plot.layout("steps", "validation measure (%)", False),
            }
    choices = {"backbone": [s.name for s in a.board.scales], "task": list(a.board.categories)}
    caption = (
        "Each line is a run: the methods at their own sizes, both APETs at the largest count that both have."
        f" {captions.RULE} {captions.ran(a)}"
    )
    return plot.View("e3", TITLE, caption, choices, plots, log=False)


def _line(run: Any, x: Floats, y: Floats, converged: dict[str, tuple[str, float]]) -> dict[str, Any]:
    every = max(1, math.ceil(len(x) / POINTS))
    state, at = converged[run.key]
    end = state if math.isnan(at) else f"converged at step {at:,.0f}"
    head = f"{named(run.method)}, N = {run.trainable_parameters:,.0f}, seed {run.seed:.0f}\nrun {run.key}\n{end}"
    return plot.trace(
        run.method,
        x[::every].tolist(),
        (100 * y[::every]).tolist(),
        head,
        hovertemplate="%{text}<br>step %{x}: %{y:.1f} %<extra></extra>",
        marker={"color": look(run.method).colour, "symbol": look(run.method).symbol, "size": 5},
        line={"color": look(run.method).colour, "width": 1.5},
    )
