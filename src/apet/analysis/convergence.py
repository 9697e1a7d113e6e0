"""E3: how many steps until a curve stays where it will end (figure 6).

The rule. A curve starts at s (step 0) and ends on a plateau p, the mean of its last quarter of evaluations (three at
least). It is smoothed by isotonic regression, the closest curve that never falls: that takes out evaluation noise
without a window to choose, and what it passes once it never falls below again. The curve has converged at the first
evaluation from which the smoothed curve has made 95 % of the rise from s to p. A curve that gets there only inside its
last quarter is still rising; one whose plateau lies within noise of its start has learnt nothing; neither is given a
number. Steps are known to within the evaluation interval, an error that is uniform and that comparisons take in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from apet.analysis.frames import ADJACENT, DISCRETE, complete
from apet.analysis.intervals import Estimate, Floats, t_interval
from apet.analysis.study_data import Scale, StudyData

NORMAL = 1.959964
"""Half a 95 % interval of many small errors, in standard deviations."""
REACHED = 0.95
"""Share of the rise."""
LAST = 0.25
"""Share of the evaluations that make the plateau."""

State = Literal["converged", "still rising", "learnt nothing", "too short"]


@dataclass(frozen=True)
class Convergence:
    """One curve by the rule.

    Attributes:
        state: how it ended.
        steps: evaluation at which it had converged; NaN for every other state.
        plateau: its level at the end.
        within: steps since the evaluation before, to which ``steps`` is known.
    """

    state: State
    steps: float
    plateau: float
    within: float = np.nan


@dataclass(frozen=True)
class ConvergenceComparison:
    """APET-adjacent against APET-discrete at one count on one backbone.

    Attributes:
        scale: the backbone.
        n: the count; None = all counts together.
        adjacent, discrete: steps to convergence, mean over tasks and seeds.
        log2_ratio: log2(adjacent / discrete), paired by seed; below 0 = adjacent needs fewer steps. Its interval takes
            in the seeds and the rounding to evaluations.
        pairs: pairs (task × seed) in which both converged.
        left_out: pairs in which one did not.
    """

    scale: Scale
    num_trainable: int | None
    adjacent: float
    discrete: float
    log2_ratio: Estimate
    pairs: int
    left_out: int


def convergence(steps: Floats, values: Floats, noise: float = 0.0) -> Convergence:
    """Apply the rule to one curve.

    Args:
        steps: ascending, from 0, (points,).
        values: measure at each, (points,).
        noise: half the width of the item-level 95 % interval: a smaller rise is none.
    """
    last = max(3, round(LAST * len(steps)))
    if len(steps) < last + 2:
        return Convergence("too short", np.nan, np.nan)
    plateau = float(values[-last:].mean())
    rise = plateau - float(values[0])
    if rise <= noise:
        return Convergence("learnt nothing", np.nan, plateau)
    smooth = isotonic_regression(values).x
    at = int(np.argmax(smooth >= values[0] + REACHED * rise))
    if at >= len(steps) - last:
        return Convergence("still rising", np.nan, plateau)
    return Convergence("converged", float(steps[at]), plateau, float(steps[at] - steps[at - 1]) if at else 0.0)


def convergences(board: StudyData, curves: pd.DataFrame) -> pd.DataFrame:
    """The rule on every complete run that has a curve.

    Args:
        curves: as `checked_curves` returns them.

    Returns:
        key, state, steps, plateau, within beside backbone, task, method, num_trainable and seed.
    """
    done = complete(board.runs).set_index("run_id")
    rows = []
    for key, (step, value, half) in by_run(curves).items():
        if key in done.index:
            c = convergence(step, value, half)
            rows.append((key, c.state, c.steps, c.plateau, c.within))
    found = pd.DataFrame(rows, columns=["run_id", "state", "convergence_steps", "plateau", "within"])
    beside = ["backbone", "task", "method", "num_trainable", "seed"]
    return found.join(done[beside], on="run_id")


def convergence_comparisons(board: StudyData, converged: pd.DataFrame) -> list[ConvergenceComparison]:
    """Both distributions wherever both were run with the same count, task and seed: all counts together, then each.

    Args:
        converged: as `convergences` returns it.
    """
    found = []
    by = ["backbone", "task", "num_trainable", "seed"]
    sides = {m: converged[converged["method"] == m].set_index(by) for m in (ADJACENT, DISCRETE)}
    steps = {m: t["convergence_steps"] for m, t in sides.items()}
    rounding = {f"{m} rounding": t["within"] / t["convergence_steps"] for m, t in sides.items()}
    both = pd.concat(steps | rounding, axis=1, join="inner").reset_index()
    for scale in board.scales:
        mine = both[both["backbone"] == scale.name]
        counts = sorted(set(mine["num_trainable"]))
        for n in (None, *(int(c) for c in counts)):
            here = mine if n is None else mine[mine["num_trainable"] == n]
            reached = here[here[[ADJACENT, DISCRETE]].notna().all(axis=1)]
            if len(reached):
                found.append(_race(scale, n, reached, len(here) - len(reached)))
    return found


def _race(scale: Scale, n: int | None, reached: pd.DataFrame, left_out: int) -> ConvergenceComparison:
    log2 = np.log2(reached[ADJACENT] / reached[DISCRETE])
    by_seed = log2.groupby(reached["seed"]).mean().to_numpy()
    mean, sd, low, _ = (float(x) for x in t_interval(by_seed))
    rounding = reached[[f"{ADJACENT} rounding", f"{DISCRETE} rounding"]].to_numpy(dtype=float)
    error = math.sqrt(float((rounding**2).sum()) / 12) / math.log(2) / len(reached)  # of a mean of uniform errors
    half = math.hypot(mean - low, NORMAL * error)
    low, high = mean - half, mean + half
    tasks = reached["task"].nunique()
    ratio = Estimate(mean, len(by_seed), sd, low, high, 0, np.nan, np.nan, "steps have no items", tasks, left_out)
    sides = (float(reached[ADJACENT].mean()), float(reached[DISCRETE].mean()))
    return ConvergenceComparison(scale, n, *sides, ratio, len(reached), left_out)


def by_run(curves: pd.DataFrame) -> dict[str, tuple[Floats, Floats, float]]:
    """Each run's steps, values and mean half width of its item-level intervals; cut from the table sorted by run."""
    keys = curves["run_id"].to_numpy()
    cuts = [0, *(np.flatnonzero(keys[1:] != keys[:-1]) + 1).tolist(), len(keys)] if len(keys) else [0]
    step, value = curves["step"].to_numpy(dtype=float), curves["score"].to_numpy(dtype=float)
    half = (curves["ci_high"] - curves["ci_low"]).to_numpy(dtype=float) / 2
    return {str(keys[a]): (step[a:b], value[a:b], float(half[a:b].mean())) for a, b in pairwise(cuts)}
