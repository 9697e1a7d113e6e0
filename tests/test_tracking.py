"""Runs in a tracker: settings, losses and scores arrive as they were measured, and nothing depends on it."""

from __future__ import annotations

import json
import sys

import pytest

import apet
from apet.training.config import RunConfig
from apet.training.resolve import resolve
from apet.training.resources import Resources
from apet.training.run import tune
from test_cli import call
from tiny_backbones import reviews, save_backbone, write_csv

FAKE = """
import json, pathlib

def init(project, name=None, dir=None, mode=None):
    global run
    run = Run(pathlib.Path(dir) / f"{name}.jsonl")
    run.log({"project": project, "mode": mode})
    return run

class Run:
    def __init__(self, path):
        self.path = path

    def log(self, values, step=None):
        if "FAILS" in str(self.path.parent) and step:
            raise RuntimeError("the disk is full")
        with self.path.open("a") as f:
            f.write(json.dumps({"step": step, **values}) + "\\n")

    def finish(self):
        self.log({"finished": True})

class config:
    @staticmethod
    def update(values, allow_val_change):
        run.log({"settings": values})
"""
"""What of W&B accelerate's tracker calls."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracking")
    save_backbone("bert-head", folder / "bert")
    write_csv(folder / "train.csv", reviews(48))
    (folder / "fake/wandb").mkdir(parents=True)
    (folder / "fake/wandb/__init__.py").write_text(FAKE)
    return folder


@pytest.fixture
def fake_wandb(place, monkeypatch):
    monkeypatch.syspath_prepend(place / "fake")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    yield
    sys.modules.pop("wandb", None)


def settings(place, **more):
    base = {"backbone": str(place / "bert"), "data": str(place / "train.csv"), "text": ["text"], "label": "stars"}
    return RunConfig(**{**base, "dtype": "float32", "method": "bitfit", "max_steps": 3, "eval_steps": 1, **more})


def test_tensorboard_holds_losses_and_scores_at_their_steps(place, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    finished = tune(settings(place, track="tensorboard"), tmp_path / "run")
    (folder,) = (tmp_path / "tensorboard").iterdir()
    read = events.EventAccumulator(str(folder)).Reload()
    points = finished.points
    scores = [(e.step, e.value) for e in read.Scalars("validation/accuracy")]
    assert scores == [(p.step, pytest.approx(p.score.score)) for p in points]
    losses = [(e.step, e.value) for e in read.Scalars("train/loss")]
    assert losses == [(p.step, pytest.approx(p.loss)) for p in points[1:]]
    assert [e.value for e in read.Scalars("best/accuracy")] == [pytest.approx(finished.result.score)]
    (hparams,) = folder.rglob("hparams.yml")
    assert f"num_trainable: {finished.result.num_trainable}" in hparams.read_text()
    (note,) = [n for n in finished.result.notes if "tracked" in n]
    assert note.startswith(f"tracked by tensorboard in {tmp_path / 'tensorboard'}; tensorboard --logdir ")


def told(folder):
    return {p.stem: [json.loads(line) for line in p.read_text().splitlines()] for p in folder.glob("*.jsonl")}


def test_a_tracker_gets_resolved_settings_first_stays_offline_and_is_closed(place, tmp_path, fake_wandb):
    finished = tune(settings(place, track="wandb"), tmp_path / "r")
    ((name, lines),) = told(tmp_path / "wandb").items()
    assert lines[0] == {"step": None, "project": tmp_path.name, "mode": "offline"}
    given = lines[1]["settings"]
    assert (given["learning_rate"], given["mask_seed"]) == (finished.result.learning_rate, 0)
    assert given["run_id"] == finished.result.run_id
    assert "target_score" not in given, "what is not set is not said"
    assert lines[-1] == {"step": None, "finished": True}
    assert name == f"bert-train-bitfit-{finished.result.num_trainable}-seed0-{finished.result.run_id[:6]}"


def test_runs_of_a_comparison_lie_together_also_those_of_one_pass(place, tmp_path, fake_wandb):
    both = apet.compare(config=settings(place), methods="bitfit,lora", seeds=[0, 1], track="wandb", quiet=True,
                        output=tmp_path / "study")  # fmt: skip
    runs = told(tmp_path / "study/wandb")
    curves = dict(iter(both.study.curves().groupby("run_id")))
    assert len(runs) == len(curves) == 4
    for lines in runs.values():
        curve = curves[lines[1]["settings"]["run_id"]]
        scores = [line["validation/accuracy"] for line in lines if "validation/accuracy" in line]
        assert scores == pytest.approx(curve["score"].tolist())
    assert len(both.notes) == 1


def test_a_tracker_that_fails_on_the_way_stops_no_run(place, tmp_path, fake_wandb, monkeypatch):
    resources, lines = Resources(), []
    monkeypatch.setattr(resources.progress, "log", lines.append)
    finished = tune(settings(place, track="wandb"), tmp_path / "FAILS" / "run", resources)
    assert finished.result.max_steps == 3
    assert [line for line in lines if "tracking" in line] == [
        "caution: tracking stopped (the disk is full); the run goes on"
    ]


def test_a_tracker_changes_no_number_and_no_identifier(place, tmp_path, fake_wandb):
    a, b = tune(settings(place)), tune(settings(place, track="wandb"), tmp_path / "run")
    assert [(p.loss, p.score) for p in a.points] == [(p.loss, p.score) for p in b.points]
    assert a.result.run_id == b.result.run_id


def test_a_package_that_is_missing_is_named_before_anything_is_loaded(place, monkeypatch):
    monkeypatch.chdir(place)
    (place / "trackio").mkdir(exist_ok=True)  # a folder of that name is no package
    with pytest.raises(apet.ApetError, match=r"track=trackio needs .*: pip install trackio"):
        resolve(settings(place, track="trackio"))
    done = call(place, "tune", "--backbone", "bert", "--data", "train.csv", "--text", "text", "--label", "stars",
                "--track", "mlflow", "--output", "never")  # fmt: skip
    assert (done.code, "pip install mlflow" in done.err) == (2, True)
    assert not (place / "never").exists()
    done = call(place, "tune", "--backbone", "bert", "--data", "train.csv", "--text", "text", "--label", "stars",
                "--track", "paper")  # fmt: skip
    assert "give 'tensorboard', 'wandb', 'mlflow', 'trackio' or none" in done.err
