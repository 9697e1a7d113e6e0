"""A run that is stopped is not lost: it goes on from its last measurement and ends with the same bits."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

import apet.training.loop as loop
from apet import ApetError, CannotWriteError
from apet.training import output_folder
from apet.training.config import RunConfig
from apet.training.output_folder import LOCK, UNFINISHED
from apet.training.run import tune
from tiny_backbones import reviews, save_backbone, write_csv


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    here = tmp_path_factory.mktemp("resuming")
    save_backbone("bert-head", here / "bert")
    write_csv(here / "all.csv", reviews(120))
    return here


def config(workspace, **more):
    base = {
        "backbone": str(workspace / "bert"),
        "data": str(workspace / "all.csv"),
        "text": ("text",),
        "label": "stars",
    }
    base |= {"max_steps": 8, "eval_steps": 2, "batch_size": 8, "dtype": "float32", "learning_rate": 0.01}
    return RunConfig(**base | {"method": "lora", "weight_decay": 0.1} | more)


class Stop(BaseException):
    """As Ctrl-C, but not caught by the test's own runner."""


def stop_after(monkeypatch, steps):
    """Take so many steps, then stop."""
    real, taken = loop._take_step, []

    def step(*args):
        if len(taken) == steps:
            raise Stop
        taken.append(1)
        return real(*args)

    monkeypatch.setattr(loop, "_take_step", step)
    return taken


@pytest.mark.parametrize("method", ["lora", "apet", "fine-tuning"])
@pytest.mark.parametrize("steps", [3, 6, 7])
def test_a_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(workspace, tmp_path, monkeypatch, method, steps):
    c = config(workspace, method=method)
    whole = tune(c, tmp_path / "whole")
    with monkeypatch.context() as m:
        stop_after(m, steps)
        with pytest.raises(Stop):
            tune(c, tmp_path / "cut")
    assert {p.name for p in (tmp_path / "cut").iterdir()} == {UNFINISHED}
    with monkeypatch.context() as m:
        taken = stop_after(m, 99)
        again = tune(c, tmp_path / "cut")
    assert len(taken) == 8 - steps + steps % 2, "from the last measurement on"
    assert [(p.step, p.loss, p.score) for p in again.points] == [(p.step, p.loss, p.score) for p in whole.points]
    a, b = (load_file(tmp_path / name / "delta.safetensors") for name in ("whole", "cut"))
    assert torch.equal(a["values"], b["values"])
    assert (tmp_path / "whole/predictions.csv").read_text() == (tmp_path / "cut/predictions.csv").read_text()
    assert {p.name for p in (tmp_path / "cut").iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}


def test_a_run_that_was_stopped_before_its_first_measurement_leaves_nothing(workspace, tmp_path, monkeypatch):
    stop_after(monkeypatch, 1)
    with pytest.raises(Stop):
        tune(config(workspace), tmp_path / "deep" / "run")
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_of_other_settings_or_a_damaged_one_is_refused_and_kept(workspace, tmp_path, monkeypatch):
    with monkeypatch.context() as m:
        stop_after(m, 5)
        with pytest.raises(Stop):
            tune(config(workspace), tmp_path / "run")
    kept = (tmp_path / "run" / UNFINISHED).read_bytes()
    with pytest.raises(ApetError, match="is of an unfinished run with other settings or data; give a new folder"):
        tune(config(workspace, seed=1), tmp_path / "run")
    assert (tmp_path / "run" / UNFINISHED).read_bytes() == kept
    for damaged in (b"", kept[:100], kept[: len(kept) // 2], b"no" * 500):
        (tmp_path / "run" / UNFINISHED).write_bytes(damaged)
        with pytest.raises(ApetError, match=r"the unfinished run .* cannot be read .*; give a new folder"):
            tune(config(workspace), tmp_path / "run")


def test_a_disk_that_fills_up_stops_the_keeping_and_not_the_training(workspace, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("apet.training.resume.torch.save", full)
    assert tune(config(workspace), tmp_path / "run").result.num_examples > 0
    assert not (tmp_path / "run" / UNFINISHED).exists()


def test_a_place_is_one_process_only(workspace, tmp_path):
    """Two writers at one output: one trained to the end and was told to free some space."""
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / LOCK), pytest.raises(ApetError, match="another apet is writing to"):
        tune(config(workspace), tmp_path / "run")
    (tmp_path / "run" / LOCK).touch()  # what a killed process leaves holds nobody up
    assert tune(config(workspace), tmp_path / "run").folder == tmp_path / "run"


def test_too_little_space_is_told_before_training_with_both_numbers(workspace, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(output_folder.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CannotWriteError, match=r"the run needs .* MB there and 0\.0 MB are left; free some space"):
        tune(config(workspace), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_what_is_kept_and_goes_on(workspace, tmp_path, sent):
    words = ["tune", "--backbone", str(workspace / "bert"), "--data", str(workspace / "all.csv"), "--text", "text"]
    words += ["--label", "stars", "--method", "bitfit", "--max-steps", "100000", "eval_steps=5", "--output", "run"]
    command = [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
               "from apet.cli import main; main()", *words]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (tmp_path / "run" / UNFINISHED).exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "apet: stopped; the run up to its last measurement is kept in run; it goes on with:" in err
    assert "apet tune --backbone" in err
    assert {p.name for p in (tmp_path / "run").iterdir()} == {UNFINISHED}
