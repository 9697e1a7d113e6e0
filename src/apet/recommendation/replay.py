"""A world whose answer is known, in place of a model and data: what a recommendation is held against.

Planted: every family has a curve of its own over N, heats and whole runs are its points with noise, and time passes by
a clock that is counted. Recorded runs become such a world, too: `benchmarks/recommend_replay.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from apet.analysis.curve_values import Reach
from apet.recommendation.arms import RATE_STEP, Arm, Measurement, Question, Trial
from apet.recommendation.evidence import POINTS_PER_OCTAVE


@dataclass(frozen=True)
class World:
    """What is true.

    Attributes:
        question: what can be asked.
        score: true mean score of an arm over seeds with whole runs at its best rate, in [0, 1].
        best_power: power of the learning-rate step, about the family's default, at which an arm is best.
        seconds: of a trial.
        untrained: score of the untrained model.
        constant: score of the best constant answer.
        seed_sd: standard deviation over seeds.
        num_items: validation items.
        record: arm -> scores of recorded runs, drawn instead of a normal luck where there are some.
    """

    question: Question
    score: Callable[[Arm], float]
    best_power: Callable[[Arm], float]
    seconds: Callable[[Trial], float]
    untrained: float = 0.5
    constant: float = 0.5
    seed_sd: float = 0.01
    num_items: int = 500
    record: Mapping[Arm, Sequence[float]] = field(default_factory=dict)

    @property
    def base(self) -> float:
        """What is had without training."""
        return max(self.untrained, self.constant)

    def utility(self, arm: Arm, reach: Reach) -> float:
        """True utility of an arm, in points; see `apet.recommendation.evidence`."""
        level = float(reach.level(self.base, np.array(self.score(self.question.reference_arm))))
        short = 100 * max(0.0, level - self.score(arm))
        return -short - POINTS_PER_OCTAVE * math.log2(arm.num_trainable)

    def arms(self) -> list[Arm]:
        """Everything that can be recommended."""
        arms = {Arm(f.name, n) for f in self.question.families for n in f.counts}
        return sorted(arms | {self.question.reference_arm})

    def best(self, reach: Reach) -> Arm:
        """The right answer."""
        return max(self.arms(), key=lambda arm: self.utility(arm, reach))


class Replay:
    """An environment in which nothing is trained.

    Args:
        world: what is true.
        seed: of all luck; runs of one seed share their part of it: common random numbers.
    """

    def __init__(self, world: World, seed: int = 0) -> None:
        self.world, self.seed = world, seed
        self.clock = 0.0
        self._measured: list[Measurement] = []
        # Items are the same for all arms: how lucky their draw is, is common to all.
        self._item_luck = float(np.random.default_rng([seed, 1]).standard_normal())

    def measured(self) -> list[Measurement]:
        """Everything so far."""
        return list(self._measured)

    def elapsed(self) -> float:
        """Seconds by the clock that is counted."""
        return self.clock

    def seconds(self, trial: Trial) -> float:
        """As it is."""
        return self.world.seconds(trial)

    def measure(self, trials: Sequence[Trial]) -> None:
        """Make trials one after another."""
        for trial in trials:
            self.clock += self.world.seconds(trial)
            self._measured.append(self._one(trial))

    def test_score(self, arm: Arm, seed: int, num_items: int) -> float:
        """Score of a trained arm on items of its own."""
        p = self._mean(Trial(arm, self._best_rate(arm), self.world.question.steps, seed))
        luck = np.random.default_rng([self.seed, 2]).standard_normal()
        return float(np.clip(p + luck * math.sqrt(max(p * (1 - p), 0) / num_items), 0, 1))

    def _best_rate(self, arm: Arm) -> float:
        family = self.world.question.family(arm.family)
        return float(family.around * RATE_STEP ** self.world.best_power(arm))

    def _mean(self, trial: Trial) -> float:
        """Score of a trial over all items there could be."""
        world, arm = self.world, trial.arm
        luck = np.random.default_rng([self.seed, 3, trial.seed, *arm.family.encode(), arm.num_trainable])
        recorded = world.record.get(arm, ())
        top = (
            float(recorded[int(luck.integers(len(recorded)))])
            if len(recorded)
            else world.score(arm) + world.seed_sd * luck.standard_normal()
        )
        family = world.question.family(arm.family)
        off = math.log(trial.learning_rate / family.around, RATE_STEP) - world.best_power(arm)
        # Too small a rate gets part of the way; too large a one loses it sooner. A heat is a shorter way.
        share = math.exp(-0.5 * (off / (2.5 if off < 0 else 1.2)) ** 2)
        share *= (trial.steps / world.question.steps) ** 0.15
        return world.untrained + (top - world.untrained) * share

    def _one(self, trial: Trial) -> Measurement:
        world = self.world
        p = self._mean(trial)
        num_items = 300 if trial.racing else world.num_items
        error = math.sqrt(max(p * (1 - p), 1e-4) / num_items)
        own = np.random.default_rng(
            [self.seed, 4, round(1e6 * trial.learning_rate), trial.seed, trial.arm.num_trainable]
        )
        # Of the luck of the items most is common to all arms, which answer most of them alike.
        score = p + error * (0.9 * self._item_luck + math.sqrt(1 - 0.81) * own.standard_normal())
        return Measurement(
            trial,
            float(np.clip(score, 0, 1)),
            loss=1 - p,
            error=error,
            untrained=world.untrained,
            constant=world.constant,
            seconds=world.seconds(trial),
            at=self.clock,
            source=f"{trial.arm.family}/{trial.arm.num_trainable}/{trial.seed}",
        )
