"""E3: the validation measure over steps (figure 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from apet.analysis.convergence import ConvergenceComparison
from apet.analysis.frames import ADJACENT, DISCRETE, complete
from apet.analysis.intervals import Floats, t_interval
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.report import captions
from apet.report.figures import canvas, plot
from apet.report.formatting import named
from apet.report.style import look

TITLE = "E3: convergence"
MARKS = (
    ("curve: mean of these tasks and seeds, converged or not", "-", 1.3),
    ("dotted line: mean steps of the pairs in which both converged (how many: above)", (0, (2, 2)), 1.3),
)
POINTS = 60
"""Of a curve on the page."""


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """A column for each backbone, a row for each of up to three counts: both distributions, mean over tasks."""
    compared = [r for r in a.convergence_comparisons if r.is_papers_pair]
    scales = list(dict.fromkeys(r.scale for r in compared))
    counts = {
        s: _spread([r for r in compared if r.scale == s and r.num_trainable is not None], 3)
        for s in scales
    }
    figure, axes = canvas.sheet(max(map(len, counts.values())), len(scales), height=2.3)
    for column, scale in enumerate(scales):
        for axis in axes[len(counts[scale]) :, column]:
            axis.set_visible(False)
        for axis, race in zip(axes[:, column], counts[scale], strict=False):
            _panel(axis, a, race)
    marks = [Line2D([], [], color=canvas.GREY, linewidth=w, linestyle=s, label=t) for t, s, w in MARKS]
    legend = canvas.lines([ADJACENT, DISCRETE])
    return {"e3_convergence": canvas.finish(figure, TITLE, captions.convergence(a), legend, partial, marks=marks)}


def _panel(axis: Any, a: Analysis, race: ConvergenceComparison) -> None:
    m = means(a, race.scale, race.num_trainable or 0)
    for nth, (method, steps) in enumerate(((ADJACENT, race.adjacent), (DISCRETE, race.discrete))):
        k = look(method)
        mean, low, high = (100 * v for v in m.sides[method])
        axis.plot(m.steps, mean, color=k.colour, marker=k.marker, markersize=3, markevery=0.2, linewidth=1.3)
        axis.fill_between(m.steps, low, high, color=k.colour, alpha=0.15, linewidth=0)
        axis.axvline(steps, color=k.colour, linestyle=(3 * nth, (2, 4)), linewidth=1.3)  # both are seen where they meet
    axis.set_title(
        f"{race.scale.name}, N = {race.num_trainable:,}\n{captions.plural(m.tasks, 'task')}, {captions.plural(m.seeds, 'seed')};"
        f" converged: {race.pairs} of {race.pairs + race.left_out}"
    )
    axis.set_xlabel("steps")
    axis.set_ylabel("measure (%)")


def _spread(races: list[ConvergenceComparison], most: int) -> list[ConvergenceComparison]:
    """Small, middle and large."""
    if len(races) <= most:
        return races
    return [races[round(i)] for i in np.linspace(0, len(races) - 1, most)]


@dataclass(frozen=True)
class Means:
    """Both distributions at one count, over the same tasks and seeds.

    Attributes:
        steps: that all curves have, (points,).
        sides: method -> mean and both ends of the seeds' interval, (points,) each.
        tasks, seeds: how many stand behind both.
    """

    steps: Floats
    sides: dict[str, tuple[Floats, Floats, Floats]]
    tasks: int
    seeds: int


def means(a: Analysis, scale: Scale, n: int) -> Means:
    """Mean over tasks, then over seeds, of the runs that both distributions have, converged or not.

    Means over different tasks do not compare: only seeds that every task has are used.
    """
    runs = {m: _runs(a, scale, m, n) for m in (ADJACENT, DISCRETE)}
    tasks, seeds = _whole(set(runs[ADJACENT]) & set(runs[DISCRETE]))
    kept = {m: [[a.by_run[keys[t, s]] for t in tasks] for s in seeds] for m, keys in runs.items()}
    steps = reduce(np.intersect1d, [x for rows in kept.values() for row in rows for x, _ in row])
    sides = {}
    for m, rows in kept.items():
        values = np.array([np.mean([y[np.isin(x, steps)] for x, y in row], axis=0) for row in rows])
        mean, _, low, high = t_interval(values.T)
        sides[m] = (mean, np.clip(low, 0, 1), np.clip(high, 0, 1))
    return Means(steps, sides, len(tasks), len(seeds))


def _runs(a: Analysis, scale: Scale, method: str, n: int) -> dict[tuple[str, int], str]:
    """Task and seed -> key of the run with a curve."""
    runs = a.data.cells[scale.name, method, n]
    found = zip(runs["task"], runs["seed"], runs["run_id"], strict=True)
    return {(str(t), int(s)): str(k) for t, s, k in found if k in a.by_run}


def _whole(pairs: set[tuple[str, int]]) -> tuple[list[str], list[int]]:
    """Tasks, and the seeds that all of them have; tasks with few seeds go until the rest have one in common."""
    of: dict[str, set[int]] = {}
    for task, seed in pairs:
        of.setdefault(task, set()).add(seed)
    tasks = sorted(of, key=lambda t: (-len(of[t]), t))
    while not set.intersection(*(of[t] for t in tasks)):
        tasks.pop()
    return sorted(tasks), sorted(set.intersection(*(of[t] for t in tasks)))


def view(a: Analysis) -> plot.View:
    """Choices: backbone, task. Each method at its own size, APET at the largest count that both have."""
    runs = complete(a.data.runs)
    both = {
        s: max((r.num_trainable or 0 for r in a.convergence_comparisons if r.scale == s and r.is_papers_pair), default=0)
        for s in a.data.scales
    }
    wanted = {
        (s.name, m, both[s] if m in (ADJACENT, DISCRETE) and both[s] else a.data.own_sizes[s.name, m])
        for s in a.data.scales
        for m in a.data.methods
        if (s.name, m) in a.data.own_sizes
    }
    at = pd.MultiIndex.from_frame(runs[["backbone", "method", "num_trainable"]])
    runs = runs[at.isin(wanted)]
    found = a.converged
    ended = dict(zip(found["run_id"], zip(found["state"], found["convergence_steps"], strict=True), strict=True))
    plots = {}
    for (backbone, task), mine in runs.groupby(["backbone", "task"], sort=False):
        data = [_line(r, *a.by_run[r.run_id], ended) for r in mine.itertuples() if r.run_id in a.by_run]
        if data:
            plots[f"{backbone}|{task}"] = {
                "data": data,
                "layout": plot.layout("steps", "validation measure (%)", False),
            }
    choices = {"backbone": [s.name for s in a.data.scales], "task": list(a.data.categories)}
    caption = (
        "Each line is a run: the methods at their own sizes, both APETs at the largest count that both have."
        f" {captions.RULE} {captions.ran(a)}"
    )
    return plot.View("e3", TITLE, caption, choices, plots, log=False)


def _line(run: Any, x: Floats, y: Floats, converged: dict[str, tuple[str, float]]) -> dict[str, Any]:
    every = max(1, math.ceil(len(x) / POINTS))
    state, at = converged[run.run_id]
    end = state if math.isnan(at) else f"converged at step {at:,.0f}"
    head = f"{named(run.method)}, N = {run.num_trainable:,.0f}, seed {run.seed:.0f}\nrun {run.run_id}\n{end}"
    return plot.trace(
        run.method,
        x[::every].tolist(),
        (100 * y[::every]).tolist(),
        head,
        hovertemplate="%{text}<br>step %{x}: %{y:.1f} %<extra></extra>",
        marker={"color": look(run.method).colour, "symbol": look(run.method).symbol, "size": 5},
        line={"color": look(run.method).colour, "width": 1.5},
    )
