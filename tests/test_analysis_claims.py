"""Each claim of the paper where it is true, where it is false and where noise hides it: the verdict says which."""

import math
from dataclasses import replace

import numpy as np
import pytest

from apet.analysis.claims import (
    SMALLEST_SPEEDUP,
    adjacent_faster,
    gap_shrinks,
    high_falls,
    low_same,
    transfer_within,
)
from apet.analysis.convergence import convergence_comparisons, convergences
from apet.analysis.curve_values import ThresholdAnswer
from apet.analysis.frames import checked_curves
from apet.analysis.gap_by_scale import Gap, gaps
from apet.analysis.intervals import Estimate
from apet.analysis.score_by_budget import budget_points
from apet.analysis.study_data import Scale, StudyData
from apet.analysis.thresholds import Threshold, thresholds
from apet.analysis.transfer import transfer_scores
from apet.analysis.trend import below_zero, slope, slope_bounds
from synthetic_results import SIZES, curves, study, transfer

YES, NO, OPEN = "supported", "not supported", "not decidable with these runs"


def gap_of(by_backbone):
    return lambda method, backbone, n: 0.9 - (0 if method == "fine-tuning" else by_backbone[backbone])


@pytest.mark.parametrize(
    ("by_backbone", "sd", "verdict"),
    [
        ({"tiny": 0.06, "mid": 0.04, "large": 0.02}, 0.002, YES),
        ({"tiny": 0.02, "mid": 0.04, "large": 0.06}, 0.002, NO),
        ({"tiny": 0.04, "mid": 0.04, "large": 0.04}, 0.0005, NO),
        ({"tiny": 0.05, "mid": 0.045, "large": 0.04}, 0.06, OPEN),
    ],
)
def test_does_the_gap_shrink(by_backbone, sd, verdict):
    data = StudyData.of(study(3, sd=sd, true_score=gap_of(by_backbone)))
    all_methods = gap_shrinks(gaps(data))[0]
    assert (all_methods.where, all_methods.what) == ("bert", "mean of 6 methods")
    assert all_methods.verdict == verdict
    if verdict == YES:
        assert all_methods.ci_low < -2 < all_methods.ci_high
        assert all_methods.estimate == pytest.approx(-2, abs=0.3)


def gaps_of(by_seed, task="films", method="lora"):
    """Gaps of one method on one task, backbone by backbone: (scales, seeds)."""
    scales = [Scale(f"s{i}", "bert", 10 ** (5 + i)) for i in range(len(by_seed))]
    score = average_of(0.8)
    made = [
        Gap(s, method, 64, True, t, score, score, dict(enumerate(row)))
        for s, row in zip(scales, by_seed, strict=True)
        for t in (None, task)
    ]
    return made


def average_of(value):
    return Estimate(value, 3, 0.01, value - 0.02, value + 0.02, 100, value - 0.03, value + 0.03, "items")


@pytest.mark.parametrize("scatter", [0.0, 0.005, 0.01])
def test_the_interval_of_a_trend_covers_the_truth_also_where_backbones_scatter_about_the_line(scatter):
    rng = np.random.default_rng(9)
    hits, pooled_hits = [], []
    for _ in range(1_000):
        line = 0.06 - 0.01 * np.arange(4)[:, None]
        y = line + scatter * rng.standard_normal((4, 1)) + 0.005 * rng.standard_normal((4, 3))
        (trend,) = gap_shrinks(gaps_of(y))
        hits.append(trend.ci_low <= -1 <= trend.ci_high)
        _, low, high = slope(np.repeat(np.arange(4.0), 3), y.ravel())
        pooled_hits.append(low <= -0.01 <= high)
    assert 0.93 <= np.mean(hits) <= 0.97
    if scatter == 0.01:  # why a scale is one point: seeds alone know nothing of the scatter
        assert np.mean(pooled_hits) < 0.75


def test_a_trend_runs_over_the_tasks_that_every_backbone_has():
    """An easy task that only the largest lacks must not make its gap grow."""
    easy, hard = np.full((3, 2), 0.01), np.full((3, 2), 0.05)
    gaps_by_task = gaps_of(hard, "hard") + [g for g in gaps_of(easy, "easy") if g.scale.name != "s2"]
    (trend,) = gap_shrinks(gaps_by_task)
    assert (trend.estimate, trend.verdict) == (pytest.approx(0), NO)
    assert "1 task," in trend.ci_method


def test_seeds_are_paired_by_their_number_not_by_their_place():
    lora, prompt = gaps_of([[0.02, 0.04]] * 3, method="lora"), gaps_of([[0.06, 0.02]] * 3, method="prompt")
    one_seed_of_prompt = [replace(g, by_seed={1: g.by_seed[1]}) for g in prompt]
    all_methods = gap_shrinks([*lora, *one_seed_of_prompt])[0]
    assert all_methods.what == "mean of 2 methods"
    assert all_methods.estimate == pytest.approx(0)


def test_one_scale_says_nothing_about_scale():
    assert gap_shrinks(gaps(StudyData.of(study(3, backbones=["mid"])))) == []


def test_two_scales_of_one_seed_have_no_freedom_left():
    assert {t.verdict for t in gap_shrinks(gaps(StudyData.of(study(1, backbones=["tiny", "mid"]))))} == {OPEN}


def full_score_from(by_backbone):
    def level(method, backbone, n):
        return 0.9 if method == "fine-tuning" or n >= by_backbone[backbone] else 0.7

    return level


@pytest.mark.parametrize(
    ("by_backbone", "verdict"),
    [
        ({"tiny": 16_384, "mid": 4_096, "large": 256}, YES),
        ({"tiny": 256, "mid": 1_024, "large": 16_384}, NO),
        ({"tiny": 1_024, "mid": 1_024, "large": 1_024}, OPEN),
        ({"tiny": 10**9, "mid": 1_024, "large": 256}, YES),
        ({"tiny": 256, "mid": 1_024, "large": 10**9}, NO),
    ],
)
def test_does_the_high_threshold_fall(by_backbone, verdict):
    trends = high_falls(thresholds(budget_points(StudyData.of(study(3, true_score=full_score_from(by_backbone))))))
    assert {t.what: t.verdict for t in trends}["apet-adjacent"] == verdict


def test_slope_bounds_are_the_extremes_over_all_points_in_the_ranges():
    x, low, high = np.array([5.0, 6.0, 7.0]), np.array([2.0, 1.0, 1.0]), np.array([3.0, 2.0, 1.5])
    corners = [
        np.polyfit(x, [low[0] if a else high[0], low[1] if b else high[1], low[2] if c else high[2]], 1)[0]
        for a in (0, 1)
        for b in (0, 1)
        for c in (0, 1)
    ]
    assert slope_bounds(x, low, high) == pytest.approx((min(corners), max(corners)))


def low_at(method, above, reached):
    return Threshold(
        Scale("mid", "bert", 10**6),
        "films",
        method,
        "low",
        ThresholdAnswer("low", "between", math.sqrt(above * min(reached, 10**6)), above, reached, 1, 10**6),
        (1, 10**6),
        3,
    )


@pytest.mark.parametrize(
    ("ranges", "verdict", "factor"),
    [
        ([(64, 128), (128, 256)], YES, (1, 4)),
        ([(64, 128), (4_096, 8_192)], NO, (32, 128)),
        ([(64, 1_024), (64, 1_024)], OPEN, (1, 16)),
        ([(64, 128), (64, math.inf)], OPEN, (1, math.inf)),
    ],
)
def test_are_the_low_thresholds_the_same(ranges, verdict, factor):
    trends = low_same([low_at(m, *r) for m, r in zip(("lora", "prompt"), ranges, strict=True)])
    assert [t.verdict for t in trends] == [verdict]
    assert (trends[0].ci_low, trends[0].ci_high) == pytest.approx(factor)


@pytest.mark.parametrize(("adjacent", "discrete", "verdict"), [(10.0, 20.0, YES), (20.0, 10.0, NO), (15.0, 15.0, NO)])
def test_does_adjacent_converge_faster(adjacent, discrete, verdict):
    data = StudyData.of(study(3))
    half_life = {"apet-adjacent": adjacent, "apet-discrete": discrete}
    learning_curves = checked_curves(curves(data.runs, lambda m: half_life.get(m, 15.0)), data.runs)
    trends = adjacent_faster(convergence_comparisons(data, convergences(data, learning_curves)))
    assert [t.where for t in trends] == list(SIZES)
    assert {t.verdict for t in trends} == {verdict}


def test_equal_steps_of_few_evaluations_are_no_proof_of_equal_speed():
    """Every curve converges at the same evaluation; with evaluations that far apart, one may still be faster."""
    data = StudyData.of(study(3, tasks=["films"], grid=()))
    learning_curves = checked_curves(curves(data.runs, lambda m: 15.0, points=9, every=25), data.runs)
    for trend in adjacent_faster(convergence_comparisons(data, convergences(data, learning_curves))):
        assert trend.estimate == 1
        assert trend.ci_low < 2**-SMALLEST_SPEEDUP < 2**SMALLEST_SPEEDUP < trend.ci_high
        assert trend.verdict == OPEN


@pytest.mark.parametrize(("within", "across", "verdict"), [(0.6, 0.4, YES), (0.4, 0.6, NO), (0.5, 0.5, NO)])
def test_does_transfer_work_within_a_category(within, across, verdict):
    data = StudyData.of(study(1))
    trends = transfer_within(transfer_scores(transfer(within=within, across=across), data), data)
    assert [t.verdict for t in trends] == [verdict]


def test_verdicts_leave_no_gap():
    assert below_zero(-2, -1, 0.5) == YES
    assert below_zero(-0.4, 1, 0.5) == NO
    assert below_zero(-2, 1, 0.5) == OPEN
