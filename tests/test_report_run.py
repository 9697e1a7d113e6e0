"""The report of one run, from its files alone."""

import csv
import json
import subprocess
import sys

import pytest

from apet.errors import ApetError
from apet.reporting.run import Run, run_headline, write_run_report
from apet.training.manifest import write_manifest
from run_records import result_record

RESULT = result_record().model_dump(mode="json")


CURVE = """step,loss,score,ci_low,ci_high,seconds
0,,0.5,0.4,0.6,0.0
10,0.7,0.6,0.5,0.7,0.5
20,0.5,0.75,0.65,0.85,1.0
30,0.4,0.75,0.65,0.85,1.5
"""
PREDICTIONS = """location,prediction,references,score
v:1,good,good,1.0
v:2,bad,good,0.5
v:3,bad,bad,1.0
v:4,,"bad",0.5
"""


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(RESULT))
    (folder / "config.yaml").write_text("method: apet\n")
    (folder / "curve.csv").write_text(CURVE)
    (folder / "predictions.csv").write_text(PREDICTIONS)
    write_manifest(folder, "0")
    return folder


def change(run, name, text):
    """A file of a run as another version of apet, or a fault of ours, would have written it."""
    (run / name).write_text(text) if text is not None else (run / name).unlink()
    write_manifest(run, "0")


def test_it_says_what_was_trained_and_how_good_it_is(run):
    report = write_run_report(run)
    assert report.folder == run / "report"
    assert report.headline == (
        "APET-adjacent with 64 trained parameters (0.32 % of little) has 75.0 % accuracy on films (95 % over 4"
        " validation items: 65.0 to 85.0); untrained 50.0 %, chance 50.0 %."
    )
    assert {p.name for p in report.figures} == {"curve.pdf", "curve.png", "curve.tex"}
    assert all(p.is_file() for p in (*report.figures, *report.tables, report.page))
    assert "one seed, so no spread over seeds" in report.page.read_text("utf-8")


def test_a_correlation_and_an_error_are_no_percentages():
    values = {"task_type": "regression", "majority_baseline": None, "macro_f1": None, "untrained_baseline": 0.0}
    read = Run(result_record(**values, metric="pearson"), "", [], [])
    assert "has 0.750 pearson on films (95 % over 4 validation items: 0.650 to 0.850); untrained 0.500" in (
        run_headline(read)
    )
    error = {"score": -0.75, "ci_low": -0.85, "ci_high": -0.65, "score_untrained": -1.5, "untrained_baseline": -1.0}
    read = Run(result_record(**{**values, **error}, metric="mae"), "", [], [])
    assert "has 0.750 mae on films (95 % over 4 validation items: 0.650 to 0.850); untrained 1.500" in run_headline(
        read
    )


def test_the_table_of_answers_counts_what_was_given_for_what(run):
    write_run_report(run)
    assert (run / "report/tables/confusion.csv").read_text() == (
        "references,answered_nothing,answered_bad,answered_good\nbad,1,1,0\ngood,0,1,1\n"
    )


def test_it_can_be_written_elsewhere_and_again(run, tmp_path):
    for _ in range(2):
        write_run_report(run, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["figures", "report.html", "tables"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("result.json", "{"), ("result.json", "{}"), ("curve.csv", "step\nmany\n"), ("predictions.csv", None)],
)
def test_a_damaged_run_is_one_line_and_leaves_nothing(run, name, text):
    change(run, name, text)
    with pytest.raises(ApetError, match=r"is damaged .*; run it again") as e:
        write_run_report(run)
    assert "\n" not in str(e.value)
    assert not (run / "report").exists()


@pytest.mark.parametrize("name", ["result.json", "curve.csv", "predictions.csv", "config.yaml"])
def test_a_run_that_was_changed_afterwards_is_not_reported(run, name):
    """A score of 900 % was once believed, since it parsed."""
    whole = (run / name).read_text()
    (run / name).write_text(whole + "\n")
    with pytest.raises(ApetError, match=f"{name} was changed after the run had ended"):
        write_run_report(run)
    (run / name).write_text(whole)
    assert write_run_report(run).folder == run / "report"


@pytest.mark.parametrize("field", ["score", "ci_low", "best_step"])
@pytest.mark.parametrize("value", [9.0, float("nan"), "0.5", 0.01, -1, 10**9])
def test_numbers_that_cannot_be_are_refused(run, field, value):
    change(run, "result.json", json.dumps(RESULT | {field: value}))
    if (field, value) == ("ci_low", 0.01):  # which is a possible one
        write_run_report(run)
        return
    with pytest.raises(ApetError, match="is damaged"):
        write_run_report(run)


@pytest.mark.parametrize(
    "field", ["score_last", "head", "num_head_parameters", "started", "selection", "peak_memory_bytes", "data_notes"]
)
def test_a_result_that_lacks_a_field_is_refused_by_its_name(run, field):
    torn = {name: value for name, value in RESULT.items() if name != field}
    change(run, "result.json", json.dumps(torn))
    expected = rf"{run.name}' is damaged \(result.json .*: it has no {field}\); run it again"
    with pytest.raises(ApetError, match=expected):
        write_run_report(run)
    assert not (run / "report").exists()


def test_a_field_that_holds_something_else_is_refused_with_what_it_holds(run):
    change(run, "result.json", json.dumps(RESULT | {"test_num_examples": "many"}))
    with pytest.raises(ApetError, match=r"test_num_examples is 'many'; input should be a valid integer"):
        write_run_report(run)
    change(run, "result.json", json.dumps(RESULT))
    change(run, "predictions.csv", "location,prediction,score\nv:1,good,1.0\n")
    with pytest.raises(ApetError, match=r"predictions.csv: it has no references"):
        write_run_report(run)


def test_two_hundred_made_up_answers_share_a_column(run):
    rows = [f"v:{i},text {i},{'good' if i % 2 else 'bad'},0.75" for i in range(200)]
    rows += ["v:200,good,good,0.75", "v:201,bad,good,0.75"]
    change(run, "result.json", json.dumps(RESULT | {"num_examples": 202}))
    change(run, "predictions.csv", "location,prediction,references,score\n" + "\n".join(rows) + "\n")
    write_run_report(run)
    with (run / "report/tables/confusion.csv").open() as f:
        table = list(csv.DictReader(f))
    assert len(table[0]) == 14  # accepted, twelve answers, anything else
    assert table[1]["answered_good"] == "1"
    assert [sum(int(v) for k, v in row.items() if k != "references") for row in table] == [100, 102]
    assert [row["answered_anything_else"] for row in table] == ["94", "96"]
    assert "190 other answers" in (run / "report/tables/confusion.md").read_text("utf-8")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ApetError, match=r"no finished run at .*; give a folder written by apet tune"):
        write_run_report(tmp_path)


def test_a_report_imports_no_torch():
    code = "import sys, apet.reporting.run, apet.reporting.study; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
