"""What an executor is: it carries jobs to workers and events back; what runs next is the scheduler's business."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from apet.errors import ApetError, CannotWriteError
from apet.registry import import_guest
from apet.training.group import tune_side_by_side
from apet.training.output_folder import RESULT
from apet.training.resources import Resources
from apet.training.run import FinishedRun, tune
from apet.training.run_plan import RunPlan


@dataclass(frozen=True)
class Job:
    """One run for a worker.

    Attributes:
        plan: of the run: everything that a worker takes from this process.
        folder: where its result is to appear.
        beside: other runs to make in the same pass; only executors that say so get such jobs.
    """

    plan: RunPlan
    folder: Path
    beside: tuple[Job, ...] = ()

    @property
    def run_id(self) -> str:
        """The run's identifier."""
        return self.plan.run_id


JobOutcome = Literal["done", "failed", "unwritable"]


@dataclass(frozen=True)
class Event:
    """What a worker reports.

    Attributes:
        worker: its number.
        kind: ``progress`` (the job goes on), ``done``, ``failed`` (the message says why), ``unwritable`` (the folder
            for results takes no files: no run is to blame, and the next one would end the same way), ``worker_died``
            (the worker's process is gone; the job is not to blame and may be tried again).
        message: of ``progress`` how the run stands, else the reason.
        fraction_done: of the run's steps, in [0, 1], for ``progress``.
        run_id: of the run that ended, where the job has several; "" = the job's own.
    """

    worker: int
    kind: Literal["progress", "worker_died"] | JobOutcome
    message: str = ""
    fraction_done: float = 0.0
    run_id: str = ""


class Executor(Protocol):
    """Workers that each take one job at a time, numbered from 0 to ``size`` - 1.

    One that can make the runs of a job side by side has ``side_by_side = True``, and reports the end of each.
    """

    size: int

    def start(self, worker: int, job: Job) -> None:
        """Give a job to an idle worker."""

    def events(self, timeout: float) -> list[Event]:
        """Events that came since the last call; waits at most ``timeout`` seconds for the first."""

    def stop(self) -> None:
        """End all workers, also in the middle of a run; what they were writing is removed."""


@dataclass(frozen=True)
class ExecutorOptions:
    """What a user may ask of any executor; each takes what concerns it.

    Attributes:
        num_workers: runs at a time; 0 = as many as the executor finds room for.
        num_threads: processor cores of each run.
        num_gpus: GPUs that each worker holds, where the executor reserves them; may be a fraction.
        ray_address: of a Ray cluster; None = the one that RAY_ADDRESS names, or a new one on this machine.
        folder: of the study, for workers that are told by files there.
        slurm: settings of Slurm jobs, as sbatch calls them.
        devices: what the runs ask for: auto, cpu.
        device_maps: what the runs ask for: auto = one backbone over all GPUs, None = one GPU each.
    """

    num_workers: int = 0
    num_threads: int = 1
    num_gpus: float = 0.0
    ray_address: str | None = None
    folder: Path | None = None
    slurm: Mapping[str, str] = field(default_factory=dict)
    devices: frozenset[str] = frozenset({"auto"})
    device_maps: frozenset[str | None] = frozenset({None})


def execute_side_by_side(job: Job, resources: Resources) -> Iterator[tuple[str, JobOutcome, str]]:
    """Run a job and those beside it in this process, in one pass where that goes well, else one after another.

    Args:
        job: what to run.
        resources: caches that successive jobs share.

    Yields:
        run_id, how it ended, and why where it did not end well; each run once, as it ends.
    """
    waiting = {j.run_id: j for j in (job, *job.beside)}
    new = [j for j in waiting.values() if not (j.folder / RESULT).is_file()]
    if len(new) > 1:
        try:
            for n, outcome in tune_side_by_side([j.plan for j in new], [j.folder for j in new], resources):
                # What failed is tried alone: another process may have written it, or it says better what is wrong.
                if isinstance(outcome, FinishedRun):
                    del waiting[new[n].run_id]
                    yield new[n].run_id, "done", ""
        except Exception as e:
            resources.progress.log(f"one by one: {type(e).__name__} side by side")
    for run_id, left in waiting.items():
        yield run_id, *execute_job(left, resources)


def execute_job(job: Job, resources: Resources) -> tuple[JobOutcome, str]:
    """Run a job in this process.

    Args:
        job: what to run. A result that is in its folder already counts as done.
        resources: caches that successive jobs share.

    Returns:
        How it ended, and why where it did not end well.

    Raises:
        KeyboardInterrupt: the process is to end; that is no failure of the run.
        SystemExit: likewise.
    """
    # A folder takes its name only when all of it is on the disk: a result in it means a whole run.
    if (job.folder / RESULT).is_file():
        return "done", ""
    try:
        tune(job.plan, job.folder, resources)
    except ApetError as e:
        # A worker that outlived its killed scheduler may have finished this very run in the meantime.
        if (job.folder / RESULT).is_file():
            return "done", ""
        return "unwritable" if isinstance(e, CannotWriteError) else "failed", str(e)
    except (KeyboardInterrupt, SystemExit):  # meant for the process: recorded as failures, they would not end it
        raise
    except BaseException as e:  # out of memory, an error inside a library: the other runs of the study go on
        frame = traceback.extract_tb(e.__traceback__)[-1]
        # One line of bounded length: it is stored with the run and printed in tables.
        reason = " ".join(str(e).split())[:500]
        return "failed", f"{type(e).__name__}: {reason} (at {Path(frame.filename).name}:{frame.lineno})"
    return "done", ""


def import_in_worker(guests: Iterable[str]) -> str:
    """Import into a worker what the scheduler's process had imported.

    Args:
        guests: files and modules. Methods and metrics that they register are unknown in a new process until then.

    Returns:
        Why one of them cannot be imported, else "". Every job then fails with this reason: a worker that died of it
        would be started again and again.
    """
    try:
        for guest in guests:
            import_guest(guest)
    except ApetError as e:
        return str(e)
    return ""


class InProcessExecutor:
    """One worker, this process: for a few runs whose steps shall be seen, and for debugging a failure.

    Args:
        resources: shared by the runs; what it holds already is not loaded again.
    """

    size = 1
    side_by_side = True

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._events: list[Event] = []

    def start(self, worker: int, job: Job) -> None:
        """Run the job at once; returns when it has ended."""
        for run_id, outcome, reason in execute_side_by_side(job, self._resources):
            self._events.append(Event(worker, outcome, reason, run_id=run_id))

    def events(self, timeout: float) -> list[Event]:
        """How the runs of the last job ended."""
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        """Nothing to end: there is no other process."""
