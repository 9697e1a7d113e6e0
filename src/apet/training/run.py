"""One run, from settings or a plan to a folder with its result."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from torch import nn

from apet.attachment import HeadMode, attach
from apet.backbones.head import reset_head
from apet.errors import ApetError
from apet.handle import Handle
from apet.layers.merging import merge_note
from apet.layers.prompt import prompt_length
from apet.tasks.examples import Example, sample
from apet.tasks.objectives import Objective, make_objective
from apet.training import output_folder, run_dir
from apet.training.config import RunConfig, import_guests
from apet.training.environment import reset_peak_memory
from apet.training.evaluation import EvalPoint, Measurement, Split, evaluate
from apet.training.loop import DivergedError, TrainingSchedule, train
from apet.training.lr_search import LearningRate, search_learning_rate
from apet.training.manifest import write_manifest
from apet.training.recording import RunOutcome, build_result
from apet.training.resolve import resolve, text_length_limit
from apet.training.resources import Resources
from apet.training.result import RunResult
from apet.training.resume import ResumeFile
from apet.training.run_plan import RunPlan

MAX_HELD_OUT = 500
"""Training examples held out for a learning-rate search, at most; at most a fifth of all."""


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
    with _threads(config.num_threads):
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
            # The values, twice AdamW's two moments and the best values, and what is text.
            output_folder.require_space(output, 4 * 5 * plan.num_trainable + (4 << 20))
        loaded = _Run(plan, resources)
        # A study's runs come as plans: a line for each of its thousands would say nothing new.
        if isinstance(run, RunConfig) and not plan.delta.mergeable:
            resources.progress.log(f"{config.axes.method} {merge_note(plan.delta, plan.backbone)}")
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
    _Run(plan, resources)


@contextmanager
def _threads(num_threads: int | None) -> Iterator[None]:
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


class _Run:
    """The things a run works with: model, objective, data."""

    def __init__(self, plan: RunPlan, resources: Resources) -> None:
        config = plan.resolved
        self.plan, self.config, self.resources = plan, config, resources
        self.began = time.perf_counter()
        reset_peak_memory()
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.accelerator = resources.accelerator(config.device, config.device_map)
        self.data = resources.data(plan.task, config.data_folder, config.max_train_samples, config.max_eval_samples)
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

    def execute(self, output: Path | None, resume: ResumeFile | None = None) -> FinishedRun:
        rate = self._learning_rate()
        handle = self._attach()
        try:
            trained = train(
                handle,
                self.objective,
                self.splits["train"].encoded,
                partial(self._measure, self.splits["validation"]),
                self._schedule(rate.value),
                self.accelerator,
                self.resources.progress,
                resume,
            )
            test = self._measure(self.splits["test"]) if "test" in self.splits else None
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
                )
            )
            # All processes hold the same values; one of them writes.
            if output is not None and self.accelerator.is_main_process:
                with output_folder.new_folder(output) as folder:
                    run_dir.write_run(folder, self._resolved(rate), self.plan.task, result, trained.points)
                    if self.config.save_delta:
                        handle.save(folder)
                    validation = self.splits["validation"]
                    run_dir.write_predictions(
                        folder / run_dir.PREDICTIONS, self.plan.task, validation.examples, trained.predictions
                    )
                    write_manifest(folder, result.run_id)
        finally:
            # Whatever happened: the next run borrows the same model and must find nothing attached.
            self._leave(handle)
        return FinishedRun(result, trained.points, output if self.accelerator.is_main_process else None)

    def _measure(self, split: Split) -> Measurement:
        # Evaluation keeps no activations, so its batches are wider.
        return evaluate(self.model, self.objective, split, 2 * self.config.batch_size)

    def _attach(self) -> Handle:
        reset_head(self.model, self.config.resolved_seed("init_seed"))
        if self.config.gradient_checkpointing:
            getattr(self.model, "activation_checkpointing_enable")()
        head: HeadMode = "trained" if self.plan.backbone.head and self.config.head == "trained" else "frozen"
        return attach(self.model, self.plan.delta, head=head, carrier=self.config.carrier)

    def _leave(self, handle: Handle) -> None:
        handle.detach()
        if self.accelerator.num_processes > 1:
            self.accelerator.free_memory()
        if self.config.gradient_checkpointing:
            getattr(self.model, "activation_checkpointing_disable")()

    def _schedule(self, learning_rate: float) -> TrainingSchedule:
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

    def _learning_rate(self) -> LearningRate:
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
            handle = self._attach()
            try:
                measure = partial(self._measure, held_out)
                progress = self.resources.progress
                return train(handle, self.objective, kept, measure, schedule, self.accelerator, progress).points
            finally:
                self._leave(handle)

        # Without a target: trials that stop early would not show which rate goes furthest.
        return search_learning_rate(default, replace(self._schedule(default), target_score=None), trial)

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
