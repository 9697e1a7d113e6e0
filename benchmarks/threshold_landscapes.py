"""Threshold search against a full grid on synthetic score curves: how often do they agree, at what share of the runs?

    python benchmarks/threshold_landscapes.py [FORECAST]

The score rises as a logistic curve in log N from chance (0.5) to full fine-tuning (0.9), with normal noise over seeds.
The grid judges every N by all its seeds; its answer is a range where an N fails above one that passes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from apet.analysis.thresholds import bracket
from apet.studies.thresholds import SearchedThreshold, SeedScore, ThresholdRules, ThresholdSearch

CHANCE_SCORE, FULL_SCORE = 0.5, 0.9
MIDPOINT, WIDTH = 8.0, 1.5
"""Of the logistic curve, in log2 N."""
NUM_LANDSCAPES = 60
"""Of one kind, each with noise of its own."""


def compare_search_with_grid(points: int, noise: float, rules: ThresholdRules, seed: int) -> tuple[float, bool, bool]:
    """One landscape, searched and measured in full.

    Args:
        points: number of counts in the grid, 1, 2, 4, ….
        noise: standard deviation over seeds.
        rules: of both.
        seed: of the noise.

    Returns:
        Runs of the search as a share of the grid's, and whether the low and the high threshold lie within one step of
        the grid's range.
    """
    rng = np.random.default_rng(seed)
    score_of_run = dict[tuple[int | None, int], float]()
    counts = [2**i for i in range(points)]

    def measure(n: int | None, seeds: Sequence[int], target_score: float | None) -> list[SeedScore | None]:
        share = 1.0 if n is None else 1 / (1 + np.exp(-(np.log2(n) - MIDPOINT) / WIDTH))
        true_score = CHANCE_SCORE + (FULL_SCORE - CHANCE_SCORE) * share
        # The search and the grid must see the same run: what one has drawn, the other gets again.
        scores = [score_of_run.setdefault((n, s), true_score + noise * rng.standard_normal()) for s in seeds]
        return [
            SeedScore(target_score, True) if target_score is not None and score >= target_score else SeedScore(score)
            for score in scores
        ]

    search, grid = (ThresholdSearch(counts, CHANCE_SCORE, measure, rules) for _ in range(2))
    low, high = search.run()
    grid.measure_all()
    return search.num_runs / grid.num_runs, _agrees(low, grid), _agrees(high, grid)


def _agrees(threshold: SearchedThreshold, grid: ThresholdSearch) -> bool:
    """Whether the threshold of the search lies within one step of the grid's range."""
    passes = [grid.passes(threshold.kind, n) for n in grid.grid]
    grid_range = bracket(grid.grid, ["passes" if p else "fails" for p in passes])
    index_of = partial(np.searchsorted, grid.grid)
    first = int(index_of(grid_range.lower, side="right"))
    index = len(grid.grid) if threshold.upper is None else int(index_of(threshold.upper))
    return first - 1 <= index <= int(index_of(grid_range.upper)) + 1


def main(forecast: float) -> None:
    """Print a table with a row for each kind of landscape.

    Args:
        forecast: see `ThresholdRules`.
    """
    print(
        "| N of the grid | noise | margin | runs, share of the grid's | low agrees | high agrees |\n" + "|--:" * 6 + "|"
    )
    for points in (14, 17):
        for noise in (0.01, 0.02, 0.03):
            for margin in (0.01, 0.02):
                rules = ThresholdRules(margin=margin, forecast=forecast)
                share, low, high = np.mean(
                    [compare_search_with_grid(points, noise, rules, seed) for seed in range(NUM_LANDSCAPES)], axis=0
                )
                print(f"| {points} | {noise} | {margin} | {share:.2f} | {low:.2f} | {high:.2f} |", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else ThresholdRules().forecast)
