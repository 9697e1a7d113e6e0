"""Learning rates: the paper's, or found on held-out training data, because the best one changes with the budget."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from apet.errors import ApetError
from apet.methods import Method
from apet.tasks.task import Task
from apet.training.loop import DivergedError, EvalPoint, TrainingSchedule, best_point

STEP = 3.0
"""Candidates are the paper's rate times powers of this."""

SHARE = 4
"""Each candidate is tried for a quarter of the steps."""

FARTHEST = 4
"""Powers of `STEP` that the search may go to either side."""


@dataclass(frozen=True)
class LearningRate:
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
        out: dict[str, Any] = {"score": self.value, "rule": self.rule}
        if self.tried:
            out["tried"] = [{"rate": r, "max_steps": s, "metric": m} for r, s, m in self.tried]
            out["search_steps"] = sum(s for _, s, _ in self.tried)
            out["search_seconds"] = self.seconds
        return out


def paper_learning_rate(method: type[Method], task: Task) -> float:
    """3e-4, for prompt 3e-2, for RTE 5e-5 with every method (paper appendix B.1)."""
    return task.learning_rate or method.learning_rate


def search_learning_rate(
    around: float, schedule: TrainingSchedule, trial: Callable[[TrainingSchedule], list[EvalPoint]]
) -> LearningRate:
    """Try three rates on held-out training data, and go on to the side of the best until it lies inside.

    Taken is the smallest rate within one standard error of the best: rates at the edge of stability win short trials
    and lose long runs (docs/log.md, 2026-11-24). Where no trial is better than no training, it is the paper's rate.

    Args:
        around: middle of the first three.
        schedule: of the run; its seeds are the trials' seeds, too.
        trial: trains a fresh θ by a schedule and measures it on held-out training examples.

    Raises:
        ApetError: every candidate diverged.
    """
    began = time.perf_counter()
    steps = max(1, schedule.max_steps // SHARE)
    short = replace(schedule, max_steps=steps, eval_steps=max(1, steps // 2))
    found: dict[int, tuple[float, float]] = {}  # power -> (measure, minus the last loss), higher is better
    errors: dict[int, float] = {}
    untrained = 0.0
    tried: list[tuple[float, int, float | None]] = []

    def attempt(power: int) -> None:
        nonlocal untrained
        rate = around * STEP**power
        try:
            points = trial(replace(short, learning_rate=rate))
        except DivergedError:
            found[power] = (-1.0, 0.0)
            tried.append((rate, steps, None))
            return
        score, untrained = best_point(points).score, points[0].score.score
        found[power] = (score.score, -(points[-1].loss or 0.0))
        errors[power] = (score.ci_high - score.ci_low) / (2 * 1.96)
        tried.append((rate, steps, score.score))

    for power in (-1, 0, 1):
        attempt(power)
    while True:
        best = max(found, key=found.__getitem__)
        edge = best + 1 if best == max(found) else best - 1 if best == min(found) else None
        if edge is None or abs(edge) > FARTHEST:
            break
        attempt(edge)
    if found[best][0] < 0:
        raise ApetError(f"no learning rate near {around:g} trains this; give a number, such as learning_rate=1e-5")
    taken = min(p for p in found if found[p][0] >= found[best][0] - errors[best])
    if found[best][0] <= untrained + errors[best] and found[0][0] >= 0:
        taken = 0
    return LearningRate(around * STEP**taken, "auto", tuple(tried), time.perf_counter() - began)
