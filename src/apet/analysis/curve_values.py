"""What goes into a budget curve and comes out of it: scores, levels, what counts as reaching, answers, a band."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import JsonValue

from apet.analysis.intervals import Floats
from apet.errors import ApetError

ThresholdKind = Literal["low", "high"]
ThresholdState = Literal["between", "below the smallest N", "above the largest N", "not decided", "nothing to reach"]

LOW_SHARE, HIGH_SHARE = 0.1, 0.95
UNDECIDED_SHARE = 0.5
"""An interval over more than this share of the octaves between the smallest and the largest N decides nothing."""


@dataclass(frozen=True)
class RunScore:
    """Score of one run.

    Attributes:
        num_trainable: N.
        score: of the metric, more is better; NaN = the run failed, and its seed is used up.
        num_items: test items of this run alone; None = all runs share theirs.
    """

    num_trainable: int
    score: float
    num_items: int | None = None


@dataclass(frozen=True)
class Scale:
    """Which part of a metric's numbers counts as one: priors and points are about scores between 0 and 1.

    Attributes:
        zero: of the metric, where a scaled score is 0.
        unit: of the metric, by which a scaled score grows by 1.
    """

    zero: float = 0.0
    unit: float = 1.0

    @classmethod
    def of(cls, base: float, top: float) -> Scale:
        """The scale of a metric by its level without training and by what full fine-tuning comes to.

        Shares and correlations are their own: nothing is better than 1, and a constant answer is no worse than 0. Of
        errors, whose scores are negative, and of what exceeds 1, the way from the one to the other is made that from
        0.5 to 0.9, as of an accuracy.

        Args:
            base: score of the better of the untrained model and the best constant answer.
            top: score of full fine-tuning, or the best that is known.

        Returns:
            The scale.
        """
        if 0 <= base <= 1 and top <= 1:
            return cls()
        unit = max(top - base, 1e-3 * max(abs(base), abs(top)), 1e-12) / 0.4
        return cls(base - 0.5 * unit, unit)

    def scaled(self, score: float) -> float:
        """A score as the curve's model takes it."""
        return (score - self.zero) / self.unit


@dataclass(frozen=True)
class Levels:
    """What the curve is held against.

    Attributes:
        untrained: score of the model before training.
        constant: score of the best constant answer; 0 for free text.
        full: scores of full fine-tuning, one a seed; empty = unknown, then the curve's own ceiling stands in.
        full_num_items: test items of each; None = shared.
    """

    untrained: float
    constant: float
    full: tuple[float, ...] = ()
    full_num_items: int | None = None

    @property
    def base(self) -> float:
        """What is had without training."""
        return max(self.untrained, self.constant)


@dataclass(frozen=True)
class Reach:
    """What counts as reaching full fine-tuning: a share of the way, or a margin below it.

    Attributes:
        share: of the way, in (0, 1]; used where there is no margin.
        margin: points below full fine-tuning, in [0, 1); None = the share counts.

    Raises:
        ApetError: outside of that.
    """

    share: float = HIGH_SHARE
    margin: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ApetError(f"share: {100 * self.share:g} % of the way; give more than 0 and at most 100")
        if self.margin is not None and not 0 <= self.margin < 1:
            raise ApetError(
                f"margin: {100 * self.margin:g} points below full fine-tuning; give at least 0 and less than 100"
            )

    def describe(self) -> str:
        """In words: ``95 % of the way to full fine-tuning``."""
        if self.margin is None:
            return f"{100 * self.share:g} % of the way to full fine-tuning"
        return f"at most {100 * self.margin:g} point{'' if self.margin == 0.01 else 's'} below full fine-tuning"

    def level(self, base: float, full: Floats) -> Floats:
        """The score to be reached, for each level of full fine-tuning."""
        return base + self.share * (full - base) if self.margin is None else full - self.margin


@dataclass(frozen=True)
class ThresholdAnswer:
    """Where a threshold lies.

    Attributes:
        kind: low or high.
        state: between two counts, beyond them, not decided, or nothing to reach where full fine-tuning gains nothing.
        median: of the posterior, in parameters; 0 = below the smallest N, infinite = above the largest.
        ci_low: lower end of the interval; 0 = open.
        ci_high: upper end of it; infinite = open.
        smallest: smallest N asked about.
        largest: largest N asked about.
    """

    kind: ThresholdKind
    state: ThresholdState
    median: float
    ci_low: float
    ci_high: float
    smallest: int
    largest: int

    @property
    def octaves(self) -> float:
        """Length of the interval within the counts asked about, in octaves."""
        low, high = (float(np.clip(n, self.smallest, self.largest)) for n in (self.ci_low, self.ci_high))
        return math.log2(high / low)

    def describe(self) -> str:
        """In words: ``about 1,024 (512 to 2,048)``, ``above the largest N (16,384)``."""
        if self.state == "below the smallest N":
            return f"below the smallest N ({self.smallest:,})"
        if self.state == "above the largest N":
            return f"above the largest N ({self.largest:,})"
        if self.state == "nothing to reach":
            return "nothing to reach: full fine-tuning beats neither the untrained model nor a constant answer"
        low = f"below {self.smallest:,}" if self.ci_low == 0 else f"{self.ci_low:,.0f}"
        high = f"above {self.largest:,}" if math.isinf(self.ci_high) else f"{self.ci_high:,.0f}"
        if self.state == "not decided":
            return f"not decided ({low} to {high})"
        middle = min(max(self.median, self.smallest), self.largest)
        return f"about {middle:,.0f} ({low} to {high})"

    def as_dict(self) -> dict[str, JsonValue]:
        """Plain data, as written into files; None = an open end."""
        numbers = {"num_trainable": self.median, "ci_low": self.ci_low, "ci_high": self.ci_high}
        known: dict[str, JsonValue] = {k: n if 0 < n < math.inf else None for k, n in numbers.items()}
        return {"state": self.state, **known}


@dataclass(frozen=True)
class Band:
    """The curve with its band.

    Attributes:
        counts: N, (counts,).
        median: mean score over seeds, (counts,).
        ci_low: lower end of its interval at each, (counts,).
        ci_high: upper end of it, (counts,).
    """

    counts: Floats
    median: Floats
    ci_low: Floats
    ci_high: Floats
