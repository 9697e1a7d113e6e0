"""One run, from settings to a folder with its result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from torch import nn

from apet.attachment import Handle, HeadMode, attach
from apet.backbones.head import reset_head
from apet.errors import ApetError
from apet.methods import make_method
from apet.tasks.examples import Example, sample
from apet.tasks.objectives import Objective, make_objective
from apet.training import run_dir
from apet.training.config import RunConfig
from apet.training.evaluation import Split, evaluate
from apet.training.loop import EvalPoint, Measured, TrainingSchedule, train
from apet.training.lr_search import LearningRate, paper_learning_rate, search_learning_rate
from apet.training.resolve import resolve_dtype, text_length_limit
from apet.training.resources import Resources
from apet.training.result import FinishedRun, build_result
from apet.training.run_plan import RunPlan, resolve

NUMERIC_VERSION = 2
"""Raised when the same settings begin to give other numbers: stored runs of an older version are run again."""


def tune(s: RunConfig, output: Path | None = None, shop: Resources | None = None) -> FinishedRun:
    """Tune a backbone on a task and measure it.

    The values with the highest validation measure are kept, the earliest of equals; the measure of a test split,
    where the task has one, is taken once, with them.

    Args:
        s: the settings.
        output: folder for the result; None = nothing is written.
        shop: shared by successive runs.

    Raises:
        ApetError: bad settings or data, diverged training, an output folder that is taken; nothing is left behind.
    """
    if output is not None:
        output = Path(output).absolute()
        run_dir.require_free(output)
        run_dir.require_writable(output)
    with _threads(s.num_threads):
        return _Run(resolve(s), shop or Resources()).go(output)


def prefetch(s: RunConfig, shop: Resources) -> None:
    """Bring a run's data, tokens and weights into the shop: what is not at hand is fetched, what does not fit refused.

    Raises:
        ApetError: as `tune`, before anything is trained.
    """
    _Run(resolve(s), shop)


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _absolute(name: str) -> str:
    """A path that holds from any folder; names stay names."""
    return str(Path(name).absolute()) if Path(name).exists() else name


class _Run:
    """The things a run works with."""

    def __init__(self, planned: RunPlan, shop: Resources) -> None:
        s = planned.config
        self.plan, self.s, self.shop = planned, s, shop
        self.began = time.perf_counter()
        run_dir.reset_peak_memory()
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.accelerator = shop.accelerator(s.device)
        self.dtype = resolve_dtype(s, self.accelerator.device)
        self.data = shop.data(planned.task, s)
        labels = max(2, len(planned.task.labels))
        where = self.accelerator.device
        self.model: nn.Module = shop.model(
            s.backbone, planned.objective, labels, self.dtype, "spread" if s.device == "spread" else where
        )
        self.objective: Objective = make_objective(
            planned.objective, planned.task, shop.tokenizer(s.backbone), self._max_input()
        )
        self.splits = {n: shop.split(self.objective, rows, n) for n, rows in self.data.splits.items()}

    def _max_input(self) -> int:
        prompt = sum(i.weights[0].shape[0] for i in self.plan.spec.insertions if i.form == "tokens")
        answer = self.plan.task.max_target_length + 1 if self.plan.objective == "next-token" else 0
        return text_length_limit(
            self.plan.backbone, self.s.max_input_length or self.plan.task.max_input_length, prompt + answer
        )

    def go(self, output: Path | None) -> FinishedRun:
        rate = self._rate()
        handle = self._attach()
        try:
            fitted = train(
                handle,
                self.objective,
                self.splits["train"].encoded,
                partial(self._measure, self.splits["validation"]),
                self._schedule(rate.value),
                self.accelerator,
                self.shop.watch,
            )
            tested = evaluate(self.model, self.objective, self.splits["test"], self._wide) if self.has_test else None
            points = fitted.points
            result = build_result(
                self.plan,
                handle,
                rate,
                points,
                tested[0] if tested else None,
                objective=self.objective,
                data=self.data,
                splits=self.splits,
                dtype=self.dtype,
                devices=list(dict.fromkeys(p.device for p in self.model.parameters())),
                began=self.began,
                started=self.started,
            )
            if output is not None and self.accelerator.is_main_process:
                with run_dir.new_folder(output) as folder:
                    run_dir.write_run(folder, self._resolved(rate), self.plan.task, result, points)
                    if self.s.save_delta:
                        handle.save(folder)
                    shown = self.splits["validation"]
                    run_dir.write_predictions(folder / run_dir.PREDICTIONS, self.plan.task, shown, fitted.predictions)
        finally:
            self._leave(handle)
        return FinishedRun(result, points, output if self.accelerator.is_main_process else None)

    @property
    def has_test(self) -> bool:
        return "test" in self.splits

    @property
    def _wide(self) -> int:
        """Evaluation keeps no activations, so its batches are wider."""
        return 2 * self.s.batch_size

    def _measure(self, split: Split) -> Measured:
        return evaluate(self.model, self.objective, split, self._wide)

    def _attach(self) -> Handle:
        reset_head(self.model, self.s.resolved_seed("init_seed"))
        if self.s.gradient_checkpointing:
            getattr(self.model, "activation_checkpointing_enable")()
        head: HeadMode = "trained" if self.plan.backbone.head and self.s.head == "trained" else "frozen"
        return attach(self.model, self.plan.spec, head=head)

    def _leave(self, handle: Handle) -> None:
        handle.detach()
        if self.accelerator.num_processes > 1:
            self.accelerator.free_memory()
        if self.s.gradient_checkpointing:
            getattr(self.model, "activation_checkpointing_disable")()

    def _schedule(self, rate: float) -> TrainingSchedule:
        s = self.s
        seed = s.resolved_seed("data_seed")
        return TrainingSchedule(
            s.max_steps,
            s.batch_size,
            rate,
            s.weight_decay,
            s.max_grad_norm,
            s.resolved_eval_steps,
            seed,
            s.target_score,
        )

    def _rate(self) -> LearningRate:
        s = self.s
        usual = paper_learning_rate(type(make_method(s.method)), self.plan.task)
        if s.learning_rate == "paper":
            return LearningRate(usual, "paper")
        if s.learning_rate != "auto":
            return LearningRate(s.learning_rate, "given")
        train_split = self.splits["train"]
        examples: Sequence[Example] = train_split.examples
        held_keys = {e.normalized_text for e in sample(examples, min(500, max(1, len(examples) // 5)))}
        inside = [i for i, e in enumerate(examples) if e.normalized_text not in held_keys]
        outside = [i for i, e in enumerate(examples) if e.normalized_text in held_keys]
        if not inside or not outside:
            raise ApetError(f"learning_rate=auto needs more than {len(examples)} training examples; give a number")
        held, rest = (
            Split([examples[i] for i in outside], train_split.encoded.subset(outside)),
            train_split.encoded.subset(inside),
        )

        def trial(schedule: TrainingSchedule) -> list[EvalPoint]:
            handle = self._attach()
            try:
                measure = partial(self._measure, held)
                return train(
                    handle,
                    self.objective,
                    rest,
                    measure,
                    schedule,
                    self.accelerator,
                    self.shop.watch,
                ).points
            finally:
                self._leave(handle)

        return search_learning_rate(usual, replace(self._schedule(usual), target_score=None), trial)

    def _resolved(self, rate: LearningRate) -> RunConfig:
        """The settings with everything open filled in: the same numbers come out of them again."""
        s = self.s
        open_ = {
            "backbone": _absolute(s.backbone),
            "task": None if s.task is None else _absolute(s.task),
            "data": None if s.data is None else _absolute(s.data),
            "mask_seed": s.resolved_seed("mask_seed"),
            "init_seed": s.resolved_seed("init_seed"),
            "data_seed": s.resolved_seed("data_seed"),
            "budget": self.plan.spec.num_trainable,
            "learning_rate": rate.value,
            "eval_steps": s.resolved_eval_steps,
            "objective": self.plan.objective,
            "dtype": str(self.dtype).removeprefix("torch."),
            "max_input_length": self.objective.max_input_length,
        }
        return s.model_copy(update=open_)
