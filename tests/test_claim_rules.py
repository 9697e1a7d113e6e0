"""How often is each claim's rule fooled, and how often does it see what is there? On planted studies, by simulation."""

import pytest

from claim_scenarios import all_scenarios, binomial_limit

SCENARIOS = all_scenarios(num_scales=7)
FEW, MANY = 60, 500


def by_truth(truth):
    chosen = [s for s in SCENARIOS if s.truth == truth]
    return pytest.mark.parametrize("scenario", chosen, ids=[f"{s.claim}: {s.name}" for s in chosen])


@by_truth("false")
def test_what_is_false_is_seldom_supported(scenario):
    assert scenario.supported(FEW) <= binomial_limit(FEW)


@by_truth("true")
def test_what_is_true_is_mostly_supported(scenario):
    assert scenario.supported(FEW // 3) > 0.5


@by_truth("not decidable")
def test_what_the_runs_cannot_tell_is_never_supported(scenario):
    assert scenario.supported(FEW // 3) == 0


@pytest.mark.slow
@by_truth("false")
def test_what_is_false_is_supported_in_at_most_one_of_twenty_studies(scenario):
    assert scenario.supported(MANY, seed=1) <= 0.05
