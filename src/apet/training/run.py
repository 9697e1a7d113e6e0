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

from apet.attach import Handle, HeadUse, attach
from apet.backbones.head import reset_head
from apet.errors import ApetError
from apet.methods import make
from apet.tasks.examples import Example, sample
from apet.tasks.objectives import Objective, objective_for
from apet.training import record
from apet.training.choices import dtype_for, room_for_text
from apet.training.evaluation import Split, evaluate
from apet.training.fitting import Measured, Point, Schedule, fit
from apet.training.outcome import Outcome, result_of
from apet.training.preparing import Plan, prepare
from apet.training.rates import Rate, papers, search
from apet.training.settings import RunSettings
from apet.training.workshop import Workshop

NUMERIC_VERSION = 2
"""Raised when the same settings begin to give other numbers: stored runs of an older version are run again."""


def tune(s: RunSettings, output: Path | None = None, shop: Workshop | None = None) -> Outcome:
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
        record.refuse_taken(output)
        record.refuse_unwritable(output)
    with _threads(s.threads):
        return _Run(prepare(s), shop or Workshop()).go(output)


def gather(s: RunSettings, shop: Workshop) -> None:
    """Bring a run's data, tokens and weights into the shop: what is not at hand is fetched, what does not fit refused.

    Raises:
        ApetError: as `tune`, before anything is trained.
    """
    _Run(prepare(s), shop)


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

    def __init__(self, planned: Plan, shop: Workshop) -> None:
        s = planned.settings
        self.plan, self.s, self.shop = planned, s, shop
        self.began = time.perf_counter()
        record.forget_peak_memory()
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.accelerator = shop.accelerator(s.device)
        self.dtype = dtype_for(s, self.accelerator.device)
        self.data = shop.data(planned.task, s)
        labels = max(2, len(planned.task.labels))
        where = self.accelerator.device
        self.model: nn.Module = shop.model(
            s.backbone, planned.use, labels, self.dtype, "spread" if s.device == "spread" else where
        )
        self.objective: Objective = objective_for(
            planned.use, planned.task, shop.tokenizer(s.backbone), self._max_input()
        )
        self.splits = {n: shop.split(self.objective, rows, n) for n, rows in self.data.splits.items()}

    def _max_input(self) -> int:
        prompt = sum(i.weights[0].shape[0] for i in self.plan.theta.insertions if i.form == "tokens")
        answer = self.plan.task.max_output + 1 if self.plan.use == "next-token" else 0
        return room_for_text(self.plan.backbone, self.s.max_input or self.plan.task.max_input, prompt + answer)

    def go(self, output: Path | None) -> Outcome:
        rate = self._rate()
        handle = self._attach()
        try:
            fitted = fit(
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
            result = result_of(
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
                with record.new_folder(output) as folder:
                    record.write(folder, self._resolved(rate), self.plan.task, result, points)
                    if self.s.keep_theta:
                        handle.save(folder)
                    shown = self.splits["validation"]
                    record.write_predictions(folder / record.PREDICTIONS, self.plan.task, shown, fitted.answers)
        finally:
            self._leave(handle)
        return Outcome(result, points, output if self.accelerator.is_main_process else None)

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
        reset_head(self.model, self.s.seed_for("init_seed"))
        if self.s.gradient_checkpointing:
            getattr(self.model, "activation_checkpointing_enable")()
        head: HeadUse = "trained" if self.plan.backbone.head and self.s.head == "trained" else "frozen"
        return attach(self.model, self.plan.theta, head=head)

    def _leave(self, handle: Handle) -> None:
        handle.detach()
        if self.accelerator.num_processes > 1:
            self.accelerator.free_memory()
        if self.s.gradient_checkpointing:
            getattr(self.model, "activation_checkpointing_disable")()

    def _schedule(self, rate: float) -> Schedule:
        s = self.s
        seed = s.seed_for("data_seed")
        return Schedule(s.steps, s.batch_size, rate, s.weight_decay, s.clip, s.interval, seed, s.stop_at)

    def _rate(self) -> Rate:
        s = self.s
        usual = papers(type(make(s.method)), self.plan.task)
        if s.learning_rate == "paper":
            return Rate(usual, "paper")
        if s.learning_rate != "auto":
            return Rate(s.learning_rate, "given")
        train = self.splits["train"]
        examples: Sequence[Example] = train.examples
        held_keys = {e.key for e in sample(examples, min(500, max(1, len(examples) // 5)))}
        inside = [i for i, e in enumerate(examples) if e.key not in held_keys]
        outside = [i for i, e in enumerate(examples) if e.key in held_keys]
        if not inside or not outside:
            raise ApetError(f"learning_rate=auto needs more than {len(examples)} training examples; give a number")
        held, rest = Split([examples[i] for i in outside], train.encoded.subset(outside)), train.encoded.subset(inside)

        def trial(schedule: Schedule) -> list[Point]:
            handle = self._attach()
            try:
                measure = partial(self._measure, held)
                return fit(
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

        return search(usual, replace(self._schedule(usual), stop_at=None), trial)

    def _resolved(self, rate: Rate) -> RunSettings:
        """The settings with everything open filled in: the same numbers come out of them again."""
        s = self.s
        open_ = {
            "backbone": _absolute(s.backbone),
            "task": None if s.task is None else _absolute(s.task),
            "data": None if s.data is None else _absolute(s.data),
            "mask_seed": s.seed_for("mask_seed"),
            "init_seed": s.seed_for("init_seed"),
            "data_seed": s.seed_for("data_seed"),
            "budget": self.plan.theta.n,
            "learning_rate": rate.value,
            "evaluate_every": s.interval,
            "objective": self.plan.use,
            "dtype": str(self.dtype).removeprefix("torch."),
            "max_input": self.objective.max_input,
        }
        return s.model_copy(update=open_)
