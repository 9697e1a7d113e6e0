"""Trials on a real model and real rows: runs of a study, whose folder is all that is remembered between two calls."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from apet.errors import ApetError
from apet.recommendation.arms import Arm, Family, Measurement, Trial
from apet.recommendation.parts import PartFiles
from apet.recommendation.search import TimeOver
from apet.studies.executors.base import InProcessExecutor
from apet.studies.scheduler import Scheduler
from apet.studies.store import Store
from apet.training import run_dir
from apet.training.config import RunConfig
from apet.training.progress import Progress
from apet.training.resolve import resolve
from apet.training.resources import Resources
from apet.training.result import RunResult
from apet.training.run_plan import RunPlan
from apet.training.sharing import MOST, runs_side_by_side

_OF_ONE_RUN = ("caution: ", "failed: ")
ALONE = 2.0
"""How much longer a run takes alone than in a pass of many, before one was seen."""


class DeadlineProgress(Progress):
    """Progress that ends a run in its middle where the time is over.

    Args:
        quiet: show nothing.

    Attributes:
        deadline: by `time.monotonic`; infinite = none.
    """

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(quiet)
        self.deadline = math.inf

    def log(self, line: str) -> None:
        """A line that stays, but for what single runs say of themselves: heats are short, and some rates too large."""
        if not line.startswith(_OF_ONE_RUN):
            super().log(line)

    def update(self, done: int, note: str | None = None) -> None:
        """Tell how far the innermost stage is.

        Args:
            done: its steps that are done.
            note: how it stands.

        Raises:
            TimeOver: the deadline has passed.
        """
        if time.monotonic() > self.deadline:
            raise TimeOver
        super().update(done, note)


class LiveEnvironment:
    """Trials as runs of a study.

    Args:
        base: backbone, task and all settings that are not chosen.
        parts: the rows.
        families: by name, the reference among them.
        store: the record, held.
        resources: what the runs share; its progress knows the deadline.
        began: when the search began, by `time.monotonic`.
    """

    def __init__(
        self,
        base: RunConfig,
        parts: PartFiles,
        families: dict[str, Family],
        store: Store,
        resources: Resources,
        began: float,
    ) -> None:
        self.base, self.parts, self.families = base, parts, families
        self.store, self.resources, self.began = store, resources, began
        self.results: dict[str, RunResult] = {}
        self._measured: list[Measurement] = []
        self._asked: dict[str, Trial] = {}
        self.refresh()

    def measured(self) -> list[Measurement]:
        """Everything of this question in the record, in the order in which it was made."""
        return list(self._measured)

    def elapsed(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self.began

    def measure(self, trials: Sequence[Trial]) -> None:
        """Make trials: those that may share a pass do."""
        plans = [self.plan(t) for t in trials]
        self._asked |= {p.run_id: t for p, t in zip(plans, trials, strict=True)}
        progress = self.resources.progress
        Scheduler(self.store, InProcessExecutor(self.resources), progress).run(plans)
        self.refresh()

    def plan(self, trial: Trial) -> RunPlan:
        """Resolve the run of a trial.

        Returns:
            The plan.

        Raises:
            ApetError: it cannot be made here.
        """
        plan = resolve(self.config(trial), self.resources.cache)
        if plan.missing is not None:
            raise ApetError(plan.missing)
        return plan

    def config(self, trial: Trial) -> RunConfig:
        """Settings of a trial's run."""
        family = self.families[trial.arm.family]
        is_full = family.method == "fine-tuning"
        return self._on(self.parts.racing if trial.racing else self.parts.choosing).model_copy(
            update={
                "method": family.method,
                "method_settings": dict(family.settings),
                "budget": None if is_full else trial.arm.num_trainable,
                "seed": trial.seed,
                "max_steps": trial.steps,
                # A heat is measured at its end; of a whole run, the better half is kept.
                "eval_steps": trial.steps if trial.racing else max(1, trial.steps // 2),
                "learning_rate": trial.learning_rate,
                "track": None if trial.racing else self.base.track,
                # All of a backbone's weights are written once: there is one answer in which they are used.
                "save_delta": not trial.racing and not (is_full and trial.seed),
            }
        )

    def _on(self, folder: Path) -> RunConfig:
        """The settings on rows that are read, checked and limited already."""
        over = (
            "test",
            "encoding",
            "separator",
            "on_missing",
            "on_overlap",
            "max_train_samples",
            "max_eval_samples",
            "max_test_samples",
        )
        return self.base.model_copy(update={"data": str(folder.absolute()), **dict.fromkeys(over)})

    def refresh(self) -> None:
        """Read the record anew."""
        rows = list(self.store.rows())
        self.results = {r.run_id: r.result for r in rows if r.result is not None}
        measured, at = [], 0.0
        for result in sorted(self.results.values(), key=lambda r: (r.started, r.run_id)):
            trial = self._trial(result)
            if trial is not None:
                seconds = result.total_seconds / result.side_by_side
                at += seconds
                measured.append(self._measurement(trial, result, seconds, at))
        for run_id in (r.run_id for r in rows if r.state == "failed"):
            if run_id in self._asked:
                measured.append(Measurement(self._asked[run_id], None, at=at, source=run_id))
        self._measured = measured

    def _trial(self, result: RunResult) -> Trial | None:
        """The trial that a stored run was; None where it is of another question."""
        config = result.config
        for family in self.families.values():
            same = config.method == family.method and config.method_settings == family.settings
            if not same or (len(family.counts) == 1 and result.num_trainable != family.anchor):
                continue
            if isinstance(config.learning_rate, str):
                return None
            arm = Arm(family.name, result.num_trainable)
            racing = config.data == str(self.parts.racing.absolute())
            trial = Trial(arm, config.learning_rate, config.max_steps, config.seed, racing)
            try:
                return trial if self.plan(trial).run_id == result.run_id else None
            except ApetError:
                return None
        return None

    def _measurement(self, trial: Trial, result: RunResult, seconds: float, at: float) -> Measurement:
        loss = 0.0
        if trial.racing:  # elsewhere it decides nothing
            curve = run_dir.read_curve(self.store.run_folder(result.run_id))
            loss = curve[-1].loss or 0.0
        return Measurement(
            trial,
            result.score,
            loss=loss,
            error=(result.ci_high - result.ci_low) / (2 * 1.96),
            untrained=result.score_untrained,
            constant=result.untrained_baseline if result.majority_baseline is None else result.majority_baseline,
            seconds=seconds,
            at=at,
            source=result.run_id,
        )

    def seconds(self, trial: Trial) -> float:
        """How long a trial takes: as its family's runs did, else as the others'."""
        known = [(m.trial.arm.family, self.results[m.source]) for m in self._measured if m.source in self.results]
        own = [r for name, r in known if name == trial.arm.family]
        like = own or [r for name, r in known if self.families[name].slowness == 1] or [r for _, r in known]
        if not like:
            return 0.0
        together = self._side_by_side(trial)
        # Of runs that were made as this one would be, where there are any.
        alike = [r for r in like if (r.side_by_side > 1) == (together > 1)]
        longer = 1.0 if alike else ALONE if together == 1 else 1 / ALONE
        if not own:
            longer *= self.families[trial.arm.family].slowness
        longest = max(alike or like, key=lambda r: (r.max_steps, r.started))  # the last of them: a machine gets busy
        step = longer * longest.training_seconds / longest.max_steps
        rest = max(0.0, longest.total_seconds / longest.side_by_side - longest.training_seconds)
        items = self.parts.num_race if trial.racing else self.parts.num_validation
        measurements = 2 if trial.racing else 3
        was = 2 if longest.config.eval_steps == longest.max_steps else 3
        return step * trial.steps + rest * (items * measurements) / (longest.num_examples * was)

    def _side_by_side(self, trial: Trial) -> int:
        family = self.families[trial.arm.family]
        if family.method == "fine-tuning" or not trial.racing:
            return 1
        return min(MOST, runs_side_by_side(self.plan(trial)))
