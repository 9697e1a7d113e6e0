"""Whole studies with known answers, as arrays: scales × tasks × arms × seeds, many at once, nothing trained.

An arm is full fine-tuning, or a method at some N. Beside the planted truth a study has what real ones have: backbones
that scatter about any line, tasks that scatter about the backbone, seeds, and items that all runs of a task share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from apet.analysis.intervals import Floats
from synthetic_results import row


@dataclass(frozen=True)
class Noise:
    """Standard deviations of everything but the truth.

    Attributes:
        scale: of an arm on a backbone, on all its tasks, in log odds.
        cell: of an arm on a backbone and a task, in log odds.
        seed: of a run, in log odds.
        num_items: validation items of a task.
        shared: share of the items' variance that all runs of a task have in common.
        tails: degrees of freedom of the scatter; infinite = normal.
    """

    scale: float = 0.03
    cell: float = 0.08
    seed: float = 0.06
    num_items: int = 2000
    shared: float = 0.7
    tails: float = np.inf


def sizes(num_scales: int) -> Floats:
    """log10 of the backbones' parameters: two tenfolds, evenly."""
    return np.linspace(4.7, 6.7, num_scales)


def observed(
    truth: Floats, num_draws: int, num_seeds: int, noise: Noise, seed: int = 0, seed_sd: Floats | None = None
) -> Floats:
    """Scores of many studies with one truth.

    Args:
        truth: probabilities in (0, 1), (scales, tasks, arms).
        num_draws: studies.
        num_seeds: runs a cell.
        noise: beside the truth.
        seed: of the draws.
        seed_sd: of a run, in log odds, in place of the noise's, (scales,).

    Returns:
        (draws, scales, tasks, arms, seeds).
    """
    rng = np.random.default_rng(seed)
    scales, tasks, arms = truth.shape
    shape = (num_draws, scales, tasks, arms, num_seeds)

    def scatter(*of: int) -> Floats:
        return rng.standard_normal(of) if np.isinf(noise.tails) else rng.standard_t(noise.tails, of)

    by_seed = noise.seed if seed_sd is None else seed_sd[:, None, None, None]
    log_odds = (
        np.log(truth / (1 - truth))[None, ..., None]
        + noise.scale * scatter(num_draws, scales, 1, arms, 1)
        + noise.cell * scatter(num_draws, scales, tasks, arms, 1)
        + by_seed * scatter(*shape)
    )
    p = 1 / (1 + np.exp(-log_odds))
    items = np.sqrt(noise.shared) * rng.standard_normal((num_draws, 1, tasks, 1, 1)) + np.sqrt(
        1 - noise.shared
    ) * rng.standard_normal(shape)
    return np.clip(p + np.sqrt(p * (1 - p) / noise.num_items) * items, 0, 1)


def ceiling(num_scales: int, num_tasks: int, lowest: float = 0.7, highest: float = 0.93) -> Floats:
    """Full fine-tuning that rises with scale, by tasks of unlike difficulty, (scales, tasks)."""
    rise = np.linspace(0, 1, num_scales)[:, None]
    difficulty = np.linspace(-0.06, 0.03, num_tasks)[None]
    return np.minimum(lowest + (highest - lowest) * rise + difficulty, 0.99)


def with_odds_ratio(full: Floats, log_ratio: Floats | float) -> Floats:
    """Scores whose log odds lie below the full ones' by so much."""
    return np.asarray(1 / (1 + np.exp(-(np.log(full / (1 - full)) - log_ratio))))


def runs_of(
    scores: Floats, log10_sizes: Floats, arms: list[tuple[str, list[int], str | None]], base: float = 0.5
) -> pd.DataFrame:
    """One study as a table of runs.

    Args:
        scores: (scales, tasks, arms, seeds).
        log10_sizes: (scales,).
        arms: method, N at each scale and budget; None = the method's default size.
        base: what is had without training.

    Returns:
        With the columns of `apet.analysis.frames.RUNS`.
    """
    rows = []
    for (i, j, k, s), score in np.ndenumerate(scores):
        method, counts, budget = arms[k]
        rows.append(
            row(
                backbone=f"s{i}",
                num_backbone_parameters=round(10 ** float(log10_sizes[i])),
                task=f"task{j}",
                category="inference",
                method=method,
                num_trainable=counts[i],
                budget=budget,
                seed=s,
                score=float(score),
                num_examples=2000,
                score_untrained=base,
                majority_baseline=base,
                untrained_baseline=base,
            )
        )
    return pd.DataFrame(rows)
