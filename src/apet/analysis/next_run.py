"""Which run to make next: the one after which a quantity is expected to be known best (Bayesian design)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apet.analysis.intervals import Floats

NUM_OUTCOMES = 32
"""Outcomes that are imagined for each run; they lie evenly over what the posterior foretells."""


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
    rng = np.random.default_rng(0)
    # The same imagined luck for every candidate: then their difference is not that of the luck.
    chosen = np.linspace(0, len(target) - 1, NUM_OUTCOMES).round().astype(int)
    luck = rng.standard_normal(NUM_OUTCOMES)
    outcomes = means[:, chosen] + noise[chosen] * luck
    distance = (outcomes[:, :, None] - means[:, None, :]) / noise
    log_weights = -0.5 * distance**2 - np.log(noise)
    weights = np.exp(log_weights - log_weights.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    mean = weights @ target
    variance = np.maximum(weights @ target**2 - mean**2, 0)
    expected = np.sqrt(variance).mean(axis=1)
    best = int(expected.argmin())
    return best, float(expected[best]), float(target.std())
