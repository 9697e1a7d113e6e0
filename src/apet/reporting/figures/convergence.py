"""E3: the validation score over steps, one variant of APET against another (figure 6 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from apet.analysis.convergence import ConvergenceComparison
from apet.analysis.frames import complete
from apet.analysis.intervals import Floats, t_interval
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.reporting import captions
from apet.reporting.figures import marks, plotly_data, sheet
from apet.reporting.figures.plotly_data import InteractiveFigure, PlotlyData
from apet.reporting.formatting import display_name
from apet.reporting.style import GRAY, method_style
from apet.reporting.variants import convergence_pairs, convergence_variants

TITLE = "E3: convergence"
MARKS = (
    ("curve: mean of these tasks and seeds, converged or not", "-", 1.3),
    ("dotted line: mean steps of the pairs in which both converged (how many: above)", (0, (2, 2)), 1.3),
)
PANELS_PER_PAIR = 3
MAX_POINTS = 60
"""Of a curve on the page."""


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """For print: a column for each backbone, a row for each of up to three counts of each pair; means over tasks."""
    by_scale = {s: _shown_comparisons(a, s) for s in dict.fromkeys(c.scale for c in a.convergence_comparisons)}
    figure, axes = sheet.panels(max(map(len, by_scale.values())), len(by_scale), height=2.3)
    for column, comparisons in enumerate(by_scale.values()):
        for axis in axes[len(comparisons) :, column]:
            axis.set_visible(False)
        for axis, comparison in zip(axes[:, column], comparisons, strict=False):
            _panel(axis, a, comparison)
    explained = [Line2D([], [], color=GRAY, linewidth=w, linestyle=s, label=t) for t, s, w in MARKS]
    legend = marks.line_legend(convergence_variants(a.convergence_comparisons))
    return {"convergence": sheet.finish(figure, TITLE, captions.convergence(a), legend, partial, marks=explained)}


def _shown_comparisons(a: Analysis, scale: Scale) -> list[ConvergenceComparison]:
    """Of each pair of variants on one backbone up to three single counts: the smallest, the middle and the largest."""
    of_scale = [c for c in a.convergence_comparisons if c.scale == scale and c.num_trainable is not None]
    return [
        c
        for pair in convergence_pairs(of_scale)
        for c in _spread([c for c in of_scale if (c.first, c.second) == pair], PANELS_PER_PAIR)
    ]


def _spread(comparisons: list[ConvergenceComparison], most: int) -> list[ConvergenceComparison]:
    if len(comparisons) <= most:
        return comparisons
    return [comparisons[round(i)] for i in np.linspace(0, len(comparisons) - 1, most)]


def _panel(axis: Axes, a: Analysis, comparison: ConvergenceComparison) -> None:
    methods, n = (comparison.first, comparison.second), comparison.num_trainable or 0
    curves = mean_curves(a, comparison.scale, n, methods)
    for nth, method in enumerate(methods):
        style = method_style(method)
        mean, low, high = (100 * v for v in curves.by_method[method])
        axis.plot(
            curves.steps, mean, color=style.color, marker=style.marker, markersize=3, markevery=0.2, linewidth=1.3
        )
        axis.fill_between(curves.steps, low, high, color=style.color, alpha=0.15, linewidth=0)
        # dashes start at different places, so that both lines are seen where they meet
        axis.axvline(comparison.steps[method], color=style.color, linestyle=(3 * nth, (2, 4)), linewidth=1.3)
    axis.set_title(
        f"{comparison.scale.name}, N = {n:,}\n{captions.plural(curves.num_tasks, 'task')},"
        f" {captions.plural(curves.num_seeds, 'seed')};"
        f" converged: {comparison.pairs} of {comparison.pairs + comparison.left_out}"
    )
    axis.set_xlabel("steps")
    axis.set_ylabel("score (%)")


@dataclass(frozen=True)
class MeanCurves:
    """Mean curves of two methods at one count, over the same tasks and seeds.

    Attributes:
        steps: that all runs were evaluated at, (points,).
        by_method: method -> mean and both ends of the seeds' interval, (points,) each.
        num_tasks, num_seeds: how many stand behind both.
    """

    steps: Floats
    by_method: dict[str, tuple[Floats, Floats, Floats]]
    num_tasks: int
    num_seeds: int


def mean_curves(a: Analysis, scale: Scale, n: int, methods: Sequence[str]) -> MeanCurves:
    """Mean over tasks, then over seeds, of the runs that all methods have, converged or not.

    Means over different tasks do not compare: only seeds that every task has are used.

    Args:
        a: of the study.
        scale: the backbone.
        n: the count.
        methods: at least one.

    Returns:
        Means with their intervals, at the steps that all of these runs were evaluated at.
    """
    run_ids = {m: _runs_with_curve(a, scale, m, n) for m in methods}
    tasks, seeds = _common_tasks_and_seeds(set.intersection(*map(set, run_ids.values())))
    curves = {m: [[a.by_run[ids[t, s]] for t in tasks] for s in seeds] for m, ids in run_ids.items()}
    all_steps = [x for by_seed in curves.values() for by_task in by_seed for x, _ in by_task]
    steps = reduce(np.intersect1d, all_steps)
    by_method = {}
    for m, by_seed in curves.items():
        scores = np.array([np.mean([y[np.isin(x, steps)] for x, y in by_task], axis=0) for by_task in by_seed])
        mean, _, low, high = t_interval(scores.T)
        floor = 0.0 if (scores >= 0).all() else -np.inf  # correlations may be below 0
        by_method[m] = (mean, np.clip(low, floor, 1), np.clip(high, floor, 1))
    return MeanCurves(steps, by_method, len(tasks), len(seeds))


def _runs_with_curve(a: Analysis, scale: Scale, method: str, n: int) -> dict[tuple[str, int], str]:
    """(task, seed) -> run id."""
    runs = a.data.cells[scale.name, method, n]
    rows = zip(runs["task"], runs["seed"], runs["run_id"], strict=True)
    return {(str(task), int(seed)): str(run_id) for task, seed, run_id in rows if run_id in a.by_run}


def _common_tasks_and_seeds(pairs: Collection[tuple[str, int]]) -> tuple[list[str], list[int]]:
    """Tasks, and the seeds that all of them have; tasks with few seeds go until the rest have one in common."""
    seeds_of: dict[str, set[int]] = {}
    for task, seed in pairs:
        seeds_of.setdefault(task, set()).add(seed)
    tasks = sorted(seeds_of, key=lambda t: (-len(seeds_of[t]), t))
    while not set.intersection(*(seeds_of[t] for t in tasks)):
        tasks.pop()
    return sorted(tasks), sorted(set.intersection(*(seeds_of[t] for t in tasks)))


def interactive_figure(a: Analysis) -> InteractiveFigure:
    """For the page. Choices: backbone, task. A line is a run, of each method at one count."""
    runs = complete(a.data.runs)
    cells = pd.MultiIndex.from_frame(runs[["backbone", "method", "num_trainable"]])
    runs = runs[cells.isin(_shown_cells(a))]
    table = a.converged
    converged = dict(zip(table["run_id"], zip(table["state"], table["convergence_steps"], strict=True), strict=True))
    plots = {}
    for (backbone, task), same_plot in runs.groupby(["backbone", "task"], sort=False):
        traces = [
            _run_trace(
                r.run_id, r.method, f"N = {r.num_trainable:,.0f}, seed {r.seed:.0f}", *a.by_run[r.run_id], converged
            )
            for r in same_plot.itertuples()
            if r.run_id in a.by_run
        ]
        if traces:
            layout = plotly_data.axes_layout("steps", "validation score (%)", log=False)
            plots[f"{backbone}|{task}"] = {"data": traces, "layout": layout}
    choices = {"backbone": [s.name for s in a.data.scales], "task": list(a.data.categories)}
    caption = (
        "Each line is a run: the methods at their default sizes, variants of APET that are compared at the largest"
        f" count that both have. {captions.CONVERGENCE_RULE} {captions.run_summary(a)}"
    )
    return InteractiveFigure("convergence", TITLE, caption, choices, plots, log=False)


def _shown_cells(a: Analysis) -> set[tuple[str, str, int]]:
    """Each method at its default size, or where it is compared with another at the largest count of a comparison."""
    cells = {(backbone, method): n for (backbone, method), n in a.data.own_sizes.items()}
    compared: dict[tuple[str, str], int] = {}
    for c in a.convergence_comparisons:
        for method in (c.first, c.second):
            key = (c.scale.name, method)
            compared[key] = max(compared.get(key, 0), c.num_trainable or 0)
    cells |= {key: n for key, n in compared.items() if n}
    return {(backbone, method, n) for (backbone, method), n in cells.items()}


def _run_trace(
    run_id: str, method: str, what: str, steps: Floats, scores: Floats, converged: dict[str, tuple[str, float]]
) -> PlotlyData:
    every = max(1, math.ceil(len(steps) / MAX_POINTS))
    state, convergence_steps = converged[run_id]
    end = state if math.isnan(convergence_steps) else f"converged at step {convergence_steps:,.0f}"
    style = method_style(method)
    return plotly_data.trace(
        method,
        steps[::every].tolist(),
        (100 * scores[::every]).tolist(),
        f"{display_name(method)}, {what}\nrun {run_id}\n{end}",
        hovertemplate="%{text}<br>step %{x}: %{y:.1f} %<extra></extra>",
        marker={"color": style.color, "symbol": style.symbol, "size": 5},
        line={"color": style.color, "width": 1.5},
    )
