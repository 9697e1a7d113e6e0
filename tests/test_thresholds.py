"""Both thresholds are found where they are planted, in a quarter of a full grid's runs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from apet import ApetError
from apet.analysis.curve_values import Reach
from apet.search.thresholds import (
    MeasuredRun,
    ThresholdRules,
    ThresholdSearch,
    budget_grid,
    num_grid_runs,
    search_summary,
)

GRID = budget_grid(1, 2**15, 2.0, lambda n: n)


def landscape(middle: float, noise: float, *, base=0.5, full=0.9, width=0.5, seed=0, failing=()):
    """A logistic curve over log2 N with noise over seeds; what was asked for, batch by batch."""
    draws = np.random.default_rng(seed)
    batches: list[list[tuple[int | None, int]]] = []

    def measure(requests):
        batches.append(list(requests))
        out = []
        for n, _ in requests:
            share = 1.0 if n is None else 1 / (1 + math.exp(-(math.log2(n) - middle) / width))
            score = base + (full - base) * share + float(draws.normal()) * noise
            out.append(None if n in failing else MeasuredRun(score, base, base))
        return out

    return measure, batches


def found(measure, **rules):
    search = ThresholdSearch(GRID, measure, ThresholdRules(**rules))
    curve = search.run()
    return search, search.answer(curve, "low"), search.answer(curve, "high")


@pytest.mark.parametrize(("middle", "width"), [(5, 0.5), (9, 0.7), (11, 0.3)])
@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_the_planted_thresholds_are_found_within_an_octave_in_a_quarter_of_a_grids_runs(middle, width, noise):
    measure, batches = landscape(middle, noise, width=width)
    search, low, high = found(measure)
    for answer, share in ((low, 0.1), (high, 0.95)):
        assert math.log2(answer.median) == pytest.approx(middle + width * math.log(share / (1 - share)), abs=1)
        assert answer.state == "between"
    asked = [request for batch in batches for request in batch]
    assert len(asked) == len(search.measured) <= num_grid_runs(search) / 4
    assert len(set(asked)) == len(asked), "no run is asked for twice"


def test_it_ends_as_soon_as_both_are_known_to_a_step_and_goes_on_while_they_are_not():
    quiet, _, _ = found(landscape(7, 0.001, width=0.3)[0])
    noisy, _, high = found(landscape(7, 0.06, width=0.3)[0])
    assert len(quiet.measured) < len(noisy.measured) == ThresholdRules().max_runs
    assert high.octaves > 1


def test_runs_that_do_not_wait_for_each_other_are_asked_for_together():
    measure, batches = landscape(7, 0.03)
    found(measure)
    assert batches[0] == [(None, 0), (None, 1), (None, 2)]
    assert len(batches[1]) == 8
    assert max(len(b) for b in batches[2:]) == 2


@pytest.mark.parametrize(("middle", "noise"), [(7, 0.03), (9, 0.03)])
def test_where_a_pass_holds_several_runs_there_are_fewer_rounds_and_the_same_thresholds(middle, noise):
    measure, batches = landscape(middle, noise)
    search = ThresholdSearch(GRID, measure, ThresholdRules(), at_once=8)
    curve = search.run()
    alone, one_by_one = landscape(middle, noise)
    found(alone)
    assert len(batches) < len(one_by_one)
    assert len(search.measured) <= ThresholdRules().max_runs
    assert max(len(b) for b in batches[2:]) <= 8
    for kind, share in (("low", 0.1), ("high", 0.95)):
        truth = middle + 0.5 * math.log(share / (1 - share))
        assert math.log2(search.answer(curve, kind).median) == pytest.approx(truth, abs=1.5)


def test_a_method_that_never_gets_there_is_said_to_need_more_than_was_tried():
    _, low, high = found(landscape(40, 0.002)[0])
    assert (low.state, high.state) == ("above the largest N", "above the largest N")
    assert high.describe() == f"above the largest N ({GRID[-1]:,})"


def test_a_method_that_always_gets_there_needs_less_than_the_smallest():
    _, low, high = found(landscape(-9, 0.002)[0])
    assert (low.state, high.state) == ("below the smallest N", "below the smallest N")


def test_failed_runs_are_no_numbers_and_are_not_asked_for_again():
    measure, batches = landscape(8, 0.002, failing=(128, 256))
    search, low, _ = found(measure)
    assert low.median == pytest.approx(2 ** (8 + 0.5 * math.log(1 / 9)), rel=1)
    summary = search_summary(search, search.curve())
    json.dumps(summary, allow_nan=False)
    assert len({r for b in batches for r in b}) == sum(map(len, batches))
    with pytest.raises(ApetError, match="full fine-tuning failed with every seed"):
        found(lambda requests: [None for _ in requests])


def test_what_counts_as_reaching_is_said_and_counts():
    measure, _ = landscape(8, 0.002)
    search, _, near = found(measure, reach=Reach(0.6))
    assert "high: 60 % of the way to full fine-tuning" in search.rules.describe()
    search, _, far = found(landscape(8, 0.002)[0], reach=Reach(margin=0.01))
    assert "high: at most 1 point below full fine-tuning" in search.rules.describe()
    assert near.median < far.median


def test_a_search_is_told_in_full():
    search, _, high = found(landscape(8, 0.002)[0])
    summary = search_summary(search, search.curve())
    assert summary["high"] == {
        "state": "between",
        "num_trainable": high.median,
        "ci_low": high.ci_low,
        "ci_high": high.ci_high,
    }
    assert (summary["untrained"], summary["constant_answer"]) == (0.5, 0.5)
    assert sum(len(p["scores"]) for p in summary["points"]) + len(summary["full_fine_tuning"]) == summary["runs"]
    assert [p["num_trainable"] for p in summary["curve"]] == GRID


def test_a_grid_holds_what_the_method_can_have():
    assert budget_grid(3, 50, 2.0, lambda n: n + n % 2) == [4, 6, 12, 24, 48, 50]
    with pytest.raises(ApetError, match="spacing=1 does not grow"):
        budget_grid(1, 9, 1, lambda n: n)
    with pytest.raises(ApetError, match="N = 7 is all that there is between 1 and 9"):
        budget_grid(1, 9, 2, lambda n: 7)


def test_too_few_runs_for_a_search_are_refused():
    with pytest.raises(ApetError, match="max_runs=4 with 3 of full fine-tuning; give at least two more"):
        ThresholdRules(max_runs=4)
