"""What there is to choose from: families (a method at its positions) and arms (a family with an N)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

RATE_STEP = 3.0
"""Ratio of neighboring learning rates in a race."""


@dataclass(frozen=True)
class Family:
    """A method at certain positions, in a certain structure: all its counts lie on one budget curve.

    Attributes:
        name: tells it from the others, such as ``lora`` or ``lora(roles=all linear)``.
        method: registered name.
        settings: of the method.
        counts: numbers of parameters to choose from, ascending.
        anchor: the one of them that it begins with.
        around: learning rate that the method has by default, about which its race begins.
        per_rank: parameters of each rank, for a method that has ranks; 0 for others.
        where: positions in words, such as ``attn.q, attn.v``.
        slowness: how long a step takes, of LoRA's, as a first guess.
    """

    name: str
    method: str
    counts: tuple[int, ...]
    anchor: int
    around: float
    settings: Mapping[str, JsonValue] = field(default_factory=dict, hash=False, compare=False)
    per_rank: int = 0
    where: str = ""
    slowness: float = 1.0

    @property
    def smallest(self) -> int:
        """Smallest number of parameters asked about."""
        return self.counts[0]

    @property
    def largest(self) -> int:
        """Largest number of parameters asked about."""
        return self.counts[-1]


@dataclass(frozen=True, order=True)
class Arm:
    """A family with a number of parameters.

    Attributes:
        family: its name.
        num_trainable: N.
    """

    family: str
    num_trainable: int


@dataclass(frozen=True)
class Trial:
    """A run to make.

    Attributes:
        arm: what is trained.
        learning_rate: constant.
        steps: optimizer steps.
        seed: of mask, initial values and order of the examples; the same for all arms: common random numbers.
        racing: whether it is a heat of the learning-rate race, which trains on fewer rows and is measured on the
            training rows left out; else it is measured on validation.
    """

    arm: Arm
    learning_rate: float
    steps: int
    seed: int = 0
    racing: bool = False


@dataclass(frozen=True)
class Measurement:
    """What came of a trial.

    Attributes:
        trial: that was made.
        score: in [0, 1]; None = it failed or diverged.
        loss: of training at the end, which decides between equal scores.
        error: standard error of the score over the items.
        untrained: score before the first step.
        constant: score of the best constant answer.
        seconds: that it took of the whole time.
        at: seconds since the first trial began, when this one ended.
        source: what a record calls it.
    """

    trial: Trial
    score: float | None
    loss: float = 0.0
    error: float = 0.0
    untrained: float = 0.0
    constant: float = 0.0
    seconds: float = 0.0
    at: float = 0.0
    source: str = ""


@dataclass(frozen=True)
class Question:
    """All that a recommendation is chosen from, and what it is held against.

    Attributes:
        families: in the order in which they are tried; the reference is not among them unless it is a stand-in.
        reference: full fine-tuning, or what stands in for it.
        steps: of a run that counts.
    """

    families: tuple[Family, ...]
    reference: Family
    steps: int

    def family(self, name: str) -> Family:
        """The family of a name, the reference among them."""
        return next(f for f in (*self.families, self.reference) if f.name == name)

    @property
    def reference_arm(self) -> Arm:
        """What is held to be reached."""
        return Arm(self.reference.name, self.reference.anchor)
