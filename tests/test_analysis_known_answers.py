"""Known answers: the true gaps, structures, thresholds, steps and ratios of a synthetic study come out again."""

import math

import numpy as np
import pandas as pd
import pytest

import synthetic_results
from apet.analysis.convergence import convergence, convergence_comparisons, convergences
from apet.analysis.frames import CURVES, checked_curves
from apet.analysis.gap_by_scale import gaps
from apet.analysis.score_by_budget import budget_points
from apet.analysis.structure import structures
from apet.analysis.study import analyze
from apet.analysis.study_data import StudyData
from apet.analysis.thresholds import thresholds
from apet.analysis.transfer import transfer_scores
from apet.errors import ApetError
from synthetic_results import DEFAULT_SIZES, FULL_SCORE, GAPS, SIZES, TASKS, curves, failing, row, study, transfer


@pytest.fixture(scope="module")
def data():
    return StudyData.of(study(3))


def test_backbones_come_by_scale_methods_in_the_papers_order_and_tasks_by_category(data):
    assert [s.name for s in data.scales] == ["tiny", "mid", "large"]
    assert data.methods == ("fine-tuning", *DEFAULT_SIZES, "apet-adjacent", "apet-discrete")
    assert data.tasks("bert") == ("claims", "films", "shops")


def test_known_gaps_come_out(data):
    means = {(g.scale.name, g.method): g for g in gaps(data) if g.task is None}
    for backbone, gap in GAPS.items():
        for method, n in DEFAULT_SIZES.items():
            g = means[backbone, method]
            assert g.num_trainable == n
            assert g.is_default_size
            assert g.gap.score == pytest.approx(gap)
            assert (g.gap.num_seeds, g.gap.num_tasks, g.gap.num_missing) == (3, 3, 0)
            assert g.gap.verdict == "higher"
    assert means["mid", "fine-tuning"].gap is None
    assert means["mid", "fine-tuning"].score.score == pytest.approx(FULL_SCORE)


def test_a_gap_within_the_noise_has_no_significant_difference():
    def equal(method, backbone, n):
        return 0.8

    means = [g for g in gaps(StudyData.of(study(3, sd=0.02, true_score=equal))) if g.gap is not None and g.task is None]
    verdicts = [g.gap.verdict for g in means]
    assert verdicts.count("no significant difference") >= 0.9 * len(verdicts)


def test_a_method_that_never_ran_at_its_default_size_is_taken_at_its_largest(data):
    g = next(g for g in gaps(data) if g.method == "apet-discrete")
    assert (g.num_trainable, g.is_default_size) == (16_384, False)


def test_one_failed_run_is_refused_and_then_marked_and_never_a_zero():
    with_failure = failing(study(3), 4)
    with pytest.raises(ApetError, match="1 of 9 runs are missing, first fine-tuning"):
        gaps(StudyData.of(with_failure))
    with pytest.raises(ApetError, match=r"1 runs failed, first .* \(diverged"):
        budget_points(StudyData.of(with_failure))
    g = next(
        g for g in gaps(StudyData.of(with_failure), allow_holes=True) if g.method == "fine-tuning" and g.task is None
    )
    assert g.score.score == pytest.approx(FULL_SCORE)
    assert g.score.num_missing == 3
    assert g.score.num_seeds == 2


def test_structure_at_equal_counts(data):
    by_method = {(s.scale.name, s.method): s for s in structures(data) if s.task is None}
    assert set(by_method) == {(b, m) for b in SIZES for m in DEFAULT_SIZES}
    lora = by_method["mid", "lora"]
    assert lora.num_trainable == DEFAULT_SIZES["lora"]
    assert {k: round(v.score, 9) for k, v in lora.differences.items()} == {
        "method-adjacent": -GAPS["mid"],
        "method-discrete": 0,
        "adjacent-discrete": GAPS["mid"],
    }
    assert lora.differences["method-adjacent"].verdict == "lower"
    assert lora.differences["method-discrete"].verdict == "no significant difference"


def plan_of(runs):
    """What was to run: all that there is."""
    return runs[["backbone", "task", "method", "num_trainable", "seed"]]


def test_means_compare_the_same_tasks_and_seeds_only():
    """APET runs on the hard task alone: the method beside it is taken there, too, and no mean over all is made."""
    by_task = {"films": 0.9, "shops": 0.9, "claims": 0.6}
    runs = study(3, backbones=["mid"], grid=(), true_score=lambda m, b, n: 0.8)
    runs["score"] = runs["task"].map(by_task) - 0.02 * (runs["method"] == "lora")
    runs["ci_low"], runs["ci_high"] = runs["score"] - 0.01, runs["score"] + 0.01
    is_apet = runs["method"].str.startswith("apet")
    runs = runs[~is_apet | ((runs["task"] == "claims") & (runs["seed"] < 2))]
    data = StudyData.of(runs, planned=plan_of(runs))
    lora = next(s for s in structures(data) if s.method == "lora" and s.task is None)
    assert {m: (round(e.score, 9), e.num_tasks, e.num_seeds, e.num_missing) for m, e in lora.scores.items()} == {
        "lora": (0.58, 1, 2, 0),
        "apet-adjacent": (0.6, 1, 2, 0),
        "apet-discrete": (0.6, 1, 2, 0),
    }
    assert lora.differences["method-adjacent"].score == pytest.approx(-0.02)
    means = {g.method: g for g in gaps(data) if g.task is None}
    assert set(means) == {"fine-tuning", *DEFAULT_SIZES}
    assert means["lora"].score.num_tasks == 3
    assert {g.task for g in gaps(data) if g.method == "apet-adjacent"} == {"claims"}


def test_a_hole_is_what_was_planned_and_is_not_there():
    runs = study(3)
    planned_runs = runs[(runs["backbone"] != "large") | (runs["seed"] == 0)]  # the largest was to run once
    complete_data = StudyData.of(planned_runs, planned=plan_of(planned_runs))
    assert {g.score.num_missing for g in gaps(complete_data)} == {0}
    analyze(planned_runs, no_curves(), planned=plan_of(planned_runs))
    incomplete = planned_runs[(planned_runs["backbone"] != "tiny") | (planned_runs["seed"] < 2)]
    data = StudyData.of(incomplete, planned=plan_of(planned_runs))
    with pytest.raises(ApetError, match=r"3 of 9 runs are missing, first fine-tuning .* on tiny .* seed 2"):
        gaps(data)
    missing_by_scale = {g.scale.name: g.score.num_missing for g in gaps(data, allow_holes=True) if g.task is None}
    assert missing_by_scale == {"tiny": 3, "mid": 0, "large": 0}
    missing_by_point = {(x.scale.name, x.task): x.score.num_missing for x in budget_points(data, allow_holes=True)}
    assert {v for (b, _), v in missing_by_point.items() if b != "tiny"} == {0}
    assert (missing_by_point["tiny", None], missing_by_point["tiny", "films"]) == (3, 1)
    with pytest.raises(ApetError, match=r"\d+ of \d+ planned runs are missing, first fine-tuning .* on tiny"):
        analyze(incomplete, no_curves(), planned=plan_of(planned_runs))


def no_curves():
    return pd.DataFrame(columns=list(CURVES))


def test_known_thresholds_come_out(data):
    answers = {(t.scale.name, t.task, t.method, t.kind): t.answer for t in thresholds(budget_points(data))}
    for task in (None, *TASKS):
        low = answers["mid", task, "apet-adjacent", "low"]
        assert 64 <= low.ci_low < low.median < low.ci_high <= 256
        high = answers["mid", task, "apet-adjacent", "high"]
        assert 1_024 <= high.median <= 4_096
        never = answers["mid", task, "apet-discrete", "high"]
        assert never.state == "above the largest N"
        assert (never.ci_low, never.ci_high) == (16_384, math.inf)
    assert ("mid", None, "fine-tuning", "low") not in answers


def test_threshold_intervals_hold_the_true_threshold_under_noise():
    def rising(method, backbone, n):
        return 0.9 if method == "fine-tuning" else 0.5 if n < 700 else 0.7 if n < 3_000 else 0.9

    hits = {"low": [], "high": []}
    runs = study(4, sd=0.01, tasks=[f"task {i}" for i in range(20)], backbones=["mid"], true_score=rising)
    for t in thresholds(budget_points(StudyData.of(runs))):
        if t.task is not None:
            truth = 700 if t.kind == "low" else 3_000
            hits[t.kind].append(t.answer.ci_low <= truth <= t.answer.ci_high)
    assert len(hits["low"]) == len(hits["high"]) == 40
    assert np.mean(hits["low"]) >= 0.85
    assert np.mean(hits["high"]) >= 0.85


def test_a_low_threshold_lies_above_the_best_constant_answer_of_a_model_that_writes():
    def writes(method, backbone, n):
        return 0.9 if method == "fine-tuning" or n > 4_096 else 0.0 if n < 256 else 0.5

    runs = study(2, sd=0.002, tasks=["films"], backbones=["mid"], true_score=writes)
    runs = runs.assign(score_untrained=0.0, untrained_baseline=0.0, majority_baseline=0.5)
    low = next(t for t in thresholds(budget_points(StudyData.of(runs))) if t.kind == "low" and t.method[:4] == "apet")
    assert low.answer.ci_low >= 4_096


def test_intervals_of_known_gaps_and_structures_cover_them_under_noise(monkeypatch):
    """A thousand tasks of one made study: each has its own draw of the noise."""
    monkeypatch.setattr(synthetic_results, "DEFAULT_SIZES", {"lora": DEFAULT_SIZES["lora"]})
    runs = study(3, sd=0.01, tasks=[f"task {i}" for i in range(1_000)], backbones=["mid"], grid=())
    data = StudyData.of(runs)
    lora_gaps = [g.gap for g in gaps(data) if g.method == "lora" and g.task is not None]
    lora_minus_adjacent = [
        s.differences["method-adjacent"] for s in structures(data) if s.method == "lora" and s.task is not None
    ]
    assert len(lora_gaps) == len(lora_minus_adjacent) == 1_000
    for estimates, truth in ((lora_gaps, GAPS["mid"]), (lora_minus_adjacent, -GAPS["mid"])):
        assert 0.93 <= np.mean([e.ci_low <= truth <= e.ci_high for e in estimates]) <= 0.97


def test_the_mean_over_tasks_is_given_only_where_every_task_was_run():
    runs = study(2)
    runs = runs[~((runs["task"] == "films") & (runs["num_trainable"] == 256))]
    means = {(x.scale.name, x.method, x.num_trainable) for x in budget_points(StudyData.of(runs)) if x.task is None}
    assert ("mid", "apet-adjacent", 1_024) in means
    assert ("mid", "apet-adjacent", 256) not in means


@pytest.mark.parametrize("half_life", [5.0, 12.0, 20.0])
def test_steps_to_convergence_in_closed_form(half_life):
    steps = np.arange(0, 401, 10.0)
    values = 0.5 + 0.4 * (1 - 0.5 ** (steps / half_life))
    c = convergence(steps, values)
    # 95 % of the rise is made where 2^(−step / half-life) = 0.05; evaluations fall on tens
    assert c.steps == 10 * math.ceil(half_life * math.log2(20) / 10)
    assert c.plateau == pytest.approx(0.9, abs=1e-3)


def test_curves_without_a_plateau_get_no_number():
    steps = np.arange(0, 201, 10.0)
    assert convergence(steps, 0.5 + 0.001 * steps).state == "still rising"
    assert convergence(steps, np.full(21, 0.5), noise=0.02).state == "learned nothing"
    assert convergence(steps[:3], np.array([0.5, 0.8, 0.9])).state == "too short"
    assert math.isnan(convergence(steps, 0.5 + 0.001 * steps).steps)


def test_a_lucky_point_on_the_way_does_not_count_as_converged():
    steps = np.arange(0, 401, 10.0)
    values = 0.5 + 0.4 * (1 - 0.5 ** (steps / 40))
    lucky = values.copy()
    lucky[2] = 0.95
    assert convergence(steps, lucky).steps >= convergence(steps, values).steps - 10


def test_known_convergence_of_both_distributions(data):
    half_life = {"apet-adjacent": 10.0, "apet-discrete": 20.0}
    learning_curves = checked_curves(curves(data.runs, lambda m: half_life.get(m, 15.0)), data.runs)
    comparison = next(
        r
        for r in convergence_comparisons(data, convergences(data, learning_curves))
        if r.num_trainable == 4_096 and r.scale.name == "mid"
    )
    assert comparison.steps == {"apet-adjacent": 50.0, "apet-discrete": 90.0}
    assert comparison.log2_ratio.score == pytest.approx(math.log2(50 / 90))
    assert (comparison.pairs, comparison.left_out) == (9, 0)


def test_known_transfer(data):
    scores = transfer_scores(transfer(on_itself=0.8, within=0.6, across=0.4, seeds=1), data)
    by_pair = {(r.source, r.target): r for r in scores}
    assert by_pair["films", "shops"].relative.score == pytest.approx(0.75)
    assert by_pair["films", "claims"].relative.score == pytest.approx(0.5)
    assert by_pair["films", "films"].relative.score == 1
    low, high = by_pair["films", "shops"].relative.item_ci_low, by_pair["films", "shops"].relative.item_ci_high
    assert low < 0.75 < high
    assert by_pair["films", "shops"].base == 0.5
    assert by_pair["films", "shops"].by_seed == {0: (0.6, 0.8)}


def test_a_missing_pair_of_transfer_is_refused_or_left_out(data):
    incomplete = transfer().drop(index=[3])
    with pytest.raises(ApetError, match="transfer: 1 of 27 pairs"):
        transfer_scores(incomplete, data)
    assert {r.relative.num_missing for r in transfer_scores(incomplete, data, allow_holes=True)} == {0, 1}


def test_a_targets_score_on_itself_is_that_of_its_run(data):
    """What a store holds: the zero-shot measures alone, and of several counts."""
    zero_shot = transfer(within=0.6).query("source != target")
    smaller = zero_shot.assign(num_trainable=64, score=0.1, ci_low=0.05, ci_high=0.15)
    by_pair = {(r.source, r.target): r for r in transfer_scores(pd.concat([zero_shot, smaller]), data)}
    assert len(by_pair) == 9
    assert by_pair["films", "shops"].own_score == pytest.approx(FULL_SCORE)
    assert by_pair["films", "shops"].relative.score == pytest.approx(0.601 / FULL_SCORE)
    assert by_pair["films", "films"].relative.score == 1


def test_a_target_whose_score_on_itself_is_zero_has_no_relative_transfer(data):
    zero = transfer().assign(score=lambda t: np.where(t["target"] == "claims", 0.0, t["score"]), ci_low=0.0)
    assert {r.target for r in transfer_scores(zero, data)} == {"films", "shops"}


def test_item_scores_make_the_difference_paired():
    rows = [
        row(run_id=m, method=m, task="films", budget=None, num_trainable=n, score=0.5) for m, n in DEFAULT_SIZES.items()
    ]
    runs = pd.DataFrame(
        [*rows, row(run_id="full", method="fine-tuning", num_trainable=10**6, score=0.6, num_examples=10)]
    )
    scores = {"full": [1] * 6 + [0] * 4, **{m: [1] * 5 + [0] * 5 for m in DEFAULT_SIZES}}
    items = pd.DataFrame([{"run_id": k, "item": i, "score": s} for k, xs in scores.items() for i, s in enumerate(xs)])
    g = next(g for g in gaps(StudyData.of(runs, items)) if g.method == "lora")
    assert g.gap.ci_method == "items, paired bootstrap"
    assert g.gap.verdict == "not decidable"
    assert (g.gap.item_ci_low, g.gap.item_ci_high) == pytest.approx((0.0, 0.3), abs=1e-9)
