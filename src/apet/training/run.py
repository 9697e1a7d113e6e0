"""One run, from settings or a plan to a folder with its result."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from apet.attachment import HeadMode, attach
from apet.backbones.head import reset_head
from apet.delta import CarrierChoice
from apet.errors import ApetError
from apet.handle import Handle
from apet.layers.merging import merge_note
from apet.layers.prompt import prompt_length
from apet.mask_scores import needs_task_scores, task_scores
from apet.tasks.batches import training_batches
from apet.tasks.examples import Example, sample
from apet.tasks.objectives import Objective, make_objective
from apet.training import output_folder, run_dir
from apet.training.cautions import ChanceWatch, head_caution, truncation_caution
from apet.training.config import RunConfig, import_guests
from apet.training.environment import reset_peak_memory
from apet.training.eval_steps import num_measured
from apet.training.evaluation import EvalPoint, Measurement, Split, evaluate, majority_baseline, to_device
from apet.training.loop import DivergedError, TrainingResult, TrainingSchedule, train
from apet.training.lr_search import LearningRate, search_learning_rate
from apet.training.manifest import write_manifest
from apet.training.recording import RunOutcome, build_result
from apet.training.resolve import resolve, text_length_limit
from apet.training.resources import Resources
from apet.training.result import RunResult
from apet.training.resume import ResumeFile
from apet.training.run_plan import RunPlan
from apet.training.sharing import runs_side_by_side
from apet.training.side_by_side import SideBySide, sharing
from apet.training.tracking import TrackedRun, tracked, tracking_notes

MAX_HELD_OUT = 500
"""Training examples held out for a learning-rate search, at most; at most a fifth of all."""
SCORED_BATCH, SCORED_BATCHES = 8, 64
"""Examples of a batch, and batches, whose gradients rank the entries of a mask; small ones, for the sake of squares."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        result: what result.json holds.
        points: the curve.
        folder: where it lies; None where nothing was to be written, or another process wrote it.
    """

    result: RunResult
    points: list[EvalPoint]
    folder: Path | None


def tune(run: RunConfig | RunPlan, output: Path | None = None, resources: Resources | None = None) -> FinishedRun:
    """Tune a backbone on a task and measure it.

    The values with the highest validation metric are kept, the earliest of equals; the metric of a test split, where
    the task has one, is taken once, with them.

    Args:
        run: settings, or the plan that `apet.training.resolve.resolve` made of them.
        output: folder for the result; None = nothing is written.
        resources: shared by successive runs.

    Returns:
        The result, the curve, and where they were written.

    Raises:
        ApetError: bad settings or data, diverged training, an output folder that is taken; nothing is left behind.
        CannotWriteError: the output folder cannot be written.
    """
    resources = resources or Resources()
    if output is None:
        return _tune(run, None, resources)
    output = Path(output).absolute()
    if isinstance(run, RunPlan):  # a study's, whose scheduler holds the whole folder
        output_folder.require_free(output)
        output_folder.require_writable(output)
        return _tune(run, output, resources)
    # Before anything is loaded: a place that takes no result is better known now than after the training.
    # Of several processes one writes; launchers number them so.
    with output_folder.held(output) if os.environ.get("RANK", "0") == "0" else nullcontext():
        return _tune(run, output, resources)


def _tune(run: RunConfig | RunPlan, output: Path | None, resources: Resources) -> FinishedRun:
    config = run if isinstance(run, RunConfig) else run.config
    with threads(config.num_threads):
        if isinstance(run, RunPlan):
            import_guests(config)  # a plan may come from another process
            plan = run
        else:
            plan = resolve(config, resources.cache)
            if plan.missing is not None:  # what is downloaded now is a part of the run's identifier
                prefetch(plan, resources)
                resources.cache.forget_missing()
                plan = resolve(config, resources.cache)
        if output is not None:
            output_folder.require_space(output, output_folder.bytes_needed(plan.num_trainable))
        loaded = Run(plan, resources)
        # A study's runs come as plans: a line for each of its thousands would say nothing new.
        if isinstance(run, RunConfig):
            loaded.caution()
        keeps = output is not None and isinstance(run, RunConfig) and loaded.accelerator.num_processes == 1
        resume = ResumeFile(output, plan.run_id) if keeps and output is not None else None
        try:
            return loaded.execute(output, resume)
        except DivergedError:
            if resume is not None:  # from there it would only diverge again
                resume.path.unlink(missing_ok=True)
            raise


def prefetch(plan: RunPlan, resources: Resources) -> None:
    """Load a run's data, tokens and weights: what is not on this machine is downloaded, what does not fit refused.

    Raises:
        ApetError: as `tune`, before anything is trained.
    """
    Run(plan, resources)


@contextmanager
def threads(num_threads: int | None) -> Iterator[None]:
    """Compute with so many processor threads, inside the block; None = as many as before."""
    # Sums over threads are rounded in another order for another number of them: it is a setting of the run.
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _absolute(name: str) -> str:
    """A path that holds from any folder; names stay names."""
    return str(Path(name).absolute()) if Path(name).exists() else name


class Run:
    """The things a run works with: model, objective, data.

    Args:
        plan: of the run.
        resources: that successive runs share.
    """

    def __init__(self, plan: RunPlan, resources: Resources) -> None:
        config = plan.resolved
        self.plan, self.config, self.resources = plan, config, resources
        self.began = time.perf_counter()
        reset_peak_memory()
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.accelerator = resources.accelerator(config.device, config.device_map)
        limits = (config.max_train_samples, config.max_eval_samples, config.max_test_samples)
        self.data = resources.data(plan.task, config.data_folder, *limits)
        self.model: nn.Module = resources.model(
            config.backbone, plan.objective, plan.num_labels, plan.dtype, self.accelerator.device, config.device_map
        )
        self.objective: Objective = make_objective(
            plan.objective, plan.task, resources.tokenizer(config.backbone), self._max_input_length()
        )
        self.splits = {name: resources.split(self.objective, self.data, name) for name in self.data.splits}

    def _max_input_length(self) -> int:
        # Learned positions are shared by the prompt, the text and, in a decoder, the answer with its end token.
        answer = self.plan.task.max_target_length + 1 if self.plan.objective == "next-token" else 0
        max_length = self.config.max_input_length or self.plan.task.max_input_length
        return text_length_limit(self.plan.backbone, max_length, prompt_length(self.plan.delta) + answer)

    def caution(self) -> None:
        """Say before the training what a reader of its result must know."""
        plan, splits = self.plan, self.splits
        lines = [
            truncation_caution(
                {name: split.encoded.num_truncated for name, split in splits.items()},
                {name: len(split.examples) for name, split in splits.items()},
                self.objective.max_input_length,
            ),
            head_caution(plan.backbone.num_head_parameters if self.config.head == "trained" else 0, plan.num_trainable),
        ]
        if not plan.delta.mergeable:
            lines.append(f"{plan.config.axes.method} {merge_note(plan.delta, plan.backbone)}")
        for line in filter(None, lines):
            self.resources.progress.log(line)

    def _chance_watch(self) -> ChanceWatch:
        references = [e.references for e in self.splits["validation"].examples]
        baseline = majority_baseline(references) if self.plan.task.is_classification else None
        num_measurements = 1 + num_measured(self.config.max_steps, self.config.resolved_eval_steps)
        return ChanceWatch(baseline, num_measurements, self.resources.progress.log, self.plan.task.metric)

    def execute(self, output: Path | None, resume: ResumeFile | None = None) -> FinishedRun:
        """Search the learning rate where that is asked for, train, measure, write.

        Returns:
            The finished run; its delta is detached.
        """
        rate = self.learning_rate()
        watch = self._chance_watch()

        def measure() -> Measurement:
            score, answers = self._measure(self.splits["validation"])
            watch.see(score.score, score.ci_low)
            return score, answers

        with self._attached() as handle, self.tracked(rate, output) as in_tracker:
            trained = train(
                handle,
                self.objective,
                self.splits["train"].encoded,
                measure,
                self.schedule(rate.value),
                self.accelerator,
                self.resources.progress,
                resume,
                in_tracker.see,
            )
            test = self._measure(self.splits["test"]) if "test" in self.splits else None
            finished = self.finish(handle, rate, trained, test, output)
            in_tracker.end(finished.result)
            return finished

    @contextmanager
    def _attached(self) -> Iterator[Handle]:
        handle = self.attach(self.config.carrier)
        try:
            yield handle
        finally:
            # Whatever happened: the next run borrows the same model and must find nothing attached.
            self.leave(handle)

    def tracked(self, rate: LearningRate, output: Path | None) -> AbstractContextManager[TrackedRun]:
        """The run in its tracker, where one is asked for; of several processes one writes."""
        output = output if self.accelerator.is_main_process else None
        return tracked(self.plan, self._resolved(rate), output, self.resources.progress.log)

    def finish(
        self,
        handle: Handle,
        rate: LearningRate,
        trained: TrainingResult,
        test: Measurement | None,
        output: Path | None,
        side_by_side: int = 1,
    ) -> FinishedRun:
        """Make the record of what was trained, and write it with everything else.

        Args:
            handle: of the delta, with the values that were kept.
            rate: learning rate.
            trained: what training came to.
            test: score and answers of the test split, where there is one.
            output: folder; None = nothing is written.
            side_by_side: runs that were trained in one pass.

        Returns:
            The finished run.

        Raises:
            CannotWriteError: the folder cannot be written.
        """
        result = build_result(
            RunOutcome(
                plan=self.plan,
                handle=handle,
                learning_rate=rate,
                points=trained.points,
                predictions=trained.predictions,
                test=test,
                data=self.data,
                splits=self.splits,
                max_input_length=self.objective.max_input_length,
                devices=list(dict.fromkeys(p.device for p in self.model.parameters())),
                began=self.began,
                started=self.started,
                side_by_side=side_by_side,
                notes=tracking_notes(self.plan, output),
            )
        )
        # All processes hold the same values; one of them writes.
        if output is not None and self.accelerator.is_main_process:
            with output_folder.new_folder(output) as folder:
                run_dir.write_run(folder, self._resolved(rate), self.plan.task, result, trained.points)
                if self.config.save_delta:
                    handle.save(folder)
                answers = {"validation": (run_dir.PREDICTIONS, trained.predictions)}
                if test is not None:
                    answers["test"] = (run_dir.TEST_PREDICTIONS, test[1])
                for split, (name, predictions) in answers.items():
                    run_dir.write_predictions(folder / name, self.plan.task, self.splits[split].examples, predictions)
                write_manifest(folder, result.run_id)
        return FinishedRun(result, trained.points, output if self.accelerator.is_main_process else None)

    @property
    def eval_batch_size(self) -> int:
        """Examples of a forward that measures: it keeps no activations, so its batches are wider."""
        return 2 * self.config.batch_size

    def _measure(self, split: Split) -> Measurement:
        return evaluate(self.model, self.objective, split, self.eval_batch_size)

    @cached_property
    def mask_scores(self) -> dict[str, Tensor] | None:
        """Scores for masks that rank entries by the task's gradients: first of all, while nothing is attached."""
        if not needs_task_scores(self.plan.delta):
            return None
        reset_head(self.model, self.config.resolved_seed("init_seed"))
        examples, device = self.splits["train"].encoded, self.accelerator.device
        size = min(SCORED_BATCH, len(examples))
        rows = islice(training_batches(examples.lengths, size, self.config.resolved_seed("data_seed")), SCORED_BATCHES)
        batches = (to_device(device, self.objective.collate([examples[i] for i in numbers])) for numbers in rows)
        return task_scores(self.model, self.plan.delta, batches, self.objective.loss)

    def attach(self, carrier: CarrierChoice) -> Handle:
        """Attach a fresh delta, with a fresh head."""
        reset_head(self.model, self.config.resolved_seed("init_seed"))
        if self.config.gradient_checkpointing:
            getattr(self.model, "activation_checkpointing_enable")()
        head: HeadMode = "trained" if self.plan.backbone.head and self.config.head == "trained" else "frozen"
        return attach(self.model, self.plan.delta, head=head, scores=self.mask_scores, carrier=carrier)

    def leave(self, handle: Handle) -> None:
        """Detach a delta."""
        handle.detach()
        if self.accelerator.num_processes > 1:
            self.accelerator.free_memory()
        if self.config.gradient_checkpointing:
            getattr(self.model, "activation_checkpointing_disable")()

    def schedule(self, learning_rate: float) -> TrainingSchedule:
        """How it trains."""
        config = self.config
        return TrainingSchedule(
            config.max_steps,
            config.batch_size,
            learning_rate,
            config.weight_decay,
            config.max_grad_norm,
            config.resolved_eval_steps,
            config.resolved_seed("data_seed"),
            config.target_score,
        )

    def learning_rate(self) -> LearningRate:
        """The learning rate: as given, the method's, or what a search finds.

        Returns:
            The rate, and where it comes from.

        Raises:
            ApetError: too few examples to search it, or no rate that trains.
        """
        _ = self.mask_scores  # now, while nothing is attached: trials may share a pass
        given = self.plan.config.learning_rate
        default = self.plan.default_learning_rate
        if given == "paper":
            return LearningRate(default, "paper")
        if given != "auto":
            return LearningRate(given, "given")
        train_split = self.splits["train"]
        examples: Sequence[Example] = train_split.examples
        # By text, not by row: a text that comes twice must not stand on both sides.
        held_out_keys = {e.normalized_text for e in sample(examples, min(MAX_HELD_OUT, max(1, len(examples) // 5)))}
        kept_rows = [i for i, e in enumerate(examples) if e.normalized_text not in held_out_keys]
        held_out_rows = [i for i, e in enumerate(examples) if e.normalized_text in held_out_keys]
        if not kept_rows or not held_out_rows:
            raise ApetError(f"learning_rate=auto needs more than {len(examples)} training examples; give a number")
        held_out = Split([examples[i] for i in held_out_rows], train_split.encoded.subset(held_out_rows))
        kept = train_split.encoded.subset(kept_rows)

        def trial(schedule: TrainingSchedule) -> list[EvalPoint]:
            with self._attached() as handle:
                measure = partial(self._measure, held_out)
                progress = self.resources.progress
                return train(handle, self.objective, kept, measure, schedule, self.accelerator, progress).points

        # Without a target: trials that stop early would not show which rate goes furthest.
        schedule = replace(self.schedule(default), target_score=None)

        def trials(schedules: Sequence[TrainingSchedule]) -> dict[int, list[EvalPoint] | DivergedError]:
            make = partial(
                SideBySide,
                objective=self.objective,
                examples=kept,
                validation=held_out,
                eval_batch_size=self.eval_batch_size,
                accelerator=self.accelerator,
                progress=self.resources.progress,
            )
            attach_each = [partial(self.attach, "additive") for _ in schedules]
            with sharing(attach_each, self.leave, schedules, make) as shared:
                ended = [] if shared is None else list(shared.train())
            return {e.run: e.result if isinstance(e.result, DivergedError) else e.result.points for e in ended}

        together = trials if runs_side_by_side(self.plan) > 1 else None
        return search_learning_rate(default, schedule, trial, together)

    def _resolved(self, rate: LearningRate) -> RunConfig:
        """The settings with everything open filled in: the same numbers come out of them, from any folder."""
        config = self.config
        return config.model_copy(
            update={
                "backbone": _absolute(config.backbone),
                "task": None if config.task is None else _absolute(config.task),
                "data": None if config.data is None else _absolute(config.data),
                "learning_rate": rate.value,
                "max_input_length": self.objective.max_input_length,
            }
        )
