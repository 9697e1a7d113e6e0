"""CSV files of a report: headers that any program takes as names, whole numbers that are whole, nothing made up."""

from __future__ import annotations

import csv
import io
import math
import re

import pytest

from apet.analysis.study import analyze
from apet.reporting.formatting import count, significant
from apet.reporting.study import study_tables
from apet.reporting.table import Column, Table, estimate_column, integer_column, snake_case
from apet.reporting.table_files import csv_text
from synthetic_results import curves, failing, study, transfer

INTEGERS = {
    *(
        "num_trainable",
        "num_backbone_parameters",
        "lower",
        "upper",
        "num_counts",
        "min_seeds",
        "num_seeds",
        "num_pairs",
    ),
    *(
        "num_not_converged",
        "seed",
        "num_examples",
        "best_step",
        "max_steps",
        "peak_memory_bytes",
        "num_head_parameters",
    ),
}
INTEGER_ENDINGS = ("_num_seeds", "_num_examples", "_num_tasks", "_num_missing")


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    """Every table of a study with a failed run, a task with a name that is not an identifier, and a guest's method."""
    runs = study(2, tasks=["films", "claims"], backbones=["mid"], sd=0.01)
    runs = failing(runs, 3)
    runs["task"] = runs["task"].replace("claims", "2 claims, 50 % (été)")
    runs["method"] = runs["method"].replace("prompt", "ia3")
    half_life = {"apet-adjacent": 10.0, "apet-discrete": 20.0}
    synthetic_curves = curves(runs, lambda m: half_life.get(m, 15.0))
    a = analyze(runs, synthetic_curves, transfer=transfer(seeds=2), allow_holes=True)
    return {t.name: t for t in study_tables(a)}


def test_every_table_of_a_study_is_there(tables):
    experiments = (
        "gap_by_scale",
        "structure",
        "convergence",
        "score_by_budget",
        "thresholds",
        "task_table",
        "transfer",
    )
    assert set(tables) == {*experiments, "claims", "task_table_reference", "failed", "runs"}


def test_every_header_is_an_ascii_name_in_snake_case_and_comes_once(tables):
    for name, table in tables.items():
        header = csv_text(table).splitlines()[0].split(",")
        assert [h for h in header if not re.fullmatch(r"[a-z][a-z0-9_]*", h)] == [], name
        assert len(header) == len(set(header)), name
    assert "column_2_claims_50_ete" in csv_text(tables["task_table"]).splitlines()[0].split(",")


def test_whole_numbers_are_whole_and_what_is_unknown_is_empty(tables):
    seen = set()
    for name, table in tables.items():
        for row in csv.DictReader(io.StringIO(csv_text(table))):
            for column, value in row.items():
                if column in INTEGERS or column.endswith(INTEGER_ENDINGS):
                    seen.add(column)
                    assert value == "" or str(int(value)) == value, (name, column)
    assert set(INTEGERS) <= seen
    runs = {r["run_id"]: r for r in csv.DictReader(io.StringIO(csv_text(tables["runs"])))}
    failed = next(r for r in runs.values() if r["state"] == "failed")
    assert (failed["num_trainable"], failed["score"], failed["num_backbone_parameters"]) == ("", "", "1000000")


def test_a_table_keeps_headings_for_people_beside_names_for_programs(tables):
    columns = {c.heading: c.csv_names() for c in tables["score_by_budget"].columns}
    assert columns["N"] == ["num_trainable"]
    assert columns["% of backbone"] == ["trainable_percent"]
    assert "full_fine_tuning_minus_method_ci_low_items" in columns["full fine-tuning − method, points"]
    fractions = [float(r["score"]) for r in csv.DictReader(io.StringIO(csv_text(tables["score_by_budget"])))]
    assert max(fractions) <= 1


def test_a_threshold_that_is_not_reached_and_all_counts_together_have_words_for_people_and_no_number(tables):
    upper = next(c for c in tables["thresholds"].columns if c.name == "upper")
    assert (upper.text(None), upper.csv_values(None), upper.text(4096.0)) == ("not shown", [""], "4,096")
    first = tables["convergence"].rows[0]
    n = next(i for i, c in enumerate(tables["convergence"].columns) if c.name == "num_trainable")
    assert tables["convergence"].texts()[0][n] == "all"
    assert tables["convergence"].columns[n].csv_values(first[n]) == [""]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("% of backbone", "of_backbone"),
        ("nq-open", "nq_open"),
        ("full fine-tuning − method", "full_fine_tuning_minus_method"),
        ("</script><img src=x>", "script_img_src_x"),
        ("Göteborg", "goteborg"),
        ("任务", "column"),
        ("7 tasks", "column_7_tasks"),
    ],
)
def test_any_text_makes_a_name(text, name):
    assert snake_case(text) == name


def test_equal_names_are_numbered():
    columns = (Column("task"), Column("任务"), Column("таск"), Column("task"), Column("task"))
    assert Table("t", "", "", columns, []).csv_header() == ["task", "column", "column_2", "task_2", "task_3"]


def test_a_text_in_a_column_of_numbers_is_an_error_of_whoever_made_the_table():
    with pytest.raises(TypeError, match="'many' is not a number"):
        Column("n", count).text("many")
    assert integer_column("num_items").heading == "num items"
    assert estimate_column("gap", "gap, points").csv_values(None) == [""] * 11
    assert Column("x", significant).csv_values(math.inf) == [math.inf]
    assert Column("x", significant).sort_key(math.nan) is None
