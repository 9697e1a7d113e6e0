"""Posterior of the budget curve: a grid over its shapes, with everything linear integrated out.

Score over x = log2 N is ``start + (ceiling − start) · F((x − location) / width) + misfit(x) + noise``. F is a
generalized logistic curve. Given location, width, shape, noise and size of the misfit, the rest is linear and normal;
so the posterior is a sum over a grid of those five, without random numbers. The grid is laid twice: over all that is
possible, then over what the first has left. The prior stands in `apet.analysis.curves`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apet.analysis.curve_values import Scale
from apet.analysis.intervals import Floats

NOISES = np.geomspace(0.003, 0.12, 8)
"""Standard deviation over seeds, in [0, 1]."""
NOISE_LOG_MEAN, NOISE_LOG_SD = math.log(0.015), 1.0
MISFITS, MISFIT_PRIOR = np.array([0.0, 0.04, 0.15]), np.array([0.5, 0.25, 0.25])
"""Standard deviation of what no logistic curve follows, as a share of the way to full fine-tuning."""
MISFIT_LENGTH = 1.25
"""In octaves: points much nearer to each other share their misfit."""
SHAPES, SHAPE_PRIOR = np.array([0.05, 0.4, 1.0, 3.0]), np.array([0.2, 0.2, 0.4, 0.2])
"""Of Richards' curve: near 0 saturates slowly (Gompertz), 1 is logistic, more rises slowly and saturates at once."""
NARROWEST, WIDEST = 0.002, 6.0
"""Widths, in octaves; from 10 to 90 % a logistic curve takes 4.4 of them, so that the narrowest is a step."""
OUTSIDE = 4.0
"""How many octaves beyond the counts a location may lie."""
CEILING_SDS, CEILING_PRIOR = np.array([1e-4, 0.05, 0.3]), np.array([0.5, 0.25, 0.25])
"""Of the ceiling about full fine-tuning, as a share of the way: the same level, nearly so, above or below."""
START_SD, FREE_START_SD = 0.01, 0.2
"""Of the level of the smallest N about a known one (in [0, 1]), and where it is free (as a share of the way)."""
START_PRIOR = np.array([0.45, 0.25, 0.3])
"""At the untrained score, at the best constant answer, free."""
LEVEL_MEAN, LEVEL_SD = 0.75, 0.5
"""Of full fine-tuning before any run: as good as flat over [0, 1]."""
LEAST_WAY = 0.02
"""Of what full fine-tuning gains, for the scale of the priors; less cannot be told from nothing."""
NUM_DRAWS = 1000
"""Of the curve; each end of an interval rests on 25."""
_NEGLIGIBLE = 1e-3

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Observations:
    """What was measured, in an order of its own, so that the order of the runs cannot matter.

    Attributes:
        log2_counts: distinct counts, ascending, (counts,).
        scores: by count.
        item_variances: binomial variance of each score; 0 = the runs share their items.
        full: scores of full fine-tuning; may be empty.
        full_item_variances: of each.
        untrained: score of the untrained model.
        constant: score of the best constant answer.
        way: how far it is from the better of the two to full fine-tuning, roughly; it scales the priors.
    """

    log2_counts: Floats
    scores: Sequence[Floats]
    item_variances: Sequence[Floats]
    full: Floats
    full_item_variances: Floats
    untrained: float
    constant: float
    way: float

    @property
    def base(self) -> float:
        """What is had without training: the better of the untrained score and the best constant answer."""
        return max(self.untrained, self.constant)


@dataclass(frozen=True)
class _Group:
    """Scores with one mean, for every noise: their weighted mean and all that does not depend on it."""

    precision: Floats
    mean: Floats
    log_rest: Floats

    @classmethod
    def of(cls, scores: Floats, item_variances: Floats, noises: Floats) -> _Group:
        variances = noises[:, None] ** 2 + item_variances
        precision = (1 / variances).sum(axis=1)
        mean = (scores / variances).sum(axis=1) / precision
        squares = ((scores - mean[:, None]) ** 2 / variances).sum(axis=1)
        return cls(precision, mean, -0.5 * (np.log(variances).sum(axis=1) + squares + np.log(precision)))


@dataclass(frozen=True)
class _Axes:
    """Axes of a grid: which of the values above, and the locations and logarithms of the widths."""

    noises: Indices
    misfits: Indices
    starts: Indices
    ceilings: Indices
    locations: Floats
    log_widths: Floats


@dataclass(frozen=True)
class CurveDraws:
    """Draws from the posterior, all of one weight.

    Attributes:
        grid: log2 N, ascending, (points,).
        curves: mean score over seeds, (draws, points).
        full: level of full fine-tuning, (draws,).
        noise: standard deviation over seeds, (draws,).
        base: what is had without training, in [0, 1].
    """

    grid: Floats
    curves: Floats
    full: Floats
    noise: Floats
    base: float

    def in_units(self, scale: Scale) -> CurveDraws:
        """The same in a metric's own numbers."""
        if scale == Scale():
            return self
        curves, full = (scale.zero + scale.unit * x for x in (self.curves, self.full))
        return CurveDraws(self.grid, curves, full, scale.unit * self.noise, scale.zero + scale.unit * self.base)


def rise(x: Floats, location: Floats, width: Floats, shape: Floats) -> Floats:
    """Richards' generalized logistic curve from 0 to 1, half-way at its location.

    Args:
        x: log2 N, (points,).
        location: log2 N of the half-way point, (curves,).
        width: in octaves, (curves,).
        shape: see `SHAPES`, (curves,).

    Returns:
        (curves, points).
    """
    half_way = -np.log((2**shape - 1) / shape)  # where the curve about 0 reaches a half
    z = (x - location[:, None]) / width[:, None] + half_way[:, None]
    # As a power of a logarithm: the plain form overflows far to the left.
    return np.exp(-np.logaddexp(0, np.log(shape)[:, None] - z) / shape[:, None])


def posterior_draws(observed: Observations, lowest: float, highest: float, num_draws: int = NUM_DRAWS) -> CurveDraws:
    """Draws of the curve from the posterior; the same observations give the same draws.

    Args:
        observed: the measurements.
        lowest: log2 of the smallest N that matters.
        highest: of the largest.
        num_draws: how many.

    Returns:
        The draws, over a grid from the smallest to the largest N.
    """
    axes = _Axes(
        np.arange(len(NOISES)),
        np.arange(len(MISFITS)),
        np.arange(len(START_PRIOR)),
        # Without full fine-tuning the curve's own ceiling stands in for it.
        np.arange(len(CEILING_SDS) if len(observed.full) else 1),
        np.linspace(lowest - OUTSIDE, highest + OUTSIDE, 20),
        np.linspace(math.log(NARROWEST), math.log(WIDEST), 8),
    )
    # Twice finer where the weight is: a few runs leave most of the first grid, many leave a few of its cells.
    finer = _Grid(observed, axes).zoomed(14, 8)
    finest = _Grid(observed, finer).zoomed(22, 12)
    return _Grid(observed, finest).draws(np.linspace(lowest, highest, _num_points(lowest, highest)), num_draws)


def _num_points(lowest: float, highest: float) -> int:
    return int(np.clip(10 * (highest - lowest), 30, 240)) + 1


class _Grid:
    """Weights of all cells (noise, misfit, curve, start, ceiling) and the normal of the curve's two ends in each."""

    def __init__(self, observed: Observations, axes: _Axes) -> None:
        self.observed, self.axes = observed, axes
        shape, location, log_width = np.meshgrid(np.arange(len(SHAPES)), axes.locations, axes.log_widths, indexing="ij")
        self.location, self.log_width, self.shape = location.ravel(), log_width.ravel(), shape.ravel()
        self.noises, self.misfits = NOISES[axes.noises], observed.way * MISFITS[axes.misfits]
        log_full = self._set_ends()
        log_prior = (
            (-0.5 * ((np.log(self.noises) - NOISE_LOG_MEAN) / NOISE_LOG_SD) ** 2 + log_full)[:, None, None, None, None]
            + np.log(MISFIT_PRIOR[axes.misfits])[:, None, None, None]
            + np.log(SHAPE_PRIOR[self.shape])[:, None, None]
            + np.log(START_PRIOR[axes.starts])[:, None]
            + np.log(CEILING_PRIOR[axes.ceilings])
        )
        log_weights = log_prior + self._log_likelihood()
        weights = np.exp(log_weights - log_weights.max())
        self.weights = weights / weights.sum()

    def _set_ends(self) -> Floats:
        """Means and variances of the curve's two ends before its runs; returns how likely full fine-tuning's runs are.

        Returns:
            Logarithm of the likelihood for each noise.
        """
        observed, axes = self.observed, self.axes
        self.start_mean = np.array([observed.untrained, observed.constant, observed.base])[axes.starts]
        self.start_variance = np.array([START_SD, START_SD, observed.way * FREE_START_SD])[axes.starts] ** 2
        ceiling_variance = (observed.way * CEILING_SDS[axes.ceilings]) ** 2
        if not len(observed.full):
            self.full_variance = np.full(len(self.noises), LEVEL_SD**2)
            self.full_mean = np.full(len(self.noises), LEVEL_MEAN)
            self.top_variance = self.full_variance[:, None] + ceiling_variance
            return np.zeros(len(self.noises))
        runs = _Group.of(observed.full, observed.full_item_variances, self.noises)
        self.full_variance = 1 / (runs.precision + 1 / LEVEL_SD**2)
        self.full_mean = self.full_variance * (runs.precision * runs.mean + LEVEL_MEAN / LEVEL_SD**2)
        self.top_variance = self.full_variance[:, None] + ceiling_variance
        spread = 1 / runs.precision + LEVEL_SD**2
        return runs.log_rest - 0.5 * ((runs.mean - LEVEL_MEAN) ** 2 / spread + np.log(spread))

    def _log_likelihood(self) -> Floats:
        """Of all cells, (noise, misfit, curve, start, ceiling); keeps the normal of the two ends in each."""
        observed = self.observed
        groups = [_Group.of(s, v, self.noises) for s, v in zip(observed.scores, observed.item_variances, strict=True)]
        x, pairs = observed.log2_counts, (len(self.noises), len(self.misfits))
        self.upper = rise(x, self.location, np.exp(self.log_width), SHAPES[self.shape])
        self.lower = 1 - self.upper
        self.means = np.array([g.mean for g in groups]).reshape(len(x), len(self.noises))
        precisions = np.array([g.precision for g in groups]).reshape(len(x), len(self.noises))
        # what is left of a group besides its mean, whose spread enters with the covariance
        log_rest = sum((g.log_rest for g in groups), start=np.zeros(len(self.noises)))
        kernel = _kernel(x, x)
        self.inverse = np.zeros((*pairs, len(x), len(x)))
        ll, lu, uu, ly, uy = (np.zeros((*pairs, len(self.location))) for _ in range(5))
        constant = np.zeros(pairs)
        for i, j in np.ndindex(pairs):
            covariance = self.misfits[j] ** 2 * kernel + np.diag(1 / precisions[:, i])
            inverse = self.inverse[i, j] = np.linalg.inv(covariance)
            y = self.means[:, i]
            weighted_lower, weighted_upper = self.lower @ inverse, self.upper @ inverse
            ll[i, j] = (weighted_lower * self.lower).sum(axis=1)
            lu[i, j] = (weighted_lower * self.upper).sum(axis=1)
            uu[i, j] = (weighted_upper * self.upper).sum(axis=1)
            ly[i, j], uy[i, j] = weighted_lower @ y, weighted_upper @ y
            constant[i, j] = log_rest[i] - 0.5 * (y @ inverse @ y + np.linalg.slogdet(covariance)[1])
        # The two ends are normal a priori and enter linearly: their integral in closed form, their posterior beside it.
        start_precision, start_mean = 1 / self.start_variance[:, None], self.start_mean[:, None]
        top_precision = (1 / self.top_variance)[:, None, None, None, :]
        top_mean = self.full_mean[:, None, None, None, None]
        self.a = ll[..., None, None] + start_precision
        self.b = lu[..., None, None]
        self.c = uu[..., None, None] + top_precision
        self.p = ly[..., None, None] + start_precision * start_mean
        self.q = uy[..., None, None] + top_precision * top_mean
        determinant = self.a * self.c - self.b**2
        explained = (self.c * self.p**2 - 2 * self.b * self.p * self.q + self.a * self.q**2) / determinant
        prior_squares = start_precision * start_mean**2 + top_precision * top_mean**2
        log_prior_precision = np.log(start_precision) + np.log(top_precision)
        return constant[..., None, None, None] + 0.5 * (
            explained - prior_squares + log_prior_precision - np.log(determinant)
        )

    def zoomed(self, num_locations: int, num_widths: int) -> _Axes:
        """Axes of a finer grid over what has not lost all its weight."""
        by_curve = self.weights.sum(axis=(0, 1, 3, 4)).reshape(len(SHAPES), len(self.axes.locations), -1)
        return _Axes(
            self.axes.noises[self.weights.sum(axis=(1, 2, 3, 4)) > _NEGLIGIBLE],
            self.axes.misfits[self.weights.sum(axis=(0, 2, 3, 4)) > _NEGLIGIBLE],
            self.axes.starts[self.weights.sum(axis=(0, 1, 2, 4)) > _NEGLIGIBLE],
            self.axes.ceilings[self.weights.sum(axis=(0, 1, 2, 3)) > _NEGLIGIBLE],
            _kept(self.axes.locations, by_curve.sum(axis=(0, 2)), num_locations),
            _kept(self.axes.log_widths, by_curve.sum(axis=(0, 1)), num_widths),
        )

    def draws(self, grid: Floats, num_draws: int) -> CurveDraws:
        """Draws of the whole curve; see `posterior_draws`."""
        # Systematic: each cell is drawn as often as its weight says, to within one.
        ends = np.cumsum(self.weights)
        cells = np.searchsorted(ends, (np.arange(num_draws) + 0.5) / num_draws * ends[-1])
        noise, misfit, curve, start, ceiling = np.unravel_index(cells, self.weights.shape)
        rng = np.random.default_rng(0)
        normal = rng.standard_normal((3, num_draws))
        a = self.a[noise, misfit, curve, start, 0]
        b = self.b[noise, misfit, curve, 0, 0]
        c = self.c[noise, misfit, curve, 0, ceiling]
        p, q = self.p[noise, misfit, curve, start, 0], self.q[noise, misfit, curve, 0, ceiling]
        determinant = a * c - b**2
        low_end = (c * p - b * q) / determinant + np.sqrt(c / determinant) * normal[0]
        high_end = (q - b * low_end) / c + normal[1] / np.sqrt(c)  # given the lower one
        share = self.full_variance[noise] / self.top_variance[noise, ceiling]
        full_sd = np.sqrt(self.full_variance[noise] * (1 - share))
        full = self.full_mean[noise] + share * (high_end - self.full_mean[noise]) + full_sd * normal[2]
        shape = rise(grid, self.location[curve], np.exp(self.log_width[curve]), SHAPES[self.shape[curve]])
        curves = low_end[:, None] + (high_end - low_end)[:, None] * shape
        fitted = self.lower[curve] * low_end[:, None] + self.upper[curve] * high_end[:, None]
        for j in np.flatnonzero(self.misfits > 0):
            for i in np.unique(noise[misfit == j]):
                chosen = np.flatnonzero((misfit == j) & (noise == i))
                curves[chosen] += self._misfits(grid, int(i), int(j), self.means[:, i] - fitted[chosen], rng)
        return CurveDraws(grid, curves, full, self.noises[noise], self.observed.base)

    def _misfits(self, grid: Floats, i: int, j: int, residuals: Floats, rng: np.random.Generator) -> Floats:
        """Draws of the misfit over the grid, given the residuals at the counts, (draws, points)."""
        variance = self.misfits[j] ** 2
        # It is smooth: a few points an octave, joined by lines, are it.
        coarse = np.linspace(grid[0], grid[-1], len(grid) // 3 + 2)
        across = variance * _kernel(coarse, self.observed.log2_counts)
        gain = across @ self.inverse[i, j]
        values, vectors = np.linalg.eigh(variance * _kernel(coarse, coarse) - gain @ across.T)
        root = vectors * np.sqrt(np.maximum(values, 0))
        drawn = residuals @ gain.T + rng.standard_normal((len(residuals), len(coarse))) @ root.T
        place = np.interp(grid, coarse, np.arange(len(coarse)))
        left = np.minimum(place.astype(int), len(coarse) - 2)
        return drawn[:, left] + (place - left) * (drawn[:, left + 1] - drawn[:, left])


def _kept(points: Floats, weights: Floats, num: int) -> Floats:
    """Points over the part of an axis that has not lost all its weight, and one step beyond."""
    kept = np.flatnonzero(weights > _NEGLIGIBLE)
    return np.linspace(points[max(kept[0] - 1, 0)], points[min(kept[-1] + 1, len(points) - 1)], num)


def _kernel(x: Floats, y: Floats) -> Floats:
    """Squared-exponential correlation of the misfit at two counts."""
    return np.exp(-0.5 * ((x[:, None] - y) / MISFIT_LENGTH) ** 2)
