"""Both thresholds are found where they are planted, in a quarter of a full grid's runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from apet import ApetError
from apet.studies.thresholds import SeedScore, ThresholdRules, ThresholdSearch, budget_grid

GRID = budget_grid(1, 2**15, 2.0, lambda n: n)


def landscape(low: float, high: float, noise: float, *, chance=0.5, full=0.9, seed=0, failing=()):
    """At chance below ``low``, rising in log N, at full fine-tuning's level from ``high`` on; noise over seeds."""
    draws = np.random.default_rng(seed)
    asked: list[tuple[int | None, int]] = []

    def measure(n, seeds, target_score):
        out = []
        for s in seeds:
            asked.append((n, s))
            if n in failing:
                out.append(None)
                continue
            share = 1.0 if n is None else np.clip(math.log(n / low) / math.log(high / low) * 0.75 + 0.25, 0, 1)
            mean = (
                chance if n is not None and n < low else full if share >= 1 else chance + share * (full - chance) * 0.9
            )
            value = float(mean + draws.normal() * noise)
            stopped = target_score is not None and value >= target_score
            out.append(SeedScore(target_score if stopped else value, stopped))
        return out

    return measure, asked


@pytest.mark.parametrize(("low", "high"), [(10, 1000), (100, 200), (3, 20_000), (700, 5000)])
@pytest.mark.parametrize("noise", [0.001, 0.004])
def test_the_planted_thresholds_are_found_within_the_grids_spacing_in_a_quarter_of_its_runs(low, high, noise):
    measure, asked = landscape(low, high, noise)
    search = ThresholdSearch(GRID, 0.5, measure)
    found_low, found_high = search.run()
    for found, true in ((found_low, low), (found_high, high)):
        expected = next(i for i, n in enumerate(GRID) if n >= true)
        assert abs(GRID.index(found.upper) - expected) <= 1
        assert found.lower == GRID[GRID.index(found.upper) - 1]
    full = len(GRID) * ThresholdRules().max_seeds + ThresholdRules().reference_seeds
    assert search.num_runs == len(asked) <= full / 4
    assert len(set(asked)) == len(asked), "no run is asked for twice"


def test_a_noisy_point_gets_more_seeds_and_a_clear_one_does_not():
    measure, asked = landscape(100, 1000, 0.0005)
    ThresholdSearch(GRID, 0.5, measure).run()
    clear = max(sum(1 for a in asked if a[0] == n) for n in GRID)
    measure, asked = landscape(100, 1000, 0.02)
    _, high = ThresholdSearch(GRID, 0.5, measure).run()
    noisy = max(sum(1 for a in asked if a[0] == n) for n in GRID)
    assert clear <= 2 < noisy <= 5
    assert not high.clear
    assert "unclear at this confidence" in high.describe()


def test_a_method_that_never_gets_there_is_said_to_need_more_than_was_tried():
    measure, _ = landscape(10, 10**9, 0.001)
    low, high = ThresholdSearch(GRID, 0.5, measure).run()
    assert high.upper is None
    assert high.describe() == f"high threshold: above {GRID[-1]:,}"
    assert low.upper is not None


def test_a_method_that_always_gets_there_needs_at_most_the_smallest():
    measure, _ = landscape(0.5, 0.9, 0.001)
    low, high = ThresholdSearch(GRID, 0.5, measure).run()
    assert (low.lower, low.upper, high.upper) == (None, 1, 1)
    assert low.describe() == "low threshold: at most 1"


def test_failed_runs_are_no_numbers():
    measure, _ = landscape(100, 1000, 0.001, failing=(256,))
    low, _ = ThresholdSearch(GRID, 0.5, measure).run()
    assert low.upper in (128, 256)
    with pytest.raises(ApetError, match="full fine-tuning failed with every seed"):
        ThresholdSearch(GRID, 0.5, lambda n, seeds, stop: [None for _ in seeds]).run()


def test_a_grid_holds_what_the_method_can_have():
    assert budget_grid(3, 50, 2.0, lambda n: n + n % 2) == [4, 6, 12, 24, 48, 50]
    with pytest.raises(ApetError, match="spacing=1 does not grow"):
        budget_grid(1, 9, 1, lambda n: n)
