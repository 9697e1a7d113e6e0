"""The training loop: AdamW on the N values of a delta, the best of them kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from apet.errors import ApetError
from apet.handle import Handle
from apet.tasks.answers import Answer
from apet.tasks.batches import training_batches
from apet.tasks.encoding import EncodedSet
from apet.tasks.objectives import Objective
from apet.training.eval_steps import EvalSteps, is_measured
from apet.training.evaluation import EvalPoint, Measurement, to_device
from apet.training.progress import Progress
from apet.training.resume import ResumeFile, Snapshot, random_states, set_random_states


@dataclass(frozen=True)
class TrainingSchedule:
    """How to train.

    Attributes:
        max_steps: optimizer steps.
        batch_size: examples a step, over all processes.
        learning_rate: constant, without warm-up (paper appendix B.1).
        weight_decay: of AdamW, on everything but biases and scales of norms.
        max_grad_norm: largest norm of the gradient; None = unlimited.
        eval_steps: steps between measurements, or log; the last step is always measured.
        data_seed: order of the examples, and dropout.
        target_score: end once the validation metric reaches this, in [0, 1]; None = never.
    """

    max_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    max_grad_norm: float | None
    eval_steps: EvalSteps
    data_seed: int
    target_score: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What training came to.

    Attributes:
        points: the curve, the untrained model first.
        predictions: on validation, with the values that were kept.
    """

    points: list[EvalPoint]
    predictions: list[Answer]


class DivergedError(ApetError):
    """Training whose loss is not a finite number any more."""


class Training:
    """One run's training, but for who computes its losses and measures it: alone, or side by side with other runs.

    Args:
        handle: the attached delta.
        lengths: tokens of each training example, (n,).
        schedule: steps, rates, seeds.
        progress: is told where the run cannot be kept.
        resume: where the state is kept at every measurement, and from where it goes on; None = nowhere.

    Attributes:
        points: the curve so far; empty before the untrained model is measured.
        step: optimizer steps done.
        values: what is trained.

    Raises:
        ApetError: an unfinished run that is another one.
    """

    def __init__(
        self,
        handle: Handle,
        lengths: NDArray[np.int64],
        schedule: TrainingSchedule,
        progress: Progress,
        resume: ResumeFile | None = None,
    ) -> None:
        snapshot = resume.load() if resume is not None else None  # first: what is refused is refused before any work
        self.handle, self.schedule = handle, schedule
        self.values = handle.parameters()
        groups = handle.parameter_groups(schedule.weight_decay)
        self._optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, fused=True)
        self._progress, self._resume = progress, resume
        self._losses: list[Tensor] = []
        self._mean_loss = math.nan
        self.points: list[EvalPoint] = []
        self._best = _Best(0, [], [])
        self._seconds, self._random = 0.0, None if snapshot is None else snapshot.random
        if snapshot is not None:
            self.points = snapshot.points
            self._best = _Best(snapshot.best, snapshot.best_values, snapshot.predictions)
            self._seconds = self.points[-1].seconds
            _put(self.values, snapshot.values)
            self._optimizer.load_state_dict(snapshot.optimizer)
            progress.log(f"going on from step {self.points[-1].step} of {schedule.max_steps}")
        self.step = self.points[-1].step if self.points else 0
        # Those of steps that are done are drawn, and no more.
        self._batches = islice(training_batches(lengths, schedule.batch_size, schedule.data_seed), self.step, None)

    @property
    def is_done(self) -> bool:
        """Whether no step is left, or the target is reached; an untrained model that reaches it is trained."""
        if not self.step or self.points[-1].step < self.step:
            return False
        target = math.inf if self.schedule.target_score is None else self.schedule.target_score
        return self.points[-1].step == self.schedule.max_steps or self.points[self._best.place].score.score >= target

    @property
    def is_due(self) -> bool:
        """Whether it is to be measured now."""
        return self.step == self.schedule.max_steps or is_measured(self.step, self.schedule.eval_steps)

    @property
    def note(self) -> str:
        """How it stands, for people."""
        last, best = self.points[-1], self.points[self._best.place]
        loss = f"loss {last.loss:.3f}  " if last.loss is not None else ""
        return f"{loss}{best.score.metric} {last.score.score:.3f} (best {best.score.score:.3f})"

    def seed(self) -> None:
        """Let torch's global generators draw what this run draws next: of dropout, in its own order."""
        if self._random is None:
            torch.manual_seed(self.schedule.data_seed)
        else:
            set_random_states(self._random)

    def next_rows(self) -> list[int]:
        """Numbers of the examples of the next step's batch."""
        return next(self._batches)

    def take_step(self, loss: Tensor) -> None:
        """Move the values by the gradients that they have.

        Args:
            loss: before the step, ``()``; it is not read before the next measurement: reading waits for the device.
        """
        if self.schedule.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.values, self.schedule.max_grad_norm)
        self._optimizer.step()
        # To None, not to zeros: no memory is written, and a value that gets no gradient is not moved by its moments.
        self._optimizer.zero_grad(set_to_none=True)
        self._losses.append(loss.detach())
        self.step += 1

    def end_interval(self, accelerator: Accelerator, seconds: float) -> None:
        """Take the mean of the losses since the last measurement.

        Args:
            accelerator: reduces it over processes.
            seconds: that these steps took.

        Raises:
            DivergedError: it is not a finite number.
        """
        self._mean_loss = _finite_mean(self._losses, accelerator, self.step, self.schedule.learning_rate)
        self._losses = []
        self._seconds += seconds

    def record(self, measurement: Measurement) -> None:
        """Add a measurement to the curve; of the values as they are, which are kept where they are the best so far."""
        score, predictions = measurement
        loss = self._mean_loss if self.points else None
        self.points.append(EvalPoint(self.step, loss, score, self._seconds))
        if len(self.points) == 1 or score.score > self.points[self._best.place].score.score:
            self._best = _Best(len(self.points) - 1, _copy(self.values), predictions)

    def keep(self, random: list[Tensor]) -> None:
        """Keep the state on disk; a disk that is full stops the keeping, not the training.

        Args:
            random: states of the generators that the run draws from.
        """
        if self._resume is None:
            return
        best, values, optimizer = self._best, _copy(self.values), self._optimizer.state_dict()
        try:
            self._resume.save(
                Snapshot(self.points, values, optimizer, random, best.place, best.values, best.predictions)
            )
        except OSError as e:
            why = e.strerror or e
            self._progress.log(f"the run cannot be kept on the way ({why}); once stopped, it begins anew")
            self._resume = None

    def finish(self) -> TrainingResult:
        """Leave the best values in place.

        Returns:
            The curve, and the predictions of the values that were kept.
        """
        self.handle.model.eval()
        _put(self.values, self._best.values)
        self.handle.refresh()  # weights are read outside a forward from now on
        return TrainingResult(self.points, self._best.predictions)


@dataclass(frozen=True)
class _Best:
    """The best measurement so far, by its place among them, with what it was measured with."""

    place: int
    values: list[Tensor]
    predictions: list[Answer]


def train(
    handle: Handle,
    objective: Objective,
    examples: EncodedSet,
    measure: Callable[[], Measurement],
    schedule: TrainingSchedule,
    accelerator: Accelerator,
    progress: Progress,
    resume: ResumeFile | None = None,
    see: Callable[[EvalPoint], None] = lambda point: None,
) -> TrainingResult:
    """Train an attached delta with AdamW and leave its best values in place: highest metric, the earliest of equals.

    Args:
        handle: the attached delta.
        objective: the loss.
        examples: to train on.
        measure: the validation score of the model as it stands, and its predictions.
        schedule: steps, rates, seeds.
        accelerator: devices and processes.
        progress: is told of every step.
        resume: where the state is kept at every measurement, and from where it goes on; None = nowhere.
        see: is given every measurement, of a run that goes on the earlier ones first.

    Returns:
        The curve, and the predictions of the values that were kept.

    Raises:
        DivergedError: the loss is not a number any more; the step and the rate are named.
        ApetError: a batch that the processes cannot share, or an unfinished run that is another one.
    """
    training = Training(handle, examples.lengths, schedule, progress, resume)
    model = _model_to_train(handle, schedule, accelerator)
    if not training.points:
        training.record(measure())
    for point in training.points:
        see(point)
    # Dropout draws from torch's global generator: it is seeded for the loop and given back as it was.
    with torch.random.fork_rng(), progress.begin(title(handle), schedule.max_steps):
        training.seed()
        model.train()
        began = time.perf_counter()
        while not training.is_done:
            _take_step(model, objective, examples, training, accelerator)
            if training.is_due:
                training.end_interval(accelerator, time.perf_counter() - began)
                training.record(measure())
                see(training.points[-1])
                if not training.is_done:
                    training.keep(random_states())
                model.train()  # measuring has left it in evaluation mode
                began = time.perf_counter()
            progress.update(training.step, training.note)
    return training.finish()


def _model_to_train(handle: Handle, schedule: TrainingSchedule, accelerator: Accelerator) -> nn.Module:
    """The model as the processes train it.

    Returns:
        The model itself, or wrapped where several processes average its gradients.

    Raises:
        ApetError: the batch size is not a multiple of the number of processes.
    """
    world = accelerator.num_processes
    if schedule.batch_size % world:
        raise ApetError(f"batch_size={schedule.batch_size} cannot be shared by {world} processes; give a multiple")
    # Where there is one process, the model is on its device already and needs no wrapper.
    return accelerator.prepare_model(handle.model) if world > 1 else handle.model


def _take_step(
    model: nn.Module, objective: Objective, examples: EncodedSet, training: Training, accelerator: Accelerator
) -> None:
    """Take one optimizer step on the next batch."""
    rank, world = accelerator.process_index, accelerator.num_processes
    # Every process draws the same batches and takes every world-th example: together they train on the whole batch.
    rows = training.next_rows()[rank::world]
    loss = objective.loss(model, to_device(accelerator.device, objective.collate([examples[i] for i in rows])))
    accelerator.backward(loss)
    training.take_step(loss)


def _finite_mean(losses: list[Tensor], accelerator: Accelerator, step: int, learning_rate: float) -> float:
    """Mean of losses over steps and processes.

    Returns:
        The mean, the same in every process.

    Raises:
        DivergedError: it is not a finite number.
    """
    # Reduced before it is tested: one process that stopped alone would leave the others waiting for its gradients.
    mean = float(accelerator.reduce(torch.stack(losses).mean(), "mean"))
    if not math.isfinite(mean):
        raise DivergedError(
            f"the loss was {mean} by step {step} at learning rate {learning_rate:g}; give a smaller one"
        )
    return mean


def _put(values: list[Tensor], given: list[Tensor]) -> None:
    # Copied into the parameters that are there: the optimizer, the hooks and the model's tree all refer to them.
    with torch.no_grad():
        for value, new in zip(values, given, strict=True):
            value.copy_(new)


def best_point(points: list[EvalPoint]) -> EvalPoint:
    """The measurement whose values are kept: the highest, the earliest of equals."""
    return max(points, key=lambda p: (p.score.score, -p.step))


def _copy(values: list[Tensor]) -> list[Tensor]:
    return [v.detach().clone() for v in values]


def title(handle: Handle) -> str:
    """What is trained, for people."""
    return f"{handle.spec.method} {handle.spec.num_trainable:,}"
