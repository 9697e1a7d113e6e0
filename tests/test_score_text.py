"""Scores as people read them: shares in percent, correlations as they are, errors as positive numbers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from apet import ApetError
from apet.tasks.metrics import METRICS, Metric, compute_metric, item_scores
from apet.tasks.score_text import require_points, score_range, score_text, shown_as


@pytest.mark.parametrize(
    ("metric", "score", "text"),
    [
        ("accuracy", 0.8344, "83.4 %"),
        ("pearson", 0.8121, "0.812"),
        ("spearman", -0.05, "-0.050"),
        ("r2", -3.2, "-3.200"),
        ("rmse", -0.4312, "0.431"),
        ("mae", -12345.6, "12,345.6"),
        ("a guest's that is not here", 0.5, "50.0 %"),
        ("a guest's that is not here", 7.0, "7.000"),
    ],
)
def test_each_kind_is_written_as_the_field_writes_it(metric, score, text):
    assert score_text(metric, score) == text


def test_an_interval_has_its_smaller_end_first():
    assert score_range("accuracy", 0.78, 0.841) == "[78.0, 84.1] %"
    assert score_range("pearson", 0.71, 0.83) == "[0.710, 0.830]"
    assert score_range("rmse", -0.5, -0.4) == "[0.400, 0.500]"


@pytest.mark.parametrize(("name", "reference"), [("rmse", root_mean_squared_error), ("mae", mean_absolute_error)])
def test_errors_are_scikit_learns_negated(name, reference):
    rng = np.random.default_rng(0)
    true, given = rng.normal(3, 2, 50).round(3), rng.normal(3, 2, 50).round(3)
    score = compute_metric(name, [str(x) for x in given], [[str(x)] for x in true])
    assert score.score == pytest.approx(-reference(true, given))
    assert score.ci_low < score.score < score.ci_high < 0


def test_a_guests_error_is_its_negative_and_of_several_references_the_nearest_counts(guest_metric):
    scores = item_scores("letters", ["abc", None], [["abcd", "a"], ["ab"]])
    assert scores.tolist() == [-1, -2]
    assert compute_metric("letters", ["abc", "a"], [["abcd"], ["abcd"]]).score == -2
    assert score_text("letters", -2.0) == "2.000"
    assert shown_as("letters").factor == -1


@pytest.fixture
def guest_metric():
    """How many letters an answer is too long or too short."""
    metric = Metric("letters", lambda p, r: float(abs(len(p) - len(r))), in_percent=False, lower_is_better=True)
    METRICS.register("letters", metric, __name__)


def test_what_is_no_share_has_no_interval_of_one():
    with pytest.raises(ValueError, match="interval='bootstrap'"):
        Metric("wrong", None, interval="wilson", lower_is_better=True)


def test_a_margin_in_points_of_an_error_is_refused():
    require_points("pearson")
    with pytest.raises(ApetError, match="rmse has no points"):
        require_points("rmse")
