"""Search for the low and the high threshold (paper section 5.3), without running a full grid.

First full fine-tuning and some counts spread over the grid; then, for each threshold that is still open, the run that
the budget curve (`apet.analysis.curves`) expects to tell most, until both are known to within a step of the grid, or
the runs are used up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from apet.analysis.curve_values import LOW_SHARE, Levels, Reach, RunScore, ThresholdAnswer, ThresholdKind
from apet.analysis.curves import BudgetCurve, fit_curve
from apet.errors import ApetError

NUM_FIRST_COUNTS = 8
"""Counts that are run before anything is inferred; docs/results/curves.md has what that buys."""
KINDS: tuple[ThresholdKind, ...] = ("low", "high")


@dataclass(frozen=True)
class ThresholdRules:
    """What counts as reaching a threshold, and how long to search; stated in every output.

    Attributes:
        reach: what counts as reaching full fine-tuning.
        confidence: of every interval, in [0.5, 1).
        spacing: ratio of neighboring N in the grid; an interval no longer than that is short enough.
        max_seeds: for one N.
        reference_seeds: of full fine-tuning, to begin with.
        max_runs: in all.

    Raises:
        ApetError: a value outside its range.
    """

    reach: Reach = field(default_factory=Reach)
    confidence: float = 0.95
    spacing: float = 2.0
    max_seeds: int = 5
    reference_seeds: int = 3
    max_runs: int = 20

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise ApetError(f"confidence: {100 * self.confidence:g} percent; give at least 50 and less than 100")
        if not 1 < self.spacing < math.inf:
            raise ApetError(f"spacing={self.spacing:g} does not grow; give more than 1, such as 2")
        for name in ("max_seeds", "reference_seeds"):
            if getattr(self, name) < 1:
                raise ApetError(f"{name}={getattr(self, name)}; give at least 1")
        if self.max_runs < self.reference_seeds + 2:
            raise ApetError(
                f"max_runs={self.max_runs} with {self.reference_seeds} of full fine-tuning; give at least two more"
            )

    def describe(self) -> str:
        """The rules as one sentence, for people."""
        return (
            f"low: {100 * LOW_SHARE:g} % of the way from the better of untrained score and best constant answer to full"
            f" fine-tuning; high: {self.reach.describe()}; intervals {100 * self.confidence:g} %, from the budget"
            f" curve's posterior; N in steps of {self.spacing:g}; at most {self.max_runs} runs, {self.reference_seeds}"
            f" of full fine-tuning first, up to {self.max_seeds} seeds for an N"
        )


@dataclass(frozen=True)
class MeasuredRun:
    """What a run says.

    Attributes:
        score: on validation, in [0, 1].
        untrained: score before training.
        constant: score of the best constant answer; 0 for free text.
    """

    score: float
    untrained: float
    constant: float


RunRequest = tuple[int | None, int]
"""(N or None for full fine-tuning, seed)."""
MeasureRuns = Callable[[Sequence[RunRequest]], list[MeasuredRun | None]]
"""Makes some runs, beside each other where that is possible; None = it failed."""


@dataclass
class ThresholdSearch:
    """Both thresholds of one backbone, task and method.

    Args:
        grid: N, ascending, two or more; see `budget_grid`.
        measure: makes runs; asked again for the same, it may answer from a record.
        rules: what counts.
        measured: what was asked for so far, with its answers.
        at_once: runs that are asked for together once the first counts are known, at most: one for each worker, or as
            many as its pass holds, and one for each threshold at least.
    """

    grid: Sequence[int]
    measure: MeasureRuns
    rules: ThresholdRules = field(default_factory=ThresholdRules)
    measured: dict[RunRequest, MeasuredRun | None] = field(default_factory=dict)
    at_once: int = 1

    def run(self) -> BudgetCurve:
        """Search, measuring what is needed.

        Returns:
            The curve that answers.

        Raises:
            ApetError: full fine-tuning failed with every seed.
        """
        self._make([(None, seed) for seed in range(self.rules.reference_seeds)])
        if not any(self.measured.values()):
            raise ApetError("full fine-tuning failed with every seed; there is nothing to reach. See the reasons above")
        self._make([(n, 0) for n in self._first_counts()])
        curve = self.curve()
        while requests := self._next_requests(curve):
            self._make(requests)
            curve = self.curve()
        return curve

    def measure_all(self) -> None:
        """Run the whole grid: every N with every seed."""
        self._make([(None, seed) for seed in range(self.rules.reference_seeds)])
        self._make([(n, seed) for n in self.grid for seed in range(self.rules.max_seeds)])

    def curve(self) -> BudgetCurve:
        """The posterior from what was measured so far."""
        known = [m for m in self.measured.values() if m is not None]
        levels = Levels(
            untrained=sum(m.untrained for m in known) / len(known),
            constant=max(m.constant for m in known),
            full=tuple(self.scores(None)),
        )
        runs = [RunScore(n, math.nan if m is None else m.score) for (n, _), m in self.measured.items() if n is not None]
        return fit_curve(runs, levels, self.grid[0], self.grid[-1])

    def answer(self, curve: BudgetCurve, kind: ThresholdKind) -> ThresholdAnswer:
        """Where a threshold lies, by the rules."""
        return curve.threshold(kind, self.rules.reach, self.rules.confidence)

    def scores(self, n: int | None) -> list[float]:
        """Scores of one N, or of full fine-tuning, those that failed as NaN."""
        return [math.nan if m is None else m.score for (count, _), m in self.measured.items() if count == n]

    def _make(self, requests: Sequence[RunRequest]) -> None:
        self.measured.update(zip(requests, self.measure(requests), strict=True))

    def _first_counts(self) -> list[int]:
        """Counts evenly over the grid, as many as leave runs to choose."""
        left = self.rules.max_runs - len(self.measured)
        num = min(NUM_FIRST_COUNTS, len(self.grid), max(2, left * 2 // 3))
        # The middle of each part: the ends of the grid are where thresholds are least likely.
        return sorted({self.grid[int((i + 0.5) * len(self.grid) / num)] for i in range(num)})

    def _next_requests(self, curve: BudgetCurve) -> list[RunRequest]:
        """Runs for each threshold that is open, to be made together; none where the search is over."""
        requests: list[RunRequest] = []
        full_seeds = max(self.rules.max_seeds, self.rules.reference_seeds)
        open_kinds = [kind for kind in KINDS if not self._is_settled(self.answer(curve, kind))]
        for kind in open_kinds:
            left = self.rules.max_runs - len(self.measured) - len(requests)
            taken = {n for n, _ in requests}
            chosen = curve.next_runs(
                kind,
                [n for n in self.grid if n not in taken],
                min(left, max(1, self.at_once // len(open_kinds))),
                max_seeds=self.rules.max_seeds,
                max_full_seeds=0 if None in taken else full_seeds,
                reach=self.rules.reach,
            )
            requests += [(run.num_trainable, run.seed) for run in chosen]
        return requests

    def _is_settled(self, answer: ThresholdAnswer) -> bool:
        if answer.state in ("below the smallest N", "above the largest N", "nothing to reach"):
            return True
        # An open end is a question of its own: is it there from the smallest N, or never?
        closed = answer.ci_low > 0 and math.isfinite(answer.ci_high)
        return answer.state == "between" and closed and answer.octaves <= math.log2(self.rules.spacing)


def budget_grid(smallest: int, largest: int, spacing: float, reachable: Callable[[int], int]) -> list[int]:
    """N from ``smallest`` to ``largest`` in a fixed ratio, each moved to the nearest that the method can have.

    Returns:
        N, ascending, each once.

    Raises:
        ApetError: a spacing that does not grow, or there is only one N.
    """
    if spacing <= 1:
        raise ApetError(f"spacing={spacing} does not grow; give more than 1, such as 2")
    budgets = []
    n = float(smallest)
    while n < largest:
        budgets.append(reachable(round(n)))
        n *= spacing
    # As a set: among small N, several points of the grid move to the same count.
    grid = sorted({*budgets, reachable(largest)})
    if len(grid) < 2:
        raise ApetError(
            f"N = {grid[0]:,} is all that there is between {smallest:,} and {largest:,}; give a wider range"
        )
    return grid


def search_summary(search: ThresholdSearch, curve: BudgetCurve) -> dict[str, JsonValue]:
    """Everything about a search as plain data, for files.

    Args:
        search: that is over.
        curve: that it ended with.

    Returns:
        JSON values by name.
    """
    band = curve.band(search.grid, search.rules.confidence)
    counts = sorted({n for n, _ in search.measured if n is not None})
    return {
        **{kind: search.answer(curve, kind).as_dict() for kind in KINDS},
        "rules": search.rules.describe(),
        "untrained": curve.levels.untrained,
        "constant_answer": curve.levels.constant,
        "full_fine_tuning": [_number(s) for s in search.scores(None)],
        "points": [{"num_trainable": n, "scores": [_number(s) for s in search.scores(n)]} for n in counts],
        "curve": [
            {"num_trainable": n, "score": float(m), "ci_low": float(low), "ci_high": float(high)}
            for n, m, low, high in zip(search.grid, band.median, band.ci_low, band.ci_high, strict=True)
        ],
        "runs": len(search.measured),
        "runs_of_a_full_grid": num_grid_runs(search),
    }


def num_grid_runs(search: ThresholdSearch) -> int:
    """Runs that a full grid would take."""
    return len(search.grid) * search.rules.max_seeds + search.rules.reference_seeds


def _number(score: float) -> float | None:
    return None if math.isnan(score) else score
