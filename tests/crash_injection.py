"""Killing a study at random moments: shared by the test in the suite and the longer `make soak`."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
import yaml

from apet.studies.results import Study


def study_of_60(workspace: Path) -> Path:
    """Two backbones of the embedded ladder x five methods x six seeds."""
    raw = {
        "name": "sixty",
        "backbones": ["microworld-t5-mini", "microworld-bert-small"],
        "tasks": ["microworld-sst2"],
        "methods": ["prompt", "bitfit", "lora", "apet-adjacent", "apet-discrete"],
        "budgets": ["96"],
        "seeds": list(range(6)),
        "run_defaults": {"max_steps": 20, "batch_size": 8, "dtype": "float32", "eval_steps": 2, "device": "cpu"}
        | {"max_train_samples": 64, "max_eval_samples": 16, "learning_rate": 0.01},
    }
    (workspace / "sixty.yaml").write_text(yaml.safe_dump(raw))
    return workspace / "sixty.yaml"


def start(study: Path, folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """The command, as a user types it, in a process of its own.

    Runs that failed are asked for again: one whose worker was killed three times is down as failed.
    """
    command = [sys.executable, "-m", "apet", "study", "run", str(study), "--output", str(folder), "--quiet", "--retry"]
    command += words
    env = {**os.environ, "OMP_NUM_THREADS": "1", "APET_CACHE": str(study.parent / "cache")}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background has it ignored
    try:
        return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)


def finish(study: Path, folder: Path, *words: str) -> None:
    """Run to the end."""
    process = start(study, folder, *words)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err.decode()[-3000:]


def kill_at_random(study: Path, folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill the scheduler, a worker, or whoever just began to write, so many times; how often each was hit.

    A scheduler that is killed is started again; one that reached the end starts over on what is left (nothing).
    """
    rng = random.Random(seed)
    hit = {"scheduler": 0, "worker": 0, "writer": 0}
    while sum(hit.values()) < kills:
        process = start(study, folder, "--workers", "2")
        scheduler = psutil.Process(process.pid)
        before = _finished(folder)
        while process.poll() is None and _finished(folder) == before:  # it works
            _settle()
        while process.poll() is None and sum(hit.values()) < kills:
            kind = rng.choice(list(hit))
            wait = rng.uniform(0.0, 1.2)
            end = time.monotonic() + wait
            while process.poll() is None and time.monotonic() < end:
                _settle()
            victim = scheduler if kind == "scheduler" else _worker(scheduler, rng)
            if kind == "writer":
                end = time.monotonic() + 3
                while process.poll() is None and time.monotonic() < end and not (victim := _writer(scheduler, folder)):
                    _settle()
                if process.poll() is None and victim is None:
                    continue
            if process.poll() is not None or victim is None:
                break
            try:
                victim.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
            hit[kind] += 1
            if kind == "scheduler":
                process.wait()
        if process.poll() is None and sum(hit.values()) >= kills:
            process.kill()
        process.communicate()
        if len(_finished(folder)) >= 60:
            break
    return hit


def _worker(scheduler: psutil.Process, rng: random.Random) -> psutil.Process | None:
    try:
        children = [c for c in scheduler.children(recursive=True) if not c.children()]
        busy = [c for c in children if c.memory_info().rss > 2e8]
    except psutil.NoSuchProcess:
        return None
    return rng.choice(busy) if busy else None


def _writer(scheduler: psutil.Process, folder: Path) -> psutil.Process | None:
    """A worker that is writing a run's folder just now: until that is whole its name is KEY.PID-….part."""
    try:
        children = {c.pid: c for c in scheduler.children(recursive=True)}
    except psutil.NoSuchProcess:
        return None
    writing = (int(p.name.split(".")[1].partition("-")[0]) for p in folder.glob("runs/*.part"))
    return next((children[pid] for pid in writing if pid in children), None)


def _finished(folder: Path) -> set[str]:
    return {p.parent.name for p in folder.glob("runs/*/result.json")}


def _settle() -> None:
    """Give way to others for a moment; what is waited for is checked by the caller, never timed."""
    os.sched_yield()
    time.sleep(0.01)


TIMES = ["training_seconds", "steps_per_second", "total_seconds", "started", "peak_memory_bytes"]


def same_numbers(a: Path, b: Path) -> None:
    """Both studies hold the same runs, bit for bit but for times; every folder is whole."""
    one, two = Study(a), Study(b)
    left, right = (s.runs().drop(columns=TIMES).sort_values("run_id", ignore_index=True) for s in (one, two))
    pd.testing.assert_frame_equal(left, right, check_exact=True)
    assert (left.state == "complete").all()
    curves = [s.curves().drop(columns="seconds").sort_values(["run_id", "step"], ignore_index=True) for s in (one, two)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)
    for run_id in left.run_id:
        files = [(s.run_folder(run_id) / "delta.safetensors").read_bytes() for s in (one, two)]
        assert files[0] == files[1]
        assert (two.run_folder(run_id) / "predictions.csv").read_text().count("\n") == 17


def soak(kills: int) -> None:
    """So many kills over as many studies as they need, each finished afterwards and equal to the baseline."""
    workspace = Path(tempfile.mkdtemp(prefix="soak-"))
    study = study_of_60(workspace)
    finish(study, workspace / "baseline")
    started, hit = time.monotonic(), {"scheduler": 0, "worker": 0, "writer": 0}
    for number in itertools.count():
        folder = workspace / f"killed-{number}"
        for kind, times in kill_at_random(study, folder, min(20, kills - sum(hit.values())), number).items():
            hit[kind] += times
        finish(study, folder)
        same_numbers(workspace / "baseline", folder)
        done, spent = sum(hit.values()), (time.monotonic() - started) / 60
        left = spent * (kills - done) / max(done, 1)
        print(f"{done} of {kills} kills {hit}, {number + 1} studies equal, {left:.0f} min left", flush=True)
        if done >= kills:
            break


if __name__ == "__main__":
    soak(int(sys.argv[1]))
