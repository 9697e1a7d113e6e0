"""Any distribution that is registered takes part in the structure and convergence experiments, not only the paper's."""

import math
from itertools import combinations

import pandas as pd
import pytest

from apet.analysis.claims.convergence import CLAIM, adjacent_faster
from apet.analysis.frames import CURVES, checked_curves
from apet.analysis.structure import method_pairs, structures
from apet.analysis.study import analyze
from apet.analysis.study_data import StudyData
from synthetic_results import DEFAULT_SIZES, GAPS, VARIANTS, curves, known_score, study

MAGNITUDE = "apet-magnitude"
FOUR = (*VARIANTS, "apet-every_nth", MAGNITUDE)
BELOW_FULL = {MAGNITUDE: 0.01, "apet-every_nth": 0.03}
HALF_LIFE = {"apet-adjacent": 10.0, "apet-discrete": 20.0, MAGNITUDE: 40.0, "apet-every_nth": 20.0}


def true_score(method, backbone, n):
    return 0.9 - BELOW_FULL[method] if method in BELOW_FULL else known_score(method, backbone, n)


def study_of(variants, seeds=3):
    return study(seeds, backbones=["mid"], grid=(), true_score=true_score, variants=variants)


def analysis_of(variants):
    runs = study_of(variants)
    return analyze(runs, checked_curves(curves(runs, lambda m: HALF_LIFE.get(m, 15.0), points=41), runs))


@pytest.fixture(scope="module")
def three():
    return analysis_of((*VARIANTS, MAGNITUDE))


@pytest.fixture(scope="module")
def four():
    return analysis_of(FOUR)


def test_variants_come_in_the_papers_order_and_then_by_name():
    data = StudyData.of(study_of(FOUR[::-1], seeds=1))
    assert data.variants == ("apet-adjacent", "apet-discrete", "apet-every_nth", "apet-magnitude")
    assert data.methods == ("fine-tuning", *DEFAULT_SIZES, *data.variants)


def test_pairs_are_the_method_with_each_variant_and_then_the_variants_with_each_other():
    assert method_pairs("lora", VARIANTS) == {
        "method-adjacent": ("lora", "apet-adjacent"),
        "method-discrete": ("lora", "apet-discrete"),
        "adjacent-discrete": ("apet-adjacent", "apet-discrete"),
    }
    assert list(method_pairs("lora", (*VARIANTS, MAGNITUDE))) == [
        "method-adjacent",
        "method-discrete",
        "method-magnitude",
        "adjacent-discrete",
        "adjacent-magnitude",
        "discrete-magnitude",
    ]
    assert list(method_pairs("lora", (MAGNITUDE,))) == ["method-magnitude"]


def test_a_third_distribution_is_compared_with_the_method_and_with_the_two_of_the_paper(three):
    lora = next(s for s in three.structures if s.method == "lora" and s.task is None)
    assert list(lora.scores) == ["lora", "apet-adjacent", "apet-discrete", "apet-magnitude"]
    differences = {name: round(e.score, 9) for name, e in lora.differences.items()}
    assert differences == {
        "method-adjacent": -GAPS["mid"],
        "method-discrete": 0,
        "method-magnitude": round(BELOW_FULL[MAGNITUDE] - GAPS["mid"], 9),
        "adjacent-discrete": GAPS["mid"],
        "adjacent-magnitude": BELOW_FULL[MAGNITUDE],
        "discrete-magnitude": round(BELOW_FULL[MAGNITUDE] - GAPS["mid"], 9),
    }
    assert lora.pairs == method_pairs("lora", (*VARIANTS, MAGNITUDE))


def test_a_variant_is_never_the_method_whose_size_is_taken(four):
    assert {s.method for s in four.structures} == set(DEFAULT_SIZES)


def test_four_distributions_make_four_comparisons_with_a_method_and_six_among_themselves(four):
    lora = next(s for s in four.structures if s.method == "lora" and s.task is None)
    with_method = [name for name in lora.differences if name.startswith("method-")]
    assert with_method == ["method-adjacent", "method-discrete", "method-every_nth", "method-magnitude"]
    assert len(lora.differences) == 4 + 6


def test_the_comparisons_of_the_paper_are_the_same_with_and_without_other_distributions(four):
    two = analysis_of(VARIANTS)
    for alone, beside_others in zip(two.structures, four.structures, strict=True):
        assert (alone.method, alone.task) == (beside_others.method, beside_others.task)
        assert {name: beside_others.differences[name] for name in alone.differences} == alone.differences
    of_papers_pair = [c for c in four.convergence_comparisons if (c.first, c.second) == VARIANTS]
    assert str(of_papers_pair) == str(two.convergence_comparisons)  # as text, for NaN equals nothing
    assert str([r for r in four.claims if r.claim == CLAIM]) == str([r for r in two.claims if r.claim == CLAIM])


def test_a_distribution_that_is_there_alone_is_compared_with_the_methods():
    data = StudyData.of(study_of((MAGNITUDE,)))
    assert {tuple(s.differences) for s in structures(data)} == {("method-magnitude",)}


def test_steps_to_convergence_are_compared_for_each_pair_of_distributions(four):
    all_counts = {(c.first, c.second): c for c in four.convergence_comparisons if c.num_trainable is None}
    assert list(all_counts) == list(combinations(FOUR, 2))
    for (first, second), comparison in all_counts.items():
        assert set(comparison.steps) == {first, second}
        ratio = comparison.steps[first] / comparison.steps[second]
        assert comparison.log2_ratio.score == pytest.approx(math.log2(ratio))
    slow = all_counts["apet-adjacent", MAGNITUDE]
    assert slow.log2_ratio.verdict == "lower"
    assert slow.log2_ratio.score == pytest.approx(math.log2(10 / 40), abs=0.3)
    assert all_counts["apet-discrete", "apet-every_nth"].log2_ratio.verdict == "no significant difference"


def test_the_claim_about_convergence_speaks_of_adjacent_and_discrete_alone(four):
    others = four.data.runs[~four.data.runs["method"].isin(VARIANTS)]
    assert len(adjacent_faster(four.data, four.curves)) == 1
    assert adjacent_faster(StudyData.of(others), four.curves) == []


def test_without_two_distributions_convergence_says_what_it_needs():
    runs = study_of((MAGNITUDE,), seeds=1)
    assert analyze(runs, pd.DataFrame(columns=list(CURVES))).missing["E3"] == (
        "needs curves of two APET distributions at one count, both converged"
    )
