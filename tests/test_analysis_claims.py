"""Each claim of the paper where it is true, where it is false and where the runs cannot tell."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from apet.analysis.claims import decide_claims
from apet.analysis.claims.complete_cells import largest_rectangle
from apet.analysis.claims.convergence import adjacent_faster, interval_mean, time_interval
from apet.analysis.claims.gap import gap_shrinks, log_odds
from apet.analysis.claims.structure import structure_fades, variance_between
from apet.analysis.claims.thresholds import high_falls, low_same
from apet.analysis.claims.transfer import transfer_within
from apet.analysis.claims.verdict import (
    ClaimRow,
    View,
    below_zero,
    holm,
    holm_p_values,
    joint_verdict,
    slope,
    slope_view,
)
from apet.analysis.curve_values import ThresholdAnswer
from apet.analysis.frames import checked_curves
from apet.analysis.score_by_budget import budget_points
from apet.analysis.study_data import Scale, StudyData
from apet.analysis.thresholds import Threshold, thresholds
from apet.analysis.transfer import transfer_scores
from planted_studies import Noise, ceiling, observed, runs_of, sizes, with_odds_ratio
from synthetic_results import TASKS, curves, study, transfer

YES, NO, DEPENDS, OPEN = "supported", "not supported", "depends on the view", "not decidable with these runs"
SCALES = 6
CALM = Noise(scale=0.003, cell=0.005, seed=0.01, num_items=1_000_000)


def planted_gaps(own, equal=None, num_scales=SCALES, full=None, **wanted):
    """A study of full fine-tuning and LoRA, whose own N grows; gaps in log odds at own and equal N by scale."""
    full = ceiling(num_scales, 3, 0.85, 0.85) if full is None else full
    gaps_by_arm = [own] if equal is None else [own, equal]
    arms = [full, *(with_odds_ratio(full, np.broadcast_to(g, num_scales)[:, None]) for g in gaps_by_arm)]
    scores = observed(np.stack(arms, axis=-1), 1, 2, wanted.get("noise", CALM))[0]
    growing = [round(10**x / 50) for x in sizes(num_scales)]
    names = [
        ("fine-tuning", [50 * n for n in growing], None),
        ("lora", growing, None),
        ("lora", [500] * num_scales, "500"),
    ]
    return StudyData.of(runs_of(scores, sizes(num_scales), names[: len(arms)]))


CLOSING = np.linspace(0.8, 0.2, SCALES)


def test_a_gap_that_closes_at_own_and_at_equal_counts_is_supported_in_every_view():
    (row,) = holm(gap_shrinks(planted_gaps(CLOSING, CLOSING)))
    assert (row.where, row.what, row.verdict) == ("bert", "lora", YES)
    assert [v.name for v in row.views] == ["points, own N", "log odds, own N", "points, equal N", "log odds, equal N"]
    slope_of_log_odds = -0.6 / 2  # from 0.8 to 0.2 over two tenfolds
    assert row.views[1].ci_low <= slope_of_log_odds <= row.views[1].ci_high
    assert row.views[3].estimate == pytest.approx(slope_of_log_odds, abs=0.03)


def test_a_gap_that_closes_with_n_alone_depends_on_the_view():
    (row,) = holm(gap_shrinks(planted_gaps(CLOSING, 0.5)))
    assert {v.name: v.verdict for v in row.views} == {
        "points, own N": YES,
        "log odds, own N": YES,
        "points, equal N": NO,
        "log odds, equal N": NO,
    }
    assert row.verdict == DEPENDS


def test_without_runs_at_equal_counts_what_scale_does_is_not_told_from_what_n_does():
    (row,) = holm(gap_shrinks(planted_gaps(CLOSING)))
    assert row.verdict == OPEN
    assert "no runs at equal N" in row.note


def test_an_odds_ratio_that_stays_closes_in_points_under_a_rising_ceiling():
    (row,) = holm(gap_shrinks(planted_gaps(0.5, 0.5, full=ceiling(SCALES, 3))))
    assert {v.verdict for v in row.views if v.name.startswith("points")} == {YES}
    assert {v.verdict for v in row.views if v.name.startswith("log odds")} <= {NO, OPEN}
    assert row.verdict in (DEPENDS, OPEN)


def test_cells_at_the_ceiling_are_left_out_and_said():
    full = ceiling(SCALES, 3, 0.85, 0.85)
    full[4:, 0] = 0.985
    (row,) = holm(gap_shrinks(planted_gaps(CLOSING, CLOSING, full=full)))
    assert "left out at own N: 2 of 18 cells at the ceiling" in row.note
    assert "6 means of a scale over 2 of 3 cells each" in row.views[0].basis
    assert row.verdict == YES


def test_where_nothing_is_learnt_there_is_no_gap():
    (row,) = gap_shrinks(planted_gaps(0.0, 0.0, full=np.full((SCALES, 3), 0.51)))
    assert row.verdict == OPEN
    assert "18 of 18 at the floor" in row.note


@pytest.mark.parametrize("num_scales", [1, 2])
def test_fewer_than_three_scales_decide_nothing(num_scales):
    own = np.linspace(0.8, 0.2, num_scales)
    rows = gap_shrinks(planted_gaps(own, own, num_scales=num_scales))
    assert [r.verdict for r in rows] == [OPEN] * (num_scales - 1)


def test_equal_default_sizes_are_equal_counts():
    data = StudyData.of(study(2, sd=0.001))
    rows = {r.what: r for r in gap_shrinks(data)}
    assert {v.name for v in rows["lora"].views} == {"points, equal N", "log odds, equal N"}
    assert rows["mean of 6 methods"].where == "bert"


def test_seeds_are_paired_by_their_number_not_by_their_place():
    """LoRA has seed 1 alone: what full fine-tuning does with seed 0 must not enter its gap."""
    runs = study(2, tasks=["films"], grid=())
    runs = runs[(runs["method"] != "lora") | (runs["seed"] == 1)].copy()
    runs.loc[(runs["method"] == "fine-tuning") & (runs["seed"] == 0), ["score", "ci_low", "ci_high"]] = 0.95, 0.94, 0.96
    row = next(r for r in gap_shrinks(StudyData.of(runs)) if r.what == "lora")
    assert row.views[0].estimate == pytest.approx(-2)  # 6, 4 and 2 points


@pytest.mark.parametrize("scatter", [0.0, 0.5, 1.0])
def test_the_interval_of_a_trend_covers_the_truth_also_where_backbones_scatter_about_the_line(scatter):
    rng = np.random.default_rng(9)
    x = np.arange(4.0)
    line = 6 - x[:, None] + scatter * rng.standard_normal((2_000, 4, 1)) + 0.5 * rng.standard_normal((2_000, 4, 3))
    _, low, high = slope(x, line.mean(axis=2))
    assert 0.93 <= np.mean((low <= -1) & (high >= -1)) <= 0.97
    _, pooled_low, pooled_high = slope(np.repeat(x, 3), line.reshape(2_000, 12))
    if scatter == 1.0:  # why a scale is one point: seeds alone know nothing of the scatter
        assert np.mean((pooled_low <= -1) & (pooled_high >= -1)) < 0.75


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=9))
def test_slope_and_p_value_are_those_of_linear_regression(values):
    y = np.array(values) + 0.01 * np.arange(len(values)) ** 2
    x = np.arange(float(len(y)))
    reference = stats.linregress(x, y, alternative="two-sided")
    view = slope_view("", "", x, y, 0.1, "")
    assert view.estimate == pytest.approx(reference.slope, abs=1e-9)
    if reference.slope < -1e-9 and reference.stderr > 1e-9:
        assert view.p_value == pytest.approx(reference.pvalue, rel=1e-6)
        assert (view.ci_high < 0) == (view.p_value < 0.05)
    elif reference.slope > 0:
        assert view.p_value == 1


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_the_rectangle_of_usable_cells_is_complete_and_none_is_larger(cells):
    usable = np.array(cells).reshape(4, 3)
    scales, columns = largest_rectangle(usable)
    assert usable[np.ix_(scales, columns)].all()
    sizes_of_all = [
        len(rows) * sum(usable[list(rows), j].all() for j in range(3))
        for mask in product([False, True], repeat=4)
        if len(rows := tuple(np.flatnonzero(mask))) >= 3
    ]
    assert len(scales) * len(columns) == max(sizes_of_all)


def test_log_odds_of_none_and_of_all_are_finite():
    assert log_odds(np.array([0.0, 0.5, 1.0]), np.full(3, 100.0)).tolist() == pytest.approx(
        [-math.log(201), 0, math.log(201)]
    )


def test_the_variance_between_structures_is_free_of_the_seeds_share():
    rng = np.random.default_rng(3)
    offsets = np.array([2.0, 0.0, -1.0, -1.0])
    scores = offsets[:, None] + 1.5 * rng.standard_normal((20_000, 4, 3))
    assert variance_between(scores).mean() == pytest.approx(offsets.var(ddof=1), rel=0.02)
    assert variance_between(scores - offsets[:, None]).mean() == pytest.approx(0, abs=0.02)


def planted_structures(own, equal):
    """LoRA, adjacent and discrete at LoRA's own N and at 500; what lies between them by scale, in log odds."""
    level, apart = ceiling(SCALES, 3, 0.85, 0.85)[..., None], np.array([0.5, 0.0, -0.5])
    names = ("lora", "apet-adjacent", "apet-discrete")
    arms = [with_odds_ratio(level, np.broadcast_to(a, SCALES)[:, None, None] * apart) for a in (own, equal)]
    scores = observed(np.concatenate(arms, axis=-1), 1, 2, CALM)[0]
    growing = [round(10**x / 50) for x in sizes(SCALES)]
    at_own = [(m, growing, None if m == "lora" else "=lora") for m in names]
    return StudyData.of(runs_of(scores, sizes(SCALES), [*at_own, *((m, [500] * SCALES, "500") for m in names)]))


@pytest.mark.parametrize(
    ("own", "equal", "verdict"),
    [
        (np.linspace(1, 0.2, SCALES), np.linspace(1, 0.2, SCALES), {YES}),
        (np.linspace(1, 0.2, SCALES), 0.6, {DEPENDS, OPEN}),
        (np.linspace(0.2, 1, SCALES), np.linspace(0.2, 1, SCALES), {NO}),
    ],
)
def test_does_structure_matter_less_at_scale(own, equal, verdict):
    (row,) = holm(structure_fades(planted_structures(own, equal)))
    assert (row.where, row.what) == ("bert", "3 structures")
    assert row.verdict in verdict


def known_to(kind, method, scale, low, high, tried=(1, 10**6)):
    """A threshold whose posterior is even, in log N, over a range; infinite = beyond the counts tried."""
    end = high if math.isfinite(high) else 2 * tried[-1]
    draws = np.linspace(math.log2(low), math.log2(end), 1000)
    crossings = np.where(draws > math.log2(tried[-1]), np.inf, draws)
    answer = ThresholdAnswer(kind, "between", math.sqrt(low * min(high, 10**6)), low, high, *tried)
    return Threshold(scale, "films", method, kind, answer, tried, 3, crossings)


@pytest.mark.parametrize(
    ("middles", "verdict"),
    [
        ([30_000, 10_000, 3_000, 1_000, 300], YES),
        ([300, 1_000, 3_000, 10_000, 30_000], NO),
        ([1_000, 1_010, 1_000, 1_010, 1_000], NO),
        ([3_000, 100, 10_000, 300, 1_000], OPEN),
        ([math.inf, 10_000, 3_000, 1_000, 300], YES),
        ([30_000, 10_000, 3_000, 1_000, math.inf], OPEN),
        ([10_000, 1_000], OPEN),
    ],
)
def test_does_the_high_threshold_fall(middles, verdict):
    made = [
        known_to("high", "lora", Scale(f"s{i}", "bert", 10 ** (5 + i)), *((5e5, m) if math.isinf(m) else (m, 1.05 * m)))
        for i, m in enumerate(middles)
    ]
    (row,) = holm(high_falls(made))
    assert (row.where, row.what, row.verdict) == ("bert", "lora", verdict)


def test_thresholds_keep_the_draws_that_their_answers_rest_on():
    made = thresholds(budget_points(StudyData.of(study(2, sd=0.005, tasks=["films"], backbones=["mid"]))))
    for t in made:
        assert 2 ** np.quantile(t.crossings, 0.5, method="inverted_cdf") == pytest.approx(t.answer.median)


@pytest.mark.parametrize(
    ("ranges", "verdict", "factor"),
    [
        ([(64, 128), (128, 256)], YES, (1, 4)),
        ([(64, 128), (4_096, 8_192)], NO, (32, 128)),
        ([(64, 8_192), (64, 8_192)], OPEN, (1, 128)),
        ([(64, 128), (64, math.inf)], OPEN, (1, math.inf)),
    ],
)
def test_are_the_low_thresholds_the_same(ranges, verdict, factor):
    mid = Scale("mid", "bert", 10**6)
    (row,) = low_same([known_to("low", m, mid, *r) for m, r in zip(("lora", "prompt"), ranges, strict=True)])
    assert row.verdict == verdict
    (view,) = row.views
    assert factor[0] <= view.ci_low <= view.ci_high <= factor[1]  # draws of two ranges lie within what both allow
    assert math.isinf(view.ci_high) == math.isinf(factor[1])


def equal_ends(method, backbone, n):
    return 0.9


@pytest.mark.parametrize(("adjacent", "discrete", "verdict"), [(10.0, 20.0, YES), (20.0, 10.0, NO), (15.0, 15.0, OPEN)])
def test_does_adjacent_converge_faster(adjacent, discrete, verdict):
    data = StudyData.of(study(2, backbones=["mid"], true_score=equal_ends))
    half_life = {"apet-adjacent": adjacent, "apet-discrete": discrete}
    learning_curves = checked_curves(curves(data.runs, lambda m: half_life.get(m, 15.0)), data.runs)
    (row,) = holm(adjacent_faster(data, learning_curves))
    assert (row.where, row.verdict) == ("mid", verdict)
    ratio = row.views[1]
    assert ratio.ci_low <= math.log2(adjacent / discrete) <= ratio.ci_high


def test_a_higher_plateau_is_not_a_faster_way_to_it():
    """Adjacent ends higher from 4,096 on, at the same pace: it passes a level that both share sooner."""
    data = StudyData.of(study(2, backbones=["mid"]))
    learning_curves = checked_curves(curves(data.runs, lambda m: 15.0), data.runs)
    (row,) = holm(adjacent_faster(data, learning_curves))
    assert {v.name: v.verdict for v in row.views}["signs, common plateau"] == YES
    assert row.verdict in (OPEN, DEPENDS)


def test_a_run_that_never_arrives_counts_as_later():
    """Discrete still rises when the steps are up: a rule that drops such pairs would have nothing to go by."""
    data = StudyData.of(study(2, backbones=["mid"], tasks=["films"], true_score=equal_ends))
    half_life = {"apet-adjacent": 10.0, "apet-discrete": 90.0}
    learning_curves = checked_curves(curves(data.runs, lambda m: half_life.get(m, 15.0)), data.runs)
    (row,) = holm(adjacent_faster(data, learning_curves))
    assert "with a run that never arrives" in row.views[0].basis
    assert not row.views[0].basis.split(", ")[1].startswith("0 ")
    assert row.verdict == YES


def test_one_evaluation_for_all_is_no_proof_of_equal_speed():
    data = StudyData.of(study(3, tasks=["films"], grid=(), backbones=["mid"], true_score=equal_ends))
    learning_curves = checked_curves(curves(data.runs, lambda m: 15.0, points=9, every=25), data.runs)
    (row,) = adjacent_faster(data, learning_curves)
    assert (row.verdict, row.views[0].estimate) == (OPEN, 0)


def test_a_time_lies_between_two_evaluations():
    steps, values = np.array([0.0, 10, 20, 30]), np.array([0.5, 0.6, 0.85, 0.9])
    assert time_interval(steps, values, 0.8) == (10, 20)
    assert time_interval(steps, values, 0.4) == (0, 0)
    assert time_interval(steps, values, 0.95) == (30, math.inf)


def test_the_mean_of_intervals_is_the_censored_maximum_likelihood():
    """Against scipy's own fit of censored values."""
    rng = np.random.default_rng(5)
    values = 0.4 + 0.8 * rng.standard_normal(60)
    lows, highs = np.floor(2 * values) / 2, np.floor(2 * values) / 2 + 0.5
    highs[values > 1] = np.inf
    lows[values > 1] = 1.0
    data = stats.CensoredData(right=np.ones((values > 1).sum()), interval=np.column_stack([lows, highs])[values <= 1])
    reference, _ = stats.norm.fit(data)
    mean, error = interval_mean(lows, highs, np.arange(60.0))
    assert mean == pytest.approx(reference, abs=0.01)
    assert error == pytest.approx(0.8 / math.sqrt(60), rel=0.3)


def test_transfer_within_three_tasks_is_not_decidable_however_large():
    data = StudyData.of(study(1))
    (row,) = transfer_within(transfer_scores(transfer(within=0.75, across=0.5), data), data.categories)
    assert row.verdict == OPEN
    assert "3 arrangements of the categories, too few" in row.views[0].basis
    assert row.views[0].estimate == pytest.approx(100 * -0.25 / 0.3, abs=0.5)  # of 30 points above the baseline


def test_a_target_on_which_training_gains_nothing_has_no_transfer():
    data = StudyData.of(study(1))
    scores = transfer_scores(transfer(on_itself=0.52, within=0.52, across=0.5), data)
    assert transfer_within(scores, data.categories) == []


def test_a_claim_is_supported_only_where_all_its_views_agree():
    assert joint_verdict([YES, YES]) == YES
    assert joint_verdict([YES, OPEN]) == OPEN
    assert joint_verdict([YES, NO]) == DEPENDS
    assert joint_verdict([OPEN, NO]) == NO


def row_with(p, verdict=YES):
    return ClaimRow.of("c", "w", "m", [View("", "n", -1.0, -2.0, -0.1, p, verdict, "b")])


def test_a_row_that_is_supported_alone_need_not_be_among_many():
    alone, among = holm([row_with(0.03)]), holm([row_with(0.03), *(row_with(0.5, OPEN) for _ in range(3))])
    assert (alone[0].verdict, alone[0].p_value) == (YES, pytest.approx(0.03))
    assert (among[0].verdict, among[0].p_value) == (OPEN, pytest.approx(0.12))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holms_correction_rejects_what_its_steps_reject(p_values, level):
    """The method as it is told: from the smallest on, each against the level over the number of those left."""
    rejected = []
    for step, p in enumerate(sorted(p_values)):
        if p * (len(p_values) - step) > level:
            break
        rejected.append(p)
    assert sorted(p for p, c in zip(p_values, holm_p_values(p_values), strict=True) if c <= level) == rejected


def test_holms_correction_of_a_known_case():
    """From R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm_p_values([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_rows_without_a_test_do_not_count():
    first, second = holm([row_with(0.04), row_with(math.nan, OPEN)])
    assert (first.p_value, first.verdict, second.verdict) == (pytest.approx(0.04), YES, OPEN)


def test_verdicts_leave_no_gap():
    assert below_zero(-2, -1, 0.5) == YES
    assert below_zero(-0.4, 1, 0.5) == NO
    assert below_zero(-2, 1, 0.5) == OPEN
    assert below_zero(math.nan, math.nan, 0.5) == OPEN


def test_every_claim_is_decided_from_one_study():
    data = StudyData.of(study(2, sd=0.01))
    learning_curves = checked_curves(curves(data.runs, lambda m: 15.0), data.runs)
    made = thresholds(budget_points(data))
    rows = decide_claims(data, learning_curves, made, transfer_scores(transfer(seeds=2), data))
    assert len({r.claim for r in rows}) == 6
    assert set(TASKS) == set(data.categories)
