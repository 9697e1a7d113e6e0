"""Studies survive kills at random moments, Ctrl-C and a cluster that loses a worker: the numbers stay the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest
import yaml

from apet.studies.results import Study
from crash_injection import finish, kill_at_random, same_numbers, start, study_of_60


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    here = tmp_path_factory.mktemp("sixty")
    study_of_60(here)
    return here


@pytest.fixture(scope="module")
def baseline(workspace):
    finish(workspace / "sixty.yaml", workspace / "baseline", "--workers", "1")
    assert len(Study(workspace / "baseline").runs()) == 60
    return workspace / "baseline"


@pytest.mark.timeout(1800)  # minutes, where the machine is busy
@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_lose_nothing_and_change_nothing(workspace, baseline, kills):
    """Scheduler, worker, or in the middle of a write; then the same command finishes what is missing."""
    hit, keys = Counter[str](), tuple(Study(baseline).runs().run_id)
    while hit.total() < kills:  # a fast machine ends the study before, and then goes through it once more
        folder = workspace / f"killed-{kills}-{hit.total()}"
        hit.update(kill_at_random(workspace / "sixty.yaml", folder, kills - hit.total(), seed=5 + hit.total()))
        half = list(folder.rglob("*.part"))
        finish(workspace / "sixty.yaml", folder, "--workers", "2")
        same_numbers(baseline, folder)
        assert all(p.name.startswith(keys) for p in half)
    assert hit.total() == kills
    if kills == 20:  # fewer need not meet each kind
        assert set(hit) == {"scheduler", "worker", "writer"}
        assert all(hit.values()), hit


@pytest.mark.timeout(1800)
def test_workers_killed_between_write_and_rename_and_just_after_it_lose_nothing(workspace, monkeypatch):
    """Every run dies twice at the worst moments: whole on disk under its temporary name, and under its own."""
    study = yaml.safe_load((workspace / "sixty.yaml").read_text())
    study |= {"import": [str(Path(__file__).with_name("dies_while_writing.py"))], "seeds": [0]}
    study |= {"backbones": study["backbones"][:1], "methods": study["methods"][:3]}
    (workspace / "dying.yaml").write_text(yaml.safe_dump(study))
    finish(workspace / "dying.yaml", workspace / "alive", "--workers", "2")
    marks = workspace / "marks"
    marks.mkdir()
    monkeypatch.setenv("DEATH_MARKS", str(marks))
    finish(workspace / "dying.yaml", workspace / "dying", "--workers", "2")
    run_ids = set(Study(workspace / "alive").runs().run_id)
    assert {p.name for p in marks.iterdir()} == {f"{r}.{when}" for r in run_ids for when in ("before", "after")}
    same_numbers(workspace / "alive", workspace / "dying")
    assert {p.name for p in (workspace / "dying/runs").iterdir()} == run_ids, "no half run is left"


@pytest.mark.timeout(1800)
def test_ctrl_c_finishes_the_record_and_exits_cleanly(workspace, baseline):
    process = start(workspace / "sixty.yaml", workspace / "stopped", "--workers", "2")
    while process.poll() is None and not list((workspace / "stopped").glob("runs/*/result.json")):
        os.sched_yield()
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.decode().strip().splitlines()[-1].startswith("apet: stopped")
    assert "Traceback" not in err.decode()
    psutil.wait_procs(children, timeout=30)
    assert not [c for c in children if c.is_running() and c.status() != psutil.STATUS_ZOMBIE]
    assert (Study(workspace / "stopped").runs().state == "complete").all()
    assert not list((workspace / "stopped").glob("runs/*.part"))


@pytest.fixture(scope="module")
def cluster():
    """Two nodes on this machine."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_DISABLE_IMPORT_WARNING"] = "1"
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes.address
    ray.shutdown()
    nodes.shutdown()


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_gives_the_same_numbers_and_a_killed_worker_loses_nothing(
    workspace, baseline, cluster
):
    def results():
        return list((workspace / "ray").glob("runs/*/result.json"))

    process = start(workspace / "sixty.yaml", workspace / "ray", "--executor", "ray", "--ray-address", cluster)
    workers: list[psutil.Process] = []
    # One may have finished three runs before the other has imported its libraries.
    while process.poll() is None and not (len(workers) == 2 and len(results()) >= 3):
        os.sched_yield()
        named = [(p, p.info["cmdline"]) for p in psutil.process_iter(["cmdline"])]
        workers = [p for p, words in named if words and "ray::_Worker" in words[0]]
    assert len(workers) == 2
    workers[0].send_signal(signal.SIGKILL)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err.decode()[-2000:]
    same_numbers(baseline, workspace / "ray")


def test_no_cluster_is_one_line(workspace):
    pytest.importorskip("ray")
    words = ["study", "run", str(workspace / "sixty.yaml"), "--output", str(workspace / "none"), "--executor", "ray"]
    command = [sys.executable, "-m", "apet", *words, "--ray-address", "127.0.0.1:1"]
    with (workspace / "log").open("wb") as log:
        done = subprocess.run(command, stdout=log, stderr=log, timeout=300, check=False)
    assert done.returncode == 2
    last = (workspace / "log").read_text().strip().splitlines()[-1]
    assert last.startswith("apet: no Ray cluster answers at '127.0.0.1:1'")
