"""The recommendation for a backbone and data: everything between the question and the answer."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import JsonValue

from apet.analysis.curve_values import Reach
from apet.costs import estimate
from apet.errors import ApetError
from apet.recommendation.answer import Recommendation, TestScore
from apet.recommendation.arms import Arm, Family, Question, Trial
from apet.recommendation.decision import Choice, choose, seconds_to_decide
from apet.recommendation.families import Families, Limits, families_of
from apet.recommendation.live import (
    PILOT_STEPS,
    DeadlineProgress,
    LiveEnvironment,
    affordable_steps,
    stored_steps,
)
from apet.recommendation.parse import parse_duration, parse_memory, parse_reach
from apet.recommendation.parts import MAX_VALIDATION, PartFiles, part, write_parts
from apet.recommendation.policy import Knowledge, whole_run
from apet.recommendation.search import Ending, TimeOver, search
from apet.recommendation.summary import Costs, curve_of, fates, nothing_below, state_of, tried, whole_runs
from apet.recommendation.wording import clock, describe, headline, method_name
from apet.studies.held_store import open_store
from apet.tasks.sources import read_split
from apet.tasks.task import Task
from apet.training.config import RunConfig, validate_config
from apet.training.inference import TunedModel
from apet.training.resources import Resources
from apet.training.run import Run

CHOSEN_HERE = ("method", "method_settings", "budget", "seed", "learning_rate", "eval_steps", "target_score")
"""Settings that a recommendation decides itself."""
TRAIN_FULLY = 1000
"""Steps of the command that trains the answer for good, at least."""


def recommend(
    backbone: str,
    *,
    within: str = "30m",
    reach: str = "95%",
    output: str | Path,
    test: str | None = None,
    max_params: int | None = None,
    max_memory: str | None = None,
    deploy: Literal["attached", "merged"] = "attached",
    quiet: bool = True,
    **settings: JsonValue,
) -> Recommendation:
    """Recommend how few parameters to train, where, in what structure, to reach full fine-tuning.

    Args:
        backbone: name, folder or hub id.
        within: time that it may take, such as ``30m``; the same call goes on where it ended.
        reach: what counts as reaching full fine-tuning: ``95%`` of the way to it, or ``-1pt`` below it.
        output: folder for runs, page and picture; one that holds runs of the same question goes on.
        test: file of rows to test on; None = the data's own, else some are held out.
        max_params: largest number of parameters that may be recommended.
        max_memory: that training may take, such as ``8GB``.
        deploy: ``merged`` = only what can be merged into the backbone's own parameters.
        quiet: show no progress.
        **settings: ``task``, or ``data``, ``text`` and ``label``; and other settings of runs, such as ``max_steps``.

    Returns:
        The answer; ``headline`` is it in a sentence.

    Raises:
        ApetError: settings or data that do not fit.

    Example:
        >>> import apet
        >>> apet.recommend("bert-small", output="runs/x", within="soon")
        Traceback (most recent call last):
        ...
        apet.errors.ApetError: within='soon' is not a duration; give such as 30m, 90s or 1h30m
    """
    seconds, target = parse_duration(within), parse_reach(reach)
    base = validate_config({"backbone": backbone, **settings})
    memory = None if max_memory is None else parse_memory(max_memory)
    limits = Limits(max_params, deploy == "merged")
    asked = Asked(base, seconds, target, limits, memory, test, Path(output))
    return answer(asked, DeadlineProgress(quiet))


class Asked:
    """A question.

    Args:
        base: backbone, task and all settings that are not chosen.
        within: seconds.
        reach: what counts as reaching.
        limits: what may be recommended.
        max_memory: bytes that training may take; None = what the machine has.
        test: file of rows to test on.
        folder: for all results.

    Raises:
        ApetError: a setting that the recommendation decides itself.
    """

    def __init__(
        self,
        base: RunConfig,
        within: float,
        reach: Reach,
        limits: Limits,
        max_memory: float | None,
        test: str | None,
        folder: Path,
    ) -> None:
        for name in CHOSEN_HERE:
            if name in base.model_fields_set:
                raise ApetError(f"{name} is what a recommendation decides; leave it out, or use apet tune")
        self.base, self.within, self.reach, self.limits = base, within, reach, limits
        self.max_memory, self.test, self.folder = max_memory, test, folder


def answer(asked: Asked, progress: DeadlineProgress, tell: Callable[[str], None] | None = None) -> Recommendation:
    """Search for the answer, and measure it on the test rows.

    Args:
        asked: the question.
        progress: is shown meanwhile; ends a run where the time is over.
        tell: is told first statements; None = progress.

    Returns:
        The answer.
    """
    return _Answering(asked, progress, tell or progress.log).run()


class _Answering:
    """One call: what is loaded on the way to the answer."""

    def __init__(self, asked: Asked, progress: DeadlineProgress, tell: Callable[[str], None]) -> None:
        self.asked, self.progress, self.tell = asked, progress, tell
        self.began = time.monotonic()
        self.resources = Resources(progress)
        self.said = ""
        self.stand_in_reason = ""

    def run(self) -> Recommendation:
        asked = self.asked
        cache = self.resources.cache
        self.task: Task = cache.task(asked.base)
        self.found: Families = families_of(asked.base, cache, asked.limits)
        self.parts = self._part()
        everyone = {f.name: f for f in (*self.found.families, self.found.full)}
        if self.found.stand_in is not None:
            everyone[self.found.stand_in.name] = self.found.stand_in
        with open_store(asked.folder) as store:
            self.env = LiveEnvironment(asked.base, self.parts, everyone, store, self.resources, self.began)
            interrupted = False
            try:
                self.progress.deadline = self.began + asked.within
                self.question = self._question()
                self.progress.deadline = self.began + asked.within - self._reserve()
                ending = search(self.question, self.env, asked.reach, asked.within - self._reserve(), self._say)
            except KeyboardInterrupt as e:  # before the first race
                interrupted = not isinstance(e, TimeOver)
                return self._nothing("stopped" if interrupted else "the time is over")
            finally:
                self.progress.deadline = math.inf
            return self._conclude(ending)

    def _part(self) -> PartFiles:
        base = self.asked.base
        data = self.resources.data(self.task, base.data_folder)
        test = None if self.asked.test is None else read_split(self.task, Path(self.asked.test).expanduser(), "test")
        parts = part(self.task, data, test, base.max_train_samples, base.max_eval_samples)
        return write_parts(parts, self.task, self.asked.folder / "data", self.task.name)

    def _question(self) -> Question:
        """Families, reference and steps that fit into the time; a few steps tell how long they take."""
        asked, first = self.asked, self.found.families[0]
        pilot = Trial(Arm(first.name, first.anchor), first.around, PILOT_STEPS, 0, racing=True)
        if not self.env.measured():
            self.progress.log(
                f"{len(self.found.families)} ways to tune {asked.base.backbone}; a few steps of the first"
            )
            self.env.measure([pilot])
        if not self.env.results:
            self.env.measure([pilot])
            errors = self.env.store.errors()
            raise ApetError(f"{first.name} fails: {next(iter(errors.values()), 'no result')}")
        result = max(self.env.results.values(), key=lambda r: -r.max_steps)
        step = result.training_seconds / result.max_steps
        measuring = max(0.0, result.total_seconds / result.side_by_side - step * result.max_steps) / 2
        measuring *= self.parts.num_validation / max(1, self.parts.num_race)
        full_step, full_memory = self._full_costs(first, step)
        left = asked.within - self.env.elapsed() - self._reserve()
        most = asked.base.max_steps
        steps, num_families = affordable_steps(len(self.found.families), left, step, measuring, full_step, most)
        if "max_steps" in asked.base.model_fields_set:
            steps = max(4, asked.base.max_steps // 4 * 4)
        steps = self._stored_steps() or steps
        reference = self._reference(steps, full_step, full_memory, left)
        families = self.found.families
        self.progress.log(f"whole runs of {steps} steps, some {num_families} families in {clock(max(left, 0))} minutes")
        return Question(families, reference, steps)

    def _stored_steps(self) -> int | None:
        for reference in (self.found.full, self.found.stand_in):
            if reference is not None and (steps := stored_steps(self.env, reference)):
                return steps
        return None

    def _full_costs(self, first: Family, step: float) -> tuple[float, float]:
        """Seconds of a step of full fine-tuning, and the memory that it takes; a guess where they are not known."""
        plan = self.env.plan(Trial(Arm(first.name, first.anchor), first.around, PILOT_STEPS, 0, racing=True))
        base = self.asked.base
        length = int(Run(plan, self.resources).splits["validation"].encoded.lengths.mean()) + 1
        self.length = length
        try:
            dtype = torch.bfloat16 if plan.dtype == "bfloat16" else torch.float32
            costs = estimate(base.backbone, plan.delta, base.batch_size, length, dtype=dtype)
        except ApetError:
            return 1.5 * step, 0.0
        return step / costs.relative_time, costs.full.memory_bytes

    def _reference(self, steps: int, full_step: float, memory: float, left: float) -> Family:
        """Full fine-tuning, or where it is too large, the largest LoRA in its stead."""
        stand_in = self.found.stand_in
        limit = self.asked.max_memory or 0.9 * _free_memory()
        stored = any(m.trial.arm.family == self.found.full.name for m in self.env.measured())
        if stand_in is None or stored:
            return self.found.full
        if memory > limit:
            self.stand_in_reason = f"full fine-tuning takes {memory / 1e9:.2g} GB, more than {limit / 1e9:.2g} GB"
        elif 1.75 * steps * full_step > 0.6 * max(left, 1):
            self.stand_in_reason = "a run of full fine-tuning takes more than half of the time"
        else:
            return self.found.full
        self.progress.log(f"{self.stand_in_reason}; {stand_in.name} stands in for it")
        return stand_in

    def _reserve(self) -> float:
        """Seconds at the end for the test rows, the costs and the page."""
        results = list(self.env.results.values()) if hasattr(self, "env") else []
        if not results:
            return 0.15 * self.asked.within
        r = min(results, key=lambda r: r.max_steps)
        item = max(0.0, r.total_seconds / r.side_by_side - r.training_seconds) / (2 * r.num_examples)
        return min(0.2 * self.asked.within, 1.5 * item * self.parts.num_test + 12)

    def _say(self, known: Knowledge, why: str) -> None:
        """The answer so far, where it has changed, and what is run next."""
        if known.evidence is not None:
            choice = choose(known.evidence)
            sentence = self._so_far(known, choice)
            if sentence != self.said:
                self.said = sentence
                self.tell(f"after {clock(self.env.elapsed())}: {sentence}")
        left = max(0.0, self.asked.within - self.env.elapsed())
        self.progress.log(f"{clock(self.env.elapsed())}  {why}  ({clock(left)} left)")

    def _so_far(self, known: Knowledge, choice: Choice) -> str:
        assert known.evidence is not None
        scores = [m.score for m in whole_runs(known, choice.arm) if m.score is not None]
        full = known.evidence.levels.full
        against = f", {method_name(self.question.reference.name)} {sum(full) / len(full):.3f}" if full else ""
        return (
            f"so far {method_name(choice.arm.family)} with {choice.arm.num_trainable:,} parameters:"
            f" {sum(scores) / len(scores):.3f} on validation{against}"
        )

    def _conclude(self, ending: Ending) -> Recommendation:
        known = ending.known
        if known.evidence is None:
            return self._nothing(ending.why)
        choice = choose(known.evidence)
        costs = self._costs(known, choice.arm)
        points = tried(known, lambda m: str(self.env.store.run_folder(m.source)), costs)
        use = next(p for p in points if (p.family, p.num_trainable) == (choice.arm.family, choice.arm.num_trainable))
        family = self.question.family(choice.arm.family)
        test = None if ending.interrupted and self.env.elapsed() > self.asked.within else self._test(use.run)
        full = known.evidence.levels.full
        rival = choice.rival

        def cost(arm: Arm) -> float:
            trial = whole_run(known, arm, 0)
            return math.inf if trial is None else self.env.seconds(trial)

        state = state_of(known, choice)
        more = seconds_to_decide(known.evidence, choice, cost) if state == "not decided" else None
        delta = Path(use.run) / "delta.safetensors"
        some = next(iter(self.env.results.values()))
        out = Recommendation(
            state=state,
            headline="",
            backbone=self.asked.base.backbone,
            task=self.task.name,
            metric=some.metric,
            reach=f"within {self.asked.reach.describe()}".replace("within at most", "to at most")
            if self.asked.reach.margin is not None
            else f"to {self.asked.reach.describe()}",
            within=self.asked.within,
            seconds=self.env.elapsed(),
            num_runs=len(known.measured),
            ended=ending.why,
            use=use,
            rank=_rank(family, use.num_trainable),
            where=family.where,
            test=test,
            reference=self.question.reference.name,
            reference_score=sum(full) / len(full) if full else None,
            reference_seeds=len(full),
            stand_in=self.stand_in_reason,
            untrained=known.evidence.levels.untrained,
            constant=known.evidence.levels.constant,
            num_validation=some.num_examples if some.num_examples > MAX_VALIDATION else self.parts.num_validation,
            nothing_below=nothing_below(known.evidence),
            regret=choice.regret,
            rival=f"{method_name(rival.family)} with {rival.num_trainable:,} parameters" if rival else "",
            seconds_to_decide=more,
            file_bytes=delta.stat().st_size if delta.is_file() else None,
            steps=self.question.steps,
            num_families=len(self.question.families),
            num_raced=sum(known.races[f.name].is_over for f in self.question.families),
            tried=tuple(points),
            fates=tuple(fates(known, choice.arm.family, self.found.left_out)),
            curve=tuple(curve_of(known.evidence, choice.arm.family)),
            commands=self._commands(use.run, choice.arm, use.learning_rate),
            notes=self.parts.notes,
            folder=str(self.asked.folder),
        )
        assert describe(use, family.where, out.rank)
        return replace(out, headline=headline(out))

    def _test(self, run: str) -> TestScore | None:
        """Score of the recommended run on the test rows; None where it kept no values."""
        with suppress(KeyboardInterrupt):  # a second Ctrl-C: the answer goes without
            self.progress.log(f"the recommended run on {self.parts.num_test:,} test rows")
            try:
                tuned = TunedModel(Path(run), self.resources)
            except ApetError:
                return None
            try:
                score = tuned.evaluate("test", str(self.parts.test))
            finally:
                tuned.close()
            return TestScore(score.score, score.ci_low, score.ci_high, self.parts.num_test)
        return None

    def _costs(self, known: Knowledge, chosen: Arm) -> dict[Arm, Costs]:
        """Times of steps as they were measured, of runs that were alone; memory by the model of costs."""
        evidence = known.evidence
        assert evidence is not None
        alone: dict[Arm, float] = {}
        for arm in evidence.measured:
            runs = [self.env.results[m.source] for m in whole_runs(known, arm) if m.source in self.env.results]
            times = [r.training_seconds / r.max_steps for r in runs if r.side_by_side == 1]
            if times:
                alone[arm] = min(times)
        reference = alone.get(self.question.reference_arm)
        memory: dict[Arm, float] = {}
        if chosen != self.question.reference_arm and self.question.reference == self.found.full:
            with suppress(ApetError, KeyboardInterrupt):
                plan = self.env.plan(Trial(chosen, 1e-3, PILOT_STEPS, 0))
                base = self.asked.base
                dtype = torch.bfloat16 if plan.dtype == "bfloat16" else torch.float32
                costs = estimate(base.backbone, plan.delta, base.batch_size, self.length, dtype=dtype)
                memory[chosen] = costs.relative_memory
        return {
            arm: Costs(alone[arm] / reference if reference and arm in alone else None, memory.get(arm))
            for arm in evidence.measured
        }

    def _commands(self, run: str, arm: Arm, rate: float) -> dict[str, str]:
        """The exact commands to train the answer for good, to test, to use and to export it."""
        trial = Trial(arm, rate, max(TRAIN_FULLY, self.question.steps), 0)
        config = self.env.config(trial)
        given = {k: v for k, v in config.model_dump(mode="json", exclude_defaults=True).items() if v not in (None, [])}
        words = ["apet", "tune"]
        options = ("backbone", "task", "data", "label", "method", "budget", "max_steps")
        for key in options:
            if key in given:
                words += [f"--{key.replace('_', '-')}", str(given[key])]
        for column in config.text:
            words += ["--text", column]
        for key, value in given.items():
            if key in (*options, "text", "eval_steps", "seed", "imports", "save_delta"):
                continue
            settings = value.items() if key == "method_settings" else [(key, value)]
            words += [f"{k}={_word(v)}" for k, v in settings]
        trained = str(Path(self.asked.folder) / "trained")
        text = "your text"
        return {
            "train fully": shlex.join([*words, "--output", trained]),
            "test": shlex.join(["apet", "evaluate", trained, "--split", "test", "--data", str(self.parts.test)]),
            "predict": shlex.join(["apet", "predict", run, text]),
            "export": shlex.join(["apet", "export", run, f"{self.asked.folder}/exported", "--to", "transformers"]),
        }

    def _nothing(self, why: str) -> Recommendation:
        base = self.asked.base
        out = Recommendation(
            state="nothing measured",
            headline="",
            backbone=base.backbone,
            task=self.task.name,
            metric=self.task.metric,
            reach=self.asked.reach.describe(),
            within=self.asked.within,
            seconds=time.monotonic() - self.began,
            num_runs=len(self.env.measured()),
            ended=why,
            use=None,
            rank=None,
            where="",
            test=None,
            reference="fine-tuning",
            reference_score=None,
            reference_seeds=0,
            stand_in=self.stand_in_reason,
            untrained=0.0,
            constant=0.0,
            num_validation=self.parts.num_validation,
            nothing_below=None,
            regret=None,
            rival="",
            seconds_to_decide=None,
            file_bytes=None,
            steps=0,
            notes=self.parts.notes,
            folder=str(self.asked.folder),
        )
        return replace(out, headline=headline(out))


def _rank(family: Family, num_trainable: int) -> int | None:
    """Rank of a LoRA of that many parameters; None below rank 1, and for other methods."""
    rank, rest = divmod(num_trainable, family.per_rank) if family.per_rank else (0, 1)
    return rank if rank and not rest else None


def _word(value: JsonValue) -> str:
    return (
        f"[{','.join(map(str, value))}]"
        if isinstance(value, list)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def _free_memory() -> float:
    """Bytes that training may take on the device, as far as the system tells."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    with suppress(ValueError, OSError):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    return math.inf
