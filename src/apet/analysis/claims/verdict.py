"""Verdicts on claims: one number in several views, its p-value, and Holm's correction over the rows of a claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from apet.analysis.intervals import CONFIDENCE, DifferenceVerdict, Estimate, Floats, t_quantile

ClaimVerdict = Literal["supported", "not supported", "depends on the view", "not decidable with these runs"]
SUPPORTED: ClaimVerdict = "supported"
NOT_SUPPORTED: ClaimVerdict = "not supported"
DEPENDS: ClaimVerdict = "depends on the view"
OPEN: ClaimVerdict = "not decidable with these runs"
VERDICTS: tuple[ClaimVerdict, ...] = (SUPPORTED, DEPENDS, NOT_SUPPORTED, OPEN)
"""In the order in which they are told."""

ALPHA = 1 - CONFIDENCE
MIN_SCALES = 3
"""A line through two scales is exact, and nothing is left to judge it by."""


@dataclass(frozen=True)
class View:
    """One way to measure what a claim is about; the claim says that the number lies below 0.

    Attributes:
        name: such as ``points, own N``; empty where there is one way only.
        number: what was computed, in words with its unit.
        estimate: NaN where it could not be.
        ci_low: lower end of its 95 % interval; NaN = unknown.
        ci_high: upper end of it.
        p_value: two-sided, of no effect; 1 where the estimate lies on the side that the claim denies; NaN = no test.
        verdict: of this view alone.
        basis: what the interval rests on.
    """

    name: str
    number: str
    estimate: float
    ci_low: float
    ci_high: float
    p_value: float
    verdict: ClaimVerdict
    basis: str


@dataclass(frozen=True)
class ClaimRow:
    """One row of a claim: tested on one family, backbone or method.

    Attributes:
        claim: in words.
        where: family or backbone.
        what: method, or how many methods; empty where the claim names them.
        views: of the number, at least one.
        verdict: of all views together, and after Holm's correction over the rows of the claim.
        p_value: of the view that supports least, corrected; NaN = no test.
        note: what was left out, or is missing; empty where nothing is.
    """

    claim: str
    where: str
    what: str
    views: tuple[View, ...]
    verdict: ClaimVerdict
    p_value: float
    note: str = ""

    @classmethod
    def of(cls, claim: str, where: str, what: str, views: Sequence[View], note: str = "") -> ClaimRow:
        """A row before the correction."""
        p_value = float(np.max([v.p_value for v in views]))  # NaN where any view has no test
        return cls(claim, where, what, tuple(views), joint_verdict([v.verdict for v in views]), p_value, note)


def joint_verdict(verdicts: Sequence[ClaimVerdict]) -> ClaimVerdict:
    """Verdict of several views of one claim.

    Each view has its own way to be fooled (a ceiling makes gaps in points shrink, a floor gaps in log odds), and a
    claim that is true holds in all. Every view is tested at the full level: all must pass (the intersection-union test
    of Berger 1982), which needs no correction.

    Args:
        verdicts: one a view.

    Returns:
        Supported, or not, where all agree or one rules it out; depends on the view where one view supports what another
        rules out.
    """
    seen = set(verdicts)
    if seen == {SUPPORTED}:
        return SUPPORTED
    if NOT_SUPPORTED in seen:
        return DEPENDS if SUPPORTED in seen else NOT_SUPPORTED
    return OPEN


def holm(rows: Sequence[ClaimRow]) -> list[ClaimRow]:
    """The rows of one claim with Holm's correction: of all that are supported, 5 % of studies hold a false one at most.

    Args:
        rows: in any order; those without a test stay as they are, and do not count.

    Returns:
        The rows in their order, with corrected p-values; one that was supported and does not survive is open.
    """
    tested = [i for i, row in enumerate(rows) if not math.isnan(row.p_value)]
    corrected = list(rows)
    if not tested:
        return corrected
    for i, p in zip(tested, holm_p_values([rows[i].p_value for i in tested]), strict=True):
        row = rows[i]
        verdict = OPEN if row.verdict == SUPPORTED and p > ALPHA else row.verdict
        corrected[i] = replace(row, p_value=p, verdict=verdict)
    return corrected


def holm_p_values(p_values: Sequence[float]) -> list[float]:
    """P-values corrected by Holm's step-down method (Holm 1979), in their order.

    Args:
        p_values: in [0, 1], at least one.

    Returns:
        The corrected ones.
    """
    # statsmodels has it, too, and collects garbage on each call: 0.1 s here, more with a model in memory.
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.tolist()


def below_zero(low: float, high: float, smallest_effect: float) -> ClaimVerdict:
    """Verdict on the claim that a number lies below 0, from its interval.

    Args:
        low: lower end.
        high: upper end.
        smallest_effect: distance from 0 below which an effect is not worth naming, > 0.

    Returns:
        Supported where the whole interval lies below 0; not decidable where it is wide, or NaN.
    """
    if math.isnan(low):
        return OPEN
    if high < 0:
        return SUPPORTED
    # An interval around 0 supports nothing, but only a narrow one speaks against the claim: a wide one is too few runs.
    return NOT_SUPPORTED if low > -smallest_effect else OPEN


def unknown_view(name: str, number: str, basis: str) -> View:
    """View that has no number."""
    return View(name, number, math.nan, math.nan, math.nan, math.nan, OPEN, basis)


def p_below_zero(estimate: float, half_width: float, degrees: int) -> float:
    """Two-sided p-value of Student's t for the claim that a number lies below 0, from its 95 % interval.

    Args:
        estimate: middle of the interval.
        half_width: half of it; NaN = unknown.
        degrees: of freedom.

    Returns:
        In [0, 1]; 1 where the estimate is not below 0, NaN where the interval is unknown.
    """
    if math.isnan(half_width):
        return math.nan
    if estimate >= 0:
        return 1.0
    return float(2 * stats.t.sf(-estimate / half_width * t_quantile(degrees), degrees)) if half_width > 0 else 0.0


def slope_view(name: str, number: str, x: Floats, y: Floats, smallest_effect: float, basis: str) -> View:
    """View of the claim that y falls with x: least-squares slope with its t-interval.

    Args:
        name: of the view.
        number: unit of the slope, in words.
        x: (scales,).
        y: (scales,), in that unit.
        smallest_effect: see `below_zero`.
        basis: what y is.

    Returns:
        The view; not decidable for fewer than three scales.
    """
    fitted, low, high = (float(v) for v in slope(x, y))
    p_value = p_below_zero(fitted, high - fitted, len(x) - 2)
    return View(name, number, fitted, low, high, p_value, below_zero(low, high, smallest_effect), basis)


def slope(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Least-squares slope of y on x over the last axis, with its 95 % t-interval.

    Args:
        x: (points,).
        y: (..., points).

    Returns:
        Slope, lower and upper end, each (...); ends are NaN for fewer than three points, all where all x are equal.
    """
    centered = x - x.mean()
    sum_of_squares = float(centered @ centered)
    if len(x) < 2 or sum_of_squares == 0:
        unknown = np.full(y.shape[:-1], np.nan)
        return unknown, unknown, unknown
    fitted = (y - y.mean(axis=-1, keepdims=True)) @ centered / sum_of_squares
    degrees = len(x) - 2  # a line takes two
    if degrees < 1:
        return fitted, np.full_like(fitted, np.nan), np.full_like(fitted, np.nan)
    residuals = y - y.mean(axis=-1, keepdims=True) - fitted[..., None] * centered
    half = t_quantile(degrees) * np.sqrt((residuals**2).sum(axis=-1) / degrees / sum_of_squares)
    return fitted, fitted - half, fitted + half


def corrected_verdicts(estimates: Sequence[Estimate]) -> list[DifferenceVerdict]:
    """Verdicts of differences that are told together: one that Holm's correction does not leave is not significant."""
    verdicts = [e.verdict for e in estimates]
    tested = [i for i, e in enumerate(estimates) if not math.isnan(e.p_value)]
    if tested:
        for i, p in zip(tested, holm_p_values([estimates[i].p_value for i in tested]), strict=True):
            if p > ALPHA:
                verdicts[i] = "no significant difference"
    return verdicts
