"""At which steps validation is measured: at equal distances, or at equal ratios, always at the last."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apet.training.config import RunConfig
from apet.training.eval_steps import is_measured, num_measured


@given(st.integers(1, 3000), st.one_of(st.integers(1, 500), st.just("log")))
def test_as_many_are_measured_as_are_foretold(max_steps, eval_steps):
    measured = [s for s in range(1, max_steps + 1) if s == max_steps or is_measured(s, eval_steps)]
    assert len(measured) == num_measured(max_steps, eval_steps)


def test_log_spaced_measurements_are_two_an_octave():
    assert [s for s in range(1, 130) if is_measured(s, "log")] == [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128]


@pytest.mark.parametrize(("given_steps", "resolved"), [(None, 40), (7, 7), ("log", "log")])
def test_a_tenth_of_the_steps_where_nothing_is_said(given_steps, resolved):
    config = RunConfig(backbone="bert-base", task="sst2", max_steps=400, eval_steps=given_steps)
    assert config.resolved_eval_steps == resolved


@pytest.mark.parametrize("wrong", [0, -3, "often"])
def test_anything_else_is_refused(wrong):
    with pytest.raises(ValueError, match="eval_steps"):
        RunConfig(backbone="bert-base", task="sst2", eval_steps=wrong)
