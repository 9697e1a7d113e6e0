"""Running what is missing of a plan: decides what runs where, and alone writes the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from apet.errors import CannotWriteError
from apet.studies.executors.base import Event, Executor, Job
from apet.studies.store import DamagedRunError, Store
from apet.training.progress import Progress
from apet.training.run_plan import RunPlan

MAX_ATTEMPTS = 3
"""Times that a run is given to a worker before a vanishing worker is the run's own fault."""


@dataclass
class Summary:
    """What came of it.

    Attributes:
        wanted: runs of the plan.
        already: of these, finished before.
        done: finished now.
        failed: key -> reason, of runs that failed now or before.
        before: keys of those that failed before and were not run again.
        missing: reason -> runs that cannot run here for it.
    """

    wanted: int = 0
    already: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    before: set[str] = field(default_factory=set)
    missing: Counter[str] = field(default_factory=Counter)


class Scheduler:
    """Brings plans to their end on an engine, into a store.

    Args:
        store: the record.
        engine: where runs happen.
        watch: progress.
    """

    def __init__(self, store: Store, engine: Executor, watch: Progress) -> None:
        self.store, self.engine, self.watch = store, engine, watch
        self._loaded: list[tuple[str, ...] | None] = [None] * engine.size
        self._best: dict[str, tuple[float, str]] = {}

    def run(
        self, plan: Sequence[RunPlan], *, retry: bool = False, aloud: bool = False, opening: bool = False
    ) -> Summary:
        """Run what is missing. A run that fails is recorded and stops nobody; nothing that is finished runs again.

        Args:
            plan: the runs.
            retry: also those that failed before.
            aloud: a line for each run that starts: where there are few.
            opening: a line that says how many there are to do, before the first one ends.

        Raises:
            CannotWriteError: the place for results takes none; no run is recorded as failed for it.
            ApetError: the record cannot be written.
        """
        summary = Summary(wanted=len(plan))
        waiting = self._waiting(plan, summary, retry)
        if opening and waiting:
            workers = min(self.engine.size, len(waiting))
            self.watch.log(f"{len(waiting):,} of {len(plan):,} runs to do, {workers} at a time")
        if waiting:
            with self.watch.begin("runs", len(waiting)):
                self._work(waiting, summary, aloud)
        return summary

    def _waiting(self, plan: Sequence[RunPlan], summary: Summary, retry: bool) -> list[RunPlan]:
        """Runs that are to be run; the others are summed up."""
        states, reasons = self.store.states(), self.store.errors()
        waiting: list[RunPlan] = []
        for p in plan:
            if states.get(p.run_id) == "complete" or self._found(p):
                summary.already += 1
            elif p.run_id in reasons and not retry:
                summary.failed[p.run_id] = reasons[p.run_id]
                summary.before.add(p.run_id)
            elif p.missing is not None:
                summary.missing[p.missing] += 1
            else:
                waiting.append(p)
        return waiting

    def _found(self, p: RunPlan) -> bool:
        """Whether a run has finished whose driver was killed, or lost power, before it could write it down."""
        folder = self.store.run_folder(p.run_id)
        if not folder.is_dir() or not any(folder.iterdir()):
            return False
        try:
            self._take_in(p)
        except DamagedRunError as e:
            self.watch.log(f"{e}; it is now {self.store.quarantine(p.run_id).name}, and the run is made again")
            return False
        return True

    def _work(self, waiting: list[RunPlan], summary: Summary, aloud: bool) -> None:
        total, tries = len(waiting), dict[str, int]()
        busy: dict[int, RunPlan] = {}
        shares: dict[int, tuple[float, str]] = {}
        while waiting or busy:
            for worker in range(self.engine.size):
                if worker not in busy and waiting:
                    p = self._next(waiting, worker)
                    busy[worker] = p
                    tries[p.run_id] = tries.get(p.run_id, 0) + 1
                    if aloud:
                        self.watch.log(f"[{total - len(waiting)}/{total}] {_name(p)}")
                    self.engine.start(worker, Job(p, self.store.run_folder(p.run_id)))
            for event in self.engine.events(1.0):
                if event.kind == "progress":
                    shares[event.worker] = event.fraction_done, event.text
                    continue
                shares.pop(event.worker, None)
                if event.worker not in busy:  # an idle worker that went away is replaced when it is needed
                    continue
                self._ended(event, busy.pop(event.worker), waiting, tries, summary)
            ended = total - len(waiting) - len(busy)
            self.watch.update(ended, self._standing(busy, shares, summary))

    def _ended(self, event: Event, p: RunPlan, waiting: list[RunPlan], tries: dict[str, int], summary: Summary) -> None:
        if event.kind == "done":
            self._take_in(p)
            summary.done += 1
            return
        if event.kind == "lost":
            self._loaded[event.worker] = None
            if (self.store.run_folder(p.run_id) / "result.json").is_file():
                self._take_in(p)
                summary.done += 1
                return
            if tries[p.run_id] < MAX_ATTEMPTS:
                waiting.append(p)
                return
        if event.kind == "unwritable":
            raise CannotWriteError(f"{event.text}; the same command goes on")
        reason = event.text if event.kind == "failed" else f"{event.text}, {MAX_ATTEMPTS} times"
        self.store.fail(p.run_id, p.axes, reason)
        summary.failed[p.run_id] = reason
        self.watch.log(f"failed: {_name(p)}: {reason}")

    def _take_in(self, p: RunPlan) -> None:
        result = self.store.record_result(p.run_id, p.axes)
        value, task = result.score, p.config.task_name
        if value > self._best.get(task, (-1.0, ""))[0]:
            self._best[task] = value, p.axes.method

    def _next(self, waiting: list[RunPlan], worker: int) -> RunPlan:
        """The next run for a worker: one for the backbone that it has loaded, else for one that nobody has."""
        loaded = self._loaded[worker]
        choice = next((i for i, p in enumerate(waiting) if _backbone(p) == loaded), None)
        if choice is None:
            others = set(self._loaded)
            choice = next((i for i, p in enumerate(waiting) if _backbone(p) not in others), 0)
        p = waiting.pop(choice)
        self._loaded[worker] = _backbone(p)
        return p

    def _standing(self, busy: dict[int, RunPlan], shares: dict[int, tuple[float, str]], summary: Summary) -> str:
        """Live: what runs and how far it is, the best numbers by now, failures."""
        running = [f"{_name(p)} {100 * shares.get(w, (0.0, ''))[0]:.0f} %" for w, p in sorted(busy.items())]
        best = [f"{task} {100 * value:.1f} by {method}" for task, (value, method) in self._best.items()][-3:]
        failed = [f"{len(summary.failed)} failed"] if summary.failed else []
        return "  ".join([*running[:2], *(["best: " + ", ".join(best)] if best else []), *failed])


def _backbone(p: RunPlan) -> tuple[str, ...]:
    s = p.config
    return s.backbone, s.task_name, p.dtype


def _name(p: RunPlan) -> str:
    s = p.config
    return f"{s.backbone} {s.task_name} {p.axes.method} {p.num_trainable:,} seed {s.seed}"
