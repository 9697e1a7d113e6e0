"""The loop: learn from what was measured, run what tells most, until the answer is decided or the time is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from apet.analysis.curve_values import Reach
from apet.recommendation.arms import Measurement, Question, Trial
from apet.recommendation.policy import Knowledge, learn, next_step

TOGETHER = 8
"""Trials that are given to the environment at once, at most: between two such lots the time is looked at."""


class TimeOver(KeyboardInterrupt):
    """The time is over in the middle of a run, which ends as at Ctrl-C: half done, and not recorded."""


class Environment(Protocol):
    """Where trials are made: on a model and data, or out of a record of runs (a replay)."""

    def measured(self) -> Sequence[Measurement]:
        """Everything that was measured so far, in that order; also what an earlier call of the same command left."""

    def measure(self, trials: Sequence[Trial]) -> None:
        """Make trials, beside each other where that is faster; one that fails counts as measured, without a score."""

    def seconds(self, trial: Trial) -> float:
        """How long a trial takes, as far as is known."""

    def elapsed(self) -> float:
        """Seconds since the search began."""


@dataclass(frozen=True)
class Ending:
    """How a search ended.

    Attributes:
        known: all that was learned.
        why: nothing left to run, the time, or the user.
        interrupted: whether it was Ctrl-C.
    """

    known: Knowledge
    why: str
    interrupted: bool = False


def search(
    question: Question,
    environment: Environment,
    reach: Reach,
    within: float,
    tell: Callable[[Knowledge, str], None] = lambda known, why: None,
) -> Ending:
    """Search until the answer is decided, nothing is left to run, or the time is over.

    Args:
        question: what is chosen from.
        environment: where trials are made.
        reach: what counts as reaching full fine-tuning.
        within: seconds that it may take.
        tell: is called before each step, with what is known and what is run next.

    Returns:
        What was learned, and why it ended.
    """
    why, interrupted = "the time is over", False
    try:
        while True:
            known = learn(question, environment.measured(), reach)
            left = within - environment.elapsed()
            if left <= 0:
                break
            step = next_step(known, environment.seconds, left)
            tell(known, step.why)
            if not step.trials:
                why = step.why
                break
            lot = _fitting(step.trials, environment, left)
            if not lot:
                break
            environment.measure(lot)
    except TimeOver:
        pass
    except KeyboardInterrupt:
        why, interrupted = "stopped", True
    return Ending(learn(question, environment.measured(), reach), why, interrupted)


def _fitting(trials: Sequence[Trial], environment: Environment, left: float) -> list[Trial]:
    """The first trials that fit into the time, together."""
    lot: list[Trial] = []
    is_first = all(m.trial.racing for m in environment.measured())
    for trial in trials[:TOGETHER]:
        left -= environment.seconds(trial)
        # The very first whole run is begun in any case: without it there is nothing to say.
        if left < 0 and (lot or trial.racing or not is_first):
            break
        lot.append(trial)
    return lot
