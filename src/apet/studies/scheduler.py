"""The scheduler of a study: decides which worker runs what, and alone writes the record."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from apet.errors import CannotWriteError
from apet.studies.executors.base import Event, Executor, Job
from apet.studies.store import DamagedRunError, Store
from apet.tasks.score_text import score_text
from apet.training.config import RunAxes
from apet.training.output_folder import RESULT
from apet.training.progress import Progress
from apet.training.run_plan import RunPlan
from apet.training.sharing import pass_key, runs_side_by_side

MAX_ATTEMPTS = 3
"""Times that a run is given to a worker before a worker that dies counts as the run's own failure."""


@dataclass
class Summary:
    """What became of the runs of a plan.

    Attributes:
        num_planned: runs of the plan.
        num_already_complete: of these, complete before.
        num_completed: completed now.
        failed: run_id -> reason, of runs that failed now or before.
        failed_before: run_ids of those that failed before and were not run again.
        cannot_run: reason -> how many runs cannot run here for it.
        changed: run_id -> what of a finished run's folder was changed since it was recorded.
    """

    num_planned: int = 0
    num_already_complete: int = 0
    num_completed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    failed_before: set[str] = field(default_factory=set)
    cannot_run: Counter[str] = field(default_factory=Counter)
    changed: dict[str, str] = field(default_factory=dict)


@dataclass
class _Queue:
    """Runs that wait, runs that are being run, how far these are; and the round of every run, see `seed_rounds`."""

    waiting: list[RunPlan]
    rounds: dict[str, int]
    running: dict[int, list[RunPlan]] = field(default_factory=dict)
    progress: dict[int, tuple[float, str]] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)


class Scheduler:
    """Brings plans to their end on an executor, into a store.

    Args:
        store: the record.
        executor: where runs happen.
        progress: what is shown meanwhile.
    """

    def __init__(self, store: Store, executor: Executor, progress: Progress) -> None:
        self.store, self.executor, self.progress = store, executor, progress
        # Backbone and task that each worker last worked on, by which `_next` chooses; nobody asks the workers.
        self._loaded: list[tuple[str, ...] | None] = [None] * executor.size
        self._best: dict[str, tuple[float, str]] = {}

    def run(
        self, plan: Sequence[RunPlan], *, retry: bool = False, aloud: bool = False, opening: bool = False
    ) -> Summary:
        """Run what is missing. A run that fails is recorded and stops no other; nothing that is complete runs again.

        Args:
            plan: the runs.
            retry: run again those that failed before.
            aloud: log a line for each run that starts, for plans of few runs.
            opening: log how many runs there are to do, before the first one ends.

        Returns:
            How many runs were completed, had been, failed or cannot run here.

        Raises:
            CannotWriteError: the folder for results takes no files; no run is recorded as failed for it.
            ApetError: the record cannot be written.
        """
        summary = Summary(num_planned=len(plan))
        waiting = self._select_waiting(plan, summary, retry)
        if opening and waiting:
            workers = min(self.executor.size, len(waiting))
            self.progress.log(f"{len(waiting):,} of {len(plan):,} runs to do, {workers} at a time")
        if waiting:
            with self.progress.begin("runs", len(waiting)):
                self._work(_Queue(waiting, seed_rounds(plan)), summary, aloud)
        return summary

    def _select_waiting(self, plan: Sequence[RunPlan], summary: Summary, retry: bool) -> list[RunPlan]:
        """Runs that are to be run; the others are counted in the summary."""
        states, errors = self.store.states(), self.store.errors()
        waiting: list[RunPlan] = []
        summary.changed = self.store.changed_folders(r.run_id for r in plan if states.get(r.run_id) == "complete")
        for run in plan:
            # The folder comes before the record of failures: an orphaned worker may have finished the run since.
            if states.get(run.run_id) == "complete" or self._recover(run):
                summary.num_already_complete += 1
            elif run.run_id in errors and not retry:
                summary.failed[run.run_id] = errors[run.run_id]
                summary.failed_before.add(run.run_id)
            elif run.missing is not None:
                summary.cannot_run[run.missing] += 1
            else:
                waiting.append(run)
        return waiting

    def _recover(self, run: RunPlan) -> bool:
        """Record a run that finished although its scheduler was killed, or lost power, before it could record it."""
        folder = self.store.run_folder(run.run_id)
        # An empty folder is not a damaged run: a run may be written into it.
        if not folder.is_dir() or not any(folder.iterdir()):
            return False
        try:
            self._record_result(run)
        except DamagedRunError as e:
            quarantined = self.store.quarantine(run.run_id)
            self.progress.log(f"{e}; it is now {quarantined.name}, and the run is made again")
            return False
        return True

    def _work(self, queue: _Queue, summary: Summary, aloud: bool) -> None:
        total = len(queue.waiting)
        while queue.waiting or queue.running:
            for worker in range(self.executor.size):
                if worker not in queue.running and queue.waiting:
                    first = total - len(queue.waiting) + 1
                    runs = self._next(queue, worker)
                    queue.running[worker] = runs
                    queue.attempts.update(run.run_id for run in runs)
                    if aloud:
                        for n, run in enumerate(runs, start=first):
                            self.progress.log(f"[{n}/{total}] {_title(run)}")
                    job, *beside = [Job(run, self.store.run_folder(run.run_id)) for run in runs]
                    self.executor.start(worker, replace(job, beside=tuple(beside)))
            # One second: the shortest time in which a person wants to see the line of progress move.
            for event in self.executor.events(1.0):
                if event.kind == "progress":
                    queue.progress[event.worker] = event.fraction_done, event.message
                    continue
                queue.progress.pop(event.worker, None)
                for run in _ended(event, queue.running.get(event.worker, [])):
                    self._leave(event.worker, run, queue)
                    self._end(event, run, queue, summary)
            num_ended = total - len(queue.waiting) - sum(len(runs) for runs in queue.running.values())
            self.progress.update(num_ended, self._status(queue, summary))

    def _leave(self, worker: int, run: RunPlan, queue: _Queue) -> None:
        queue.running[worker].remove(run)
        if not queue.running[worker]:
            del queue.running[worker]

    def _end(self, event: Event, run: RunPlan, queue: _Queue, summary: Summary) -> None:
        """Record how a run ended, or put it back into the queue where only its worker is to blame."""
        if event.kind == "done":
            self._record_result(run)
            summary.num_completed += 1
            return
        if event.kind == "worker_died":
            self._loaded[event.worker] = None  # what takes its place starts with an empty memory
            # It may have died after its result was whole on disk and before it could say so.
            if (self.store.run_folder(run.run_id) / RESULT).is_file():
                self._record_result(run)
                summary.num_completed += 1
                return
            if queue.attempts[run.run_id] < MAX_ATTEMPTS:
                queue.waiting.append(run)
                return
        if event.kind == "unwritable":
            # Every further run would end this way, after hours of training: better to stop now and blame no run.
            raise CannotWriteError(f"{event.message}; the same command goes on")
        reason = event.message if event.kind == "failed" else f"{event.message}, {MAX_ATTEMPTS} times"
        self.store.fail(run.run_id, run.axes, reason)
        summary.failed[run.run_id] = reason
        self.progress.log(f"failed: {_title(run)}: {reason}")

    def _record_result(self, run: RunPlan) -> None:
        result = self.store.record_result(run.run_id, run.axes)
        score, task = result.score, run.task.name
        if score > self._best.get(task, (-math.inf, ""))[0]:
            self._best[task] = score, f"{score_text(result.metric, score)} by {run.axes.method}"

    def _next(self, queue: _Queue, worker: int) -> list[RunPlan]:
        """The next runs for a worker: of the first seeds that wait, one for the backbone that it has loaded.

        The first seed of every cell comes before the second of any: a study that is looked at early, or stopped, says
        something of all its backbones, tasks and methods. Within a round, loading a large backbone takes longer than a
        short run, and workers would take turns on backbones; where none is loaded, it is one that no worker has.

        Returns:
            The run, with those that are made in the same pass; taken out of those that wait.
        """
        waiting, loaded = queue.waiting, self._loaded[worker]
        first_round = min(queue.rounds[run.run_id] for run in waiting)
        places = [i for i, run in enumerate(waiting) if queue.rounds[run.run_id] == first_round]
        choice = next((i for i in places if _shared_resources(waiting[i]) == loaded), None)
        if choice is None:
            all_loaded = set(self._loaded)
            choice = next((i for i in places if _shared_resources(waiting[i]) not in all_loaded), places[0])
        run = waiting.pop(choice)
        self._loaded[worker] = _shared_resources(run)
        beside = self._beside(run, queue)
        taken = {other.run_id for other in beside}
        queue.waiting = [other for other in waiting if other.run_id not in taken]
        return [run, *beside]

    def runs_in_a_pass(self, run: RunPlan) -> int:
        """How many runs such as this one a worker makes in one pass, at most."""
        return runs_side_by_side(run) if getattr(self.executor, "side_by_side", False) else 1

    def _beside(self, run: RunPlan, queue: _Queue) -> list[RunPlan]:
        """Runs that wait and may share the pass of a run, as many as there is one for each worker's pass."""
        most = self.runs_in_a_pass(run)
        if most == 1 or queue.attempts[run.run_id]:  # its worker died: alone it takes no other run with it
            return []
        key = pass_key(run)
        others = [x for x in queue.waiting if not queue.attempts[x.run_id] and pass_key(x) == key]
        others.sort(key=lambda x: queue.rounds[x.run_id])  # later seeds only where they take nobody's place
        share = -(-(len(others) + 1) // self.executor.size)  # no worker shall wait for another one's many runs
        return others[: min(most, share) - 1]

    def _status(self, queue: _Queue, summary: Summary) -> str:
        """One line: what runs and how far it is, the best scores so far, how many failed."""
        running = [
            f"{_title(runs[0])}{f' and {len(runs) - 1} more' if len(runs) > 1 else ''}"
            f" {100 * queue.progress.get(worker, (0.0, ''))[0]:.0f} %"
            for worker, runs in sorted(queue.running.items())
        ]
        best = [f"{task} {what}" for task, (_, what) in self._best.items()][-3:]
        failed = [f"{len(summary.failed)} failed"] if summary.failed else []
        # Two runs and three tasks are what one line of a terminal holds.
        return "  ".join([*running[:2], *(["best: " + ", ".join(best)] if best else []), *failed])


def seed_rounds(plan: Sequence[RunPlan]) -> dict[str, int]:
    """In which round each run of a plan is made: the first seed of every cell in round 0, the second in round 1.

    Args:
        plan: all runs, finished ones too: what has been done changes no other run's round.

    Returns:
        run_id -> round.
    """
    seeds_before: Counter[RunAxes] = Counter()
    rounds: dict[str, int] = {}
    for run in plan:
        cell = replace(run.axes, seed=0)
        rounds[run.run_id] = seeds_before[cell]
        seeds_before[cell] += 1
    return rounds


def _ended(event: Event, running: Sequence[RunPlan]) -> list[RunPlan]:
    """The runs that an event ends; none of a worker that was idle, which is replaced when it is needed."""
    if event.kind == "worker_died" or not event.run_id:
        return list(running)
    return [run for run in running if run.run_id == event.run_id]


def _shared_resources(run: RunPlan) -> tuple[str, ...]:
    """What two runs must have in common for the second to find the backbone and the tokens of the first in memory."""
    return run.config.backbone, run.config.task_name, run.dtype


def _title(run: RunPlan) -> str:
    axes = run.axes
    return f"{axes.backbone} {axes.task} {axes.method} {run.num_trainable:,} seed {axes.seed}"
