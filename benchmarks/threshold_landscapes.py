"""Threshold search against a full grid on made landscapes: how often do they agree, at what share of the runs?

    python benchmarks/threshold_landscapes.py [FORECAST]

A measure that rises as a logistic curve in log N from chance (0.5) to full fine-tuning (0.9), with normal noise over
seeds. The grid judges every N by all its seeds; its answer is a range where an N fails above one that passes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from apet.analysis.thresholds import bracket
from apet.studies.thresholds import SeedScore, Threshold, ThresholdRules, ThresholdSearch

CHANCE, FULL, MIDDLE, WIDTH, DRAWS = 0.5, 0.9, 8.0, 1.5, 60


def one(points: int, noise: float, rules: ThresholdRules, seed: int) -> tuple[float, bool, bool]:
    """Share of the grid's runs, and whether the low and the high threshold lie within one step of the grid's range."""
    draws, known = np.random.default_rng(seed), dict[tuple[int | None, int], float]()
    counts = [2**i for i in range(points)]

    def measure(n: int | None, seeds: Sequence[int], target_score: float | None) -> list[SeedScore | None]:
        share = 1.0 if n is None else 1 / (1 + np.exp(-(np.log2(n) - MIDDLE) / WIDTH))
        values = [
            known.setdefault((n, s), CHANCE + (FULL - CHANCE) * share + noise * draws.standard_normal()) for s in seeds
        ]
        return [
            SeedScore(target_score, True) if target_score is not None and v >= target_score else SeedScore(v)
            for v in values
        ]

    search, grid = ThresholdSearch(counts, CHANCE, measure, rules), ThresholdSearch(counts, CHANCE, measure, rules)
    low, high = search.run()
    grid.measure_all()
    return search.num_runs / grid.num_runs, _near(low, grid), _near(high, grid)


def _near(found: Threshold, grid: ThresholdSearch) -> bool:
    """Within one step of the grid's range."""
    states = [grid.passes(found.kind, n) for n in grid.grid]
    whole = bracket(grid.grid, ["passes" if s else "fails" for s in states])
    place = partial(np.searchsorted, grid.grid)
    first = int(place(whole.lower, side="right"))
    at = len(grid.grid) if found.upper is None else int(place(found.upper))
    return first - 1 <= at <= int(place(whole.upper)) + 1


def main(forecast: float) -> None:
    """A line for each kind of landscape."""
    print(
        "| N of the grid | noise | margin | runs, share of the grid's | low agrees | high agrees |\n" + "|--:" * 6 + "|"
    )
    for points in (14, 17):
        for noise in (0.01, 0.02, 0.03):
            for margin in (0.01, 0.02):
                rules = ThresholdRules(margin=margin, forecast=forecast)
                share, low, high = np.mean([one(points, noise, rules, seed) for seed in range(DRAWS)], axis=0)
                print(f"| {points} | {noise} | {margin} | {share:.2f} | {low:.2f} | {high:.2f} |", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else ThresholdRules().forecast)
