"""95 % confidence intervals: Student's t over seeds, bootstrap over validation items, Newcombe's hybrid intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
DifferenceVerdict = Literal["higher", "lower", "no significant difference", "not decidable"]

CONFIDENCE = 0.95
BOOTSTRAP_DRAWS = 2000
MAX_BOOTSTRAP_ITEMS = 2000
"""Most items that are resampled; beyond, the normal interval is used."""


@dataclass(frozen=True)
class Estimate:
    """A mean score, or a difference of two, with 95 % confidence intervals over seeds and over items; unknown is NaN.

    The two intervals answer two questions and are never merged: would other seeds give another mean, and would other
    validation items.

    Attributes:
        score: mean over the seeds (of the mean over tasks, where there are several).
        num_seeds: number of runs with different seeds behind it.
        sd: their sample standard deviation.
        ci_low: lower end of Student's t-interval over the seeds; NaN for fewer than two.
        ci_high: upper end of it.
        num_examples: validation items of the tasks, together.
        item_ci_low: lower end of the interval over the items, the trained parameters held fixed.
        item_ci_high: upper end of it.
        ci_method: how the item-level interval was computed.
        num_tasks: number of tasks that the mean runs over.
        num_missing: planned runs (task × seed) that are missing or had to be left out.
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
        # Not (ci_high − ci_low) / 2: the ends of a mean score are clipped at 0 and 1, the spread of the seeds is not.
        return t_quantile(self.num_seeds - 1) * self.sd / math.sqrt(self.num_seeds) if self.num_seeds > 1 else math.nan

    @property
    def p_value(self) -> float:
        """Two-sided p-value of Student's t over the seeds, of a difference of 0; NaN for fewer than two."""
        if self.num_seeds < 2 or math.isnan(self.sd):
            return math.nan
        if self.sd == 0:
            return 0.0 if self.score else 1.0
        t = abs(self.score) / self.sd * math.sqrt(self.num_seeds)
        return float(2 * stats.t.sf(t, self.num_seeds - 1))

    @property
    def verdict(self) -> DifferenceVerdict:
        """Two-sided test of a difference at 5 %: significant only where both intervals exclude 0.

        Returns:
            ``higher`` or ``lower`` where the intervals over seeds and over items exclude 0 on one side, ``no
            significant difference`` where either holds it, ``not decidable`` for fewer than two seeds.
        """
        if math.isnan(self.ci_low):
            return "not decidable"
        # Both must agree: few seeds can agree by luck on items that favor one side, and many items cannot tell a
        # lucky seed from a better method. Where the item-level interval is unknown, the seeds decide alone.
        items_known = not math.isnan(self.item_ci_low)
        if self.ci_low > 0 and self.ci_high > 0:
            over_items = not items_known or (self.item_ci_low > 0 and self.item_ci_high > 0)
            return "higher" if over_items else "no significant difference"
        if self.ci_low < 0 and self.ci_high < 0:
            over_items = not items_known or (self.item_ci_low < 0 and self.item_ci_high < 0)
            return "lower" if over_items else "no significant difference"
        return "no significant difference"


def t_interval(values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, sample standard deviation and Student's 95 % t-interval over the last axis.

    Args:
        values: (..., seeds).

    Returns:
        mean, sd, lower end, upper end, each (...); with fewer than two seeds all but the mean are NaN.
    """
    n = values.shape[-1]
    mean = values.mean(axis=-1)
    if n < 2:
        unknown = np.full_like(mean, np.nan)
        return mean, unknown, unknown, unknown
    # Student's t, not the normal: with three seeds the normal interval covers the mean in 81 % of cases, not in 95 %.
    sd = values.std(axis=-1, ddof=1)
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return mean, sd, mean - half, mean + half


@cache
def t_quantile(degrees: int) -> float:
    """0.975 quantile of Student's t-distribution: half the width of a 95 % interval, in standard errors.

    Args:
        degrees: degrees of freedom, at least 1.

    Returns:
        The quantile, positive; it falls towards the normal one with more degrees.
    """
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, degrees))


def bootstrap(scores: Floats) -> tuple[Floats, Floats]:
    """95 % percentile bootstrap interval of the mean over the last axis (Efron and Tibshirani 1993, chapter 13).

    The draws are fixed, so that the same scores give the same interval in every report.

    Args:
        scores: (..., items).

    Returns:
        Lower and upper end, each (...).
    """
    n = scores.shape[-1]
    if n > MAX_BOOTSTRAP_ITEMS:
        # The mean of this many values in [0, 1] is normal to the digits shown, and 2,000 draws of each would take
        # most of a report's time.
        half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * scores.std(axis=-1) / math.sqrt(n)
        return scores.mean(axis=-1) - half, scores.mean(axis=-1) + half
    means = scores @ _resampling_weights(n)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=-1)
    return low, high


# A study has few sizes of validation sets and thousands of intervals; eight matrices of at most 32 MB are kept.
@lru_cache(maxsize=8)
def _resampling_weights(n: int) -> Floats:
    """Weight of each item in each bootstrap draw, (items, draws)."""
    # How often an item is drawn is all that the mean of a draw needs to know: a matrix product in place of indexing.
    times_drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP_DRAWS)
    return np.ascontiguousarray(times_drawn.T / n)


def newcombe_interval(
    estimate: Floats | float, squared_below: Floats | float, squared_above: Floats | float
) -> tuple[float, float]:
    """Newcombe's hybrid score interval of a sum or difference of independent estimates (Newcombe 1998, method 10).

    Args:
        estimate: the sum or difference.
        squared_below: sum of the parts' squared distances towards the lower end.
        squared_above: sum of the parts' squared distances towards the upper end.

    Returns:
        Lower and upper end.
    """
    # Distances to the ends are combined, not variances: that keeps the asymmetry of Wilson's intervals, which near an
    # accuracy of 0 or 1 is most of what they have to say.
    return float(estimate - np.sqrt(squared_below)), float(estimate + np.sqrt(squared_above))
