"""Which run to make next: the one after which a quantity is expected to be known best (Bayesian design)."""

from __future__ import annotations

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


def most_informative_run(target: Floats, means: Floats, noise: Floats) -> tuple[int, float, float]:
    """The candidate after whose score the target is expected to have the smallest standard deviation.

    Args:
        target: draws of what is asked, (draws,).
        means: draws of each candidate's mean score, (candidates, draws).
        noise: draws of the standard deviation over seeds, (draws,).

    Returns:
        Its index, the expected standard deviation, and the present one.
    """
    now = float(target.std())
    target, means, noise = target[::THINNING], means[:, ::THINNING], noise[::THINNING]
    rng = np.random.default_rng(0)
    # The same imagined luck for every candidate: then their difference is not that of the luck.
    chosen = np.linspace(0, len(target) - 1, NUM_OUTCOMES).round().astype(int)
    luck = rng.standard_normal(NUM_OUTCOMES)
    outcomes = means[:, chosen] + noise[chosen] * luck
    # In single precision: weights of a simulation need no more, and the exponentials are most of the time.
    scaled = (means / noise).astype(np.float32)
    distance = (outcomes[:, :, None] / noise).astype(np.float32) - scaled[:, None, :]
    weights = np.exp(-0.5 * distance**2) * (noise.min() / noise).astype(np.float32)
    total = weights.sum(axis=2)  # never 0: the draw that an outcome was imagined from is among them
    values = (target - target.mean()).astype(np.float32)  # about the mean, so that squares lose no digits
    mean = weights @ values / total
    variance = np.maximum(weights @ values**2 / total - mean**2, 0)
    expected = np.sqrt(variance).mean(axis=1)
    best = int(expected.argmin())
    return best, float(expected[best]), now
