"""Workers as jobs of Slurm (extra ``apet[slurm]``), told what to do by files in the study's folder on a shared disk.

A worker's job stays for many runs: what it has loaded serves the next one, and the queue is waited for once. Each has a
folder: ``N.run`` holds a run to make, ``events.jsonl`` what became of it. A worker ends when ``stop`` appears there, or
when nobody has looked for a while; one that Slurm ends (time limit, preemption) is started again with its next run.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apet.errors import ApetError
from apet.registry import imported
from apet.studies.executors.base import Event, Job, execute_side_by_side, import_in_worker
from apet.training.output_folder import partial_path
from apet.training.progress import Progress
from apet.training.resources import Resources

if TYPE_CHECKING:
    import submitit

MAILBOX = "workers"
"""Folder of the study that workers are told by."""
STOP, EVENTS, LOOKED = "stop", "events.jsonl", "looked"
POLL, PROGRESS_INTERVAL = 0.2, 2.0
"""Seconds between two looks into a folder; between two messages of a worker on how far it is."""
ASK_SLURM = 5.0
"""Seconds between two questions whether a worker's job still exists."""
ALONE = 300.0
"""Seconds without a look from the scheduler after which a worker ends: it holds a node that others wait for."""


class SlurmExecutor:
    """Jobs of Slurm as workers; runs write into the study's folder, which all nodes must see.

    Args:
        size: how many jobs; at least 1.
        folder: of the study.
        num_threads: cores of each.
        num_gpus: GPUs of each, whole ones.
        settings: of the jobs, as ``sbatch`` calls them (``partition``, ``time`` in minutes, ``mem``, ``account``, …);
            ``cluster=local`` runs them as processes of this machine, to try things out.

    Raises:
        ApetError: submitit is not installed, there is no Slurm here, or a setting that it does not know.
    """

    side_by_side = True

    def __init__(
        self, size: int, folder: Path, num_threads: int, num_gpus: int = 0, settings: Mapping[str, str] | None = None
    ) -> None:
        self.size, self._folder = size, folder / MAILBOX
        settings = dict(settings or {})
        cluster = settings.pop("cluster", "slurm")
        self._submit = _submitter(self._folder / "logs", cluster, num_threads, num_gpus, settings)
        self._workers: list[_Submitted | None] = [None] * size

    def start(self, worker: int, job: Job) -> None:
        """Give a job to a worker; one whose job has ended is submitted again first."""
        there = self._workers[worker]
        if there is None:
            there = self._workers[worker] = _Submitted.new(self._folder / f"{worker}-{time.time_ns()}", self._submit)
        there.send(job)

    def events(self, timeout: float) -> list[Event]:
        """Events that the workers wrote since the last call; waits at most ``timeout`` seconds for the first."""
        until = time.monotonic() + timeout
        while True:
            events = [e for n, w in enumerate(self._workers) if w is not None for e in self._events_of(n, w)]
            if events or time.monotonic() >= until:
                return events
            time.sleep(min(POLL, timeout))

    def _events_of(self, worker: int, there: _Submitted) -> list[Event]:
        events = there.receive(worker)
        if events or there.is_alive():
            return events
        # What was written between the look and the end of its job comes first.
        events = [*there.receive(worker), Event(worker, "worker_died", there.why_it_ended())]
        self._workers[worker] = None
        there.end()
        return events

    def stop(self) -> None:
        """Cancel all jobs: what they have finished is on disk, the rest is run again another time."""
        for there in self._workers:
            if there is not None:
                there.end()
        self._workers = [None] * self.size


class _Submitted:
    """A worker's job, and the folder through which it is spoken with."""

    def __init__(self, folder: Path, job: submitit.Job[None]) -> None:
        self._folder, self._job = folder, job
        self._num_sent, self._read, self._asked = 0, 0, time.monotonic()

    @classmethod
    def new(cls, folder: Path, submitter: submitit.Executor) -> _Submitted:
        folder.mkdir(parents=True)
        (folder / LOOKED).touch()
        return cls(folder, submitter.submit(serve, folder, tuple(imported())))

    def send(self, job: Job) -> None:
        path = self._folder / f"{self._num_sent}.run"
        unfinished = partial_path(path)
        unfinished.write_bytes(pickle.dumps(job))
        unfinished.replace(path)  # a worker on another node must never read half of it
        self._num_sent += 1

    def receive(self, worker: int) -> list[Event]:
        os.utime(self._folder / LOOKED)
        path = self._folder / EVENTS
        if not path.is_file():
            return []
        with path.open("rb") as f:
            f.seek(self._read)
            whole = f.read().rpartition(b"\n")[0]
        if not whole:
            return []
        self._read += len(whole) + 1
        return [Event(worker, *json.loads(line)) for line in whole.split(b"\n")]

    def is_alive(self) -> bool:
        if time.monotonic() - self._asked < ASK_SLURM:
            return True
        self._asked = time.monotonic()
        return not self._job.done()

    def why_it_ended(self) -> str:
        return f"its job {self._job.job_id} ended ({self._job.state.lower()}); its log: {self._job.paths.stderr}"

    def end(self) -> None:
        (self._folder / STOP).touch()
        self._job.cancel(check=False)
        shutil.rmtree(self._folder, ignore_errors=True)


def _submitter(
    logs: Path, cluster: str, num_threads: int, num_gpus: int, settings: Mapping[str, str]
) -> submitit.Executor:
    try:
        import submitit
    except ImportError as e:
        raise ApetError("executor slurm needs submitit: pip install 'apet[slurm]'") from e
    if cluster not in ("slurm", "local"):
        raise ApetError(f"slurm: cluster={cluster} is neither slurm nor local")
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise ApetError(
            "executor slurm: there is no sbatch on this machine; call it on a login node of the cluster, or try it"
            " here with --slurm cluster=local"
        )
    executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
    parameters: dict[str, str | int] = {"cpus_per_task": num_threads, "gpus_per_node": num_gpus, "name": "apet"}
    for name, value in settings.items():
        parameters[f"slurm_{name.replace('-', '_')}"] = int(value) if value.isdecimal() else value
    try:
        executor.update_parameters(**parameters)
    except (AssertionError, NameError, TypeError, ValueError) as e:
        raise ApetError(
            f"slurm: {str(e).splitlines()[0]}; give settings of sbatch, such as partition=gpu time=120"
        ) from e
    return executor


def serve(folder: Path, guests: Sequence[str] = ()) -> None:
    """Main function of a worker: makes the runs that appear in its folder until it is told to stop, or is alone.

    Args:
        folder: of this worker.
        guests: files and modules that the scheduler's process imported; a file must exist on every node.
    """
    out = _Outbox(folder)
    guest_error = import_in_worker(guests)
    resources, number = Resources(_SentProgress(out)), 0
    while out.is_wanted():
        path = folder / f"{number}.run"
        if not path.is_file():
            time.sleep(POLL)
            continue
        job: Job = pickle.loads(path.read_bytes())
        number += 1
        if guest_error:
            for failed in (job, *job.beside):
                out.send("failed", guest_error, 1.0, failed.run_id)
            continue
        for run_id, outcome, reason in execute_side_by_side(job, resources):
            out.send(outcome, reason, 1.0, run_id)


class _Outbox:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_wanted(self) -> bool:
        """Whether somebody still looks into the folder and has not said stop."""
        try:
            looked = (self._folder / LOOKED).stat().st_mtime
        except OSError:  # the folder is gone
            return False
        return not (self._folder / STOP).exists() and time.time() - looked < ALONE

    def send(self, kind: str, message: str, fraction_done: float, run_id: str) -> None:
        with (self._folder / EVENTS).open("a", encoding="utf-8") as f:
            f.write(json.dumps([kind, message, fraction_done, run_id]) + "\n")
            f.flush()
            os.fsync(f.fileno())


class _SentProgress(Progress):
    """Progress that is written for the scheduler; where nobody looks any more, the run ends with the worker."""

    def __init__(self, out: _Outbox) -> None:
        super().__init__(quiet=True)
        self._out, self._last_sent = out, 0.0

    def update(self, done: int, note: str | None = None) -> None:
        super().update(done, note)
        seconds = time.monotonic()
        if seconds - self._last_sent >= PROGRESS_INTERVAL:
            self._last_sent = seconds
            if not self._out.is_wanted():
                raise SystemExit("nobody looks for this worker's runs any more")
            self._out.send("progress", self.stage.note, done / max(1, self.stage.total), "")
