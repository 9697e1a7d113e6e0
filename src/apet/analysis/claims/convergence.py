"""Claim that APET-adjacent converges in fewer steps than APET-discrete, by interval-censored times.

The time of a run is the step at which its isotonic fit has made 90 % of the rise to a plateau. It is known as an
interval, from the evaluation before to the one at which it is seen, and open above where the level was never reached:
such runs count. Views: to a plateau that all runs of a task and N share, by which the side that ends lower is not
called sooner, and to each run's own, by which the side that ends higher is not; of each, in how many pairs one side is
surely sooner (the scores of Gehan 1965), and by how much (the mean of log2 of the ratio, normal, by maximum likelihood
for intervals).

Pairs share their N and seed with pairs on other tasks, and with them the mask. So the units are masks (N and seed).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression, minimize
from scipy.special import log_ndtr

from apet.analysis.claims.verdict import (
    ALPHA,
    NOT_SUPPORTED,
    OPEN,
    SUPPORTED,
    ClaimRow,
    ClaimVerdict,
    View,
    below_zero,
    p_below_zero,
    unknown_view,
)
from apet.analysis.convergence import by_run, plateau_scores
from apet.analysis.frames import ADJACENT, DISCRETE, complete
from apet.analysis.intervals import Floats, t_interval, t_quantile
from apet.analysis.study_data import StudyData

CLAIM = "adjacent converges in fewer steps than discrete"
REACHED = 0.9
"""Share of the rise to the common plateau."""
SMALLEST_SPEEDUP = 0.1
"""log2: 7 % fewer steps."""
LARGEST_RATIO = 10.0
"""log2: where one side never arrives the likelihood rises without end."""
LEAST_SD = 0.05
"""log2, of single pairs about their mean: less cannot be told from the distance between evaluations."""
SIGNS = "pairs in which adjacent is later − sooner, share"
RATIO = "log2(steps of adjacent / steps of discrete)"
COMMON, OWN = "common plateau", "own plateau"
_LOG_ROOT_TAU = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class TimePairs:
    """Times to the common level of pairs of runs, each (pairs,); 0 below = from the start, infinite above = never seen.

    Attributes:
        first_low: the first's level was not reached at this step.
        first_high: it was at this one.
        second_low: the same of the second.
        second_high: the same of the second.
        units: pairs of one number are not independent.
    """

    first_low: Floats
    first_high: Floats
    second_low: Floats
    second_high: Floats
    units: Floats

    @property
    def signs(self) -> Floats:
        """−1 where the first is surely sooner, 1 where later, 0 where the intervals overlap."""
        return (self.second_high <= self.first_low).astype(float) - (self.first_high <= self.second_low)

    @property
    def num_censored(self) -> int:
        """Pairs of which one or both never arrive."""
        return int((np.isinf(self.first_high) | np.isinf(self.second_high)).sum())


def time_interval(steps: Floats, values: Floats, level: float) -> tuple[float, float]:
    """Between which evaluations a learning curve reaches a level.

    Args:
        steps: ascending, (points,).
        values: score at each, (points,).
        level: to be reached.

    Returns:
        The last step before, and the one at which it is reached; the last step and infinity where it never is.
    """
    reached = isotonic_regression(values).x >= level
    if not reached.any():
        return float(steps[-1]), math.inf
    first = int(reached.argmax())
    return (float(steps[first - 1]) if first else 0.0), float(steps[first])


def convergence_row(where: str, common: TimePairs, own: TimePairs, note: str = "") -> ClaimRow:
    """The claim for one backbone.

    Args:
        where: backbone.
        common: times to a plateau that both sides share, adjacent first.
        own: times of the same pairs, each to its own plateau.
        note: what was left out.

    Returns:
        The row, before Holm's correction.
    """
    views: list[View] = []
    for pairs, level in ((common, COMMON), (own, OWN)):
        units = np.unique(pairs.units)
        basis = f"{len(pairs.units)} pairs of {len(units)} masks, {pairs.num_censored} with a run that never arrives"
        names = (f"signs, {level}", f"ratio, {level}")
        if len(units) < 2:
            views += [unknown_view(name, number, basis) for name, number in zip(names, (SIGNS, RATIO), strict=True)]
        else:
            views += [_signs(names[0], pairs, units, basis), _ratio(names[1], pairs, units, basis)]
    return ClaimRow.of(CLAIM, where, "", views, note)


def _signs(name: str, pairs: TimePairs, units: Floats, basis: str) -> View:
    """Student's t over the masks of the mean sign."""
    means = np.array([pairs.signs[pairs.units == u].mean() for u in units])
    mean, _, low, high = (float(v) for v in t_interval(means))
    p_value = p_below_zero(mean, high - mean, len(units) - 1)
    # Intervals that overlap are no evidence of equal speed: only an order the other way speaks against the claim.
    verdict: ClaimVerdict = SUPPORTED if p_value <= ALPHA else NOT_SUPPORTED if low > 0 else OPEN
    return View(name, SIGNS, mean, low, high, p_value, verdict, f"{basis}, t-interval")


def _ratio(name: str, pairs: TimePairs, units: Floats, basis: str) -> View:
    """Mean log ratio by maximum likelihood, with its error by masks."""
    with np.errstate(divide="ignore"):
        lows = np.log2(pairs.first_low) - np.log2(pairs.second_high)
        highs = np.log2(pairs.first_high) - np.log2(pairs.second_low)
    fitted, error = interval_mean(lows, highs, pairs.units)
    # Where all curves arrive at one evaluation, masks show no spread, and the distance between evaluations is all.
    half = t_quantile(len(units) - 1) * math.hypot(error, _rounding(lows, highs))
    low, high = fitted - half, fitted + half
    p_value = p_below_zero(fitted, half, len(units) - 1)
    basis = f"{basis}, maximum likelihood for intervals"
    return View(name, RATIO, fitted, low, high, p_value, below_zero(low, high, SMALLEST_SPEEDUP), basis)


def _rounding(lows: Floats, highs: Floats) -> float:
    """Standard error of a mean from the distance between evaluations alone; pairs with one interval share theirs."""
    closed = np.isfinite(lows) & np.isfinite(highs)
    if not closed.any():
        return 0.0
    intervals, counts = np.unique(np.column_stack([lows, highs])[closed], axis=0, return_counts=True)
    # Each of a pair's two times is even over its interval, and their difference over both together.
    variances = (intervals[:, 1] - intervals[:, 0]) ** 2 / 24
    return math.sqrt(float(((counts / counts.sum()) ** 2 * variances).sum()))


def interval_mean(lows: Floats, highs: Floats, units: Floats) -> tuple[float, float]:
    """Mean of a normal distribution from values that are known as intervals, by maximum likelihood.

    Args:
        lows: lower ends; may be −infinite, (values,).
        highs: upper ends; may be infinite, (values,).
        units: values of one number are not independent, (values,).

    Returns:
        The mean, within ± `LARGEST_RATIO`, and its standard error over units (the sandwich of White 1982); 0 and NaN
        where nothing is known.
    """
    known = np.isfinite(lows) | np.isfinite(highs)
    lows, highs, units = lows[known], highs[known], units[known]
    if not len(lows):
        return 0.0, math.nan
    ends = np.where(np.isinf(lows), highs, np.where(np.isinf(highs), lows, (lows + highs) / 2))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        log_mass, gradient = _log_mass(parameters, lows, highs)
        return -float(log_mass.sum()), -gradient.sum(axis=1)

    start = np.array([ends.mean(), math.log(max(float(ends.std()), 0.3))])
    bounds = [(-LARGEST_RATIO, LARGEST_RATIO), (math.log(LEAST_SD), math.log(LARGEST_RATIO))]
    fitted = minimize(loss, start, method="L-BFGS-B", jac=True, bounds=bounds).x
    step = 1e-4
    hessian = np.column_stack([(loss(fitted + d)[1] - loss(fitted - d)[1]) / (2 * step) for d in step * np.eye(2)])
    names = np.unique(units)
    by_unit = _log_mass(fitted, lows, highs)[1] @ (units[:, None] == names)
    # A spread at its bound is no longer fitted, and its derivative is not 0 there: the mean's own curvature is left.
    inside = math.log(LEAST_SD) + step < fitted[1] < math.log(LARGEST_RATIO) - step and np.linalg.det(hessian) > 1e-9
    moves = np.linalg.solve(hessian, by_unit)[0] if inside else by_unit[0] / max(float(hessian[0, 0]), 1e-9)
    correction = len(names) / max(len(names) - 1, 1)
    return float(fitted[0]), math.sqrt(correction * float((moves**2).sum()))


def _log_mass(parameters: Floats, lows: Floats, highs: Floats) -> tuple[Floats, Floats]:
    """Logarithm of a normal distribution's mass in each interval, and its derivatives.

    Args:
        parameters: mean and log standard deviation.
        lows: (values,).
        highs: (values,).

    Returns:
        (values,), and its derivatives by both parameters, (2, values).
    """
    mean, sd = parameters[0], math.exp(parameters[1])
    upper, lower = (highs - mean) / sd, (lows - mean) / sd
    # By the smaller tail, in which a difference of two probabilities keeps its digits.
    flip = lower > 0
    a, b = np.where(flip, -upper, lower), np.where(flip, -lower, upper)
    log_b = log_ndtr(b)
    log_mass = log_b + np.log1p(-np.exp(np.minimum(log_ndtr(a) - log_b, -1e-12)))
    by_upper, by_lower = (np.exp(-0.5 * z**2 - _LOG_ROOT_TAU - log_mass) for z in (upper, lower))
    finite_upper, finite_lower = (np.where(np.isinf(z), 0.0, z) for z in (upper, lower))
    return log_mass, np.array([(by_lower - by_upper) / sd, by_lower * finite_lower - by_upper * finite_upper])


def adjacent_faster(data: StudyData, curves: pd.DataFrame) -> list[ClaimRow]:
    """The claim by backbone, over all N and tasks together; of other variants the paper claims nothing.

    Args:
        data: the runs.
        curves: as `apet.analysis.frames.checked_curves` returns them.

    Returns:
        Rows before Holm's correction; none for a backbone without a pair of curves.
    """
    done = complete(data.runs).set_index("run_id")
    done = done[done["method"].isin([ADJACENT, DISCRETE])]
    # Only of the two variants: a study has thousands of curves.
    known = by_run(curves[curves["run_id"].isin(done.index)])
    done = done.loc[[r for r in done.index if r in known and len(known[r][0]) > 3]]
    rows = []
    for scale in data.scales:
        pairs: list[tuple[float, ...]] = []
        num_flat = 0
        for (_, n), cell in done[done["backbone"] == scale.name].groupby(["task", "num_trainable"]):
            found = _cell_pairs(cell, known)
            num_flat += found is None
            pairs += [(*times, n, seed) for seed, times in (found or {}).items()]
        note = f"left out, since nothing was learnt: {num_flat} of task and N" if num_flat else ""
        if pairs:
            table = np.array(pairs)
            _, units = np.unique(table[:, -2:], axis=0, return_inverse=True)
            masks = units.ravel().astype(float)
            common, own = (
                TimePairs(table[:, k], table[:, k + 1], table[:, k + 2], table[:, k + 3], masks) for k in (0, 4)
            )
            rows.append(convergence_row(scale.name, common, own, note))
    return rows


def _cell_pairs(
    cell: pd.DataFrame, curves: dict[str, tuple[Floats, Floats, float]]
) -> dict[int, tuple[float, ...]] | None:
    """Seed -> intervals of both variants to the common plateau, then to their own; None where nothing was learnt."""
    ids = {(m, int(s)): str(r) for r, m, s in zip(cell.index, cell["method"], cell["seed"], strict=True)}
    seeds = [s for m, s in ids if m == ADJACENT and (DISCRETE, s) in ids]
    both = [curves[ids[m, s]] for s in seeds for m in (ADJACENT, DISCRETE)]
    if not both:
        return {}
    start = float(np.mean([values[0] for _, values, _ in both]))
    plateaus = [float(plateau_scores(steps, values).mean()) for steps, values, _ in both]
    rise = float(np.mean(plateaus)) - start
    if rise <= float(np.mean([noise for _, _, noise in both])):
        return None
    common = [time_interval(steps, values, start + REACHED * rise) for steps, values, _ in both]
    own = [
        time_interval(steps, values, values[0] + REACHED * (p - values[0]))
        for (steps, values, _), p in zip(both, plateaus, strict=True)
    ]
    return {s: (*common[2 * i], *common[2 * i + 1], *own[2 * i], *own[2 * i + 1]) for i, s in enumerate(seeds)}
