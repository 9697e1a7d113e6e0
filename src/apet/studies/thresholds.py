"""The low and the high threshold (paper section 5.3, experiment E5), found without a full grid.

Over a geometric grid of N, both questions are asked by bisection: is the lower bound of the seeds' mean above chance
(low), is the mean not below that of full fine-tuning by more than a margin (high)? A point gets another seed only while
more seeds could change its answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import stats

from apet.errors import ApetError

Answer = Literal["yes", "no", "unclear"]


@dataclass(frozen=True)
class ThresholdRules:
    """What counts, stated in every output.

    Attributes:
        margin: high threshold: inferior to full fine-tuning by at most this, in [0, 1].
        confidence: of every interval.
        forecast: how sure the seeds at hand must be of what all seeds of an N would say, to spare the others.
        spacing: ratio of neighbouring N.
        most_seeds: for one N.
        reference_seeds: of full fine-tuning.

    Raises:
        ApetError: a rule that means nothing.
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

    def spelt(self) -> str:
        """In words."""
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
    """What a run gave.

    Attributes:
        value: validation measure, in [0, 1].
        stopped: the run ended early because it had reached what was asked; its value is a lower bound.
    """

    score: float
    stopped: bool = False


Measure = Callable[[int | None, Sequence[int], float | None], list[SeedScore | None]]
"""(N or None for full fine-tuning, seeds, where a run may stop) -> a value for each seed, None if it failed."""


@dataclass(frozen=True)
class Threshold:
    """The smallest N that passes, as a range.

    Attributes:
        kind: ``low`` or ``high``.
        above: largest N tried below it that does not pass; None = even the smallest passes.
        at: smallest N that passes; None = not even the largest does.
        clear: both answers were clear at the stated confidence.
    """

    kind: Literal["low", "high"]
    lower: int | None
    upper: int | None
    clear: bool

    def spelt(self) -> str:
        """In words."""
        sure = "" if self.clear else " (unclear at this confidence)"
        if self.upper is None:
            return f"{self.kind} threshold: above {self.lower:,}{sure}"
        if self.lower is None:
            return f"{self.kind} threshold: at most {self.upper:,}{sure}"
        return f"{self.kind} threshold: {self.lower:,} < N ≤ {self.upper:,}{sure}"


@dataclass
class Search:
    """Both thresholds of one backbone, task and method.

    Args:
        grid: N, ascending; see `grid`.
        chance: measure of a guess.
        measure: runs and returns values; asked again for the same, it may answer from a record.
        rules: what counts.
    """

    grid: Sequence[int]
    chance: float
    measure: Measure
    rules: ThresholdRules = field(default_factory=ThresholdRules)
    values: dict[int, list[SeedScore]] = field(default_factory=dict)
    reference: list[float] = field(default_factory=list)
    runs: int = 0

    def go(self) -> tuple[Threshold, Threshold]:
        """Low and high threshold.

        Raises:
            ApetError: full fine-tuning failed with every seed.
        """
        found = self.measure(None, range(self.rules.reference_seeds), None)
        self.runs += len(found)
        self.reference = [v.score for v in found if v is not None]
        if not self.reference:
            raise ApetError("full fine-tuning failed with every seed; there is nothing to reach. See the reasons above")
        high = self._bisect("high")
        low = self._bisect("low")
        return low, high

    def measure_all(self) -> None:
        """Run the whole grid: every N with every seed, none of them stopped early."""
        self.reference = [v.score for v in self.measure(None, range(self.rules.reference_seeds), None) if v is not None]
        for n in self.grid:
            found = self.measure(n, range(self.rules.max_seeds), None)
            self.values[n] = [v or SeedScore(math.nan) for v in found]
        self.runs = self.rules.reference_seeds + len(self.grid) * self.rules.max_seeds

    def passes(self, kind: Literal["low", "high"], n: int) -> bool:
        """Whether an N passes; seeds are added while they could change that."""
        return self._decide(kind, n)[0]

    def _bisect(self, kind: Literal["low", "high"]) -> Threshold:
        no, yes = -1, len(self.grid)
        clear: dict[int, bool] = {}
        for i, n in enumerate(self.grid):  # what is known from the other question narrows this one for nothing
            if n in self.values:
                answer = self._ask(kind, n)
                if answer == "no":
                    no = max(no, i)
                elif answer == "yes" and i > no:
                    yes = min(yes, i)
                if answer != "unclear":
                    clear[i] = True
        while yes - no > 1:
            middle = (no + yes) // 2
            passes, sure = self._decide(kind, self.grid[middle])
            clear[middle] = sure
            no, yes = (no, middle) if passes else (middle, yes)
        inside = no >= 0, yes < len(self.grid)
        return Threshold(
            kind,
            self.grid[no] if inside[0] else None,
            self.grid[yes] if inside[1] else None,
            all(clear.get(i, False) for i, there in zip((no, yes), inside, strict=True) if there),
        )

    def _decide(self, kind: Literal["low", "high"], n: int) -> tuple[bool, bool]:
        """Whether N passes, and whether that is clear; adds seeds while they could change the answer."""
        have = self.values.setdefault(n, [])
        while True:
            answer = self._ask(kind, n) if have else "unclear"
            if answer != "unclear":
                return answer == "yes", self._is_clear(kind, n, answer)
            if len(have) >= self.rules.max_seeds:
                usable = self._usable(kind, n)
                return bool(usable) and float(np.mean(usable)) >= self._bar(kind), False
            new = self.measure(n, [len(have)], self._target_score(kind))
            self.runs += 1
            have.append(SeedScore(math.nan) if new[0] is None else new[0])

    def _level(self, kind: Literal["low", "high"]) -> float:
        return self.chance if kind == "low" else float(np.mean(self.reference)) - self.rules.margin

    def _bar(self, kind: Literal["low", "high"]) -> float:
        """What the mean of all seeds must reach: for the low threshold so much that its lower bound is above chance."""
        half = self._half(kind, self.rules.max_seeds)
        return self._level(kind) + (half if kind == "low" and math.isfinite(half) else 0)

    def _usable(self, kind: Literal["low", "high"], n: int) -> list[float]:
        """Values of an N that speak to a question: an early stop says no more than that its level was reached."""
        level = self._level(kind)
        return [v.score for v in self.values[n] if not math.isnan(v.score) and (not v.stopped or v.score >= level)]

    def _ask(self, kind: Literal["low", "high"], n: int) -> Answer:
        """Whether N passes by all the seeds it may have, as far as those it has foretell that."""
        values = self._usable(kind, n)
        if not values or len(values) < sum(not math.isnan(v.score) for v in self.values[n]):
            return "unclear"
        mean = float(np.mean(values))
        if mean - self._half(kind, len(values)) > self._level(kind):
            return "yes"
        if any(v.stopped for v in self.values[n]):
            return "unclear"
        # The mean of all seeds lies around that of the first ones with this variance; only one side of it matters.
        left = 1 / len(values) - 1 / max(self.rules.max_seeds, len(values))
        sd, df = self._spread()
        drift = stats.t.ppf(self.rules.forecast, df) * sd * math.sqrt(left) if left > 0 else 0.0
        if mean + drift < self._bar(kind):
            return "no"
        return "yes" if kind == "high" and mean - drift >= self._bar(kind) else "unclear"

    def _is_clear(self, kind: Literal["low", "high"], n: int, answer: Answer) -> bool:
        values, level = self._usable(kind, n), self._level(kind)
        mean, half = float(np.mean(values)), self._half(kind, len(values))
        if answer == "yes":
            return mean - half > level
        # A guess is never clearly below chance: within the margin of it there is nothing.
        return mean + half < level + (self.rules.margin if kind == "low" else 0)

    def _half(self, kind: Literal["low", "high"], n: int) -> float:
        """Half the interval of a mean of n seeds, from the spread pooled over everything measured so far."""
        sd, df = self._spread()
        variance = 1 / n + (1 / len(self.reference) if kind == "high" else 0)
        return float(stats.t.ppf((1 + self.rules.confidence) / 2, df)) * sd * math.sqrt(variance)

    def _spread(self) -> tuple[float, int]:
        """Standard deviation over seeds, pooled within each N, and its degrees of freedom."""
        groups = [self.reference, *([v.score for v in vs if not v.stopped] for vs in self.values.values())]
        groups = [[v for v in g if not math.isnan(v)] for g in groups]
        df = sum(len(g) - 1 for g in groups if len(g) > 1)
        if df == 0:
            return math.inf, 1
        squares = sum((len(g) - 1) * float(np.var(g, ddof=1)) for g in groups if len(g) > 1)
        return max(math.sqrt(squares / df), 1e-6), df

    def _target_score(self, kind: Literal["low", "high"]) -> float | None:
        """The value at which one run alone makes the answer a clear yes; it can then only get better."""
        level = self._level(kind) + self._half(kind, 1)
        return max(0.0, level) if math.isfinite(level) and level < 1 else None


def grid(least: int, most: int, spacing: float, reachable: Callable[[int], int]) -> list[int]:
    """N from ``least`` to ``most`` in a fixed ratio, each moved to the nearest that the method can have."""
    if spacing <= 1:
        raise ApetError(f"spacing={spacing} does not grow; give more than 1, such as 2")
    found = []
    n = float(least)
    while n < most:
        found.append(reachable(round(n)))
        n *= spacing
    return sorted({*found, reachable(most)})


def search_summary(low: Threshold, high: Threshold, search: Search, full_grid: int) -> dict[str, Any]:
    """Everything about a search as plain data."""
    return {
        "low": {"above": low.lower, "at": low.upper, "clear": low.clear},
        "high": {"above": high.lower, "at": high.upper, "clear": high.clear},
        "rules": search.rules.spelt(),
        "untrained_baseline": search.chance,
        "full_fine_tuning": search.reference,
        "points": [
            {
                "num_examples": n,
                "values": [None if math.isnan(v.score) else v.score for v in vs],
                "stopped": [v.stopped for v in vs],
            }
            for n, vs in sorted(search.values.items())
        ],
        "runs": search.runs,
        "runs_of_a_full_grid": full_grid,
    }
