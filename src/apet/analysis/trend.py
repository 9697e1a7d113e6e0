"""Trends: least-squares slopes with their intervals, and verdicts on whether a number lies below 0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apet.analysis.intervals import Floats, t_quantile

ClaimVerdict = Literal["supported", "not supported", "not decidable with these runs"]


@dataclass(frozen=True)
class Trend:
    """One claim, tested on one family, backbone or method.

    Attributes:
        claim: in words.
        where: family or backbone.
        what: method, or how many methods; empty where the claim names them.
        number: what was fitted, in words with its unit.
        estimate: the fitted number; NaN where there is only a range.
        ci_low: lower end of its 95 % interval, or of what the ranges of thresholds leave open.
        ci_high: upper end of it.
        verdict: on the claim.
        ci_method: how the interval was computed.
    """

    claim: str
    where: str
    what: str
    number: str
    estimate: float
    ci_low: float
    ci_high: float
    verdict: ClaimVerdict
    ci_method: str


def below_zero(low: float, high: float, smallest_effect: float) -> ClaimVerdict:
    """Verdict on the claim that a number lies below 0, from its interval.

    Args:
        low: lower end.
        high: upper end.
        smallest_effect: distance from 0 below which an effect is not worth naming, > 0.

    Returns:
        Supported where the whole interval lies below 0; not decidable where it is wide, or NaN as with one seed.
    """
    if math.isnan(low):
        return "not decidable with these runs"
    if high < 0:
        return "supported"
    # An interval around 0 supports nothing, but only a narrow one speaks against the claim: a wide one is too few runs.
    return "not supported" if low > -smallest_effect else "not decidable with these runs"


def slope(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Least-squares slope of y on x over the last axis, with its 95 % t-interval.

    Args:
        x: (points,).
        y: (..., points).

    Returns:
        Slope, lower and upper end, each (...); NaN for fewer than three points or where all x are equal.
    """
    centered = x - x.mean()
    sum_of_squares = float(centered @ centered)
    degrees = len(x) - 2  # a line takes two: through two points it is exact, and nothing is left to judge it by
    if degrees < 1 or sum_of_squares == 0:
        unknown = np.full(y.shape[:-1], np.nan)
        return unknown, unknown, unknown
    fitted = (y - y.mean(axis=-1, keepdims=True)) @ centered / sum_of_squares
    residuals = y - y.mean(axis=-1, keepdims=True) - fitted[..., None] * centered
    half = t_quantile(degrees) * np.sqrt((residuals**2).sum(axis=-1) / degrees / sum_of_squares)
    return fitted, fitted - half, fitted + half


def slope_bounds(x: Floats, low: Floats, high: Floats) -> tuple[float, float]:
    """Smallest and largest least-squares slope of points that are known only as ranges.

    Args:
        x: (points,), not all equal.
        low: lower ends of y, (points,).
        high: upper ends of y, (points,); may be infinite.

    Returns:
        The two slopes; infinite where an end of a range is.
    """
    # The slope is linear in y, so its extremes lie at ends of the ranges, by the sign of each point's weight. A point
    # at the mean has weight 0 and is left out: 0 times infinity would make the slope NaN.
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    used = weights != 0
    w, lows, highs = weights[used], low[used], high[used]
    return float(np.where(w > 0, w * lows, w * highs).sum()), float(np.where(w > 0, w * highs, w * lows).sum())
