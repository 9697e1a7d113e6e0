"""Which runs to make next: those after which a quantity is expected to be known best (Bayesian design)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apet.analysis.intervals import Floats

NUM_OUTCOMES = 24
"""Outcomes that are imagined for each run; they lie evenly over what the posterior foretells."""
THINNING = 2
"""Every so many draws are used: enough to tell candidates apart, at a fraction of the time."""


@dataclass(frozen=True)
class NextRun:
    """A run to make.

    Attributes:
        num_trainable: N; None = full fine-tuning.
        seed: the first that is not used.
        expected_sd: of the threshold once its score is known, in octaves.
        sd: of the threshold now.
    """

    num_trainable: int | None
    seed: int
    expected_sd: float
    sd: float


@dataclass(frozen=True)
class Choice:
    """A candidate that was chosen.

    Attributes:
        candidate: its index.
        expected_sd: of the target once its score is known.
        sd: of the target before.
    """

    candidate: int
    expected_sd: float
    sd: float

    @property
    def gain(self) -> float:
        """By how much the standard deviation is expected to fall."""
        return self.sd - self.expected_sd


def most_informative_runs(
    target: Floats, means: Floats, noise: Floats, room: Sequence[int], most: int = 1, worth: float = 0.0
) -> list[Choice]:
    """The candidates after whose scores the target is expected to have the smallest standard deviation.

    Several are chosen one after another, as if each of those before had scored what is expected of it (the kriging
    believer, Ginsbourger et al. 2010): so that they do not all ask the same.

    Args:
        target: draws of what is asked, (draws,).
        means: draws of each candidate's mean score, (candidates, draws).
        noise: draws of the standard deviation over seeds, (draws,).
        room: how often each candidate may be chosen.
        most: how many to choose.
        worth: a further one is chosen while it gains at least this share of what the first does, in [0, 1].

    Returns:
        The choices, the best first; none where no candidate has room.
    """
    target, means, noise = target[::THINNING], means[:, ::THINNING], noise[::THINNING]
    belief = np.full(len(target), 1 / len(target))
    left = np.array(room)
    choices: list[Choice] = []
    while len(choices) < most and (left > 0).any():
        open_to = np.flatnonzero(left > 0)
        now = _sd(target, belief)
        expected = _expected_sds(target, means[open_to], noise, belief)
        best = int(expected.argmin())
        choice = Choice(int(open_to[best]), float(expected[best]), now)
        if choices and choice.gain < worth * choices[0].gain:
            break
        choices.append(choice)
        left[choice.candidate] -= 1
        belief = _after(belief, means[choice.candidate], noise)
    return choices


def _after(belief: Floats, means: Floats, noise: Floats) -> Floats:
    """How much each draw is believed once a candidate has scored what is expected of it."""
    log_likelihood = -0.5 * ((belief @ means - means) / noise) ** 2 - np.log(noise)
    weights: Floats = belief * np.exp(log_likelihood - log_likelihood.max())
    return weights / weights.sum()


def _sd(target: Floats, belief: Floats) -> float:
    return float(np.sqrt(belief @ (target - belief @ target) ** 2))


def _expected_sds(target: Floats, means: Floats, noise: Floats, belief: Floats) -> Floats:
    """The standard deviation of the target that is expected after a run of each candidate, (candidates,)."""
    rng = np.random.default_rng(0)
    # Evenly over what is believed; and the same imagined luck for every candidate, whose difference is then not luck's.
    chosen = np.searchsorted(np.cumsum(belief), np.linspace(0, 1, NUM_OUTCOMES + 2)[1:-1] * belief.sum())
    luck = rng.standard_normal(NUM_OUTCOMES)
    outcomes = means[:, chosen] + noise[chosen] * luck
    # In single precision: weights of a simulation need no more, and the exponentials are most of the time.
    scaled = (means / noise).astype(np.float32)
    distance = (outcomes[:, :, None] / noise).astype(np.float32) - scaled[:, None, :]
    prior = (belief / belief.max() * noise.min() / noise).astype(np.float32)
    weights = np.exp(-0.5 * distance**2) * prior
    total = weights.sum(axis=2)  # never 0: the draw that an outcome was imagined from is among them
    values = (target - belief @ target).astype(np.float32)  # about the mean, so that squares lose no digits
    mean = weights @ values / total
    variance = np.maximum(weights @ values**2 / total - mean**2, 0)
    expected: Floats = np.sqrt(variance).mean(axis=1)
    return expected
