"""The budget curve of one backbone, task and method: score over log N, and where it crosses a level.

*Model.* ``score = start + (ceiling − start) · F((log2 N − location) / width) + misfit(log2 N) + noise``, F a
generalized logistic curve (logistic, Gompertz, or slow first and saturating at once).

*Prior.* Location: uniform, from 4 octaves below the smallest N to 4 above the largest. Width: log-uniform from 0.002
octaves (a step) to 6 (from 10 to 90 % over 26 octaves). Shape: Gompertz 0.2, between 0.2, logistic 0.4, slow first
and saturating at once 0.2. Start: at the untrained score (0.45) or the best constant answer (0.25), sd 1 point, else
free (0.3, sd 0.2 of the way). Ceiling: full fine-tuning's level (0.5), near it (0.25, sd 0.05 of the way), or above or
below it (0.25, sd 0.3). Full fine-tuning: as good as flat. Seed noise: log-normal about 1.5 points, factor e; one for
all N and full fine-tuning, and beside it the binomial noise of the items where a run has items of its own (runs that
share their items do not need it: what those do to one run, they do to all). Misfit: none (0.5), or a smooth random
function with sd 0.04 (0.25) or 0.15 (0.25) of the way and a length of 1.25 octaves. *The way* leads from what is had
without training, the better of the untrained score and the best constant answer, to full fine-tuning. Scores further
below its beginning than a tenth of it count as that.

*Thresholds.* The smallest N at which the mean score over seeds reaches a level: low, a tenth of the way; high, a share
of the way (95 %), or a margin below full fine-tuning. Each draw of the curve crosses somewhere, before the smallest N
or not at all; the answer is their median with a 95 % interval, whose ends may be open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from apet.analysis.curve_posterior import LEAST_WAY, LEVEL_MEAN, CurveDraws, Observations, posterior_draws
from apet.analysis.curve_values import (
    LOW_SHARE,
    UNDECIDED_SHARE,
    Band,
    Levels,
    Reach,
    RunScore,
    Scale,
    ThresholdAnswer,
    ThresholdKind,
    ThresholdState,
)
from apet.analysis.intervals import CONFIDENCE, Floats
from apet.analysis.next_run import NextRun, most_informative_runs
from apet.errors import ApetError

WORTH = 0.5
"""Share of the best run's gain that a further one must have to be made with it, before its score is known."""


@dataclass(frozen=True)
class BudgetCurve:
    """Posterior of one budget curve.

    Attributes:
        draws: of the curve.
        smallest: smallest N asked about.
        largest: largest N asked about.
        levels: what it is held against.
        num_runs: N -> runs made, failed ones too.
        scale: of the metric; draws and levels are in its own numbers.
    """

    draws: CurveDraws
    smallest: int
    largest: int
    levels: Levels
    num_runs: dict[int, int]
    scale: Scale = field(default_factory=Scale)

    def crossings(self, kind: ThresholdKind, reach: Reach | None = None) -> Floats:
        """Draws of a threshold, in log2 N; −inf = below the smallest N, inf = above the largest.

        Args:
            kind: low or high.
            reach: what counts as high.

        Returns:
            (draws,).
        """
        d = self.draws
        level = (Reach(LOW_SHARE) if kind == "low" else reach or Reach()).level(d.base, d.full)
        passed = d.curves >= level[:, None]
        first = passed.argmax(axis=1)
        rows = np.arange(len(first))
        before = np.maximum(first - 1, 0)
        y0, y1 = d.curves[rows, before], d.curves[rows, first]
        step = np.divide(level - y0, y1 - y0, out=np.zeros_like(level), where=y1 > y0)
        log2_count = d.grid[before] + np.clip(step, 0, 1) * (d.grid[first] - d.grid[before])
        log2_count = np.where(first == 0, -np.inf, log2_count)
        # Where full fine-tuning gains nothing there is no way, and no threshold on it.
        return np.where(passed.any(axis=1) & (d.full > d.base), log2_count, np.inf)

    def threshold(
        self, kind: ThresholdKind, reach: Reach | None = None, confidence: float = CONFIDENCE
    ) -> ThresholdAnswer:
        """Where a threshold lies.

        Args:
            kind: low or high.
            reach: what counts as high; None = 95 % of the way.
            confidence: of the interval, in (0, 1).

        Returns:
            Median and interval, or what else is known.
        """
        crossings = self.crossings(kind, reach)
        tail = (1 - confidence) / 2
        low, median, high = 2 ** np.quantile(crossings, [tail, 0.5, 1 - tail], method="inverted_cdf")
        state: ThresholdState = "between"
        if np.mean(self.draws.full > self.draws.base) < 0.5:
            state, low, high = "nothing to reach", 0.0, math.inf
        elif np.mean(np.isneginf(crossings)) >= confidence:
            state, low, high = "below the smallest N", 0.0, float(self.smallest)
        elif np.mean(np.isposinf(crossings)) >= confidence:
            state, low, high = "above the largest N", float(self.largest), math.inf
        answer = ThresholdAnswer(kind, state, float(median), float(low), float(high), self.smallest, self.largest)
        asked = math.log2(self.largest / self.smallest)
        if state == "between" and (answer.octaves > max(1.0, UNDECIDED_SHARE * asked)):
            return ThresholdAnswer(
                kind, "not decided", float(median), float(low), float(high), self.smallest, self.largest
            )
        return answer

    def band(self, counts: Sequence[int] | Floats, confidence: float = CONFIDENCE) -> Band:
        """The curve at some N, with its band.

        Args:
            counts: N, within the counts asked about.
            confidence: of the band, in (0, 1).

        Returns:
            Median and interval of the mean score over seeds at each.
        """
        at = np.array([self.scores_at(n) for n in counts])
        tail = (1 - confidence) / 2
        low, median, high = np.quantile(at, [tail, 0.5, 1 - tail], axis=1)
        return Band(np.asarray(counts, dtype=float), median, low, high)

    def scores_at(self, n: float) -> Floats:
        """Draws of the mean score at one N, (draws,)."""
        grid, x = self.draws.grid, math.log2(n)
        right = int(np.clip(np.searchsorted(grid, x), 1, len(grid) - 1))
        step = float(np.clip((x - grid[right - 1]) / (grid[right] - grid[right - 1]), 0, 1))
        return (1 - step) * self.draws.curves[:, right - 1] + step * self.draws.curves[:, right]

    def next_run(
        self,
        kind: ThresholdKind,
        counts: Iterable[int],
        *,
        max_seeds: int = 5,
        max_full_seeds: int = 5,
        reach: Reach | None = None,
    ) -> NextRun | None:
        """The run that is expected to shrink the posterior of a threshold most; see `next_runs`.

        Returns:
            N and seed, with what is expected of it; None where every run is used up.
        """
        chosen = self.next_runs(kind, counts, 1, max_seeds=max_seeds, max_full_seeds=max_full_seeds, reach=reach)
        return chosen[0] if chosen else None

    def next_runs(
        self,
        kind: ThresholdKind,
        counts: Iterable[int],
        most: int,
        *,
        max_seeds: int = 5,
        max_full_seeds: int = 5,
        reach: Reach | None = None,
        worth: float = WORTH,
    ) -> list[NextRun]:
        """Runs to make together, which are expected to shrink the posterior of a threshold most.

        Args:
            kind: low or high.
            counts: N to choose from.
            most: how many runs, at most.
            max_seeds: runs that one N may have.
            max_full_seeds: runs that full fine-tuning may have.
            reach: what counts as high.
            worth: a further run is chosen while it is expected to gain at least this share of what the first does.

        Returns:
            N and seed of each, the best first, with what is expected of it after those before it; empty where every run
            is used up.
        """
        room: dict[int | None, int] = {n: max_seeds - self.num_runs.get(n, 0) for n in sorted(set(counts))}
        room[None] = max_full_seeds - len(self.levels.full)
        allowed = [n for n, runs in room.items() if runs > 0]
        if not allowed:
            return []
        d = self.draws
        means = np.array([d.full if n is None else self.scores_at(n) for n in allowed])
        target = np.clip(self.crossings(kind, reach), d.grid[0] - 1, d.grid[-1] + 1)
        seeds = {n: len(self.levels.full) if n is None else self.num_runs.get(n, 0) for n in allowed}
        chosen: list[NextRun] = []
        for c in most_informative_runs(target, means, d.noise, [room[n] for n in allowed], most, worth):
            n = allowed[c.candidate]
            chosen.append(NextRun(n, seeds[n], c.expected_sd, c.sd))
            seeds[n] += 1
        return chosen

    @cached_property
    def noise(self) -> float:
        """Median of the standard deviation over seeds, in [0, 1]."""
        return float(np.median(self.draws.noise))


def fit_curve(
    runs: Iterable[RunScore], levels: Levels, smallest: int | None = None, largest: int | None = None
) -> BudgetCurve:
    """Posterior of the budget curve of one backbone, task and method; see the module for model and prior.

    Args:
        runs: their scores, in any order; none = the prior.
        levels: what the curve is held against.
        smallest: smallest N asked about; None = that of the runs.
        largest: largest N; None = that of the runs.

    Returns:
        The posterior: thresholds, band, and the run to make next.

    Raises:
        ApetError: the counts span no range, or a score or a count is not one.

    Examples:
        >>> runs = [RunScore(2**k, 0.5 if k < 6 else 0.7 if k == 6 else 0.9) for k in range(12)]
        >>> curve = fit_curve(runs, Levels(untrained=0.5, constant=0.5, full=(0.9, 0.9)))
        >>> 32 < curve.threshold("low").median <= 64 < curve.threshold("high").median <= 128
        True
    """
    made = list(runs)
    counts = sorted({r.num_trainable for r in made})
    smallest = smallest or (counts[0] if counts else 1)
    largest = largest or (counts[-1] if counts else 1)
    if not 0 < smallest < largest or (counts and counts[0] < 1):
        raise ApetError(f"a curve from N = {smallest:,} to {largest:,}; give two or more different counts, at least 1")
    scored = [r for r in made if not math.isnan(r.score)]
    counts = sorted({r.num_trainable for r in scored})
    groups = [sorted((r for r in scored if r.num_trainable == n), key=_order) for n in counts]
    means = [sum(r.score for r in g) / len(g) for g in groups]
    known_full = sorted(s for s in levels.full if not math.isnan(s))
    best = sum(known_full) / len(known_full) if known_full else max(means, default=LEVEL_MEAN)
    scale = Scale.of(levels.base, best)
    for value in (*(r.score for r in scored), *known_full):
        if math.isinf(value) or (scale == Scale() and value > 1):
            raise ApetError(f"a score of {value:g}; scores are shares in [0, 1], such as 0.834 for 83.4 %")
    full = np.array([scale.scaled(s) for s in known_full])
    scores = [np.array([scale.scaled(r.score) for r in g]) for g in groups]
    base = scale.scaled(levels.base)
    way = max(scale.scaled(best) - base, LEAST_WAY)
    # A model that writes climbs to the best constant answer before it learns anything: a rise of another kind, which
    # would be taken for the curve's own. How far below that answer it lies says nothing about either threshold.
    floor = base - LOW_SHARE * way
    observed = Observations(
        log2_counts=np.log2(np.array(counts, dtype=float)),
        scores=[np.maximum(s, floor) for s in scores],
        item_variances=[_item_variance(list(s), [r.num_items for r in g]) for s, g in zip(scores, groups, strict=True)],
        full=full,
        full_item_variances=_item_variance(list(full), [levels.full_num_items] * len(full)),
        untrained=max(scale.scaled(levels.untrained), floor),
        constant=max(scale.scaled(levels.constant), floor),
        way=way,
    )
    num_runs = {n: sum(r.num_trainable == n for r in made) for n in {r.num_trainable for r in made}}
    draws = posterior_draws(observed, math.log2(smallest), math.log2(largest))
    return BudgetCurve(draws.in_units(scale), smallest, largest, levels, num_runs, scale)


def _order(run: RunScore) -> tuple[float, int]:
    return run.score, run.num_items or 0


def _item_variance(scores: Sequence[float], num_items: Sequence[int | None]) -> Floats:
    """Binomial variance of each score, about the mean of all (Laplace); 0 where the items are shared."""
    total = sum(n for n in num_items if n)
    share = (sum(s * n for s, n in zip(scores, num_items, strict=True) if n) + 1) / (total + 2)
    return np.array([share * (1 - share) / n if n else 0.0 for n in num_items])
