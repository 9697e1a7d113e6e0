"""Mean learning curves that compare: over the same tasks and seeds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from apet.analysis.intervals import Floats, t_interval
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale


@dataclass(frozen=True)
class MeanCurves:
    """Mean curves of methods, over the same tasks and seeds.

    Attributes:
        steps: that all runs were evaluated at, (points,).
        by_method: method -> mean and both ends of the seeds' interval, (points,) each.
        num_tasks, num_seeds: how many stand behind all of them.
    """

    steps: Floats
    by_method: dict[str, tuple[Floats, Floats, Floats]]
    num_tasks: int
    num_seeds: int


def mean_curves(
    a: Analysis, scale: Scale, counts: Mapping[str, int], only_tasks: Sequence[str] | None = None
) -> MeanCurves | None:
    """Mean over tasks, then over seeds, of the runs that all methods have, converged or not.

    Means over different tasks do not compare: only seeds that every task has are used.

    Args:
        a: of the study.
        scale: the backbone.
        counts: method -> N; at least one.
        only_tasks: those that are asked for; None = all.

    Returns:
        Means with their intervals, at the steps that all of these runs were evaluated at; None where the methods have
        no task and seed in common.
    """
    run_ids = {m: _runs_with_curve(a, scale, m, n) for m, n in counts.items()}
    common = set.intersection(*map(set, run_ids.values()))
    tasks, seeds = common_tasks_and_seeds({(t, s) for t, s in common if only_tasks is None or t in only_tasks})
    if not tasks:
        return None
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


def common_tasks_and_seeds(pairs: Collection[tuple[str, int]]) -> tuple[list[str], list[int]]:
    """Tasks, and the seeds that all of them have; tasks with few seeds go until the rest have one in common."""
    seeds_of: dict[str, set[int]] = {}
    for task, seed in pairs:
        seeds_of.setdefault(task, set()).add(seed)
    tasks = sorted(seeds_of, key=lambda t: (-len(seeds_of[t]), t))
    while tasks and not set.intersection(*(seeds_of[t] for t in tasks)):
        tasks.pop()
    return sorted(tasks), sorted(set.intersection(*(seeds_of[t] for t in tasks))) if tasks else []
