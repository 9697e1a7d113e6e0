"""Learning rates: the paper's, or one that is searched on held-out training data: the best changes with the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from apet.errors import ApetError
from apet.methods import Method
from apet.tasks.task import Task
from apet.training.evaluation import EvalPoint
from apet.training.loop import DivergedError, TrainingSchedule, best_point
from apet.training.result import LearningRateTrial

STEP = 3.0
"""Ratio of neighboring candidates; all are the default rate times powers of it."""

SHARE = 4
"""Each candidate is tried for the run's steps divided by this."""

FIRST_POWERS = (-1, 0, 1)
"""Powers of `STEP` that every search tries."""

MAX_POWER = 4
"""Powers of `STEP` that the search may go to either side."""


def search_steps(max_steps: int) -> int:
    """Steps that a search takes at least, before a run's own: those of the first candidates."""
    return len(FIRST_POWERS) * max(1, max_steps // SHARE)


TrialsTogether = Callable[[Sequence[TrainingSchedule]], Mapping[int, list[EvalPoint] | DivergedError]]
"""Schedules -> the curve by the number of each schedule; none where no pass can be shared."""


@dataclass(frozen=True)
class LearningRate:
    """The learning rate of a run and where it came from.

    Attributes:
        value: as used.
        rule: ``paper``, ``given`` or ``auto``.
        trials: candidates of a search, in the order in which they were tried.
        seconds: that the search took.
    """

    value: float
    rule: Literal["paper", "given", "auto"]
    trials: tuple[LearningRateTrial, ...] = ()
    seconds: float = 0.0


def paper_learning_rate(method: type[Method], task: Task) -> float:
    """The paper's learning rate: 3e-4, for prompt 3e-2, for RTE 5e-5 with every method (appendix B.1)."""
    return task.learning_rate or method.learning_rate


def search_learning_rate(
    around: float,
    schedule: TrainingSchedule,
    trial: Callable[[TrainingSchedule], list[EvalPoint]],
    together: TrialsTogether | None = None,
) -> LearningRate:
    """Search a learning rate: three on held-out training data, then on to the side of the best until it lies inside.

    Taken is the smallest rate within one standard error of the best: rates at the edge of stability win short trials
    and lose long runs (docs/log.md, 2026-11-24). Where no trial is better than no training, it is the default rate.

    Args:
        around: middle of the first three.
        schedule: of the run; its seeds are those of the trials, too.
        trial: trains a fresh delta by a schedule and measures it on held-out training examples.
        together: the same for several schedules in one pass, which goes ahead of the questions; None = one at a time.

    Returns:
        The rate that was taken, with every candidate.

    Raises:
        ApetError: every candidate diverged.
    """
    began = time.perf_counter()
    steps = max(1, schedule.max_steps // SHARE)
    # Measured half-way and at the end alone: a trial should cost little more than its steps.
    short = replace(schedule, max_steps=steps, eval_steps=max(1, steps // 2))
    ranks: dict[int, tuple[float, float]] = {}  # power -> (score, minus the last loss); the higher, the better
    errors: dict[int, float] = {}
    score_untrained = 0.0
    trials: list[LearningRateTrial] = []

    ahead: dict[int, list[EvalPoint] | DivergedError] = {}

    def schedule_of(power: int) -> TrainingSchedule:
        return replace(short, learning_rate=around * STEP**power)

    def go_ahead(powers: Sequence[int]) -> None:
        if together is not None:
            done = together([schedule_of(p) for p in powers])
            ahead.update({powers[n]: points for n, points in done.items()})

    def attempt(power: int) -> None:
        nonlocal score_untrained
        rate = around * STEP**power
        try:
            points = ahead[power] if power in ahead else trial(schedule_of(power))
            if isinstance(points, DivergedError):
                raise points
        except DivergedError:
            ranks[power] = (-1.0, 0.0)  # below every score, so that the search moves away from it
            trials.append(LearningRateTrial(learning_rate=rate, max_steps=steps, score=None))
            return
        best_score, score_untrained = best_point(points).score, points[0].score.score
        # The last loss decides between equal scores: early on, most candidates still predict one class.
        ranks[power] = (best_score.score, -(points[-1].loss or 0.0))
        errors[power] = (best_score.ci_high - best_score.ci_low) / (2 * 1.96)
        trials.append(LearningRateTrial(learning_rate=rate, max_steps=steps, score=best_score.score))

    go_ahead(FIRST_POWERS)
    for power in FIRST_POWERS:
        attempt(power)
    while True:
        best = max(ranks, key=ranks.__getitem__)
        edge = best + 1 if best == max(ranks) else best - 1 if best == min(ranks) else None
        if edge is None or abs(edge) > MAX_POWER:
            break
        if edge not in ahead:  # the next one on that side comes along: a pass of two costs little more than one
            further = edge + (1 if edge > 0 else -1)
            go_ahead([p for p in (edge, further) if abs(p) <= MAX_POWER])
        attempt(edge)
    if ranks[best][0] < 0:
        raise ApetError(f"no learning rate near {around:g} trains this; give a number, such as learning_rate=1e-5")
    taken = min(p for p in ranks if ranks[p][0] >= ranks[best][0] - errors[best])
    if ranks[best][0] <= score_untrained + errors[best] and ranks[0][0] >= 0:
        taken = 0
    return LearningRate(around * STEP**taken, "auto", tuple(trials), time.perf_counter() - began)
