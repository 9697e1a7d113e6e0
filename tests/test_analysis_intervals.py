"""Intervals cover the truth as often as they say, and a difference within the noise is not called significant."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from apet.analysis.claims.verdict import slope
from apet.analysis.intervals import Estimate, bootstrap, t_interval
from apet.analysis.score_matrix import PAIRED, UNPAIRED, ScoreMatrix, average, difference, score_matrix
from apet.analysis.transfer import ratio_interval
from apet.errors import ApetError
from synthetic_results import row

DRAWS = 1_000


def covered(low, high, truth):
    return np.mean((low <= truth) & (truth <= high))


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_interval_over_seeds_covers_the_truth(seeds):
    values = np.random.default_rng(1).normal(0.8, 0.02, (DRAWS, seeds))
    _, _, low, high = t_interval(values)
    assert 0.93 <= covered(low, high, 0.8) <= 0.97


def test_the_interval_over_seeds_is_students():
    values = np.array([0.71, 0.74, 0.72, 0.78])
    mean, sd, low, high = t_interval(values)
    expected = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert (mean, sd) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert (low, high) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["accuracy", "f1"])
def test_the_bootstrap_over_items_covers_the_truth(kind):
    rng = np.random.default_rng(2)
    items = rng.random((DRAWS, 200)) < 0.8 if kind == "accuracy" else rng.beta(2, 3, (DRAWS, 200))
    low, high = bootstrap(items.astype(float))
    assert 0.93 <= covered(low, high, 0.8 if kind == "accuracy" else 0.4) <= 0.97


def wilson(p, n):
    z = stats.norm.ppf(0.975)
    center, half = (
        (p + z * z / 2 / n) / (1 + z * z / n),
        z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n),
    )
    return center - half, center + half


def cell(name, values, n=200):
    """Score matrix of one task from the scores of its seeds, with Wilson intervals."""
    v = np.array([values])
    low, high = wilson(v, n)
    run_ids = np.array([[f"{name}{s}" for s in range(v.size)]], dtype=object)
    return ScoreMatrix(name, ("films",), tuple(range(v.size)), v, low, high, np.full(v.shape, n), run_ids)


def test_the_unpaired_interval_of_a_difference_covers_the_truth():
    rng = np.random.default_rng(3)
    a, b = rng.binomial(200, 0.9, DRAWS) / 200, rng.binomial(200, 0.7, DRAWS) / 200
    estimates = [difference(cell("a", [x]), cell("b", [y]), {}) for x, y in zip(a, b, strict=True)]
    assert {e.ci_method for e in estimates} == {UNPAIRED}
    assert 0.93 <= covered(*np.array([(e.item_ci_low, e.item_ci_high) for e in estimates]).T, 0.2) <= 0.97


def test_the_paired_bootstrap_of_a_difference_covers_the_truth_and_is_narrower_where_items_agree():
    rng = np.random.default_rng(4)
    widths, hits = [], []
    for _ in range(DRAWS):
        hard = rng.random(200)
        a, b = (hard < 0.85).astype(float), (hard < 0.8).astype(float)
        flips = rng.random(200) < 0.1
        b = np.where(flips, rng.random(200) < 0.8, b)
        one, two = cell("a", [a.mean()]), cell("b", [b.mean()])
        paired = difference(one, two, {"a0": a, "b0": b})
        assert paired.ci_method == PAIRED
        hits.append(paired.item_ci_low <= 0.05 <= paired.item_ci_high)
        unpaired = difference(one, two, {})
        widths.append((paired.item_ci_high - paired.item_ci_low) / (unpaired.item_ci_high - unpaired.item_ci_low))
    assert 0.93 <= np.mean(hits) <= 0.97
    assert np.mean(widths) < 0.7


def test_the_difference_over_seeds_is_paired_by_seed_and_covers_the_truth():
    rng = np.random.default_rng(5)
    data = rng.normal(0, 0.05, (DRAWS, 3))  # what the seeds share, such as their data
    a, b = 0.8 + data + rng.normal(0, 0.005, (DRAWS, 3)), 0.75 + data + rng.normal(0, 0.005, (DRAWS, 3))
    estimates = [
        difference(cell("a", np.clip(x, 0, 1)), cell("b", np.clip(y, 0, 1)), {}) for x, y in zip(a, b, strict=True)
    ]
    low, high = np.array([(e.ci_low, e.ci_high) for e in estimates]).T
    assert 0.93 <= covered(low, high, 0.05) <= 0.97
    assert np.median(high - low) < 0.05


@pytest.mark.parametrize("points", [(1, 2), (1, 2, 3), (1, 1, 1, 2, 2, 2, 3, 3, 3)])
def test_the_interval_of_a_slope_covers_the_truth(points):
    x = np.array(points, dtype=float)
    y = 0.3 - 0.02 * x + np.random.default_rng(6).normal(0, 0.01, (DRAWS, len(x)))
    b, low, high = slope(x, y)
    if len(x) < 3:
        assert b.mean() == pytest.approx(-0.02, abs=0.002)
        assert np.isnan(low).all()
        assert np.isnan(high).all()
        return
    assert 0.93 <= covered(low, high, -0.02) <= 0.97
    fit = stats.linregress(x, y[0])
    half = stats.t.ppf(0.975, len(x) - 2) * fit.stderr
    assert (b[0], low[0], high[0]) == pytest.approx((fit.slope, fit.slope - half, fit.slope + half))


def test_the_interval_of_a_ratio_covers_the_truth():
    rng = np.random.default_rng(7)
    hits = []
    for a, b in rng.binomial(300, [0.6, 0.8], (DRAWS, 2)) / 300:
        low, high = ratio_interval((a, *wilson(a, 300)), (b, *wilson(b, 300)))
        hits.append(low <= 0.75 <= high)
    assert 0.93 <= np.mean(hits) <= 0.97


def test_a_ratio_to_nothing_has_no_upper_end():
    assert ratio_interval((0.5, 0.4, 0.6), (0.01, 0.0, 0.03))[1] == math.inf


@pytest.mark.parametrize(
    ("seeds", "items", "verdict"),
    [
        ((0.01, 0.03), (0.005, 0.04), "higher"),
        ((-0.03, -0.01), (-0.04, -0.005), "lower"),
        ((-0.01, 0.03), (0.005, 0.04), "no significant difference"),
        ((0.01, 0.03), (-0.005, 0.04), "no significant difference"),
        ((0.01, 0.03), (math.nan, math.nan), "higher"),
        ((math.nan, math.nan), (0.005, 0.04), "not decidable"),
    ],
)
def test_a_difference_within_either_noise_has_no_significant_difference(seeds, items, verdict):
    assert Estimate(0.02, 3, 0.01, *seeds, 100, *items, "b").verdict == verdict


def test_one_seed_has_a_value_and_no_spread():
    e = average(cell("a", [0.8]), {})
    assert (e.score, e.num_seeds) == (0.8, 1)
    assert math.isnan(e.sd)
    assert math.isnan(e.ci_low)
    assert e.item_ci_low < 0.8 < e.item_ci_high


def test_holes_are_refused_with_the_first_one_named_and_marked_when_allowed():
    runs = pd.DataFrame([row(run_id=f"{t}{s}", task=t, seed=s, score=0.7 + 0.01 * s) for t in "ab" for s in range(3)])
    whole = score_matrix(runs, "lora", ["a", "b"], range(3))
    incomplete = score_matrix(runs[runs["run_id"] != "b2"], "lora", ["a", "b"], range(3))
    assert average(whole, {}).num_missing == 0
    with pytest.raises(ApetError, match=r"1 of 6 runs are missing, first lora on b with seed 2; .* or allow holes"):
        average(incomplete, {})
    e = average(incomplete, {}, allow_holes=True)
    assert (e.score, e.num_seeds, e.num_tasks, e.num_missing) == (pytest.approx(0.705), 2, 2, 2)


def test_a_task_without_any_run_is_left_out_whole_rather_than_every_seed():
    runs = pd.DataFrame([row(run_id=f"a{s}", task="a", seed=s) for s in range(3)])
    e = average(score_matrix(runs, "lora", ["a", "b"], range(3)), {}, allow_holes=True)
    assert (e.num_tasks, e.num_seeds, e.num_missing) == (1, 3, 3)
    nothing = score_matrix(runs.head(0), "lora", ["a"], range(3))
    assert average(nothing, {}, allow_holes=True) is None


def test_the_interval_of_a_measure_ends_at_0_and_1():
    e = average(cell("a", [0.90, 0.99]), {})
    assert e.ci_high == 1.0
    assert e.ci_low < 0.8
    assert e.half_width > 0.4


def test_the_item_interval_of_a_mean_over_tasks_covers_the_truth():
    rng = np.random.default_rng(8)
    truth = np.array([0.95, 0.8, 0.6])
    hits = []
    for v in rng.binomial(200, truth, (DRAWS, 3)) / 200:
        low, high = wilson(v[:, None], 200)
        run_ids = np.full((3, 1), "k", dtype=object)
        e = average(ScoreMatrix("a", ("x", "y", "z"), (0,), v[:, None], low, high, np.full((3, 1), 200.0), run_ids), {})
        hits.append(e.item_ci_low <= truth.mean() <= e.item_ci_high)
    assert 0.93 <= np.mean(hits) <= 0.97
