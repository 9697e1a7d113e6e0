"""Runs of one backbone and task side by side: the frozen layers once on the joined batch, each delta on its own rows.

Every run keeps its own order of examples, dropout, learning rate, schedule, early stop and measurements, and its values
get its own gradients: it ends as it would alone, but for the rounding of products that are taken of more rows at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from apet.blocks import Blocks
from apet.errors import ApetError
from apet.handle import Handle
from apet.tasks.answers import Answer
from apet.tasks.batches import evaluation_batches
from apet.tasks.encoding import EncodedSet
from apet.tasks.objectives import Batch, Objective
from apet.tasks.objectives.objective import IGNORED
from apet.training.evaluation import Measurement, Split, score_answers, to_device
from apet.training.loop import DivergedError, Training, TrainingResult, TrainingSchedule
from apet.training.own_draws import OwnDraws, Span, drops
from apet.training.progress import Progress
from apet.training.resume import random_states


@dataclass(frozen=True)
class Ended:
    """How one of the runs ended.

    Attributes:
        run: its number.
        result: what its training came to, its best values in place; or that it diverged.
    """

    run: int
    result: TrainingResult | DivergedError


class SideBySide:
    """A pass of several runs.

    Args:
        runs: handle of each delta, which acts beside the weights of the one model; how it is trained.
        objective: of all of them.
        examples: to train on.
        validation: to measure on.
        eval_batch_size: examples of one run in a forward that measures.
        accelerator: one process.
        progress: is told of every step of the first run that goes on.

    Attributes:
        trainings: of the runs.

    Raises:
        ApetError: the deltas cannot act side by side on this model.
    """

    def __init__(
        self,
        runs: Sequence[tuple[Handle, TrainingSchedule]],
        objective: Objective,
        examples: EncodedSet,
        validation: Split,
        eval_batch_size: int,
        accelerator: Accelerator,
        progress: Progress,
    ) -> None:
        self.trainings = [Training(handle, examples.lengths, schedule, progress) for handle, schedule in runs]
        self.objective, self.progress = objective, progress
        self.examples, self.validation = examples, validation
        self.eval_batch_size, self.accelerator = eval_batch_size, accelerator
        self.model: nn.Module = runs[0][0].model
        self.blocks = Blocks(self.model, [handle for handle, _ in runs])
        self._drops = drops(self.model)
        self._random: list[list[Tensor]] = []

    def close(self) -> None:
        """Let the deltas act as they did before."""
        self.blocks.close()

    def train(self) -> Iterator[Ended]:
        """Train all runs in lock step.

        Yields:
            Each run as it ends: where it diverges, reaches its target, or has taken its steps.
        """
        fresh = [n for n, t in enumerate(self.trainings) if not t.points]
        for n, measurement in zip(fresh, self.measure(fresh, self.validation), strict=True):
            self.trainings[n].record(measurement)
        most = max(t.schedule.max_steps for t in self.trainings)
        with torch.random.fork_rng():
            for t in self.trainings:
                t.seed()
                self._random.append(random_states())
        active = [n for n, t in enumerate(self.trainings) if not t.is_done]
        began, seconds = time.perf_counter(), [0.0] * len(self.trainings)
        with self.progress.begin(f"{len(self.trainings)} runs side by side", most):
            while active:
                self.model.train()
                self._take_step(active)
                due = [n for n in active if self.trainings[n].is_due]
                if due:
                    # Of a step that runs share, each has its share.
                    shared, began = (time.perf_counter() - began) / len(active), time.perf_counter()
                    for n in active:
                        seconds[n] += shared
                    for ended in self._measure_due(due, seconds):
                        active.remove(ended.run)
                        yield ended
                    began = time.perf_counter()
                if active:
                    training = self.trainings[active[0]]
                    self.progress.update(training.step, training.note)

    def _measure_due(self, due: Sequence[int], seconds: list[float]) -> Iterator[Ended]:
        """Measure runs whose turn it is; those that have ended come out."""
        going = []
        for n in due:
            try:
                self.trainings[n].end_interval(self.accelerator, seconds[n])
                going.append(n)
            except DivergedError as e:
                yield Ended(n, e)
            seconds[n] = 0.0
        for n, measurement in zip(going, self.measure(going, self.validation), strict=True):
            training = self.trainings[n]
            training.record(measurement)
            if training.is_done:
                yield Ended(n, training.finish())
            else:
                training.keep(self._random[n])

    def _take_step(self, active: Sequence[int]) -> None:
        """Take one step of every active run."""
        rows = [[self.examples[i] for i in self.trainings[n].next_rows()] for n in active]
        batch = self.objective.collate([row for own in rows for row in own])
        states = [self._random[n] for n in active]
        with self.blocks.only(active):
            if self._drops:
                batch, spans = _own_spans(self.model, self.objective, batch, len(active), self.blocks.prompt_length)
                with OwnDraws(states, spans):
                    losses = self._losses(batch, len(active))
            else:
                losses = self._losses(batch, len(active))
            torch.stack(losses).sum().backward()
        for n, loss, state in zip(active, losses, states, strict=True):
            self._random[n] = state
            self.trainings[n].take_step(loss)

    def _losses(self, batch: Batch, num_runs: int) -> list[Tensor]:
        return self.objective.losses(self.model, to_device(self.accelerator.device, batch), num_runs)

    @torch.no_grad()
    def measure(self, runs: Sequence[int], split: Split) -> list[Measurement]:
        """The task's metric of several runs on one split: each batch is read once for all of them.

        Args:
            runs: their numbers.
            split: that they are measured on.

        Returns:
            Score and predictions of each.
        """
        if not runs:
            return []
        self.model.eval()
        answers = [[Answer("")] * len(split.encoded) for _ in runs]
        with self.blocks.only(runs):
            for rows in evaluation_batches(split.encoded.lengths, self.eval_batch_size):
                batch = self.objective.collate([split.encoded[i] for i in rows])
                joined = {k: v.repeat(len(runs), *[1] * (v.dim() - 1)) for k, v in batch.items()}
                predicted = self.objective.predict(self.model, to_device(self.accelerator.device, joined))
                for place, own in enumerate(answers):
                    for i, answer in zip(rows, predicted[place * len(rows) : (place + 1) * len(rows)], strict=True):
                        own[i] = answer
        worded = self.objective.worded
        answers = [[worded(a, e) for a, e in zip(own, split.examples, strict=True)] for own in answers]
        references = [e.references for e in split.examples]
        return [(score_answers(self.objective.task, own, references), own) for own in answers]


def _own_spans(
    model: nn.Module, objective: Objective, batch: Batch, num_runs: int, prompt_length: int
) -> tuple[Batch, dict[int, list[Span]]]:
    """Where each run's own places lie among the joined batch's.

    Places are told by the length of a tensor's axis: where that is a size of the model, too, the batch is padded on.

    Returns:
        The batch, which may be longer now, and by padded length the span of each run.
    """
    mask, answers = batch["attention_mask"], batch["target"] != IGNORED
    own = [int(m.sum(1).max()) for m in mask.chunk(num_runs)]
    own_answers = [int(a.sum(1).max()) for a in answers.chunk(num_runs)]
    if len(set(own)) == 1 and len(set(own_answers)) == 1:
        return batch, {}
    answer = batch["target"].shape[1]
    continues = objective.name == "next-token"  # text and answer are one sequence
    taken = {size for p in model.parameters() for size in p.shape} | _sizes(model) | {len(mask), answer}
    length = mask.shape[1]
    while {length, length + prompt_length, length + answer, length + answer + prompt_length} & taken:
        length += 1
    batch = _longer(batch, length - mask.shape[1], objective)
    if continues:
        first = [length - n for n in own]
        spans = [(f, length + prompt_length + a) for f, a in zip(first, own_answers, strict=True)]
        return batch, {length + answer + prompt_length: spans}
    return batch, {
        length + prompt_length: [(0, n + prompt_length) for n in own],
        answer: [(0, a) for a in own_answers],
    }


def _sizes(model: nn.Module) -> set[int]:
    """Sizes that are no parameter's: heads, their widths."""
    config = getattr(model, "config", None)
    numbers = {v for v in ({} if config is None else config.to_dict()).values() if type(v) is int}
    return numbers | {a // b for a in numbers for b in numbers if b > 0 and a % b == 0}


def _longer(batch: Batch, more: int, objective: Objective) -> Batch:
    if not more:
        return batch
    side = (more, 0) if objective.padding == "left" else (0, more)
    filled = {"input_ids": objective.tokenizer.pad_id, "attention_mask": 0, "token_type_ids": 0}
    out = {k: nn.functional.pad(v, side, value=filled[k]) if k in filled else v for k, v in batch.items()}
    return out


@contextmanager
def sharing(
    attach: Sequence[Callable[[], Handle]],
    leave: Callable[[Handle], None],
    schedules: Sequence[TrainingSchedule],
    make: Callable[[Sequence[tuple[Handle, TrainingSchedule]]], SideBySide],
) -> Iterator[SideBySide | None]:
    """Attach the deltas of several runs for a pass, and detach them afterwards.

    Args:
        attach: a fresh delta of each run, beside the weights.
        leave: detaches one.
        schedules: of each run.
        make: the pass of these runs.

    Yields:
        The pass; None where the deltas cannot act side by side on this model.
    """
    handles: list[Handle] = []
    shared: SideBySide | None = None
    try:
        # Refused here is what only a pass cannot do: alone, each run says itself what does not fit.
        with suppress(ApetError):
            for attach_one in attach:
                handles.append(attach_one())
            shared = make(list(zip(handles, schedules, strict=True)))
        yield shared
    finally:
        if shared is not None:
            shared.close()
        for handle in reversed(handles):
            leave(handle)
