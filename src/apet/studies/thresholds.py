"""Search for the low and the high threshold (paper section 5.3), without running a full grid.

Over a geometric grid of N, two questions are asked by bisection: is the lower bound of the seeds' mean above the
untrained baseline (low threshold), is the mean at most a margin below that of full fine-tuning (high threshold)? An N
gets another seed only while more seeds could change its answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import JsonValue
from scipy import stats

from apet.errors import ApetError

Answer = Literal["yes", "no", "unclear"]
ThresholdKind = Literal["low", "high"]


@dataclass(frozen=True)
class ThresholdRules:
    """What counts as reaching a threshold; stated in every output.

    Attributes:
        margin: high threshold: the mean is at most this far below that of full fine-tuning, in [0, 1].
        confidence: of every interval, in [0.5, 1).
        forecast: how sure the seeds of an N must be of what all its seeds would say, to spare the others, in [0.5, 1).
        spacing: ratio of neighboring N in the grid.
        max_seeds: for one N.
        reference_seeds: of full fine-tuning.

    Raises:
        ApetError: a value outside its range.
    """

    margin: float = 0.01
    confidence: float = 0.95
    forecast: float = 0.9
    spacing: float = 2.0
    max_seeds: int = 5
    reference_seeds: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise ApetError(
                f"margin: {100 * self.margin:g} points below full fine-tuning; give at least 0 and less than 100"
            )
        for name in ("confidence", "forecast"):
            percent = 100 * getattr(self, name)
            if not 50 <= percent < 100:
                raise ApetError(f"{name}: {percent:g} percent; give at least 50 and less than 100")
        if not 1 < self.spacing < math.inf:
            raise ApetError(f"spacing={self.spacing:g} does not grow; give more than 1, such as 2")
        for name in ("max_seeds", "reference_seeds"):
            if getattr(self, name) < 1:
                raise ApetError(f"{name}={getattr(self, name)}; give at least 1")

    def describe(self) -> str:
        """The rules as one sentence, for people."""
        c = f"{100 * self.confidence:g} %"
        return (
            f"low: the lower {c} bound of the seeds' mean is above chance; high: the seeds' mean is at most"
            f" {100 * self.margin:g} points below that of full fine-tuning, clear where the {c} bound of the difference"
            f" is, too; N in steps of {self.spacing:g}; {self.reference_seeds} seeds of full fine-tuning,"
            f" up to {self.max_seeds} for an N, until those at hand foretell the answer of all"
            f" ({100 * self.forecast:g} %)"
        )


@dataclass(frozen=True)
class SeedScore:
    """The score of one run.

    Attributes:
        score: on validation, in [0, 1].
        stopped: the run ended early because it had reached its target; the score is a lower bound.
    """

    score: float
    stopped: bool = False


MeasureScores = Callable[[int | None, Sequence[int], float | None], list[SeedScore | None]]
"""(N or None for full fine-tuning, seeds, score to stop at or None) -> a score for each seed, None if it failed."""


@dataclass(frozen=True)
class SearchedThreshold:
    """The smallest N that passes, as a range.

    Attributes:
        kind: ``low`` or ``high``.
        lower: largest N tried below it that does not pass; None = even the smallest passes.
        upper: smallest N that passes; None = not even the largest does.
        clear: both answers were clear at the stated confidence.
    """

    kind: ThresholdKind
    lower: int | None
    upper: int | None
    clear: bool

    def describe(self) -> str:
        """The range as text, for people."""
        unclear = "" if self.clear else " (unclear at this confidence)"
        if self.upper is None:
            return f"{self.kind} threshold: above {self.lower:,}{unclear}"
        if self.lower is None:
            return f"{self.kind} threshold: at most {self.upper:,}{unclear}"
        return f"{self.kind} threshold: {self.lower:,} < N ≤ {self.upper:,}{unclear}"

    def as_dict(self) -> dict[str, JsonValue]:
        """Plain data, as written into files."""
        return {"lower": self.lower, "upper": self.upper, "clear": self.clear}


@dataclass
class ThresholdSearch:
    """Both thresholds of one backbone, task and method.

    Args:
        grid: N, ascending; see `budget_grid`.
        baseline: score of an untrained guess, in [0, 1].
        measure: runs and returns scores; asked again for the same, it may answer from a record.
        rules: what counts.
        scores: N -> scores measured so far.
        reference_scores: of full fine-tuning.
        num_runs: runs asked for so far.
    """

    grid: Sequence[int]
    baseline: float
    measure: MeasureScores
    rules: ThresholdRules = field(default_factory=ThresholdRules)
    scores: dict[int, list[SeedScore]] = field(default_factory=dict)
    reference_scores: list[float] = field(default_factory=list)
    num_runs: int = 0

    def run(self) -> tuple[SearchedThreshold, SearchedThreshold]:
        """Search, measuring what is needed.

        Returns:
            Low and high threshold.

        Raises:
            ApetError: full fine-tuning failed with every seed.
        """
        scores = self.measure(None, range(self.rules.reference_seeds), None)
        self.num_runs += len(scores)
        self.reference_scores = [s.score for s in scores if s is not None]
        if not self.reference_scores:
            raise ApetError("full fine-tuning failed with every seed; there is nothing to reach. See the reasons above")
        # High first: its runs lie where both questions are open, and those that fail it often answer the low one, too.
        high = self._bisect("high")
        low = self._bisect("low")
        return low, high

    def measure_all(self) -> None:
        """Run the whole grid: every N with every seed, none of them stopped early."""
        reference = self.measure(None, range(self.rules.reference_seeds), None)
        self.reference_scores = [s.score for s in reference if s is not None]
        for n in self.grid:
            scores = self.measure(n, range(self.rules.max_seeds), None)
            self.scores[n] = [s or SeedScore(math.nan) for s in scores]
        self.num_runs = self.rules.reference_seeds + len(self.grid) * self.rules.max_seeds

    def passes(self, kind: ThresholdKind, n: int) -> bool:
        """Whether an N passes; seeds are added while they could change that."""
        return self._decide(kind, n)[0]

    def _bisect(self, kind: ThresholdKind) -> SearchedThreshold:
        # Positions in the grid: everything up to `failing` does not pass, everything from `passing` on does.
        failing, passing = -1, len(self.grid)
        clear: dict[int, bool] = {}
        for i, n in enumerate(self.grid):  # what the other question measured narrows this one at no cost
            if n in self.scores:
                answer = self._answer(kind, n)
                if answer == "no":
                    failing = max(failing, i)
                elif answer == "yes" and i > failing:
                    passing = min(passing, i)
                if answer != "unclear":
                    clear[i] = True
        while passing - failing > 1:
            middle = (failing + passing) // 2
            passes, clear[middle] = self._decide(kind, self.grid[middle])
            failing, passing = (failing, middle) if passes else (middle, passing)
        ends = [i for i in (failing, passing) if 0 <= i < len(self.grid)]
        return SearchedThreshold(
            kind,
            self.grid[failing] if failing >= 0 else None,
            self.grid[passing] if passing < len(self.grid) else None,
            all(clear.get(i, False) for i in ends),
        )

    def _decide(self, kind: ThresholdKind, n: int) -> tuple[bool, bool]:
        """Whether N passes, and whether that is clear; adds seeds while they could change the answer."""
        scores = self.scores.setdefault(n, [])
        while True:
            answer = self._answer(kind, n) if scores else "unclear"
            if answer != "unclear":
                return answer == "yes", self._is_clear(kind, n, answer)
            if len(scores) >= self.rules.max_seeds:
                usable = self._usable(kind, n)
                return bool(usable) and float(np.mean(usable)) >= self._required_mean(kind), False
            new = self.measure(n, [len(scores)], self._target_score(kind))
            self.num_runs += 1
            # A run that failed is kept as NaN: its seed is not asked for again.
            scores.append(SeedScore(math.nan) if new[0] is None else new[0])

    def _level(self, kind: ThresholdKind) -> float:
        """The score that the threshold is about, in [0, 1]."""
        return self.baseline if kind == "low" else float(np.mean(self.reference_scores)) - self.rules.margin

    def _required_mean(self, kind: ThresholdKind) -> float:
        """What the mean of all seeds must reach: for low so much that its lower bound is above the baseline."""
        half = self._half_width(kind, self.rules.max_seeds)
        return self._level(kind) + (half if kind == "low" and math.isfinite(half) else 0)

    def _usable(self, kind: ThresholdKind, n: int) -> list[float]:
        """Scores of an N that speak to a question: an early stop says no more than that its target was reached."""
        level = self._level(kind)
        return [s.score for s in self.scores[n] if not math.isnan(s.score) and (not s.stopped or s.score >= level)]

    def _answer(self, kind: ThresholdKind, n: int) -> Answer:
        """Whether N passes by all the seeds it may have, as far as those it has foretell that."""
        scores = self._usable(kind, n)
        # A run that stopped early for the other question may be of no use here: then this N needs another seed.
        if not scores or len(scores) < sum(not math.isnan(s.score) for s in self.scores[n]):
            return "unclear"
        mean = float(np.mean(scores))
        if mean - self._half_width(kind, len(scores)) > self._level(kind):
            return "yes"
        if any(s.stopped for s in self.scores[n]):  # a lower bound can show that N passes, never that it does not
            return "unclear"
        # The mean of all seeds lies around that of the first ones with this variance; only one side of it matters.
        variance = 1 / len(scores) - 1 / max(self.rules.max_seeds, len(scores))
        sd, df = self._pooled_sd()
        drift = stats.t.ppf(self.rules.forecast, df) * sd * math.sqrt(variance) if variance > 0 else 0.0
        if mean + drift < self._required_mean(kind):
            return "no"
        return "yes" if kind == "high" and mean - drift >= self._required_mean(kind) else "unclear"

    def _is_clear(self, kind: ThresholdKind, n: int, answer: Answer) -> bool:
        scores, level = self._usable(kind, n), self._level(kind)
        mean, half = float(np.mean(scores)), self._half_width(kind, len(scores))
        if answer == "yes":
            return mean - half > level
        # No score is clearly below a guess: what is less than the margin above the baseline counts as nothing.
        return mean + half < level + (self.rules.margin if kind == "low" else 0)

    def _half_width(self, kind: ThresholdKind, num_seeds: int) -> float:
        """Half the interval of a mean over seeds, from the spread pooled over everything measured so far."""
        sd, df = self._pooled_sd()
        variance = 1 / num_seeds + (1 / len(self.reference_scores) if kind == "high" else 0)
        return float(stats.t.ppf((1 + self.rules.confidence) / 2, df)) * sd * math.sqrt(variance)

    def _pooled_sd(self) -> tuple[float, int]:
        """Standard deviation over seeds, pooled within each N, and its degrees of freedom."""
        # Pooled: two seeds of one N alone say next to nothing about the spread, and it hardly depends on N.
        groups = [self.reference_scores, *([s.score for s in ss if not s.stopped] for ss in self.scores.values())]
        groups = [[score for score in group if not math.isnan(score)] for group in groups]
        df = sum(len(group) - 1 for group in groups if len(group) > 1)
        if df == 0:
            return math.inf, 1
        squares = sum((len(group) - 1) * float(np.var(group, ddof=1)) for group in groups if len(group) > 1)
        # Not 0: seeds that happen to agree to the last example would make every interval a point.
        return max(math.sqrt(squares / df), 1e-6), df

    def _target_score(self, kind: ThresholdKind) -> float | None:
        """The score at which one run alone makes the answer a clear yes; training on can only make it clearer."""
        target = self._level(kind) + self._half_width(kind, 1)
        # No score exceeds 1: a target above it would never stop a run, and yet make it another run than one without.
        return max(0.0, target) if math.isfinite(target) and target < 1 else None


def budget_grid(smallest: int, largest: int, spacing: float, reachable: Callable[[int], int]) -> list[int]:
    """N from ``smallest`` to ``largest`` in a fixed ratio, each moved to the nearest that the method can have.

    Returns:
        N, ascending, each once.

    Raises:
        ApetError: a spacing that does not grow.
    """
    if spacing <= 1:
        raise ApetError(f"spacing={spacing} does not grow; give more than 1, such as 2")
    budgets = []
    n = float(smallest)
    while n < largest:
        budgets.append(reachable(round(n)))
        n *= spacing
    # As a set: among small N, several points of the grid move to the same count.
    return sorted({*budgets, reachable(largest)})


def search_summary(
    low: SearchedThreshold, high: SearchedThreshold, search: ThresholdSearch, full_grid: int
) -> dict[str, JsonValue]:
    """Everything about a search as plain data, for files.

    Args:
        low: threshold that was found.
        high: threshold that was found.
        search: that found them.
        full_grid: runs that a full grid would have taken.

    Returns:
        JSON values by name.
    """
    return {
        "low": low.as_dict(),
        "high": high.as_dict(),
        "rules": search.rules.describe(),
        "untrained_baseline": search.baseline,
        "full_fine_tuning": list(search.reference_scores),
        "points": [
            {
                "num_trainable": n,
                "scores": [None if math.isnan(s.score) else s.score for s in scores],
                "stopped": [s.stopped for s in scores],
            }
            for n, scores in sorted(search.scores.items())
        ],
        "runs": search.num_runs,
        "runs_of_a_full_grid": full_grid,
    }
