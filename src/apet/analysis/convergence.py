"""Steps to convergence of learning curves, and their ratio between APET variants (E3; figure 6 of the paper).

The rule. A curve starts at s (step 0) and ends on a plateau p, the mean over its last quarter of steps (three
evaluations at least). It is smoothed by isotonic regression, the closest curve that never falls: that takes out
evaluation noise without a window to choose, and what it passes once it never falls below again. The curve has
converged at the first evaluation from which the smoothed curve has made 95 % of the rise from s to p. A curve that
gets there only inside its last quarter is still rising; one whose plateau lies within noise of its start has learned
nothing; neither is given a number. Steps are known to within the evaluation interval, an error that is uniform and
that comparisons take in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from apet.analysis.frames import complete
from apet.analysis.intervals import Estimate, Floats, t_interval
from apet.analysis.study_data import Scale, StudyData

REACHED = 0.95
"""Share of the rise."""
LAST = 0.25
"""Share of the steps that make the plateau."""
_NORMAL_QUANTILE = 1.959964
"""0.975 quantile of the normal distribution: half a 95 % interval of a sum of many small errors."""

ConvergenceState = Literal["converged", "still rising", "learned nothing", "too short"]


@dataclass(frozen=True)
class Convergence:
    """Steps to convergence of one learning curve.

    Attributes:
        state: how the curve ended.
        steps: evaluation at which it had converged; NaN for every other state.
        plateau: mean score of its last evaluations.
        within: steps since the evaluation before, to which ``steps`` is known.
    """

    state: ConvergenceState
    steps: float
    plateau: float
    within: float = np.nan


@dataclass(frozen=True)
class ConvergenceComparison:
    """Ratio of the steps to convergence of two APET variants at one N on one backbone.

    Attributes:
        scale: the backbone.
        num_trainable: N; None = all N together.
        first: display name of the first variant, such as ``apet-adjacent``.
        second: display name of the second.
        steps: variant -> steps to convergence, mean over tasks and seeds.
        log2_ratio: log2(first / second), paired by seed; below 0 = the first needs fewer steps. Its interval takes in
            the seeds and the rounding to evaluations.
        pairs: pairs (task × seed) in which both converged.
        left_out: pairs in which one did not.
    """

    scale: Scale
    num_trainable: int | None
    first: str
    second: str
    steps: dict[str, float]
    log2_ratio: Estimate
    pairs: int
    left_out: int


def convergence(steps: Floats, values: Floats, noise: float = 0.0) -> Convergence:
    """Steps to convergence of one learning curve, by isotonic regression and 95 % of the rise.

    Args:
        steps: ascending, from 0, (points,).
        values: score at each, (points,).
        noise: half the width of the item-level 95 % interval: a smaller rise is none.

    Returns:
        The step, or why there is none.
    """
    num_last = len(plateau_scores(steps, values))
    if len(steps) < num_last + 2:
        return Convergence("too short", np.nan, np.nan)
    plateau = float(plateau_scores(steps, values).mean())
    rise = plateau - float(values[0])
    if rise <= noise:
        return Convergence("learned nothing", np.nan, plateau)
    # On the raw curve one lucky evaluation would count as converged; a moving average would need a width, and shifts
    # the step by half of it. The closest non-decreasing curve needs neither, and cannot fall below the level again.
    smooth = isotonic_regression(values).x
    first = int(np.argmax(smooth >= values[0] + REACHED * rise))
    # The level is a share of the rise to the plateau, which these very evaluations define: reached only among them,
    # it would be reached later in a longer run.
    if first >= len(steps) - num_last:
        return Convergence("still rising", np.nan, plateau)
    return Convergence(
        "converged", float(steps[first]), plateau, float(steps[first] - steps[first - 1]) if first else 0.0
    )


def plateau_scores(steps: Floats, values: Floats) -> Floats:
    """Scores that make a curve's plateau: those of the last quarter of its steps, three at least.

    Of its steps, not of its evaluations: where these lie at equal ratios, a quarter of them spans most of the training.

    Args:
        steps: ascending, (points,).
        values: score at each, (points,).

    Returns:
        The last of the scores.
    """
    num_last = int((steps > (1 - LAST) * steps[-1]).sum()) if len(steps) else 0
    return values[-max(3, num_last) :]


def convergences(data: StudyData, curves: pd.DataFrame) -> pd.DataFrame:
    """Steps to convergence of every complete run that has a learning curve.

    Args:
        data: the runs.
        curves: as `checked_curves` returns them.

    Returns:
        run_id, state, convergence_steps, plateau and within beside backbone, task, method, num_trainable and seed.
    """
    done = complete(data.runs).set_index("run_id")
    rows = []
    for run_id, (steps, scores, half_width) in by_run(curves).items():
        if run_id in done.index:
            c = convergence(steps, scores, half_width)
            rows.append((run_id, c.state, c.steps, c.plateau, c.within))
    converged = pd.DataFrame(rows, columns=["run_id", "state", "convergence_steps", "plateau", "within"])
    return converged.join(done[["backbone", "task", "method", "num_trainable", "seed"]], on="run_id")


def convergence_comparisons(data: StudyData, converged: pd.DataFrame) -> list[ConvergenceComparison]:
    """Ratios of steps to convergence of every pair of APET variants that were run with the same N, task and seed.

    Args:
        data: the runs.
        converged: as `convergences` returns it.

    Returns:
        By backbone and pair; of each all N together, then each N. Pairs of curves that never both converged have none.
    """
    key = ["backbone", "task", "num_trainable", "seed"]
    by_variant = {v: converged[converged["method"] == v].set_index(key) for v in data.variants}
    comparisons = []
    for scale in data.scales:
        for first, second in combinations(data.variants, 2):
            # Paired: of a run without its counterpart nobody knows whether its task or its N was the easier one.
            both = pd.concat(
                {
                    "first": by_variant[first]["convergence_steps"],
                    "second": by_variant[second]["convergence_steps"],
                    "first within": by_variant[first]["within"],
                    "second within": by_variant[second]["within"],
                },
                axis=1,
                join="inner",
            ).reset_index()
            both = both[both["backbone"] == scale.name]
            for n in (None, *(int(c) for c in sorted(set(both["num_trainable"])))):
                pairs = both if n is None else both[both["num_trainable"] == n]
                reached = pairs[pairs[["first", "second"]].notna().all(axis=1)]
                if len(reached):
                    comparisons.append(_comparison(scale, n, first, second, reached, len(pairs) - len(reached)))
    return comparisons


def _comparison(
    scale: Scale, n: int | None, first: str, second: str, reached: pd.DataFrame, left_out: int
) -> ConvergenceComparison:
    """Comparison over the pairs of curves that both converged."""
    # Steps compare as ratios: twice as many is the same effect at 100 steps as at 1,000. In the logarithm a ratio and
    # its inverse lie equally far from 0, and a mean of them is not pulled towards the slower side.
    log2 = np.log2(reached["first"] / reached["second"])
    by_seed = log2.groupby(reached["seed"]).mean().to_numpy()
    mean, sd, low, _ = (float(x) for x in t_interval(by_seed))
    # A step is known to within the interval since the evaluation before: an error with a standard deviation of
    # width / √12. Where all curves converge at one evaluation, the seeds show no spread and it is all there is.
    rounding = np.column_stack([reached[f"{side} within"] / reached[side] for side in ("first", "second")])
    error = math.sqrt(float((rounding**2).sum()) / 12) / math.log(2) / len(reached)
    half = math.hypot(mean - low, _NORMAL_QUANTILE * error)
    ratio = Estimate(
        score=mean,
        num_seeds=len(by_seed),
        sd=sd,
        ci_low=mean - half,
        ci_high=mean + half,
        num_examples=0,
        item_ci_low=np.nan,
        item_ci_high=np.nan,
        ci_method="steps have no items",
        num_tasks=reached["task"].nunique(),
        num_missing=left_out,
    )
    steps = {first: float(reached["first"].mean()), second: float(reached["second"].mean())}
    return ConvergenceComparison(scale, n, first, second, steps, ratio, len(reached), left_out)


def by_run(curves: pd.DataFrame) -> dict[str, tuple[Floats, Floats, float]]:
    """Learning curves by run_id.

    Args:
        curves: as `checked_curves` returns them, sorted by run.

    Returns:
        run_id -> steps (points,), scores (points,) and the mean half width of the scores' item-level intervals.
    """
    # Cut from arrays, for thousands of runs: a groupby would build a table for each.
    run_ids = curves["run_id"].to_numpy()
    bounds = [0, *(np.flatnonzero(run_ids[1:] != run_ids[:-1]) + 1).tolist(), len(run_ids)] if len(run_ids) else [0]
    steps, scores = curves["step"].to_numpy(dtype=float), curves["score"].to_numpy(dtype=float)
    half_widths = (curves["ci_high"] - curves["ci_low"]).to_numpy(dtype=float) / 2
    return {
        str(run_ids[start]): (steps[start:end], scores[start:end], float(half_widths[start:end].mean()))
        for start, end in pairwise(bounds)
    }
