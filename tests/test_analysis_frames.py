"""What a table must hold before any number is made of it."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from apet.analysis.frames import RUNS, checked_curves, checked_items, checked_runs, checked_transfer, complete, failed
from apet.errors import ApetError
from synthetic_results import curves, failing, row, study, transfer


def test_analysis_imports_neither_torch_nor_transformers():
    code = "import sys, apet.analysis.study; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    imported = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert imported.strip() == "[]"


@pytest.mark.parametrize("column", ["run_id", "score", "untrained_baseline", "num_head_parameters"])
def test_a_missing_column_is_named_with_its_meaning(column):
    with pytest.raises(ApetError, match=f"runs: missing column {column} \\(.+\\)"):
        checked_runs(study(1).drop(columns=column))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"score": 81.0, "ci_low": 80.0, "ci_high": 82.0},
            "score 81 of a lies outside \\[0, 1\\]; give fractions, not percent",
        ),
        ({"score": np.nan}, "complete run 'a' has no score; mark it as failed"),
        ({"state": "running"}, "state 'running' is not a valid state; expected complete or failed"),
        ({"ci_low": 0.9}, "interval of run 'a' does not hold its score"),
        (
            {"num_examples": "many"},
            "column num_examples \\(Validation examples .*\\) holds a value that is not a number",
        ),
    ],
)
def test_a_wrong_row_is_refused_in_one_line(change, message):
    with pytest.raises(ApetError, match=message) as error:
        checked_runs(pd.DataFrame([row(run_id="a", score=0.8) | change]))
    assert "\n" not in str(error.value)


def test_a_key_twice_and_two_settings_in_one_cell_are_refused():
    with pytest.raises(ApetError, match="run_id a comes twice"):
        checked_runs(pd.DataFrame([row(run_id="a"), row(run_id="a", seed=1)]))
    with pytest.raises(ApetError, match="'a' and 'b' share backbone, task, method, N and seed"):
        checked_runs(pd.DataFrame([row(run_id="a"), row(run_id="b", score=0.7)]))
    with pytest.raises(ApetError, match=r"mid / films / lora / 4096.* differ in max_steps"):
        checked_runs(pd.DataFrame([row(run_id="a"), row(run_id="b", seed=1, max_steps=999)]))


def test_the_same_count_asked_for_in_two_ways_is_one_run_and_the_default_size_stays():
    runs = checked_runs(pd.DataFrame([row(run_id="a", budget="4096"), row(run_id="b", budget=None)]))
    assert list(runs["run_id"]) == ["b"]


def test_failed_runs_keep_their_reason_and_never_get_a_number():
    runs = checked_runs(failing(study(1), 4))
    assert len(failed(runs)) == 1
    assert len(complete(runs)) == len(runs) - 1
    assert failed(runs)["score"].isna().all()
    assert failed(runs)["error"].iloc[0].startswith("diverged")


def test_the_other_tables_are_checked_as_well():
    runs = checked_runs(study(1))
    learning_curves = curves(runs.head(2), lambda m: 20.0)
    assert len(checked_curves(learning_curves, runs.head(1))) == 21
    with pytest.raises(ApetError, match=r"curves: run_id .*, step 0 comes twice"):
        checked_curves(pd.concat([learning_curves, learning_curves]), runs)
    with pytest.raises(ApetError, match="items: missing column score"):
        checked_items(pd.DataFrame({"run_id": ["a"], "item": [0]}))
    with pytest.raises(ApetError, match="transfer: score 2 of films to shops lies outside"):
        checked_transfer(transfer().assign(score=lambda t: np.where(t.index == 3, 2.0, t["score"])))


def test_every_column_has_a_meaning():
    assert all(meaning for _, meaning in RUNS.values())
