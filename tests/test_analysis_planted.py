"""Golden numbers: on a made study the planted gaps, structures, thresholds, steps and ratios come out again."""

import math

import numpy as np
import pandas as pd
import pytest

import planted
from apet.analysis.budget_curves import budget_points
from apet.analysis.convergence import convergence, convergence_comparisons, convergences
from apet.analysis.frames import CURVES, checked_curves
from apet.analysis.gaps import gaps
from apet.analysis.intervals import Estimate
from apet.analysis.structure import structures
from apet.analysis.study import analyze
from apet.analysis.study_data import StudyData
from apet.analysis.thresholds import above_chance, bracket, thresholds
from apet.analysis.transfer import transfer_scores, within_against_across
from apet.errors import ApetError
from planted import FULL_LEVEL, GAPS, OWN, SIZES, TASKS, curves, failing, row, study, transfer


@pytest.fixture(scope="module")
def board():
    return StudyData.of(study(3))


def test_backbones_come_by_scale_methods_in_the_papers_order_and_tasks_by_category(board):
    assert [s.name for s in board.scales] == ["tiny", "mid", "large"]
    assert board.methods == ("fine-tuning", *OWN, "apet-adjacent", "apet-discrete")
    assert board.tasks("bert") == ("claims", "films", "shops")


def test_planted_gaps_come_out(board):
    found = {(g.scale.name, g.method): g for g in gaps(board) if g.task is None}
    for backbone, gap in GAPS.items():
        for method, n in OWN.items():
            g = found[backbone, method]
            assert g.num_trainable == n
            assert g.is_default_size
            assert g.gap.score == pytest.approx(gap)
            assert (g.gap.num_seeds, g.gap.num_tasks, g.gap.num_missing) == (3, 3, 0)
            assert g.gap.verdict == "higher"
    assert found["mid", "fine-tuning"].gap is None
    assert found["mid", "fine-tuning"].score.score == pytest.approx(FULL_LEVEL)


def test_a_gap_within_the_noise_is_not_distinguished():
    def equal(method, backbone, n):
        return 0.8

    found = [g for g in gaps(StudyData.of(study(3, sd=0.02, planted=equal))) if g.gap is not None and g.task is None]
    verdicts = [g.gap.verdict for g in found]
    assert verdicts.count("not distinguished") >= 0.9 * len(verdicts)


def test_a_method_that_never_chose_its_own_size_is_taken_at_its_largest(board):
    g = next(g for g in gaps(board) if g.method == "apet-discrete")
    assert (g.num_trainable, g.is_default_size) == (16_384, False)


def test_one_failed_run_is_refused_and_then_marked_and_never_a_zero():
    torn = failing(study(3), at=4)
    with pytest.raises(ApetError, match="1 of 9 runs are missing, first fine-tuning"):
        gaps(StudyData.of(torn))
    with pytest.raises(ApetError, match=r"1 runs failed, first .* \(diverged"):
        budget_points(StudyData.of(torn))
    g = next(g for g in gaps(StudyData.of(torn), allow_holes=True) if g.method == "fine-tuning" and g.task is None)
    assert g.score.score == pytest.approx(FULL_LEVEL)
    assert g.score.num_missing == 3
    assert g.score.num_seeds == 2


def test_structure_at_equal_counts(board):
    found = {(s.scale.name, s.method): s for s in structures(board) if s.task is None}
    assert set(found) == {(b, m) for b in SIZES for m in OWN}
    lora = found["mid", "lora"]
    assert lora.num_trainable == OWN["lora"]
    assert {k: round(v.score, 9) for k, v in lora.differences.items()} == {
        "method-adjacent": -GAPS["mid"],
        "method-discrete": 0,
        "adjacent-discrete": GAPS["mid"],
    }
    assert lora.differences["method-adjacent"].verdict == "lower"
    assert lora.differences["method-discrete"].verdict == "not distinguished"


def plan_of(frame):
    """What was to run: all that there is."""
    return frame[["backbone", "task", "method", "num_trainable", "seed"]]


def test_means_compare_the_same_tasks_and_seeds_only():
    """APET runs on the hard task alone: the method beside it is taken there, too, and no mean over all is made."""
    by_task = {"films": 0.9, "shops": 0.9, "claims": 0.6}
    frame = study(3, backbones=["mid"], grid=(), planted=lambda m, b, n: 0.8)
    frame["score"] = frame["task"].map(by_task) - 0.02 * (frame["method"] == "lora")
    frame["ci_low"], frame["ci_high"] = frame["score"] - 0.01, frame["score"] + 0.01
    apet = frame["method"].str.startswith("apet")
    frame = frame[~apet | ((frame["task"] == "claims") & (frame["seed"] < 2))]
    board = StudyData.of(frame, planned=plan_of(frame))
    lora = next(s for s in structures(board) if s.method == "lora" and s.task is None)
    assert {m: (round(e.score, 9), e.num_tasks, e.num_seeds, e.num_missing) for m, e in lora.scores.items()} == {
        "lora": (0.58, 1, 2, 0),
        "apet-adjacent": (0.6, 1, 2, 0),
        "apet-discrete": (0.6, 1, 2, 0),
    }
    assert lora.differences["method-adjacent"].score == pytest.approx(-0.02)
    means = {g.method: g for g in gaps(board) if g.task is None}
    assert set(means) == {"fine-tuning", *OWN}
    assert means["lora"].score.num_tasks == 3
    assert {g.task for g in gaps(board) if g.method == "apet-adjacent"} == {"claims"}


def test_a_hole_is_what_was_planned_and_is_not_there():
    frame = study(3)
    short = frame[(frame["backbone"] != "large") | (frame["seed"] == 0)]  # the largest was to run once
    whole = StudyData.of(short, planned=plan_of(short))
    assert {g.score.num_missing for g in gaps(whole)} == {0}
    analyze(short, no_curves(), planned=plan_of(short))
    torn = short[(short["backbone"] != "tiny") | (short["seed"] < 2)]
    board = StudyData.of(torn, planned=plan_of(short))
    with pytest.raises(ApetError, match=r"3 of 9 runs are missing, first fine-tuning .* on tiny .* seed 2"):
        gaps(board)
    found = {g.scale.name: g.score.num_missing for g in gaps(board, allow_holes=True) if g.task is None}
    assert found == {"tiny": 3, "mid": 0, "large": 0}
    by_level = {(x.scale.name, x.task): x.score.num_missing for x in budget_points(board, allow_holes=True)}
    assert {v for (b, _), v in by_level.items() if b != "tiny"} == {0}
    assert (by_level["tiny", None], by_level["tiny", "films"]) == (3, 1)
    with pytest.raises(ApetError, match=r"\d+ of \d+ planned runs are missing, first fine-tuning .* on tiny"):
        analyze(torn, no_curves(), planned=plan_of(short))


def no_curves():
    return pd.DataFrame(columns=list(CURVES))


def test_planted_thresholds_come_out(board):
    found = {(t.scale.name, t.task, t.method, t.kind): t.bracket for t in thresholds(budget_points(board))}
    for task in (None, *TASKS):
        low = found["mid", task, "apet-adjacent", "low"]
        assert (low.lower, low.upper, low.monotone) == (64, 256, True)
        high = found["mid", task, "apet-adjacent", "high"]
        assert (high.lower, high.upper) == (1_024, 4_096)
        never = found["mid", task, "apet-discrete", "high"]
        assert (never.lower, never.upper) == (16_384, math.inf)
    assert ("mid", None, "fine-tuning", "low") not in found


def test_threshold_ranges_hold_the_planted_threshold_under_noise():
    def rising(method, backbone, n):
        return 0.9 if method == "fine-tuning" else 0.5 if n < 1_024 else 0.7 if n < 4_096 else 0.9

    hits = {"low": [], "high": []}
    frame = study(4, sd=0.01, tasks=[f"task {i}" for i in range(100)], backbones=["mid"], planted=rising)
    for t in thresholds(budget_points(StudyData.of(frame))):
        if t.task is not None:
            truth = 1_024 if t.kind == "low" else 4_096
            hits[t.kind].append(t.bracket.lower < truth <= t.bracket.upper)
    assert len(hits["low"]) == len(hits["high"]) == 200
    assert np.mean(hits["low"]) >= 0.93
    assert np.mean(hits["high"]) >= 0.93


def test_intervals_of_planted_gaps_and_structures_cover_them_under_noise(monkeypatch):
    """A thousand tasks of one made study: each has its own draw of the noise."""
    monkeypatch.setattr(planted, "OWN", {"lora": OWN["lora"]})
    frame = study(3, sd=0.01, tasks=[f"task {i}" for i in range(1_000)], backbones=["mid"], grid=())
    board = StudyData.of(frame)
    behind = [g.gap for g in gaps(board) if g.method == "lora" and g.task is not None]
    beside = [s.differences["method-adjacent"] for s in structures(board) if s.method == "lora" and s.task is not None]
    assert len(behind) == len(beside) == 1_000
    for found, truth in ((behind, GAPS["mid"]), (beside, -GAPS["mid"])):
        assert 0.93 <= np.mean([e.ci_low <= truth <= e.ci_high for e in found]) <= 0.97


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("ffpp", (20, 30, 0, True)),
        ("pppp", (0, 10, 0, True)),
        ("ffff", (40, math.inf, 0, True)),
        ("fpfp", (10, 40, 0, False)),
        ("fupp", (10, 30, 1, True)),
        ("uupp", (0, 30, 2, True)),
        ("fpuu", (10, 20, 0, True)),
        ("pffp", (0, 40, 0, False)),
    ],
)
def test_a_bracket_takes_in_whatever_the_counts_leave_open(states, expected):
    words = {"f": "fails", "p": "passes", "u": "undecided"}
    b = bracket([10, 20, 30, 40], [words[s] for s in states])
    assert (b.lower, b.upper, b.undecided, b.monotone) == expected


@pytest.mark.parametrize(
    ("seeds", "items", "state"),
    [
        ((0.6, 0.8), (0.65, 0.75), "passes"),
        ((0.2, 1.0), (0.65, 0.75), "undecided"),
        ((0.3, 0.7), (0.45, 0.55), "fails"),
    ],
)
def test_few_seeds_leave_open_what_the_items_show_above_chance(seeds, items, state):
    assert above_chance(Estimate(sum(seeds) / 2, 2, 0.1, *seeds, 100, *items, "items"), 0.5) == state


def test_one_seed_decides_by_its_items_and_says_so():
    found = thresholds(budget_points(StudyData.of(study(1))))
    assert {t.ci_method for t in found} == {"items"}
    low = next(t for t in found if t.kind == "low" and t.scale.name == "mid" and t.method == "apet-adjacent")
    assert (low.bracket.lower, low.bracket.upper) == (64, 256)


def test_the_mean_over_tasks_is_given_only_where_every_task_was_run():
    frame = study(2)
    frame = frame[~((frame["task"] == "films") & (frame["num_trainable"] == 256))]
    means = {(x.scale.name, x.method, x.num_trainable) for x in budget_points(StudyData.of(frame)) if x.task is None}
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
    assert convergence(steps, np.full(21, 0.5), noise=0.02).state == "learnt nothing"
    assert convergence(steps[:3], np.array([0.5, 0.8, 0.9])).state == "too short"
    assert math.isnan(convergence(steps, 0.5 + 0.001 * steps).steps)


def test_a_lucky_point_on_the_way_does_not_count_as_converged():
    steps = np.arange(0, 401, 10.0)
    values = 0.5 + 0.4 * (1 - 0.5 ** (steps / 40))
    lucky = values.copy()
    lucky[2] = 0.95
    assert convergence(steps, lucky).steps >= convergence(steps, values).steps - 10


def test_planted_convergence_of_both_distributions(board):
    half = {"apet-adjacent": 10.0, "apet-discrete": 20.0}
    made = checked_curves(curves(board.runs, lambda m: half.get(m, 15.0)), board.runs)
    race = next(
        r
        for r in convergence_comparisons(board, convergences(board, made))
        if r.num_trainable == 4_096 and r.scale.name == "mid"
    )
    assert (race.adjacent, race.discrete) == (50.0, 90.0)
    assert race.log2_ratio.score == pytest.approx(math.log2(50 / 90))
    assert (race.pairs, race.left_out) == (9, 0)


def test_planted_transfer(board):
    found = transfer_scores(transfer(own=0.8, within=0.6, across=0.4, seeds=1), board)
    by_pair = {(r.source, r.target): r for r in found}
    assert by_pair["films", "shops"].relative.score == pytest.approx(0.75)
    assert by_pair["films", "claims"].relative.score == pytest.approx(0.5)
    assert by_pair["films", "films"].relative.score == 1
    low, high = by_pair["films", "shops"].relative.item_ci_low, by_pair["films", "shops"].relative.item_ci_high
    assert low < 0.75 < high
    assert within_against_across(found, TASKS).score == pytest.approx(0.25)


def test_a_missing_pair_of_transfer_is_refused_or_left_out(board):
    torn = transfer().drop(index=[3])
    with pytest.raises(ApetError, match="transfer: 1 of 27 pairs"):
        transfer_scores(torn, board)
    assert {r.relative.num_missing for r in transfer_scores(torn, board, allow_holes=True)} == {0, 1}


def test_a_targets_own_measure_is_that_of_its_run(board):
    """What a store holds: the zero-shot measures alone, and of several counts."""
    zero_shot = transfer(within=0.6).query("source != target")
    smaller = zero_shot.assign(num_trainable=64, score=0.1, ci_low=0.05, ci_high=0.15)
    found = {(r.source, r.target): r for r in transfer_scores(pd.concat([zero_shot, smaller]), board)}
    assert len(found) == 9
    assert found["films", "shops"].own_score == pytest.approx(FULL_LEVEL)
    assert found["films", "shops"].relative.score == pytest.approx(0.601 / FULL_LEVEL)
    assert found["films", "films"].relative.score == 1


def test_a_target_whose_own_measure_is_zero_has_no_relative_one(board):
    zero = transfer().assign(score=lambda t: np.where(t["target"] == "claims", 0.0, t["score"]), ci_low=0.0)
    assert {r.target for r in transfer_scores(zero, board)} == {"films", "shops"}


def test_item_scores_make_the_difference_paired():
    rows = [row(run_id=m, method=m, task="films", budget=None, num_trainable=n, score=0.5) for m, n in OWN.items()]
    runs = pd.DataFrame(
        [*rows, row(run_id="full", method="fine-tuning", num_trainable=10**6, score=0.6, num_examples=10)]
    )
    scores = {"full": [1] * 6 + [0] * 4, **{m: [1] * 5 + [0] * 5 for m in OWN}}
    items = pd.DataFrame([{"run_id": k, "item": i, "score": s} for k, xs in scores.items() for i, s in enumerate(xs)])
    g = next(g for g in gaps(StudyData.of(runs, items)) if g.method == "lora")
    assert g.gap.ci_method == "items, paired bootstrap"
    assert g.gap.verdict == "not decidable"
    assert (g.gap.item_ci_low, g.gap.item_ci_high) == pytest.approx((0.0, 0.3), abs=1e-9)
