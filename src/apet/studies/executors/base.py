"""Where runs happen. An engine carries jobs to workers and events back; what runs next is the driver's business."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from apet.errors import ApetError, CannotWriteError
from apet.training import run_dir
from apet.training.resources import Resources
from apet.training.run import tune
from apet.training.run_plan import RunPlan


@dataclass(frozen=True)
class Job:
    """One run for a worker.

    Attributes:
        plan: of the run: everything that it takes from this process.
        folder: where its result is to appear.
    """

    plan: RunPlan
    folder: Path

    @property
    def run_id(self) -> str:
        """Names the run."""
        return self.plan.run_id


@dataclass(frozen=True)
class Event:
    """Something a worker has to say.

    Attributes:
        worker: its number.
        kind: ``progress`` (steps done, and how it stands), ``done``, ``failed`` (with the reason), ``unwritable`` (the
            place for results takes none: no run is to blame, and the next one would end the same way), ``lost`` (the
            worker itself is gone; the job is not to blame and may be tried again).
        text: a note or a reason.
        share: of the run's steps that are done, for ``progress``.
    """

    worker: int
    kind: Literal["progress", "done", "failed", "unwritable", "lost"]
    text: str = ""
    fraction_done: float = 0.0


class Executor(Protocol):
    """Workers, numbered from 0."""

    size: int

    def start(self, worker: int, job: Job) -> None:
        """Give a job to an idle worker."""

    def events(self, timeout: float) -> list[Event]:
        """What happened; waits at most ``timeout`` seconds for something to happen."""

    def stop(self) -> None:
        """End all workers, also in the middle of a run; what they were writing vanishes."""


Ending = Literal["done", "failed", "unwritable"]


def execute_job(job: Job, shop: Resources) -> tuple[Ending, str]:
    """Run a job in this process; a result that is there already is taken for done."""
    if (job.folder / run_dir.RESULT).is_file():
        return "done", ""
    try:
        tune(job.plan, job.folder, shop)
    except ApetError as e:
        if (job.folder / run_dir.RESULT).is_file():  # a worker whose driver was killed has finished it meanwhile
            return "done", ""
        return "unwritable" if isinstance(e, CannotWriteError) else "failed", str(e)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as e:  # out of memory, a library's own error: a study goes on
        last = traceback.extract_tb(e.__traceback__)[-1]
        text = " ".join(str(e).split())[:500]
        return "failed", f"{type(e).__name__}: {text} (at {Path(last.filename).name}:{last.lineno})"
    return "done", ""


class InProcessExecutor:
    """One worker: this process. For a few runs whose steps are to be seen, and for looking into a failure.

    Args:
        shop: shared by the runs; what it holds already is not loaded again.
    """

    size = 1

    def __init__(self, shop: Resources) -> None:
        self._shop = shop
        self._events: list[Event] = []

    def start(self, worker: int, job: Job) -> None:
        """Run it, here and now."""
        kind, text = execute_job(job, self._shop)
        self._events.append(Event(worker, kind, text))

    def events(self, timeout: float) -> list[Event]:
        """What the last job came to."""
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        """Nothing to end."""
