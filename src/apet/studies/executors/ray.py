"""Workers on a Ray cluster of one machine or many (extra ``apet[ray]``); every node has apet and the backbones."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Protocol

from apet.errors import ApetError, CannotWriteError
from apet.registry import imported
from apet.studies.executors.base import Event, Job, JobOutcome, execute_job, import_in_worker
from apet.training import output_folder
from apet.training.progress import Progress
from apet.training.resources import Resources

PROGRESS_TIMEOUT = 0.5
"""Seconds for all workers together to answer how far they are."""

ObjectRef = Hashable
"""Ray's reference to what a call will return."""


class _RemoteMethod(Protocol):
    def remote(self, *arguments: object) -> ObjectRef: ...


class _Actor(Protocol):
    """Ray's handle of a `_Worker`: the same methods, called in the worker's process."""

    run: _RemoteMethod
    progress: _RemoteMethod


class RayExecutor:
    """Ray actors as workers. A run's files come back through Ray; no file system needs to be shared.

    Args:
        size: how many workers; 0 = as many as the cluster's cores (or GPUs) allow.
        address: of the cluster; None = the one that RAY_ADDRESS names, or a new one on this machine.
        num_threads: cores that each worker reserves.
        num_gpus: GPUs that each worker reserves; may be a fraction.

    Raises:
        ApetError: Ray is not installed, no cluster answers, or it is too small.
    """

    def __init__(self, size: int, address: str | None, num_threads: int, num_gpus: float) -> None:
        try:
            import ray
        except ImportError as e:
            raise ApetError("executor ray needs Ray: pip install 'apet[ray]'") from e
        self._ray = ray
        try:
            ping(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        except (OSError, RuntimeError, ValueError) as e:
            raise ApetError(
                f"no Ray cluster answers at {address!r} ({str(e).splitlines()[0]}); start one: ray start --head"
            ) from e
        available = ray.cluster_resources()
        max_size = int(available.get("CPU", 0) // num_threads)
        if num_gpus:
            max_size = min(max_size, int(available.get("GPU", 0) // num_gpus))
        self.size = size or max_size
        if not 1 <= self.size <= max_size:
            ray.shutdown()
            # Ray itself would wait for resources without end, and say nothing.
            raise ApetError(
                f"workers={size} with {num_threads} cores and {num_gpus:g} GPUs each do not fit the cluster of"
                f" {available.get('CPU', 0):g} cores and {available.get('GPU', 0):g} GPUs; at most {max_size}"
            )
        # Two calls at a time: the second answers how far the first, the run, is. No restarts by Ray: the scheduler
        # counts attempts, since a run that kills its worker must not be tried without end.
        options = {"num_cpus": num_threads, "num_gpus": num_gpus, "max_concurrency": 2, "max_restarts": 0}
        self._actor = ray.remote(**options)(_Worker)
        self._actors: list[_Actor | None] = [None] * self.size
        self._jobs: dict[ObjectRef, tuple[int, Job]] = {}

    def start(self, worker: int, job: Job) -> None:
        """Give a job to a worker; one that has died is replaced first, on any node that has room."""
        actor = self._actors[worker]
        if actor is None:
            created: _Actor = self._actor.remote(tuple(imported()))
            actor = self._actors[worker] = created
        self._jobs[actor.run.remote(job)] = worker, job

    def events(self, timeout: float) -> list[Event]:
        """How runs ended, whose files are then written here; where none did, how far they are."""
        ended, running = self._ray.wait(list(self._jobs), num_returns=1, timeout=timeout)
        return [self._end(ref) for ref in ended] or self._progress([self._jobs[ref][0] for ref in running])

    def _end(self, ref: ObjectRef) -> Event:
        worker, job = self._jobs.pop(ref)
        try:
            outcome, reason, files = self._ray.get(ref)
        except self._ray.exceptions.RayError as e:
            # The actor is gone with everything it had loaded; `start` makes a new one when there is a job for it.
            self._actors[worker] = None
            return Event(worker, "worker_died", f"its worker died ({type(e).__name__})")
        try:
            _write(files, job.folder)
        except CannotWriteError as e:
            return Event(worker, "unwritable", str(e))
        return Event(worker, outcome, reason)

    def _progress(self, workers: Sequence[int]) -> list[Event]:
        """How far workers are. All are asked together: one that does not answer keeps nobody waiting."""
        worker_of = {actor.progress.remote(): w for w in workers if (actor := self._actors[w]) is not None}
        answered: list[ObjectRef] = []
        if worker_of:
            answered, _ = self._ray.wait(list(worker_of), num_returns=len(worker_of), timeout=PROGRESS_TIMEOUT)
        events = []
        for ref in answered:
            with contextlib.suppress(self._ray.exceptions.RayError):  # its job's own reference reports that it died
                fraction_done, note = self._ray.get(ref)
                events.append(Event(worker_of[ref], "progress", note, fraction_done))
        return events

    def stop(self) -> None:
        """Kill all workers and leave the cluster."""
        for actor in self._actors:
            if actor is not None:
                self._ray.kill(actor)
        self._actors = [None] * self.size
        self._ray.shutdown()


def ping(address: str | None) -> None:
    """Check that something answers at ``host:port``: Ray itself would go on trying for minutes.

    Args:
        address: of a cluster; None and names without a port are not checked.

    Raises:
        OSError: nothing answers within 5 seconds.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), 5).close()


class _Worker:
    """Runs in an actor: one run at a time, and a second thread that answers how far it is.

    Args:
        guests: files and modules that the scheduler's process imported; a file must exist on every node.
    """

    def __init__(self, guests: Sequence[str] = ()) -> None:
        self._guest_error = import_in_worker(guests)
        self._progress = _LastProgress()
        self._resources = Resources(self._progress)

    def run(self, job: Job) -> tuple[JobOutcome, str, dict[str, bytes]]:
        """Run a job in a temporary folder.

        Returns:
            How it ended, why where it did not end well, and the run's files.
        """
        if self._guest_error:
            return "failed", self._guest_error, {}
        # A folder of the worker's node: the study's own may lie on a disk that this node does not have.
        folder = Path(tempfile.mkdtemp(prefix="apet-"))
        try:
            outcome, reason = execute_job(Job(job.plan, folder / job.run_id), self._resources)
            run_files = (folder / job.run_id).iterdir() if outcome == "done" else ()
            return outcome, reason, {file.name: file.read_bytes() for file in run_files}
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def progress(self) -> tuple[float, str]:
        """Fraction of the run's steps that are done, and a note."""
        return self._progress.fraction_done, self._progress.note


class _LastProgress(Progress):
    """Progress that is kept until somebody asks."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.fraction_done, self.note = 0.0, ""

    def update(self, done: int, note: str | None = None) -> None:
        super().update(done, note)
        self.fraction_done, self.note = done / max(1, self.stage.total), self.stage.note


def _write(files: dict[str, bytes], folder: Path) -> None:
    """Write a run's folder, whole or not at all; nothing where there are no files, or where it exists already.

    Raises:
        CannotWriteError: the place takes no files.
    """
    # Another attempt at the same run may have written it: both have the same content, and the first one stays.
    if files and not folder.exists():
        with output_folder.new_folder(folder) as part:
            for name, content in files.items():
                (part / name).write_bytes(content)
