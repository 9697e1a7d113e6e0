"""Claims about the low and the high threshold, decided by the posteriors of the budget curves.

A threshold is a draw from the posterior of its curve: a count, or no more than that it lies below the smallest or
above the largest N. What is known as a bound counts as the worst that it may be for the claim. Draws of different
tasks are independent, so that their median is known better than each; not their mean, whose end is open where one
task in a few draws never arrives.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from apet.analysis.claims.complete_cells import Mask
from apet.analysis.claims.verdict import MIN_SCALES, NOT_SUPPORTED, OPEN, SUPPORTED, ClaimRow, View, below_zero
from apet.analysis.curve_values import ThresholdKind
from apet.analysis.intervals import CONFIDENCE, Floats
from apet.analysis.thresholds import Threshold

HIGH_FALLS = "the high threshold falls with scale"
SMALLEST_SLOPE = 0.1
"""log10: a threshold that falls by a fifth per tenfold scale."""
SAME_RANGE_FACTOR = 10.0
"""Factor within which thresholds count as the same; the paper's own ranges span up to ten."""
LOW_SAME = f"the low thresholds of all methods lie within a factor of {SAME_RANGE_FACTOR:.0f}"
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


def high_falls(thresholds: Sequence[Threshold]) -> list[ClaimRow]:
    """Claim that the high threshold falls with scale: slope of log10 N on log10 of the parameters.

    Args:
        thresholds: as `apet.analysis.thresholds.thresholds` returns them.

    Returns:
        By family and method, before Holm's correction; none for a family of one scale.
    """
    high = _of_tasks(thresholds, "high")
    rows = []
    for family, method in dict.fromkeys((t.scale.family, t.method) for t in high):
        of_method = [t for t in high if (t.scale.family, t.method) == (family, method)]
        scales = sorted({t.scale for t in of_method}, key=lambda s: (s.num_parameters, s.name))
        tasks = set.intersection(*({t.task for t in of_method if t.scale == s} for s in scales))
        if len({s.num_parameters for s in scales}) < 2 or not tasks:
            continue
        rng = np.random.default_rng(0)
        bounds = [median_log10([t for t in of_method if t.scale == s and t.task in tasks], rng) for s in scales]
        x = np.log10([s.num_parameters for s in scales])
        view = falling_view(x, np.array([low for low, _ in bounds]), np.array([high for _, high in bounds]), tasks)
        rows.append(ClaimRow.of(HIGH_FALLS, family, method, [view]))
    return rows


def falling_view(x: Floats, low: Floats, high: Floats, tasks: Collection[object]) -> View:
    """View of the claim that thresholds fall with x, from draws of their posteriors.

    Each draw of all thresholds has a least-squares slope, and about it the t-distribution of a line through so few
    points: scales scatter about a line by more than each threshold is unknown.

    Args:
        x: log10 of the backbones' parameters, (scales,).
        low: lowest log10 N that each draw allows, (scales, draws).
        high: highest; may be infinite, (scales, draws).
        tasks: that the thresholds are medians over.

    Returns:
        The view; not decidable for fewer than three scales.
    """
    number = "powers of ten per tenfold scale"
    basis = f"posterior of the budget curves, least squares, {len(x)} scales, {_over(tasks)}"
    middle = _slopes(x, np.where(np.isinf(high), low, (low + high) / 2))[0].mean()
    if len(x) < MIN_SCALES:
        return View("", number, float(middle), math.nan, math.nan, math.nan, OPEN, f"{basis}; a line needs three")
    smallest, largest = _for_slope(x, low, high)
    noise = np.random.default_rng(0).standard_t(len(x) - 2, size=low.shape[1])
    ends = []
    for y in (smallest, largest):
        # Through an infinite end there is no line, and its slope is unknown in that direction.
        fitted, _ = _slopes(x, y)
        # The scatter about a line is that of the medians: draws also scatter by what each threshold is unknown, and
        # their slopes hold that already.
        _, se = _slopes(x, np.median(y, axis=1, keepdims=True))
        drawn = fitted + se * noise
        ends.append(np.where(np.isnan(drawn), math.inf if y is largest else -math.inf, drawn))
    ci_low, ci_high = (float(np.quantile(e, q, method="inverted_cdf")) for e, q in zip(ends, TAILS, strict=True))
    p_value = _two_sided(ends[1] >= 0)
    return View("", number, float(middle), ci_low, ci_high, p_value, below_zero(ci_low, ci_high, SMALLEST_SLOPE), basis)


def _for_slope(x: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The points within their bounds with the smallest and with the largest slope, each (scales, draws)."""
    # The slope is linear in y: its extremes lie at ends, by the side on which a point lies.
    left = (x < x.mean())[:, None]
    return np.where(left, high, low), np.where(left, low, high)


def _slopes(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Least-squares slope over the scales and its standard error, (draws,); NaN where a point is infinite."""
    y = np.where(np.isinf(y), np.nan, y)
    centered = x - x.mean()
    sum_of_squares = centered @ centered
    slopes = centered @ y / sum_of_squares
    residuals = y - y.mean(axis=0) - centered[:, None] * slopes
    degrees = max(len(x) - 2, 1)
    return slopes, np.sqrt((residuals**2).sum(axis=0) / degrees / sum_of_squares)


def low_same(thresholds: Sequence[Threshold]) -> list[ClaimRow]:
    """Claim that the low thresholds of all methods lie in one range: largest factor between two methods.

    Args:
        thresholds: as `apet.analysis.thresholds.thresholds` returns them.

    Returns:
        By backbone, before Holm's correction. None for a backbone of one method.
    """
    low = _of_tasks(thresholds, "low")
    rows = []
    for scale in dict.fromkeys(t.scale for t in low):
        of_scale = [t for t in low if t.scale == scale]
        methods = list(dict.fromkeys(t.method for t in of_scale))
        tasks = set.intersection(*({t.task for t in of_scale if t.method == m} for m in methods))
        if len(methods) < 2 or not tasks:
            continue
        rng = np.random.default_rng(0)
        bounds = [median_log10([t for t in of_scale if t.method == m and t.task in tasks], rng) for m in methods]
        view = same_range_view(np.array([low for low, _ in bounds]), np.array([high for _, high in bounds]), tasks)
        rows.append(ClaimRow.of(LOW_SAME, scale.name, f"{len(methods)} methods", [view]))
    return rows


def same_range_view(low: Floats, high: Floats, tasks: Collection[object]) -> View:
    """View of the claim that thresholds lie within a factor, from draws of their posteriors.

    Args:
        low: lowest log10 N that each draw allows, (methods, draws).
        high: highest; may be infinite, (methods, draws).
        tasks: that the thresholds are medians over.

    Returns:
        The view.
    """
    # At least the distance between the two that lie farthest apart (0 if all overlap), at most their union.
    smallest = np.maximum(0, low.max(axis=0) - high.min(axis=0))
    largest = high.max(axis=0) - low.min(axis=0)
    ci_low = float(np.quantile(smallest, TAILS[0], method="inverted_cdf"))
    ci_high = float(np.quantile(largest, TAILS[1], method="inverted_cdf"))
    allowed = math.log10(SAME_RANGE_FACTOR)
    verdict = SUPPORTED if ci_high <= allowed else NOT_SUPPORTED if ci_low > allowed else OPEN
    middle = float(np.median(largest))
    return View(
        "",
        "largest factor between two methods",
        10**middle if math.isfinite(middle) else math.nan,
        10**ci_low,
        10**ci_high,
        _two_sided(largest > allowed),
        verdict,
        f"posterior of the budget curves, {_over(tasks)}",
    )


def _of_tasks(thresholds: Sequence[Threshold], kind: ThresholdKind) -> list[Threshold]:
    return [t for t in thresholds if t.kind == kind and t.task is not None]


def median_log10(thresholds: Sequence[Threshold], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draws of the median log10 threshold over tasks, as the lowest and the highest that each allows.

    Args:
        thresholds: one a task.
        rng: shuffles their draws.

    Returns:
        Both, (draws,); the highest may be infinite.
    """
    lows, highs = [], []
    for t in thresholds:
        # Draws come in the order of their grid, the same for all curves: unshuffled, all would rise and fall together.
        draws = rng.permutation(t.crossings) * math.log10(2)
        # In the logarithm, for N is tried on a geometric grid; at least one parameter, at most as far as was tried.
        smallest, largest = math.log10(t.tried[0]), math.log10(t.tried[-1])
        lows.append(np.where(np.isneginf(draws), 0.0, np.where(np.isposinf(draws), largest, draws)))
        highs.append(np.where(np.isneginf(draws), smallest, draws))
    return np.median(lows, axis=0), np.median(highs, axis=0)


def _two_sided(against: Mask) -> float:
    """Two-sided p-value from the draws that speak against the claim; at least what their number can tell."""
    return min(1.0, 2 * (float(np.sum(against)) + 1) / (len(against) + 1))


def _over(tasks: Collection[object]) -> str:
    return f"median over {len(tasks)} task{'s' * (len(tasks) != 1)}"
