"""Workers on a Ray cluster, of one machine or many (extra ``apet[ray]``); every node has apet and the backbones."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apet.errors import ApetError, CannotWriteError
from apet.studies.executors.base import Event, Job, execute_job
from apet.training import run_dir
from apet.training.progress import Progress
from apet.training.resources import Resources

PATIENCE = 0.5
"""Seconds for all workers together to say how far they are."""


class RayExecutor:
    """Ray actors as workers. A run's files come back by Ray; no file system needs to be shared.

    Args:
        size: how many workers; 0 = as many as the cluster's cores (or GPUs) allow.
        address: of the cluster; None = the one that RAY_ADDRESS names, or a new one on this machine.
        threads: cores that each worker holds.
        gpus: GPUs that each worker holds.

    Raises:
        ApetError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, size: int, address: str | None, threads: int, gpus: float) -> None:
        try:
            import ray
        except ImportError as e:
            raise ApetError("engine ray needs Ray: pip install 'apet[ray]'") from e
        self._ray = ray
        try:
            ping(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        except (OSError, RuntimeError, ValueError) as e:
            raise ApetError(
                f"no Ray cluster at {address!r} ({str(e).splitlines()[0]}); start one: ray start --head"
            ) from e
        have = ray.cluster_resources()
        fits = int(have.get("CPU", 0) // threads)
        if gpus:
            fits = min(fits, int(have.get("GPU", 0) // gpus))
        self.size = size or fits
        if not 1 <= self.size <= fits:
            ray.shutdown()
            raise ApetError(
                f"workers={size} with {threads} cores and {gpus:g} GPUs each do not fit the cluster of"
                f" {have.get('CPU', 0):g} cores and {have.get('GPU', 0):g} GPUs; at most {fits}"
            )
        options = {"num_cpus": threads, "num_gpus": gpus, "max_concurrency": 2, "max_restarts": 0}
        self._actor = ray.remote(**options)(_Worker)
        self._actors: list[Any] = [None] * self.size
        self._jobs: dict[Any, tuple[int, Job]] = {}

    def start(self, worker: int, job: Job) -> None:
        """Give it a job; a worker that is gone is replaced first, on any node that has room."""
        if self._actors[worker] is None:
            self._actors[worker] = self._actor.remote()
        ref = self._actors[worker].run.remote(job)
        self._jobs[ref] = worker, job

    def events(self, timeout: float) -> list[Event]:
        """Finished runs, whose files are written here; and how far the others are."""
        done, busy = self._ray.wait(list(self._jobs), num_returns=1, timeout=timeout)
        found = [self._ended(ref) for ref in done]
        if not found:
            found = self._progress([self._jobs[ref][0] for ref in busy])
        return found

    def _ended(self, ref: Any) -> Event:
        worker, job = self._jobs.pop(ref)
        try:
            kind, text, files = self._ray.get(ref)
        except self._ray.exceptions.RayError as e:
            self._actors[worker] = None
            return Event(worker, "lost", f"its worker was lost ({type(e).__name__})")
        try:
            _write(files, job.folder)
        except CannotWriteError as e:
            return Event(worker, "unwritable", str(e))
        return Event(worker, kind, text)

    def _progress(self, workers: Sequence[int]) -> list[Event]:
        """How far they are, those that say so at once: all are asked together, none waits for another."""
        asked = {self._actors[w].standing.remote(): w for w in workers}
        answered, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE) if asked else ([], [])
        found = []
        for ref in answered:
            with contextlib.suppress(self._ray.exceptions.RayError):  # `events` sees a lost worker by its job
                share, note = self._ray.get(ref)
                found.append(Event(asked[ref], "progress", note, share))
        return found

    def stop(self) -> None:
        """End all workers and leave the cluster."""
        for actor in self._actors:
            if actor is not None:
                self._ray.kill(actor)
        self._actors = [None] * self.size
        self._ray.shutdown()


def ping(address: str | None) -> None:
    """Whether anybody answers at ``host:port``: Ray itself would go on trying for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), 5).close()


class _Worker:
    """Runs in an actor: one run at a time, and a second thread that says how far it is."""

    def __init__(self) -> None:
        self._watch = _Standing()
        self._shop = Resources(self._watch)

    def run(self, job: Job) -> tuple[str, str, dict[str, bytes]]:
        """How it ended, why it failed, and the run's files."""
        here = Path(tempfile.mkdtemp(prefix="apet-"))
        try:
            kind, text = execute_job(Job(job.plan, here / job.run_id), self._shop)
            files = {f.name: f.read_bytes() for f in (here / job.run_id).iterdir()} if kind == "done" else {}
            return kind, text, files
        finally:
            shutil.rmtree(here, ignore_errors=True)

    def standing(self) -> tuple[float, str]:
        """Share of the steps that are done, and a note."""
        return self._watch.share, self._watch.note


class _Standing(Progress):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.share, self.note = 0.0, ""

    def update(self, done: int, note: str | None = None) -> None:
        super().update(done, note)
        self.share, self.note = done / max(1, self.stage.total), self.stage.note


def _write(files: dict[str, bytes], folder: Path) -> None:
    """A run's folder, whole or not at all; none where there are no files, or where it is there already.

    Raises:
        CannotWriteError: the place takes none.
    """
    if files and not folder.exists():
        with run_dir.new_folder(folder) as part:
            for name, content in files.items():
                (part / name).write_bytes(content)
