"""Every number with its interval: the spread over seeds and the sampling of items, kept apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Verdict = Literal["higher", "lower", "not distinguished", "not decidable"]

CONFIDENCE = 0.95
BOOTSTRAP_DRAWS = 2000
"""Of the bootstrap."""
MANY = 2000
"""Items."""


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of means, with two 95 % intervals. What is unknown is NaN.

    Attributes:
        value: the mean over the seeds (of the mean over tasks, where there are several).
        seeds: how many runs with different seeds stand behind it.
        sd: their standard deviation.
        low, high: Student's t-interval over the seeds; NaN for fewer than two.
        items: validation items of the tasks, together.
        item_low, item_high: 95 % interval over the items, the trained modules held fixed.
        basis: how the item-level interval came about.
        tasks: how many tasks the mean runs over.
        holes: planned numbers (task × seed) that are missing or had to be left out.
    """

    score: float
    num_seeds: int
    sd: float
    ci_low: float
    ci_high: float
    num_examples: int
    item_ci_low: float
    item_ci_high: float
    ci_method: str
    num_tasks: int = 1
    num_missing: int = 0

    @property
    def half_width(self) -> float:
        """Half the width of the t-interval over seeds; NaN for fewer than two."""
        return t_quantile(self.num_seeds - 1) * self.sd / math.sqrt(self.num_seeds) if self.num_seeds > 1 else math.nan

    @property
    def verdict(self) -> Verdict:
        """Of a difference: ``higher`` or ``lower`` only where both intervals exclude 0, which needs two seeds.

        Where the item-level interval is unknown, the seeds decide alone.
        """
        if math.isnan(self.ci_low):
            return "not decidable"
        for sign, word in ((1, "higher"), (-1, "lower")):
            over_seeds = min(sign * self.ci_low, sign * self.ci_high) > 0
            over_items = math.isnan(self.item_ci_low) or min(sign * self.item_ci_low, sign * self.item_ci_high) > 0
            if over_seeds and over_items:
                return "higher" if word == "higher" else "lower"
        return "not distinguished"


def t_interval(values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, standard deviation and both ends of Student's t-interval over the last axis.

    Args:
        values: (..., seeds); with fewer than two seeds all but the mean are NaN.
    """
    n = values.shape[-1]
    mean = values.mean(axis=-1)
    if n < 2:
        unknown = np.full_like(mean, np.nan)
        return mean, unknown, unknown, unknown
    sd = values.std(axis=-1, ddof=1)
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return mean, sd, mean - half, mean + half


@cache
def t_quantile(degrees: int) -> float:
    """Half the width of a 95 % t-interval in standard errors."""
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, degrees))


def bootstrap(scores: Floats) -> tuple[Floats, Floats]:
    """Percentile bootstrap of the mean over the last axis, with fixed draws: the same scores give the same interval.

    Beyond ``MANY`` items the mean is normal to three digits, and the normal interval saves the draws.

    Args:
        scores: (..., items).
    """
    n = scores.shape[-1]
    if n > MANY:
        half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * scores.std(axis=-1) / math.sqrt(n)
        return scores.mean(axis=-1) - half, scores.mean(axis=-1) + half
    means = scores @ _resamples(n)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=-1)
    return low, high


@lru_cache(maxsize=8)
def _resamples(n: int) -> Floats:
    """Which share of a draw each item is, (items, draws)."""
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP_DRAWS)
    return np.ascontiguousarray(drawn.T / n)


def newcombe_interval(value: Floats | float, below_sq: Floats | float, above_sq: Floats | float) -> tuple[float, float]:
    """An interval around a combination of independent parts from their squared distances to its ends.

    Combining the distances, not the variances, keeps the asymmetry of Wilson's intervals (Newcombe 1998, method 10).
    """
    return float(value - np.sqrt(below_sq)), float(value + np.sqrt(above_sq))
