"""From the question to the answer: rows are parted, families counted, runs searched, the best one tested."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from apet.errors import ApetError
from apet.recommendation.answer import HeldOutScore, Recommendation
from apet.recommendation.arms import Arm, Family, Question, Trial
from apet.recommendation.asked import Asked
from apet.recommendation.commands import commands, rank_of
from apet.recommendation.decision import Choice, choose, seconds_to_decide
from apet.recommendation.families import Families, families_of
from apet.recommendation.live import DeadlineProgress, LiveEnvironment
from apet.recommendation.parts import PartFiles, part, write_parts
from apet.recommendation.policy import Knowledge, whole_run
from apet.recommendation.search import Ending, TimeOver, search
from apet.recommendation.sizing import (
    PILOT_STEPS,
    Speed,
    affordable_steps,
    costs_of,
    free_memory,
    speed_of,
    stored_steps,
    too_large,
)
from apet.recommendation.summary import Costs, curve_of, fates, nothing_below, state_of, tried, whole_runs
from apet.recommendation.wording import clock, headline, method_name, number, rival_words
from apet.studies.held_store import open_store
from apet.studies.store import Store
from apet.tasks.score_text import require_points
from apet.tasks.sources import read_split
from apet.tasks.task import Task
from apet.training.inference import TunedModel
from apet.training.resources import Resources
from apet.training.run import prefetch

PAGE_SECONDS = 8.0
"""For the costs of the answer, its page and its picture."""
MOST_AFTERWARDS = 0.2
"""Of the time, that the test rows and the page may take."""


def answer(asked: Asked, progress: DeadlineProgress) -> Recommendation:
    """Search for the answer, and measure it on the test rows.

    Args:
        asked: the question.
        progress: is shown meanwhile, first statements too; ends a run where the time is over.

    Returns:
        The answer.

    Raises:
        ApetError: data, settings or a folder that do not fit.
    """
    began = time.monotonic()
    resources = Resources(progress)
    task = resources.cache.task(asked.base)
    if asked.reach.margin is not None:
        require_points(task.metric)
    found = families_of(asked.base, resources.cache, asked.limits)
    parts = _part(asked, task, resources)
    with open_store(asked.folder) as store:
        return _Answering(asked, progress, resources, task, found, parts, store, began).run()


def _part(asked: Asked, task: Task, resources: Resources) -> PartFiles:
    """The rows, parted and written."""
    base = asked.base
    test = None if asked.test is None else read_split(task, Path(asked.test).expanduser(), "test")
    data = resources.data(task, base.data_folder)
    parts = part(task, data, test, base.max_train_samples, base.max_eval_samples, base.max_test_samples)
    return write_parts(parts, task, asked.folder / "data", task.name)


class _Answering:
    """One call, once the rows are parted and the folder is held."""

    def __init__(
        self,
        asked: Asked,
        progress: DeadlineProgress,
        resources: Resources,
        task: Task,
        found: Families,
        parts: PartFiles,
        store: Store,
        began: float,
    ) -> None:
        self.asked, self.progress, self.resources = asked, progress, resources
        self.task, self.found, self.parts = task, found, parts
        self.question = Question(found.families, found.full, 0)
        families = {f.name: f for f in (*found.families, found.full, found.stand_in) if f is not None}
        self.env = LiveEnvironment(asked.base, parts, families, store, resources, began)
        self.stand_in_reason = ""
        self.said = ""

    def run(self) -> Recommendation:
        """Search, and conclude."""
        asked = self.asked
        try:
            self.progress.deadline = self.env.began + asked.within
            speed = self._speed()
            self._leave_out_large()
            # So much of the time is kept for what comes after the search.
            after = min(MOST_AFTERWARDS * asked.within, PAGE_SECONDS + 1.5 * speed.item * self.parts.num_test)
            self.question = self._question(speed, asked.within - after - self.env.elapsed())
            self.progress.deadline -= after
            ending = search(self.question, self.env, asked.reach, asked.within - after, self._say)
        except TimeOver:
            return self._nothing("the time is over")
        finally:
            self.progress.deadline = math.inf
        return self._nothing(ending.why) if ending.known.evidence is None else self._conclude(ending)

    def _speed(self) -> Speed:
        """How long things take here, by a few steps of the first family."""
        first = self.found.families[0]
        pilot = Trial(Arm(first.name, first.anchor), first.around, PILOT_STEPS, 0, racing=True)
        if not self.env.results:
            task = f"{self.task.name} ({self.task.task_type}, by {self.task.metric})"
            ways = f"{len(self.found.families)} ways to tune {self.asked.base.backbone} on {task}"
            self.progress.log(f"{ways}; a few steps first")
            # Loaded before it is timed: what follows finds weights and tokens in memory.
            prefetch(self.env.plan(pilot), self.resources)
            self.env.measure([pilot])
        if not self.env.results:
            reasons = "; ".join(dict.fromkeys(self.env.store.errors().values()))
            raise ApetError(f"{first.name} fails on {self.asked.base.backbone}: {reasons or 'no result'}")
        shortest = min(self.env.results.values(), key=lambda r: r.max_steps)
        return speed_of(shortest, costs_of(self.env.plan(pilot), self.resources))

    def _leave_out_large(self) -> None:
        """Leave out families whose training takes more memory than is allowed, where that is asked for."""
        limit = self.asked.max_memory
        if limit is None:
            return
        fitting, left_out = [], dict(self.found.left_out)
        for family in self.found.families:
            trial = Trial(Arm(family.name, family.anchor), family.around, PILOT_STEPS, 0, racing=True)
            costs = costs_of(self.env.plan(trial), self.resources)
            if costs is None or costs.delta.memory_bytes <= limit:
                fitting.append(family)
            else:
                left_out[family.name] = f"takes {costs.delta.memory_bytes / 1e9:.2g} GB of memory"
        if not fitting:
            raise ApetError(
                f"every way to tune takes more than {limit / 1e9:.2g} GB; give more --max-memory, or less batch_size"
            )
        self.found = replace(self.found, families=tuple(fitting), left_out=left_out)

    def _question(self, speed: Speed, left: float) -> Question:
        """Steps and reference that fit into the time, or those of an earlier call."""
        base, found, measured = self.asked.base, self.found, self.env.measured()
        references = [f.name for f in (found.full, found.stand_in) if f is not None]
        steps = stored_steps(measured, references)
        if "max_steps" in base.model_fields_set:
            steps = base.max_steps
        if steps is None:
            steps = affordable_steps(len(found.families), left, speed, self.parts.num_validation, base.max_steps)
        reference = found.full
        if found.stand_in is not None and not self._has_runs(found.full):
            self.stand_in_reason = too_large(speed, steps, left, self.asked.max_memory or free_memory())
            if self.stand_in_reason or self._has_runs(found.stand_in):
                reference = found.stand_in
                self.progress.log(f"{self.stand_in_reason}; {found.stand_in.name} stands in for it")
        self.progress.log(f"{clock(max(left, 0))} minutes for runs of {steps} steps")
        return Question(found.families, reference, steps)

    def _has_runs(self, family: Family) -> bool:
        return any(m.trial.arm.family == family.name for m in self.env.measured())

    def _say(self, known: Knowledge, why: str) -> None:
        """The answer so far, where it has changed, and what is run next."""
        elapsed = self.env.elapsed()
        if known.evidence is not None:
            sentence = self._so_far(known, choose(known.evidence))
            if sentence != self.said:
                self.said = sentence
                self.progress.log(f"after {clock(elapsed)}: {sentence}")
        self.progress.log(f"{clock(elapsed)}  {why}  ({clock(max(0.0, self.asked.within - elapsed))} left)")

    def _so_far(self, known: Knowledge, choice: Choice) -> str:
        assert known.evidence is not None
        scores = [m.score for m in whole_runs(known, choice.arm) if m.score is not None]
        full = known.evidence.levels.full
        is_reference = choice.arm == self.question.reference_arm
        name = method_name(self.question.reference.name)
        against = f", {name} {self._number(sum(full) / len(full))}" if full and not is_reference else ""
        return (
            f"so far {method_name(choice.arm.family)} with {choice.arm.num_trainable:,} parameters:"
            f" {self._number(sum(scores) / len(scores))} on validation{against}"
        )

    def _number(self, score: float) -> str:
        return number(self.task.metric, score)

    def _conclude(self, ending: Ending) -> Recommendation:
        """The answer, its score on the test rows, what it costs, how it is trained again."""
        known, evidence = ending.known, ending.known.evidence
        assert evidence is not None
        choice = choose(evidence)
        family = self.question.family(choice.arm.family)
        costs = self._costs(known, choice.arm)
        points = tried(known, lambda m: str(self.env.store.run_folder(m.source)), costs)
        use = next(p for p in points if Arm(p.family, p.num_trainable) == choice.arm)
        state, full, rival = state_of(known, choice), evidence.levels.full, choice.rival
        delta = Path(use.run) / "delta.safetensors"
        config = self.env.config(Trial(choice.arm, use.learning_rate, self.question.steps))
        found = replace(
            self._nothing(ending.why),
            state=state,
            num_runs=len(known.measured),
            use=use,
            rank=rank_of(family, use.num_trainable),
            where=family.where,
            test=self._test(use.run),
            reference_score=sum(full) / len(full) if full else None,
            reference_seeds=len(full),
            untrained=evidence.levels.untrained,
            constant=evidence.levels.constant,
            nothing_below=nothing_below(evidence, rival if state == "not decided" else None),
            regret=choice.regret,
            rival=rival_words(rival, points),
            seconds_to_decide=seconds_to_decide(evidence, choice, self._seconds(known)),
            file_bytes=delta.stat().st_size if delta.is_file() else None,
            num_raced=sum(known.races[f.name].is_over for f in self.question.families),
            tried=tuple(points),
            fates=tuple(fates(known, choice.arm.family, self.found.left_out, self.task.metric)),
            curve=tuple(curve_of(evidence, choice.arm.family)),
            commands=commands(config, self.parts, use.run, self.asked.folder, self.task.inputs),
            seconds=self.env.elapsed(),
        )
        return replace(found, headline=headline(found))

    def _seconds(self, known: Knowledge) -> Callable[[Arm], float]:
        def seconds(arm: Arm) -> float:
            trial = whole_run(known, arm, 0)
            return math.inf if trial is None else self.env.seconds(trial)

        return seconds

    def _test(self, run: str) -> HeldOutScore | None:
        """Score of the recommended run on the test rows; None where it kept no values, or is stopped."""
        self.progress.log(f"the recommended run on {self.parts.num_test:,} test rows")
        with suppress(KeyboardInterrupt):  # a second Ctrl-C: the answer goes without
            try:
                tuned = TunedModel(Path(run), self.resources)
            except ApetError:
                return None
            try:
                score = tuned.evaluate("test", str(self.parts.test))
            finally:
                tuned.close()
            return HeldOutScore(score.score, score.ci_low, score.ci_high, self.parts.num_test)
        return None

    def _costs(self, known: Knowledge, chosen: Arm) -> dict[Arm, Costs]:
        """Times of steps as measured, of runs that were made alone; memory of the answer by the model of costs."""
        assert known.evidence is not None
        alone: dict[Arm, float] = {}
        for arm in known.evidence.measured:
            runs = [self.env.results[m.source] for m in whole_runs(known, arm) if m.source in self.env.results]
            times = [r.training_seconds / r.max_steps for r in runs if r.side_by_side == 1]
            if times:
                alone[arm] = min(times)
        reference = alone.get(self.question.reference_arm)
        memory: dict[Arm, float] = {}
        if chosen != self.question.reference_arm and self.question.reference == self.found.full:
            estimated = costs_of(self.env.plan(Trial(chosen, 1e-3, PILOT_STEPS)), self.resources)
            memory = {} if estimated is None else {chosen: estimated.relative_memory}
        return {
            arm: Costs(alone[arm] / reference if reference and arm in alone else None, memory.get(arm))
            for arm in known.evidence.measured
        }

    def _nothing(self, why: str) -> Recommendation:
        """The answer before anything is measured."""
        asked = self.asked
        found = Recommendation(
            state="nothing measured",
            headline="",
            backbone=asked.base.backbone,
            task=self.task.name,
            metric=self.task.metric,
            reach=asked.reach.describe(),
            within=asked.within,
            seconds=self.env.elapsed(),
            num_runs=len(self.env.measured()),
            ended=why,
            reference=self.question.reference.name,
            stand_in=self.stand_in_reason,
            num_validation=self.parts.num_validation,
            steps=self.question.steps,
            num_families=len(self.found.families),
            notes=self.parts.notes,
            folder=str(asked.folder),
        )
        return replace(found, headline=headline(found))
