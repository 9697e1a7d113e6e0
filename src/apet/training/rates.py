"""Learning rates: the paper's, or found on held-out training data, because the best one changes with the budget."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from apet.errors import ApetError
from apet.methods import Method
from apet.tasks.task import Task
from apet.training.fitting import Diverged, Point, Schedule, best_of

GRID = (1 / 30, 1 / 10, 1 / 3, 1.0, 3.0, 10.0, 30.0)
"""Candidates as multiples of the paper's rate."""

SHARE = 5
"""Each candidate is tried for a fifth of the steps; the two best go on to two fifths."""


@dataclass(frozen=True)
class Rate:
    """The learning rate of a run and where it came from.

    Attributes:
        value: used.
        rule: ``paper``, ``given`` or ``auto``.
        tried: of a search: rate, steps, held-out measure (None = diverged).
        seconds: that the search took.
    """

    value: float
    rule: str
    tried: tuple[tuple[float, int, float | None], ...] = ()
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as written into files."""
        out: dict[str, Any] = {"value": self.value, "rule": self.rule}
        if self.tried:
            out["tried"] = [{"rate": r, "steps": s, "measure": m} for r, s, m in self.tried]
            out["search_steps"] = sum(s for _, s, _ in self.tried)
            out["search_seconds"] = self.seconds
        return out


def papers(method: type[Method], task: Task) -> float:
    """3e-4, for prompt 3e-2, for RTE 5e-5 with every method (paper appendix B.1)."""
    return task.learning_rate or method.learning_rate


def search(around: float, schedule: Schedule, trial: Callable[[Schedule], list[Point]]) -> Rate:
    """Try a grid of rates for a few steps each on held-out training data, then the two best for longer.

    Args:
        around: middle of the grid.
        schedule: of the run; its seeds are the trials' seeds, too.
        trial: trains a fresh θ by a schedule and measures it on held-out training examples.

    Raises:
        ApetError: every candidate diverged.
    """
    began = time.perf_counter()
    tried: list[tuple[float, int, float | None]] = []

    def measured(rate: float, steps: int) -> tuple[float, float]:
        """(best measure, minus the last loss): higher is better."""
        try:
            points = trial(replace(schedule, rate=rate, steps=steps, interval=max(1, steps // 2)))
        except Diverged:
            tried.append((rate, steps, None))
            return (-1.0, 0.0)
        best = best_of(points).score.value
        tried.append((rate, steps, best))
        return (best, -(points[-1].loss or 0.0))

    short = max(1, schedule.steps // SHARE)
    first = sorted((around * g for g in GRID), key=lambda r: measured(r, short), reverse=True)[:2]
    value = max(first, key=lambda r: measured(r, 2 * short))
    if all(m is None for _, _, m in tried):
        raise ApetError(f"no learning rate near {around:g} trains this; give a number, such as learning_rate=1e-5")
    return Rate(value, "auto", tuple(tried), time.perf_counter() - began)
