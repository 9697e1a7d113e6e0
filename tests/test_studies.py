"""Studies: a grid as data, a plan before a second is spent, a record that survives."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sqlite3
import stat
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from apet import ApetError
from apet.backbones.loading import has_local_weights, load_model
from apet.studies.executors.base import Event, InProcessExecutor, Job, execute_job
from apet.studies.executors.local import LocalExecutor, default_workers, gpu_names, gpu_of, ignoring_interrupts
from apet.studies.executors.ray import RayExecutor
from apet.studies.export import export
from apet.studies.grid import cells
from apet.studies.held_store import open_store, study_lock
from apet.studies.planning import Cost, estimate, missing_reasons, plan_study, select_runs
from apet.studies.results import CURVE_TYPES, RUN_TYPES, Study
from apet.studies.scheduler import Scheduler, seed_rounds
from apet.studies.store import Store
from apet.studies.store_schema import FILE
from apet.studies.study_config import StudyConfig
from apet.studies.study_file import SUITES, load_study, parse_study
from apet.training import run_id as run_ids
from apet.training.config import method_label
from apet.training.progress import Progress
from apet.training.resources import Resources
from tiny_backbones import reviews, save_backbone, write_csv, write_jsonl

TASK = """
name: {name}
category: sentiment
source: {{files: {{train: {name}.jsonl, validation: {name}-held.jsonl}}}}
columns: [text]
target: stars
template: "{{text}} Sentiment: {{target}}"
labels: {{negative: negative, positive: positive}}
transfer_labels: {{negative: 0, positive: 1}}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Two backbones, two tasks, and the YAML of a study over them."""
    here = tmp_path_factory.mktemp("study")
    for name, offset in (("one", 0), ("two", 500)):
        write_jsonl(here / f"{name}.jsonl", reviews(32, offset))
        write_jsonl(here / f"{name}-held.jsonl", reviews(16, offset + 200))
        (here / f"{name}.yaml").write_text(TASK.format(name=name))
    save_backbone("t5", here / "t5")
    save_backbone("bert-mlm", here / "bert")
    raw = {
        "name": "small",
        "backbones": [str(here / "t5"), str(here / "bert")],
        "tasks": [str(here / "one.yaml"), str(here / "two.yaml")],
        "methods": ["fine-tuning", "bitfit", "apet-discrete"],
        "budgets": ["default"],
        "seeds": [0, 1],
        "run_defaults": {"max_steps": 2, "batch_size": 8, "dtype": "float32"},
        "overrides": [
            {"match": {"method": "apet-*"}, "budgets": ["64", "=bitfit"]},
            {"match": {"method": "fine-tuning"}, "set": {"save_delta": False, "learning_rate": 1e-4}},
            {"match": {"backbone": "*bert", "task": "*two.yaml"}, "exclude": True},
        ],
    }
    (here / "study.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return here


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(tmp_path_factory.mktemp("cache")))


def plan_of(workspace, **overrides):
    return plan_study(load_study(str(workspace / "study.yaml"), overrides))


def test_a_grid_is_every_combination_with_its_rules(workspace):
    found = list(cells(load_study(str(workspace / "study.yaml"))))
    assert len(found) == 3 * (1 + 1 + 2) * 2  # three pairs of backbone and task; APET at two budgets; two seeds
    assert {c.label for c in found} == {"fine-tuning", "bitfit", "apet-discrete"}
    assert {c.budget for c in found if c.label == "apet-discrete"} == {"64", "=bitfit"}
    rates = {c.label: c.config.learning_rate for c in found}
    assert rates == {"fine-tuning": 1e-4, "bitfit": "paper", "apet-discrete": "paper"}
    assert all(c.config.num_threads == 1 for c in found)


def test_words_go_over_the_study_or_its_runs(workspace):
    study = load_study(str(workspace / "study.yaml"), {"seeds": [7], "max_steps": 9})
    assert {c.config.seed for c in cells(study)} == {7}
    assert {c.config.max_steps for c in cells(study)} == {9}
    with pytest.raises(ApetError, match="unknown setting of a study or of its runs 'stepz'; nearest: max_steps"):
        load_study(str(workspace / "study.yaml"), {"stepz": 9})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": ["x"]}, r"s\.yaml:\d+: unknown key 'backbone'; nearest: backbones"),
        ({"run_defaults": {"stepz": 3}}, r"s\.yaml:5: unknown run setting 'stepz'; nearest: max_steps"),
        ({"seeds": ["a"]}, r"s\.yaml:\d+: seeds\.0: input should be a valid integer"),
        ({"overrides": [{"match": {"scale": "x"}, "exclude": True}]}, r"s\.yaml:\d+: unknown axis 'scale'"),
        (
            {"overrides": [{"match": {"method": "lroa"}, "exclude": True}]},
            r"s\.yaml:\d+: unknown method 'lroa'; nearest: lora",
        ),
        ({"overrides": [{"match": {"method": "lora"}, "sett": {}}]}, r"s\.yaml:\d+: unknown key 'sett'; nearest: set"),
        ({"backbones": []}, r"s\.yaml:\d+: backbones: .*at least 1"),
        (
            {"run_defaults": {"max_steps": "abc"}},
            r"s\.yaml:5: max_steps='abc' does not fit: give a whole number of at least 1; Optimizer",
        ),
        ({"methods": ["lorra"]}, r"s\.yaml:4: unknown method 'lorra'; nearest: lora"),
        ({"methods": ["lora", {"method": "lora", "rank": "abc"}]}, r"s\.yaml:\d: .*rank"),
        ({"run_defaults": {"seed": 3}}, r"s\.yaml:5: seed is decided by the study's axes"),
        (
            {"overrides": [{"match": {"method": "lora"}, "set": {"learning_rate": "fast"}}]},
            r"s\.yaml:8: learning_rate='fast' does not fit: give a number above 0, 'paper' or 'auto'; A",
        ),
        (
            {"overrides": [{"match": {"method": "lora", "seed": 0}, "budgets": ["64"]}]},
            r"s\.yaml:7: an override with budgets cannot ask for the seed: budgets are decided first",
        ),
        ({"overrides": [{"match": {"budget": "64"}, "budgets": ["32"]}]}, r"s\.yaml:7: .* cannot ask for the budget"),
        (
            {"overrides": [{"match": {"seed": 0}, "seeds": [1]}]},
            r"s\.yaml:7: an override with seeds cannot ask for the seed",
        ),
        ({False: 3}, r"s\.yaml:6: unknown key 'false'"),
        ({"run_defaults": {4: 3}}, r"s\.yaml:5: unknown run setting '4'"),
    ],
)
def test_a_wrong_key_is_shown_with_its_line(change, message):
    raw = {
        "name": "s",
        "backbones": ["bert-base"],
        "tasks": ["sst2"],
        "methods": ["lora"],
        "run_defaults": {"max_steps": 3},
    }
    with pytest.raises(ApetError, match=message):
        parse_study(yaml.safe_dump({**raw, **change}, sort_keys=False, default_flow_style=None), "s.yaml", {})


def test_words_that_look_like_dates_or_booleans_are_the_texts_they_are():
    study = parse_study(
        "description: x\nname: 2024-13-45\nbackbones: [t5]\ntasks: [on]\nmethods: [lora]\n", "s.yaml", {}
    )
    assert (study.name, study.tasks) == ("2024-13-45", ("on",))
    with pytest.raises(ApetError, match=r"s\.yaml:2: unknown key 'no'"):
        parse_study("name: x\nno: 3\nbackbones: [t5]\ntasks: [on]\nmethods: [lora]\n", "s.yaml", {})
    with pytest.raises(
        ApetError, match=r"^max_steps='abc' does not fit: give a whole number of at least 1; Optimizer steps\.$"
    ):
        load_study("quick", {"max_steps": "abc"})


def test_a_rule_with_seeds_may_ask_for_the_budget():
    raw = {
        "name": "s",
        "backbones": ["bert-base"],
        "tasks": ["sst2"],
        "methods": ["lora"],
        "budgets": ["64", "default"],
    }
    study = parse_study(yaml.safe_dump({**raw, "overrides": [{"match": {"budget": "64"}, "seeds": [7]}]}), "s.yaml", {})
    assert [(c.budget, c.config.seed) for c in cells(study)] == [
        ("64", 7),
        ("default", 0),
        ("default", 1),
        ("default", 2),
    ]


def test_methods_may_have_settings_and_are_called_by_them():
    assert method_label("lora", {}) == "lora"
    assert method_label("apet", {"distribution": "discrete"}) == "apet-discrete"
    assert method_label("lora", {"rank": 4}) == "lora(rank=4)"
    study = StudyConfig(name="x", backbones=["bert-base"], tasks=["sst2"], methods=[{"method": "lora", "rank": 4}])
    assert next(iter(cells(study))).config.method_settings == {"rank": 4}


def test_a_data_file_is_a_task_where_text_and_label_say_how_it_is_read(workspace, tmp_path):
    """Beside tasks that have a definition of their own."""
    mine = str(write_csv(tmp_path / "mine.csv", reviews(32)))
    grid = {"name": "x", "backbones": [str(workspace / "bert")], "tasks": [mine, str(workspace / "one.yaml")]}
    grid |= {"methods": ["bitfit"], "seeds": [0]}
    columns = {"match": {"task": "*.csv"}, "set": {"text": ["text"], "label": "stars"}}
    runs = plan_study(parse_study(yaml.safe_dump({**grid, "overrides": [columns]}), "x.yaml", {}))
    assert [p.axes.task for p in runs] == grid["tasks"]
    assert [(p.config.task, p.config.data, p.missing) for p in runs] == [
        (None, mine, None),
        (grid["tasks"][1], None, None),
    ]
    write_csv(tmp_path / "mine.csv", reviews(32, 4))
    again = plan_study(parse_study(yaml.safe_dump({**grid, "overrides": [columns]}), "x.yaml", {}))
    assert [a.run_id == b.run_id for a, b in zip(runs, again, strict=True)] == [False, True]
    wrong = parse_study(
        yaml.safe_dump({**grid, "overrides": [{**columns, "set": {"text": ["text"], "label": "star"}}]}), "x", {}
    )
    with pytest.raises(
        ApetError, match=r"bert, .*mine\.csv, bitfit, budget default: mine\.csv:2: unknown column 'star'"
    ):
        plan_study(wrong)
    with pytest.raises(ApetError, match="data files are read; give these under tasks, without data='there'"):
        list(cells(parse_study(yaml.safe_dump({**grid, "overrides": [columns], "data": "there"}), "x.yaml", {})))


def test_a_definition_reads_as_the_study_that_it_was(workspace):
    study = load_study(str(workspace / "study.yaml"))
    assert parse_study(study.to_yaml(), "again.yaml", {}) == study


@pytest.mark.parametrize("name", SUITES)
def test_studies_that_ship_are_planned_exactly_without_data_or_weights(name):
    runs = plan_study(load_study(name))
    assert len(runs) > 10
    assert len({p.run_id for p in runs}) == len(runs)


def test_the_papers_grid_looks_closely_where_the_paper_puts_the_low_thresholds_of_its_largest_backbone():
    filters = {"backbone": "t5-v1.1-xxl", "task": "sst2"}
    runs = select_runs(plan_study(load_study("paper", {"seeds": [0]})), filters, None)
    for method in ("bitfit", "lora", "adapter", "apet-adjacent", "apet-discrete"):
        counts = {p.num_trainable for p in runs if p.axes.method == method}
        assert {7900, 8100, 8300, 8500} <= counts, method
    assert {p.config.learning_rate for p in runs if p.axes.method == "fine-tuning"} == {"auto"}


def test_the_papers_grid_holds_the_counts_of_its_table():
    runs = select_runs(
        plan_study(load_study("paper", {"seeds": [0]})), {"backbone": "t5-v1.1-xxl", "task": "sst2"}, None
    )
    counts = {(p.axes.method, p.axes.budget): p.num_trainable for p in runs}
    assert counts["lora", "default"] == 6291456 == counts["apet-discrete", "=lora"]
    assert counts["adapter", "default"] == 19269888
    assert counts["bitfit", "default"] == 2497920


def test_cells_that_mean_the_same_run_are_one(workspace):
    plain = plan_of(workspace)
    twice = plan_of(workspace, methods=["bitfit", "bitfit"], overrides=[])
    assert len(twice) == 2 * 2 * 2
    n = next(p for p in plain if p.axes.method == "bitfit").num_trainable
    spelt = plan_of(
        workspace, methods=["bitfit"], budgets=["default", "=bitfit"], overrides=[], backbones=[str(workspace / "t5")]
    )
    assert len(spelt) == 2 * 2
    assert {p.num_trainable for p in spelt} == {n}


def test_a_key_follows_everything_that_determines_a_run_and_nothing_else(workspace, tmp_path):
    base = {p.run_id for p in plan_of(workspace)}
    assert {p.run_id for p in plan_of(workspace)} == base
    assert {p.run_id for p in plan_of(workspace, save_delta=True)} == base
    for change in (
        {"max_steps": 3},
        {"data_seed": 9},
        {"learning_rate": 1e-3},
        {"num_threads": 2},
        {"dtype": "bfloat16"},
    ):
        changed = {p.run_id for p in plan_of(workspace, **change, overrides=[], methods=["bitfit"])}
        assert not changed & base, change
    text = (workspace / "one.jsonl").read_text()
    try:
        (workspace / "one.jsonl").write_text(text.replace("scene 3", "scene 4444"))
        other = plan_of(workspace)
        moved = [p for p in other if p.run_id not in base]
        assert moved
        assert {p.config.task for p in moved} == {str(workspace / "one.yaml")}
    finally:
        (workspace / "one.jsonl").write_text(text)


def test_missing_data_and_weights_are_known_before_a_second_is_spent(workspace):
    runs = plan_study(load_study("paper", {"seeds": [0]}))
    assert all(p.missing for p in runs)
    assert "data of sst2 are not on this machine" in dict(missing_reasons(runs)).__repr__()
    data = plan_of(workspace, backbones=["bert-small"], overrides=[])
    assert all("weights of bert-small are not on this machine" in str(p.missing) for p in data)


def test_a_folder_without_weights_has_none(workspace, tmp_path):
    """A configuration alone, or weights that did not come down whole."""
    shutil.copytree(workspace / "t5", tmp_path / "t5")
    (tmp_path / "t5" / "model.safetensors").unlink()
    assert not has_local_weights(str(tmp_path / "t5"))
    runs = plan_of(workspace, backbones=[str(tmp_path / "t5")], overrides=[])
    assert all("are not on this machine; give a local folder that holds them" in str(p.missing) for p in runs)
    with pytest.raises(ApetError, match="holds no weights; give a folder made by save_pretrained"):
        load_model(str(tmp_path / "t5"), "text-to-text", 2, torch.float32)


def test_one_entry_more_or_less_is_another_backbone(workspace, tmp_path, monkeypatch):
    """Also in a file so large that its digest is kept; one that nobody wrote to is not read again."""
    monkeypatch.setattr(run_ids, "LARGE", 1000)
    folder = tmp_path / "t5"
    shutil.copytree(workspace / "t5", folder)
    weights = folder / "model.safetensors"
    print_of, read, content = run_ids.backbone_fingerprint, [], run_ids._content_fingerprint
    monkeypatch.setattr(
        run_ids, "_content_fingerprint", lambda file, size: read.append(file.name) or content(file, size)
    )
    first = print_of(str(folder))
    assert "model.safetensors" in read
    read.clear()
    assert print_of(str(folder)) == first
    assert "model.safetensors" not in read
    before, whole = weights.stat(), bytearray(weights.read_bytes())
    whole[-5] ^= 1
    weights.write_bytes(whole)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert print_of(str(folder)) != first
    whole[-5] ^= 1
    weights.write_bytes(whole)
    assert print_of(str(folder)) == first
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_text("other tokens")
        assert print_of(str(folder)) != first
        (folder / name).unlink()


def test_files_of_one_folder_are_told_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.gguf").write_text(name)
    one, two = (run_ids.backbone_fingerprint(str(tmp_path / f"{name}.gguf")) for name in ("one", "two"))
    assert one != two


def test_a_cache_of_digests_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "large").write_bytes(b"1" * 2000)
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setattr(run_ids, "LARGE", 1000)
    monkeypatch.setenv("APET_CACHE", str(tmp_path / "cache"))
    assert run_ids.file_fingerprint(tmp_path / "large") == run_ids.file_fingerprint(tmp_path / "large")


def test_impossible_cells_are_named_when_planning(workspace):
    with pytest.raises(ApetError, match=r"bert, .*one\.yaml, bitfit, budget 999999999: budget=999999999 cannot be met"):
        plan_of(workspace, methods=["bitfit"], budgets=["999999999"], overrides=[], backbones=[str(workspace / "bert")])
    with pytest.raises(ApetError, match=r"bert, samsum, lora, budget default: .*an encoder cannot write"):
        plan_of(workspace, methods=["lora"], tasks=["samsum"], overrides=[], backbones=[str(workspace / "bert")])


def test_only_and_limit(workspace):
    runs = plan_of(workspace)
    assert {p.axes.method for p in select_runs(runs, {"method": "apet-*"}, None)} == {"apet-discrete"}
    assert len(select_runs(runs, {"seed": "0", "method": ["bitfit", "fine-tuning"]}, 4)) == 4
    with pytest.raises(ApetError, match="unknown axis 'methd'; nearest: method"):
        select_runs(runs, {"methd": "x"}, None)
    with pytest.raises(ApetError, match="no run matches method=nothing; the study has 24 runs"):
        select_runs(runs, {"method": "nothing"}, None)


def test_a_machine_of_given_speed_takes_time_in_proportion_and_a_raced_rate_takes_the_steps_of_its_trials(workspace):
    runs = plan_of(workspace, methods=["bitfit"], overrides=[], max_steps=400)
    slow, fast = (estimate(runs, {}, flops).seconds for flops in (1e9, 4e9))
    assert slow == pytest.approx(4 * fast)
    raced = plan_of(workspace, methods=["bitfit"], overrides=[], max_steps=400, learning_rate="auto")
    assert estimate(raced, {}, 1e9).seconds == pytest.approx(slow * (1 + 3 / 4)), "three trials of a quarter each"


def test_what_was_timed_before_gives_the_estimate(workspace):
    runs = plan_of(workspace)
    costs = {(p.config.backbone, str(p.config.task), p.axes.method): Cost(0.5, 7e9) for p in runs}
    cost = estimate(runs, costs)
    assert cost.measured == 1
    assert cost.peak_bytes == 7e9
    few = select_runs(runs, {"method": "bitfit"}, None)
    others = {key: Cost(0.5, 1e9 + n) for n, key in enumerate(costs) if key[2] != "bitfit"}
    assert estimate(few, others).peak_bytes > 1e9, "other methods on the same backbone and task"
    assert cost.seconds == pytest.approx(24 * 2 * 0.5 * 1.2)
    unknown = estimate(runs, {})
    assert unknown.measured == 0
    assert unknown.seconds > 0
    assert unknown.peak_bytes > 0


def run_here(workspace, folder, **kw):
    with open_store(folder) as store:
        return Scheduler(store, InProcessExecutor(Resources()), Progress(quiet=True)).run(plan_of(workspace), **kw)


class Heard(Progress):
    """Remembers what was said."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def log(self, line):
        self.lines.append(line)


@pytest.fixture(scope="module")
def finished(workspace, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    summary = run_here(workspace, folder)
    assert (summary.num_planned, summary.num_completed, summary.failed) == (24, 24, {})
    return folder


def test_nothing_that_is_finished_runs_again(workspace, finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("result.json")}
    summary = run_here(workspace, finished)
    assert (summary.num_already_complete, summary.num_completed) == (24, 0)
    assert before == {p: p.stat().st_mtime_ns for p in finished.rglob("result.json")}


def test_runs_and_curves_are_tables(finished):
    study = Study(finished)
    runs, curves = study.runs(), study.curves()
    assert tuple(runs.columns) == (*RUN_TYPES,)
    assert tuple(curves.columns) == (*CURVE_TYPES,)
    assert len(runs) == 24
    assert (runs.state == "complete").all()
    assert runs.num_trainable[runs.budget == "64"].eq(64).all()
    assert set(curves.groupby("run_id").size()) == {3}
    one = runs.iloc[0]
    stored = json.loads((study.run_folder(one.run_id) / "result.json").read_text())
    assert stored["score"] == one.score
    assert study.results()[one.run_id].model_dump(mode="json") == stored


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet", "json"])
def test_export(finished, tmp_path, form):
    runs, curves, items, _ = export(Study(finished), tmp_path / "out", form)
    read = {"csv": pd.read_csv, "csv.gz": pd.read_csv, "parquet": pd.read_parquet, "json": pd.read_json}[form]
    assert len(read(curves)) == 72
    table, scores = read(runs).set_index("run_id"), np.load(items)
    assert len(table) == 24
    assert {run_id: scores[run_id].mean() for run_id in scores} == pytest.approx(dict(table["score"]), abs=1e-6)


def test_an_export_of_the_same_runs_is_the_same_bytes(finished, tmp_path):
    first, second = (export(Study(finished), tmp_path / name, "csv.gz") for name in ("first", "second"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_an_export_of_another_format_is_refused(finished, tmp_path):
    with pytest.raises(ApetError, match="unknown format 'xlsx'"):
        export(Study(finished), tmp_path, "xlsx")


def test_finished_rows_never_change(finished):
    db = sqlite3.connect(finished / FILE)
    known = "run_id, state, axes, attempts, recorded_at"
    replaced = f"INSERT OR REPLACE INTO runs ({known}) SELECT run_id, 'failed', axes, 1, '' FROM runs"
    for change in ("UPDATE runs SET state = 'failed'", "DELETE FROM runs", replaced):
        with pytest.raises(sqlite3.IntegrityError, match="a finished run"):
            db.execute(change)


def test_fine_tuning_kept_no_values_as_its_rule_says(finished):
    runs = Study(finished).runs()
    for _, r in runs.iterrows():
        there = (finished / "runs" / r.run_id / "delta.safetensors").exists()
        assert there == (r.method != "fine-tuning")


class Stumbling:
    """An executor whose workers vanish or fail as told; the rest runs here."""

    size = 2

    def __init__(self, lose: dict[int, int], fail: set[int]) -> None:
        self.lose, self.fail, self.count, self.ready = lose, fail, 0, []
        self.resources = Resources()

    def start(self, worker, job):
        self.count += 1
        if self.lose.get(self.count):
            self.ready.append(Event(worker, "worker_died", "its worker ended by signal 9"))
        elif self.count in self.fail:
            self.ready.append(Event(worker, "failed", "out of memory"))
        else:
            kind, text = execute_job(job, self.resources)
            self.ready.append(Event(worker, kind, text))

    def events(self, timeout):
        events, self.ready = self.ready, []
        return events

    def stop(self):
        pass


def test_a_lost_worker_is_replaced_and_a_failed_run_is_recorded_and_never_a_number(workspace, tmp_path):
    store = Store(tmp_path, create=True)
    plan = select_runs(plan_of(workspace), {"seed": "0", "method": "bitfit"}, None)
    summary = Scheduler(store, Stumbling({1: 1}, {2}), Progress(quiet=True)).run(plan)
    assert (summary.num_completed, list(summary.failed.values())) == (2, ["out of memory"])
    runs = Study(tmp_path).runs()
    failed = runs[runs.state == "failed"]
    assert failed.error.tolist() == ["out of memory"]
    assert failed.score.isna().all()
    again = Scheduler(store, Stumbling({}, set()), Progress(quiet=True)).run(plan)
    assert (again.num_already_complete, again.num_completed, again.failed) == (2, 0, summary.failed), (
        "the reason is known from the record"
    )
    assert again.failed_before == set(summary.failed)
    retried = Scheduler(store, Stumbling({}, set()), Progress(quiet=True)).run(plan, retry=True)
    assert (retried.num_already_complete, retried.num_completed, retried.failed) == (2, 1, {})


class Watched(Stumbling):
    """An executor that remembers the order of its runs, and is stopped at one of them."""

    size = 1

    def __init__(self, stopped_at: int | None = None) -> None:
        super().__init__({}, set())
        self.axes, self.stopped_at = [], stopped_at

    def start(self, worker, job):
        if len(self.axes) == self.stopped_at:
            raise KeyboardInterrupt
        self.axes.append(job.plan.axes)
        super().start(worker, job)


def test_the_first_seed_of_every_cell_comes_first_also_after_a_stop(workspace, tmp_path):
    store = Store(tmp_path, create=True)
    plan = select_runs(plan_of(workspace), {"method": "bitfit"}, None)
    stopped, resumed = Watched(2), Watched()
    with pytest.raises(KeyboardInterrupt):
        Scheduler(store, stopped, Progress(quiet=True)).run(plan)
    Scheduler(store, resumed, Progress(quiet=True)).run(plan)
    order = stopped.axes + resumed.axes
    pairs = {(p.axes.backbone, p.axes.task) for p in plan}
    assert [a.seed for a in order] == [0] * len(pairs) + [1] * len(pairs)
    assert {(a.backbone, a.task) for a in order[: len(pairs)]} == pairs
    assert len(Study(tmp_path).runs()) == len(plan)


def test_within_a_round_a_worker_stays_with_what_it_has_loaded(workspace, tmp_path):
    plan = select_runs(plan_of(workspace), {"method": ["bitfit", "apet-*"], "seed": "0"}, None)
    watched = Watched()
    Scheduler(Store(tmp_path, create=True), watched, Progress(quiet=True)).run(plan[::2] + plan[1::2])
    pairs = [(a.backbone, a.task) for a in watched.axes]
    assert len(watched.axes) == len(plan)
    changes = sum(one != other for one, other in itertools.pairwise(pairs))
    assert changes == len(set(pairs)) - 1


def test_seeds_are_counted_in_each_cell_by_itself(workspace):
    """Overrides give cells seeds of their own: whichever comes first there is of the first round."""
    plan = plan_of(workspace, seeds=[5, 3])
    rounds = seed_rounds(plan)
    assert {(rounds[p.run_id], p.axes.seed) for p in plan} == {(0, 5), (1, 3)}


def test_a_run_whose_worker_vanishes_every_time_is_given_up_with_the_reason(workspace, tmp_path):
    store = Store(tmp_path, create=True)
    plan = select_runs(plan_of(workspace), {"seed": "0", "method": "bitfit"}, 1)
    summary = Scheduler(store, Stumbling(dict.fromkeys(range(9), 1), set()), Progress(quiet=True)).run(plan)
    assert list(summary.failed.values()) == ["its worker ended by signal 9, 3 times"]


def test_a_damaged_record_is_one_line_and_is_made_again_from_the_runs(workspace, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    file = tmp_path / "copy" / FILE
    good = file.read_bytes()
    file.write_bytes(good[:200] + b"\xff" * 3000 + good[3200:])
    for extra in ("-wal", "-shm"):
        (tmp_path / "copy" / (FILE + extra)).unlink(missing_ok=True)
    with pytest.raises(ApetError, match=r"study\.sqlite' is damaged.*move it away and run again"):
        run_here(workspace, tmp_path / "copy")
    file.unlink()
    summary = run_here(workspace, tmp_path / "copy")
    assert (summary.num_already_complete, summary.num_completed) == (24, 0)
    a, b = Study(finished).runs(), Study(tmp_path / "copy").runs()
    pd.testing.assert_frame_equal(a, b)


def test_a_newer_record_two_schedulers_and_no_study_are_one_line_each(tmp_path, finished):
    store = Store(tmp_path / "s", create=True)
    taken = pytest.raises(ApetError, match="another apet is running the study in")
    with study_lock(tmp_path / "s"), taken, study_lock(tmp_path / "s"):
        pass
    store.db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(ApetError, match="was written by a newer apet"):
        Store(tmp_path / "s")
    with pytest.raises(ApetError, match="no study at"):
        Study(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ApetError, match="cannot write to"):
        Store(tmp_path / "file" / "below", create=True)


def test_a_full_disk_is_one_line_and_the_record_stays_whole(workspace, tmp_path):
    """SQLite told to take no page more: what it says is what a full disk says."""
    store = Store(tmp_path, create=True)
    plan = select_runs(plan_of(workspace), {"method": "bitfit"}, 3)
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ApetError, match="the disk is full; free some space, the same command goes on"):
        Scheduler(store, InProcessExecutor(Resources()), Progress(quiet=True)).run(plan)
    assert Study(tmp_path).runs().empty
    store.db.execute("PRAGMA max_page_count = 1000000")
    summary = Scheduler(store, InProcessExecutor(Resources()), Progress(quiet=True)).run(plan)
    assert summary.num_already_complete + summary.num_completed == 3


def test_a_finished_run_is_never_recorded_as_failed(finished):
    key = Study(finished).runs().run_id[0]
    with open_store(finished) as store:
        with pytest.raises(ApetError, match="a finished run is never replaced"):
            store.fail(key, Study(finished).axes()[key], "mine")
        assert store.states()[key] == "complete"


def test_a_folder_is_held_before_anything_is_made_in_it(tmp_path):
    """Of two schedulers that begin a new study at once, one is told of the other, and not of a damaged record."""
    taken = pytest.raises(ApetError, match="another apet is running the study in")
    with study_lock(tmp_path), taken, open_store(tmp_path):
        pass
    assert not (tmp_path / FILE).exists()


def test_a_record_that_another_process_writes_is_not_called_damaged(tmp_path):
    with open_store(tmp_path) as store:
        store.db.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ApetError, match=r"another process is writing .* wait for it, or try again"):
            store.note("name", "score")
        other.close()
        store.note("name", "score")


def test_where_runs_cannot_be_written_the_study_ends_and_no_run_has_failed(workspace, tmp_path):
    plan = select_runs(plan_of(workspace), {"method": "bitfit"}, 2)
    with open_store(tmp_path) as store:
        scheduler = Scheduler(store, InProcessExecutor(Resources()), Progress(quiet=True))
        (tmp_path / "runs").rmdir()
        (tmp_path / "runs").write_text("a file where a folder is to be")
        with pytest.raises(ApetError, match=r"cannot write to .*; the same command goes on"):
            scheduler.run(plan)
        assert store.states() == {}
        (tmp_path / "runs").unlink()
        assert scheduler.run(plan).num_completed == 2


def test_a_disk_that_is_full_when_a_run_is_written_ends_the_study_too(workspace, tmp_path, monkeypatch):
    """The run's last file goes to a device that is always full."""

    def to_full(path, task, examples, predictions):
        with open("/dev/full", "w") as f:
            f.write("x" * 100)

    plan = select_runs(plan_of(workspace), {"method": "bitfit"}, 1)
    with open_store(tmp_path) as store:
        scheduler = Scheduler(store, InProcessExecutor(Resources()), Progress(quiet=True))
        with monkeypatch.context() as m:
            m.setattr("apet.training.run_dir.write_predictions", to_full)
            with pytest.raises(ApetError, match=r"No space left on device; free some space.*; the same command goes"):
                scheduler.run(plan)
        assert store.states() == {}
        assert not list((tmp_path / "runs").iterdir())
        assert scheduler.run(plan).num_completed == 1


def test_what_killed_workers_left_half_written_is_removed_and_in_nobodys_way(workspace, tmp_path):
    key = select_runs(plan_of(workspace), {"method": "bitfit"}, 1)[0].run_id
    for name in (f"{key}.{os.getpid()}-{'a' * 12}.part", f"{key}.1-{'0' * 12}.part", "mine.part", f"{key}.part"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "result.json").write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs" / f"{key}.2-{'1' * 12}.part").symlink_to(tmp_path / "elsewhere")
    with open_store(tmp_path) as store:
        left = {p.name for p in (tmp_path / "runs").iterdir()}
        assert left == {"mine.part", f"{key}.part", f"{key}.2-{'1' * 12}.part"}, "what is not ours is not touched"
        plan = select_runs(plan_of(workspace), {"method": "bitfit"}, 1)
        assert Scheduler(store, InProcessExecutor(Resources()), Progress(quiet=True)).run(plan).failed == {}


def test_an_orphaned_worker_whose_folder_was_swept_away_never_finishes_half_of_it(workspace, tmp_path, monkeypatch):
    """A new scheduler begins while a worker of a killed one is writing: that worker fails, and nobody is hurt."""
    from apet.training import run_dir

    real = run_dir.write_run

    def swept(folder, *rest):
        real(folder, *rest)
        assert folder.is_dir()
        with open_store(tmp_path):
            pass
        assert not folder.exists()

    run = select_runs(plan_of(workspace), {"method": "bitfit"}, 1)[0]
    monkeypatch.setattr(run_dir, "write_run", swept)
    kind, text = execute_job(Job(run, tmp_path / "runs" / run.run_id), Resources())
    assert (kind, "cannot write" in text) == ("unwritable", True)
    assert not list((tmp_path / "runs").iterdir()), "neither half a folder nor a whole one"


@pytest.mark.parametrize("damage", ["", "\0" * 80, "{", "{}", None])
def test_a_run_that_a_power_cut_damaged_is_set_aside_and_made_again(workspace, finished, tmp_path, damage):
    run = select_runs(plan_of(workspace), {"method": "bitfit"}, 1)[0]
    there = tmp_path / "runs" / run.run_id
    shutil.copytree(finished / "runs" / run.run_id, there)
    if damage is None:
        (there / "delta.safetensors").write_bytes(b"")
    else:
        (there / "result.json").write_text(damage)
    heard = Heard()
    with open_store(tmp_path) as store:
        summary = Scheduler(store, InProcessExecutor(Resources()), heard).run([run])
    assert (summary.num_already_complete, summary.num_completed, summary.failed) == (0, 1, {})
    assert "is damaged" in heard.lines[0]
    assert "the run is made again" in heard.lines[0]
    assert len(list((tmp_path / "runs").glob("*.damaged"))) == 1


def test_a_run_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Else a power cut leaves a name with nothing in it."""
    from apet.training.output_folder import new_folder

    done, sync, move = [], os.fsync, os.replace

    def synced(handle):
        done.append(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    def named(source, target):
        done.append("named")
        move(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named)
    with new_folder(tmp_path / "run") as part:
        (part / "one").write_text("1")
    assert done == [str(part / "one"), str(part), "named", str(tmp_path)]


def test_what_is_to_do_is_said_before_the_first_run_ends(workspace, tmp_path):
    heard, plan = Heard(), select_runs(plan_of(workspace), {"method": "bitfit"}, 2)
    with open_store(tmp_path) as store:
        scheduler = Scheduler(store, Stumbling({}, {1}), heard)
        scheduler.run(plan[:1])
        scheduler.run(plan, retry=True, opening=True)
        scheduler.run(plan, opening=True)
    assert [line for line in heard.lines if "to do" in line] == ["2 of 2 runs to do, 2 at a time"]


@pytest.fixture
def nobody():
    """A folder that everybody may read, and the rights of a user who may write nothing."""
    if os.geteuid() != 0:
        pytest.skip("rights are given up by root")
    here = Path(tempfile.mkdtemp(prefix="apet-read-"))
    yield here
    os.setresuid(0, 0, 0)
    shutil.rmtree(here)


def test_a_study_is_read_where_nothing_can_be_written(finished, nobody):
    shutil.copytree(finished, nobody / "study")
    for extra in ("-wal", "-shm"):
        (nobody / "study" / (FILE + extra)).unlink(missing_ok=True)
    nobody.chmod(0o755)
    for path in nobody.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    os.setresuid(65534, 65534, 0)
    assert len(Study(nobody / "study").runs()) == 24
    assert not stat.S_IMODE((nobody / "study").stat().st_mode) & stat.S_IWOTH
    with pytest.raises(ApetError, match="cannot write"), open_store(nobody / "study"):
        pass


def test_reading_a_study_changes_nothing(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    store = Store(tmp_path / "copy")
    with pytest.raises(ApetError, match="readonly database; give a folder that can be read and written"):
        store.note("name", "score")
    store.close()


def test_workers_of_a_cluster_are_asked_all_at_once_how_far_they_are():
    """One that does not answer keeps nobody waiting."""
    asked = []

    def wait(refs, num_returns, timeout):
        asked.append((len(refs), num_returns, timeout))
        return [r for r in refs if r != "busy"], ["busy"]

    class Lost(Exception):
        pass

    def get(ref):
        if ref == "lost":
            raise Lost
        return 0.5, ref

    def actor(name):
        return SimpleNamespace(progress=SimpleNamespace(remote=lambda: name))

    executor = RayExecutor.__new__(RayExecutor)
    executor._ray = SimpleNamespace(wait=wait, get=get, exceptions=SimpleNamespace(RayError=Lost))
    executor._actors = [actor("fine"), actor("busy"), actor("lost"), actor("well")]
    assert executor._progress([0, 1, 2, 3]) == [Event(0, "progress", "fine", 0.5), Event(3, "progress", "well", 0.5)]
    assert len(asked) == 1
    assert asked[0][:2] == (4, 4)
    assert asked[0][2] <= 1


@pytest.mark.parametrize(
    ("cards", "devices", "device_maps", "size", "shared"),
    [
        ([], {"auto"}, {None}, 4, []),
        ([], {"auto"}, {"auto"}, 4, []),
        (["0", "1"], {"auto"}, {None}, 2, ["0", "1"]),
        (["0", "1"], {"auto", "cpu"}, {None}, 2, ["0", "1"]),
        (["0", "1"], {"cpu"}, {None}, 4, []),
        (["0", "1"], {"auto"}, {"auto", None}, 1, []),
    ],
)
def test_every_gpu_gets_a_worker_and_a_spread_backbone_gets_all_of_them(cards, devices, device_maps, size, shared):
    assert default_workers(cards, devices, device_maps, cores=8, num_threads=2) == (size, shared or ())


def test_workers_take_turns_on_the_gpus_that_are_theirs():
    assert gpu_names(None, 2) == ["0", "1"]
    assert gpu_names("3, GPU-5a", 2) == ["3", "GPU-5a"]
    assert gpu_names("1,-1,0", 1) == ["1"], "CUDA stops at the first that is none"
    assert gpu_names("", 0) == []
    assert [gpu_of(worker, ["3", "5"]) for worker in range(3)] == ["3", "5", "3"]
    assert gpu_of(0, ()) is None


def test_a_worker_sees_its_own_gpu_alone(monkeypatch):
    """As the run's process has it in its environment when it begins."""
    from apet.studies.executors import local

    seen = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(
        local, "execute_side_by_side", lambda job, resources: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]) or []
    )
    ours, theirs = local.mp.Pipe()
    before = signal.getsignal(signal.SIGINT)
    ours.send("a job")
    ours.close()  # a worker ends when nobody listens
    try:
        local.worker_main(theirs, "5")
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["5"]


def test_ctrl_c_reaches_no_process_that_is_just_being_started():
    before = signal.getsignal(signal.SIGINT)
    with ignoring_interrupts():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before
    told = []

    def elsewhere():
        with ignoring_interrupts():
            told.append(signal.getsignal(signal.SIGINT))

    other = threading.Thread(target=elsewhere)
    other.start()
    other.join()
    assert told == [before]


def test_the_server_of_workers_is_started_so(monkeypatch):
    from apet.studies.executors import local

    class Started(Exception):
        pass

    def ensure_running():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        raise Started

    monkeypatch.setattr(local.forkserver, "ensure_running", ensure_running)
    # However the tests were started: in the background of a shell, SIGINT is ignored from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Started):
            LocalExecutor(1).start(0, None)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_record_that_is_just_being_begun_reads_as_an_empty_one(tmp_path):
    """Also where its scheduler was killed at that; the next one goes on."""
    (tmp_path / FILE).touch()
    assert Study(tmp_path).runs().empty
    assert (tmp_path / FILE).stat().st_size == 0
    with open_store(tmp_path) as store:
        assert store.states() == {}
