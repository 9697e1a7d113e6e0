"""The budget curve: planted thresholds come back, within intervals that hold them, whatever the order of the runs."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apet import ApetError
from apet.analysis.curve_posterior import rise
from apet.analysis.curve_values import HIGH_SHARE, LOW_SHARE, Levels, Reach, RunScore
from apet.analysis.curves import BudgetCurve, fit_curve

COUNTS = [2**k for k in range(17)]
BASE, FULL = 0.4, 0.8
SEVERAL = settings(max_examples=5, deadline=None)


def planted(location=8.0, width=1.0, noise=0.01, seeds=2, seed=0, ceiling=FULL, counts=COUNTS):
    """A logistic curve from 0.4 to 0.8 with normal noise, and full fine-tuning."""
    rng = np.random.default_rng(seed)
    share = 1 / (1 + np.exp(-(np.log2(counts) - location) / width))
    scores = BASE + (ceiling - BASE) * share + noise * rng.standard_normal((seeds, len(counts)))
    runs = [RunScore(n, float(s)) for row in scores for n, s in zip(counts, row, strict=True)]
    return runs, Levels(BASE, BASE, tuple(FULL + noise * rng.standard_normal(3)))


def fitted(**world) -> BudgetCurve:
    return fit_curve(*planted(**world))


def logit(share):
    return math.log(share / (1 - share))


@pytest.mark.parametrize(("location", "width"), [(5, 0.6), (8, 1.0), (9, 1.5)])
def test_planted_thresholds_come_back(location, width):
    curve = fitted(location=location, width=width)
    for kind, share in (("low", LOW_SHARE), ("high", HIGH_SHARE)):
        t = curve.threshold(kind)
        truth = location + width * logit(share)
        assert math.log2(t.median) == pytest.approx(truth, abs=0.6)
        assert t.ci_low <= 2**truth <= t.ci_high
        assert t.state == "between"
    assert curve.noise == pytest.approx(0.01, rel=0.7)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Both ways: an interval that is merely wide would hold it more often."""
    rng, covered = np.random.default_rng(1), {0.95: [], 0.5: []}
    for seed in range(30):
        location, width = rng.uniform(6, 9), math.exp(rng.uniform(-1, 0.5))
        curve = fitted(location=location, width=width, noise=0.03, seeds=1, seed=seed)
        for kind, share in (("low", LOW_SHARE), ("high", HIGH_SHARE)):
            truth = 2 ** (location + width * logit(share))
            for confidence, hits in covered.items():
                t = curve.threshold(kind, confidence=confidence)
                hits.append(t.ci_low <= truth <= t.ci_high)
    assert np.mean(covered[0.95]) >= 0.86  # of 60; three standard errors
    assert 0.3 <= np.mean(covered[0.5]) <= 0.8


@SEVERAL
@given(seed=st.integers(0, 10**6), noise=st.sampled_from([0.005, 0.02, 0.05]), order=st.randoms(use_true_random=False))
def test_the_order_of_the_runs_does_not_matter(seed, noise, order):
    runs, levels = planted(noise=noise, seed=seed, counts=COUNTS[::2])
    curve = fit_curve(runs, levels)
    order.shuffle(runs)
    again = fit_curve(runs, Levels(levels.untrained, levels.constant, levels.full[::-1]))
    for kind in ("low", "high"):
        assert again.threshold(kind) == curve.threshold(kind)


@SEVERAL
@given(location=st.floats(-4, 20), width=st.floats(0.05, 4), noise=st.sampled_from([0.005, 0.05]))
def test_more_confidence_never_narrows_an_interval_and_more_to_reach_never_lowers_a_threshold(location, width, noise):
    curve = fitted(location=location, width=width, noise=noise, seeds=1, counts=COUNTS[::2])
    inner, outer = (curve.threshold("high", confidence=c) for c in (0.5, 0.95))
    assert outer.ci_low <= inner.ci_low
    assert inner.ci_high <= outer.ci_high
    reached = [curve.threshold("high", Reach(share)).median for share in (0.3, 0.6, 0.95)]
    assert reached == sorted(reached)


def test_a_method_that_is_there_from_the_smallest_or_never():
    always, never = fitted(location=-8), fitted(location=30)
    assert {always.threshold(k).state for k in ("low", "high")} == {"below the smallest N"}
    assert {never.threshold(k).state for k in ("low", "high")} == {"above the largest N"}
    assert always.threshold("high").describe() == "below the smallest N (1)"
    assert never.threshold("low").describe() == "above the largest N (65,536)"


@pytest.mark.parametrize(("ceiling", "state"), [(0.7, "above the largest N"), (0.84, "between")])
def test_a_curve_may_saturate_below_or_above_full_fine_tuning(ceiling, state):
    curve = fitted(ceiling=ceiling)
    assert curve.threshold("high").state == state
    assert curve.band([65_536]).median[0] == pytest.approx(ceiling, abs=0.015)


def test_where_full_fine_tuning_gains_nothing_there_is_nothing_to_reach():
    curve = fit_curve([RunScore(4**k, 0.5) for k in range(6)], Levels(0.48, 0.5, (0.49, 0.5, 0.47)))
    assert {curve.threshold(k).state for k in ("low", "high")} == {"nothing to reach"}


def test_few_noisy_runs_decide_nothing():
    runs, levels = planted(noise=0.1, seeds=1, counts=[4, 256, 16_384])
    t = fit_curve(runs, levels).threshold("high")
    assert t.state == "not decided"
    assert t.describe().startswith("not decided (")


def test_the_low_threshold_lies_above_the_best_constant_answer_too():
    """A generative model that learns to say the majority's label has learned nothing yet."""
    scores = [0.0, 0.0, 0.5, 0.5, 0.5, 0.52, 0.7, 0.88, 0.9, 0.9]
    runs = [RunScore(4**k, s) for k, s in enumerate(scores) for _ in range(2)]
    low = fit_curve(runs, Levels(untrained=0.0, constant=0.5, full=(0.9, 0.9))).threshold("low")
    assert 4**5 <= low.median <= 4**6


def test_a_margin_is_points_below_full_fine_tuning():
    curve = fitted()
    by_share, by_margin = curve.threshold("high", Reach(0.9)), curve.threshold("high", Reach(margin=0.04))
    assert by_margin.median == pytest.approx(by_share.median, rel=0.05)
    for wrong in ({"share": 1.2}, {"margin": -0.01}):
        with pytest.raises(ApetError, match="give"):
            Reach(**wrong)


def test_the_band_holds_the_curve_and_widens_where_nothing_was_run():
    curve = fit_curve(*planted(seeds=3, counts=[1, 4, 16, 64, 128, 256, 512, 1024, 2**16]))
    band = curve.band([64, 256, 1024, 8192])
    truth = BASE + (FULL - BASE) / (1 + np.exp(-(np.log2(band.counts) - 8)))
    assert (band.ci_low <= truth + 0.005).all()
    assert (truth - 0.005 <= band.ci_high).all()
    assert (band.ci_high - band.ci_low)[3] > (band.ci_high - band.ci_low)[1]


def test_runs_on_items_of_their_own_are_less_certain():
    runs, levels = planted(noise=0.01, seeds=1)
    shared = fit_curve(runs, levels).threshold("low")
    alone = fit_curve([RunScore(r.num_trainable, r.score, 50) for r in runs], levels).threshold("low")
    assert alone.octaves > shared.octaves


def test_without_full_fine_tuning_the_curves_own_ceiling_stands_in():
    runs, _ = planted()
    low = fit_curve(runs, Levels(BASE, BASE)).threshold("low")
    assert math.log2(low.median) == pytest.approx(8 + logit(LOW_SHARE), abs=0.7)


def test_the_next_run_is_where_the_answer_lies_open():
    runs, levels = planted(noise=0.005, counts=[1, 16, 1024, 2**16], width=0.2, location=7)
    curve = fit_curve(runs, levels)
    chosen = curve.next_run("low", COUNTS)
    assert 32 <= chosen.num_trainable <= 512
    assert chosen.seed == 0
    assert chosen.expected_sd < 0.8 * chosen.sd
    again = curve.next_run("low", [1024], max_full_seeds=0)
    assert (again.num_trainable, again.seed) == (1024, 2)
    assert curve.next_run("low", [1024], max_seeds=2, max_full_seeds=3) is None


def test_the_first_of_several_next_runs_is_the_one_that_is_made_alone():
    curve = fitted(noise=0.03, seeds=1)
    alone = curve.next_run("high", COUNTS)
    several = curve.next_runs("high", COUNTS, 4, worth=0)
    assert several[0] == alone
    assert len(several) == 4
    assert len({(run.num_trainable, run.seed) for run in several}) == 4
    # What one has told, the next need not ask: each is expected to find less that is open.
    assert all(a.sd > b.sd for a, b in pairwise(several))
    assert curve.next_runs("high", COUNTS, 4, worth=1.01) == [alone]


def test_runs_made_together_tell_nearly_as_much_as_runs_made_one_after_another():
    """Four at once against four of which each knows the scores before it, over many worlds."""
    errors = {1: [], 4: []}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        location, width = rng.uniform(5, 11), 0.5
        for at_once, found in errors.items():
            made, levels = planted(location, width, 0.03, seeds=1, seed=seed, counts=COUNTS[2::4])
            luck = np.random.default_rng(100 + seed)
            for _ in range(8 // at_once):
                curve = fit_curve(made, levels, COUNTS[0], COUNTS[-1])
                for run in curve.next_runs("high", COUNTS, at_once, max_full_seeds=0, worth=0):
                    share = 1 / (1 + math.exp(-(math.log2(run.num_trainable) - location) / width))
                    score = BASE + (FULL - BASE) * share + 0.03 * float(luck.standard_normal())
                    made.append(RunScore(run.num_trainable, score))
            median = fit_curve(made, levels, COUNTS[0], COUNTS[-1]).threshold("high").median
            found.append(abs(math.log2(median) - location - width * logit(HIGH_SHARE)))
    assert np.mean(errors[4]) <= np.mean(errors[1]) + 0.25


def test_seeds_that_are_used_up_are_not_chosen_twice():
    runs, levels = planted(counts=[64, 1024], seeds=1)
    curve = fit_curve(runs, levels)
    chosen = curve.next_runs("low", [64], 9, max_seeds=3, max_full_seeds=4, worth=0)
    assert {(run.num_trainable, run.seed) for run in chosen} == {(64, 1), (64, 2), (None, 3)}


def test_a_failed_run_is_no_number_and_uses_its_seed():
    runs, levels = planted(counts=[64, 256, 1024])
    with_failed = fit_curve([*runs, RunScore(512, math.nan)], levels)
    assert with_failed.threshold("low") == fit_curve(runs, levels).threshold("low")
    assert with_failed.next_run("low", [512], max_full_seeds=0).seed == 1


@pytest.mark.parametrize(
    ("runs", "message"),
    [([RunScore(8, 0.5)], "two or more different counts"), ([RunScore(1, 83.0), RunScore(2, 84.0)], "score of 83")],
)
def test_what_cannot_be_a_curve_is_refused(runs, message):
    with pytest.raises(ApetError, match=message):
        fit_curve(runs, Levels(0.5, 0.5, (0.9,)))


@pytest.mark.parametrize(("zero", "unit"), [(-2000.0, 1500.0), (-1.2, 1.0), (3.0, 40.0)])
def test_a_metric_of_any_size_has_the_thresholds_of_its_scaled_self(zero, unit):
    """An error in dollars, whose negative is its score, is no other curve than an accuracy."""
    runs, levels = planted(seeds=2)
    # From the best that is had without training to full fine-tuning, an accuracy of 0.5 to 0.9.
    way = (sum(levels.full) / len(levels.full) - levels.base) / 0.4
    shares = [RunScore(r.num_trainable, 0.5 + (r.score - levels.base) / way) for r in runs]
    as_shares = Levels(0.5, 0.5, tuple(0.5 + (f - levels.base) / way for f in levels.full))
    others = [RunScore(r.num_trainable, zero + unit * r.score) for r in shares]
    moved = Levels(zero + unit * 0.5, zero + unit * 0.5, tuple(zero + unit * f for f in as_shares.full))
    expected, curve = fit_curve(shares, as_shares), fit_curve(others, moved)
    for kind in ("low", "high"):
        assert curve.threshold(kind).median == pytest.approx(expected.threshold(kind).median, rel=1e-6)
    band, other = expected.band([64, 512]), curve.band([64, 512])
    assert other.median == pytest.approx(zero + unit * band.median, rel=1e-6)
    assert curve.noise == pytest.approx(unit * expected.noise, rel=1e-6)


def test_a_variance_explained_below_zero_is_no_better_than_a_constant_answer():
    runs = [RunScore(2**k, -3.0 if k < 6 else 0.7) for k in range(12)]
    curve = fit_curve(runs, Levels(untrained=-3.2, constant=0.0, full=(0.7, 0.72)))
    assert 32 < curve.threshold("low").median <= 64


@given(shape=st.sampled_from([0.05, 0.4, 1.0, 3.0]), location=st.floats(-5, 20), width=st.floats(0.01, 5))
def test_every_shape_rises_from_0_to_1_through_a_half_at_its_location(shape, location, width):
    x = np.array([location - 60 * width, location - width, location, location + width, location + 60 * width])
    y = rise(x, np.array([location]), np.array([width]), np.array([shape]))[0]
    assert y == pytest.approx([0, y[1], 0.5, y[3], 1], abs=1e-6)
    assert (np.diff(y) > 0).all()
