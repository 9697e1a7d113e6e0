"""Studies on the command line: plan, run, export, report, thresholds, transfer, on small backbones."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
import yaml

import apet
from apet.studies.executors import base as executors
from apet.training.resources import Resources
from test_cli import call
from test_studies import TASK
from tiny_backbones import reviews, save_backbone, write_jsonl


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli-study")
    for name, offset in (("one", 0), ("two", 500)):
        write_jsonl(folder / f"{name}.jsonl", reviews(32, offset))
        write_jsonl(folder / f"{name}-held.jsonl", reviews(16, offset + 200))
        (folder / f"{name}.yaml").write_text(TASK.format(name=name))
    save_backbone("t5", folder / "t5")
    raw = {"name": "two", "backbones": ["t5"], "tasks": ["one.yaml", "two.yaml"], "methods": ["fine-tuning", "bitfit"]}
    raw |= {"seeds": [0, 1], "run_defaults": {"max_steps": 2, "batch_size": 8, "dtype": "float32"}}
    (folder / "grid.yaml").write_text(yaml.safe_dump(raw))
    done = call(folder, "study", "run", "grid.yaml", "--output", "out", "--workers", "1", "--quiet")
    assert done.code == 0, done.err
    assert "8 runs: 0 were done, 8 done now, 0 failed" in done.out
    return folder


def test_plan_says_what_is_done_and_what_it_takes(workspace):
    before = json.loads(call(workspace, "study", "plan", "grid.yaml", "--json").out)
    assert (before["num_runs"], before["num_complete"]) == (8, 0)
    assert before["seconds_of_one_worker"] > 0
    after = call(workspace, "study", "plan", "grid.yaml", "seeds=[0,1,2]", "--output", "out").out
    assert "12 runs: 8 done, 0 failed, 4 to run" in after
    assert "100 % of the runs from measured rates" in after
    words = ["grid.yaml", "seeds=[0,1,2]", "--output", "out", "--json"]
    peak = apet.Study(workspace / "out").runs().peak_memory_bytes.max()
    assert json.loads(call(workspace, "study", "plan", *words).out)["peak_bytes"] == peak


def test_run_says_at_once_what_there_is_to_do_and_at_the_end_why_some_cannot_run(workspace, tmp_path):
    raw = yaml.safe_load((workspace / "grid.yaml").read_text())
    raw |= {
        "backbones": [str(workspace / "t5"), "bert-small"],
        "tasks": [str(workspace / "one.yaml")],
        "methods": ["bitfit"],
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(raw))
    words = ["study", "run", "grid.yaml", "--output", "out", "--workers", "1"]
    done = call(tmp_path, *words)
    assert done.err.splitlines()[0] == "2 of 4 runs to do, 1 at a time"
    assert "2 runs cannot run here: weights of bert-small are not on this machine; give a local folder" in done.out
    [(reason, n)] = json.loads(call(tmp_path, *words, "--json").out)["cannot_run"].items()
    assert reason.startswith("weights of bert-small are not on this machine")
    assert n == 2


def test_the_same_command_goes_on_and_finds_nothing_to_do(workspace):
    done = json.loads(call(workspace, "study", "run", "grid.yaml", "--output", "out", "--json", "--quiet").out)
    assert (done["num_already_complete"], done["num_completed"], done["failed"]) == (8, 0, {})


def test_export_report_and_transfer(workspace):
    assert "runs.csv" in call(workspace, "study", "export", "out", "--output", "tables").out
    some = ["transfer", "out", "--filter", "task=one.yaml", "--filter", "method=bitfit", "--json", "--quiet"]
    assert {(r["source"], r["method"]) for r in json.loads(call(workspace, *some).out)} == {("one.yaml", "bitfit")}
    moved = json.loads(call(workspace, "transfer", "out", "--json", "--quiet").out)
    both = ("one.yaml", "two.yaml")
    assert {(r["source"], r["target"]) for r in moved} == {(a, b) for a in both for b in both}
    assert {r["majority_baseline"] for r in moved} == {0.5}
    again = json.loads(call(workspace, *some).out)
    assert {(r["source"], r["method"]) for r in again} == {("one.yaml", "bitfit")}, "only what is meant"
    done = call(workspace, "report", "out")
    assert done.code == 0, done.err
    page = (workspace / "out/report/report.html").read_text()
    assert "<html" in page
    assert list((workspace / "out/report/figures").glob("*.pdf"))
    one = next((workspace / "out/runs").iterdir())
    assert call(workspace, "report", str(one), "--output", "one-run").code == 0


def test_stored_zero_shot_measures_become_relative_transfer(workspace):
    save_backbone("bert-mlm", workspace / "bert")
    words = ["study", "run", "grid.yaml", "--output", "moved", "--workers", "1", "--quiet"]
    words += ["backbones=[bert]", "methods=[bitfit]", "budgets=[default,'20']"]
    assert call(workspace, *words).code == 0
    assert call(workspace, "transfer", "moved", "--quiet").code == 0
    done = call(workspace, "report", "moved", "--require-complete")
    assert done.code == 0, done.err
    with (workspace / "moved/report/tables/transfer.csv").open() as f:
        rows = {(r["source"], r["target"]): r for r in csv.DictReader(f)}
    target_score = apet.Study(workspace / "moved").runs().query("budget.isna() and task == 'two.yaml'").score.mean()
    assert len(rows) == 4
    assert float(rows["one.yaml", "two.yaml"]["target_score"]) == pytest.approx(target_score)
    assert list((workspace / "moved/report/figures").glob("transfer*.png"))


def test_a_study_that_was_changed_is_reported_as_it_is_now(workspace):
    raw = yaml.safe_load((workspace / "grid.yaml").read_text())
    raw["overrides"] = [{"match": {"task": "two.yaml"}, "set": {"max_steps": 3}}]
    (workspace / "ruled.yaml").write_text(yaml.safe_dump(raw))
    words = ["study", "run", "ruled.yaml", "--output", "changed", "--workers", "1", "--quiet", "tasks=[one.yaml]"]
    for rate in (0.01, 0.001):
        assert call(workspace, *words, "methods=[bitfit]", "seeds=[0]", f"learning_rate={rate}").code == 0
    runs = apet.Study(workspace / "changed").runs()
    assert dict(zip(runs.learning_rate, runs.outdated, strict=True)) == {0.001: False, 0.01: True}
    done = call(workspace, "report", "changed")
    assert done.code == 0, done.err
    page = (workspace / "changed/report/report.html").read_text()
    assert "Left out: 1 run of earlier settings of this study." in page
    assert "1 complete run: " in page
    assert "<h1>two</h1>" in page


def test_what_a_study_leaves_open_makes_no_run_outdated(workspace):
    """The dtype that ``auto`` came to is in the record; the study still asks for ``auto``."""
    raw = yaml.safe_load((workspace / "grid.yaml").read_text())
    raw["run_defaults"].pop("dtype", None)
    (workspace / "open.yaml").write_text(yaml.safe_dump(raw))
    words = ["study", "run", "open.yaml", "--output", "open", "--workers", "1", "--quiet", "--limit", "2"]
    assert call(workspace, *words).code == 0
    assert not apet.Study(workspace / "open").runs().outdated.any()
    assert "2 complete runs: " in (
        call(workspace, "report", "open").out + (workspace / "open/report/report.html").read_text("utf-8")
    )


def test_a_changed_file_of_scores_is_named_and_left_out_by_report_and_study(workspace):
    shutil.copytree(workspace / "open", workspace / "torn")
    torn = next((workspace / "torn/runs").glob("*/predictions.csv"))
    torn.write_text(torn.read_text().replace("1.0", "0.0"))
    done = call(workspace, "report", "torn", "--output", "from-torn")
    assert done.code == 0
    run_id = torn.parent.name
    assert f"left out: run {run_id}: " in done.err
    assert "predictions.csv was changed after the run had ended" in done.err
    again = call(
        workspace, "study", "run", "open.yaml", "--output", "torn", "--workers", "1", "--quiet", "--limit", "2"
    )
    assert f"changed {run_id}: " in again.out
    assert "its score is as it was recorded, its files are not" in again.out
    shutil.rmtree(torn.parent)
    assert "left out" not in call(workspace, "report", "torn", "--output", "from-torn").err, "gone is not changed"


def test_a_report_of_nothing_says_what_it_takes(workspace):
    assert (
        "neither a study nor a finished run at 'nowhere'; give a folder of apet"
        in call(workspace, "report", "nowhere").err
    )


def test_a_strict_report_refuses_what_was_planned_and_is_not_there(workspace):
    done = call(workspace, "report", "open", "--require-complete", "--output", "strict")
    assert done.code == 2
    assert "6 of 8 planned runs are missing, first " in done.err
    assert not (workspace / "strict").exists()
    assert call(workspace, "report", "out", "--require-complete", "--output", "strict").code == 0


def test_a_study_knows_its_plan_and_every_items_score(workspace):
    study = apet.Study(workspace / "open")
    runs, planned, items = study.runs(), study.planned(), study.items()
    assert len(planned) == 8
    there = runs.merge(planned, on=["backbone", "task", "method", "num_trainable", "seed"])
    assert len(there) == len(runs) == len(items) == 2
    for r in runs.itertuples():
        assert len(items[r.run_id]) == r.num_examples
        assert items[r.run_id].mean() == pytest.approx(r.score)


def test_a_part_of_a_study_is_reported_as_a_part(workspace):
    words = ["study", "run", "grid.yaml", "--output", "part", "--workers", "1", "--quiet", "--limit", "1"]
    assert call(workspace, *words).code == 0
    assert call(workspace, "report", "part").code == 0
    page = (workspace / "part/report/report.html").read_text()
    assert "Partial: the study is not finished, 1 of 8 runs are complete." in page


def test_thresholds_on_the_store(workspace):
    words = ["thresholds", "--backbone", "t5", "--task", "one.yaml", "--method", "bitfit", "--output", "search"]
    words += [
        "--max-steps",
        "2",
        "batch_size=8",
        "dtype=float32",
        "--spacing",
        "8",
        "--max-seeds",
        "2",
        "--max-runs",
        "7",
        "--workers",
        "1",
        "--quiet",
    ]
    done = call(workspace, *words, "--json")
    assert done.code == 0, done.err
    first = json.loads(done.out)
    assert first["constant_answer"] > 0
    assert first["runs"] <= 7 < first["runs_of_a_full_grid"]
    assert "95 % of the way to full fine-tuning" in first["rules"]
    assert json.loads(call(workspace, *words, "--json").out) == first, "answered by the record"
    other = json.loads(call(workspace, *words, "--json", "--full-seeds", "2", "--share", "80").out)
    assert len(other["full_fine_tuning"]) >= 2
    assert "2 of full fine-tuning first" in other["rules"]
    assert "80 % of the way" in other["rules"]
    shown = call(workspace, *words, "--margin", "2").out
    assert "at most 2 points below full fine-tuning" in shown
    assert "low threshold: " in shown
    assert "high threshold: " in shown


SEARCH = ["thresholds", "--backbone", "t5", "--task", "one.yaml", "--output", "never"]


def test_what_failed_in_an_earlier_search_is_tried_again(workspace, monkeypatch):
    """The machine may have been at fault: full of other work, for one."""
    words = [
        *SEARCH[:-1],
        "again",
        "--method",
        "bitfit",
        "max_steps=2",
        "batch_size=8",
        "dtype=float32",
        "--spacing",
        "64",
    ]
    words += ["--max-seeds", "1", "--max-runs", "6", "--json"]
    monkeypatch.setattr(
        "apet.studies.executors.local.LocalExecutor", lambda size, cards: executors.InProcessExecutor(Resources())
    )
    with monkeypatch.context() as m:
        m.setattr(executors, "execute_job", lambda job, shop: ("failed", "out of memory"))
        done = call(workspace, *words)
        assert "full fine-tuning failed with every seed" in done.err
        assert "out of memory" in done.err
    assert len(json.loads(call(workspace, *words, "--quiet").out)["full_fine_tuning"]) == 3


def test_a_transfer_on_a_few_items_is_taken_again_on_all(workspace):
    few = json.loads(call(workspace, "transfer", "out", "--limit", "5", "--json", "--quiet").out)
    assert {r["num_examples"] for r in few} == {5}
    every = json.loads(call(workspace, "transfer", "out", "--json", "--quiet").out)
    assert {r["num_examples"] for r in every} == {16}


def test_a_transfer_is_measured_from_any_folder_and_for_what_is_meant_alone(workspace, tmp_path):
    """A run's folder knows its task; that of another run may be gone."""
    shutil.copytree(workspace / "out", tmp_path / "out")
    runs = apet.Study(tmp_path / "out").runs()
    for key in runs.run_id[runs.seed == 1]:
        shutil.rmtree(tmp_path / "out" / "runs" / key)
    words = ["transfer", "out", "--filter", "method=bitfit", "--filter", "seed=0", "--quiet"]
    moved = json.loads(call(tmp_path, *words, "--json").out)
    assert {(r["source"], r["target"], r["seed"], r["budget"]) for r in moved} == {
        (source, target, 0, "default") for source in ("one.yaml", "two.yaml") for target in ("one.yaml", "two.yaml")
    }
    lines = [line.split() for line in call(tmp_path, *words).out.splitlines()]
    assert lines[1] == ["backbone", "method", "budget", "source", "one.yaml", "two.yaml"]
    assert [line[:4] for line in lines[2:]] == [["t5", "bitfit", "default", t] for t in ("one.yaml", "two.yaml")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study", "plan", "quik"], "unknown study 'quik'"),
        (["study", "run", "grid.yaml"], "--output is required: give the folder for the results"),
        (
            ["study", "run", "grid.yaml", "--output", "x", "--executor", "moon"],
            "unknown executor 'moon'; known: in-process, local, ray, slurm",
        ),
        (["study", "run", "grid.yaml", "--output", "x", "stps=3"], "unknown setting of a study or of its runs 'stps'"),
        (["study", "export", "nowhere"], "no study at 'nowhere'"),
        (["report", "nowhere"], "nowhere"),
        (["transfer", "nowhere"], "no study at 'nowhere'"),
        (
            ["transfer", "out", "--filter", "method=lora"],
            "no finished run that matches method=lora in 'out' kept its delta",
        ),
        (["transfer", "out", "--filter", "metod=lora"], "unknown axis 'metod'"),
        (
            ["transfer", "out", "--target-tasks", "microworld-nq-open"],
            "nothing to transfer from one.yaml, two.yaml to microworld-nq-open",
        ),
        (
            ["thresholds", "--backbone", "t5", "--task", "one.yaml", "--method", "fine-tuning", "--output", "y"],
            "no thresholds",
        ),
        ([*SEARCH, "--confidence", "150"], "confidence: 150 percent; give at least 50 and less than 100"),
        ([*SEARCH, "--confidence", "100"], "confidence: 100 percent"),
        ([*SEARCH, "--confidence", "-50"], "confidence: -50 percent"),
        ([*SEARCH, "--share", "120"], "share: 120 % of the way; give more than 0 and at most 100"),
        ([*SEARCH, "--max-runs", "4"], "max_runs=4 with 3 of full fine-tuning; give at least two more"),
        ([*SEARCH, "--margin", "-1"], "margin: -1 points below full fine-tuning; give at least 0 and less than 100"),
    ],
)
def test_a_mistake_is_one_clear_line(words, message, workspace):
    done = call(workspace, *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
