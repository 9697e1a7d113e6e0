"""A study whose workers are jobs of Slurm; here submitit runs them as processes, which is all that differs."""

from __future__ import annotations

import json
import os
import pickle
import time

import psutil
import pytest

from apet import ApetError, Study
from apet.studies.executors import ExecutorOptions, running_executor
from apet.studies.executors.base import Job
from apet.studies.executors.slurm import ALONE, EVENTS, LOOKED, MAILBOX, STOP, serve
from apet.training.config import validate_config
from apet.training.resolve import resolve
from crash_injection import start, study_of_60

pytest.importorskip("submitit")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    here = tmp_path_factory.mktemp("jobs")
    study_of_60(here)
    return here


@pytest.fixture(scope="module")
def baseline(workspace):
    filters = {"method": "bitfit"}
    return Study.run(
        workspace / "sixty.yaml", workspace / "baseline", executor="in-process", filters=filters, quiet=True
    )


def scores(study):
    return study.runs().set_index("run_id")[["score", "test_score", "num_trainable"]].sort_index()


def is_job(process):
    try:
        return "submitit.core._submit" in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_jobs_give_the_same_numbers_and_one_that_is_ended_loses_nothing(workspace, baseline):
    folder = workspace / "slurm"
    words = ("--executor", "slurm", "--slurm", "cluster=local", "--workers", "2", "--filter", "method=bitfit")
    process = start(workspace / "sixty.yaml", folder, *words)
    jobs: list[psutil.Process] = []
    while process.poll() is None and not (jobs and list(folder.glob("runs/*/result.json"))):
        os.sched_yield()
        jobs = [p for p in psutil.Process(process.pid).children(recursive=True) if is_job(p)]
    jobs[0].kill()
    _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err.decode()[-2000:]
    assert scores(Study(folder)).equals(scores(baseline))
    assert [p.name for p in (folder / MAILBOX).iterdir()] == ["logs"], "no worker's folder is left"
    assert not [p for p in jobs if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_what_slurm_cannot_do_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    cases = {
        "how many jobs run at a time, such as --workers 8": {"num_workers": 0},
        "a job holds whole GPUs, not 0.5": {"num_gpus": 0.5},
        "no sbatch on this machine": {},
        "neither slurm nor local": {"slurm": {"cluster": "moon"}},
        "give settings of sbatch": {"slurm": {"cluster": "local", "partitoin": "gpu"}},
    }
    for message, given in cases.items():
        options = ExecutorOptions(**({"num_workers": 1, "folder": tmp_path} | given))
        with pytest.raises(ApetError, match=message), running_executor("slurm", options):
            pass


@pytest.mark.parametrize("ended_by", ["told", "left alone", "its folder is gone"])
def test_a_worker_that_nobody_needs_gives_its_node_back(tmp_path, ended_by):
    folder = tmp_path / "worker"
    if ended_by != "its folder is gone":
        folder.mkdir()
        (folder / LOOKED).touch()
    if ended_by == "told":
        (folder / STOP).touch()
    if ended_by == "left alone":
        long_ago = time.time() - ALONE - 1
        os.utime(folder / LOOKED, (long_ago, long_ago))
    serve(folder)  # returns
    assert not (folder / EVENTS).exists()


def test_a_guest_that_a_node_lacks_fails_its_runs_with_the_reason(tmp_path, baseline, monkeypatch):
    result = next(iter(baseline.results().values()))
    plan = resolve(validate_config(result.config.model_dump(mode="json")))
    (tmp_path / LOOKED).touch()
    (tmp_path / "0.run").write_bytes(pickle.dumps(Job(plan, tmp_path / "run")))
    # It sleeps once there is no other run to make.
    monkeypatch.setattr("apet.studies.executors.slurm.time.sleep", lambda seconds: (tmp_path / STOP).touch())
    serve(tmp_path, ["nowhere.py"])
    (event,) = [json.loads(line) for line in (tmp_path / EVENTS).read_text().splitlines()]
    assert event[0] == "failed"
    assert "nowhere.py" in event[1]
    assert event[3] == plan.run_id
