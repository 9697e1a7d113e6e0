"""The training loop: AdamW on the N values of a delta, the best of them kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from apet.errors import ApetError
from apet.handle import Handle
from apet.tasks.answers import Answer
from apet.tasks.batches import training_batches
from apet.tasks.encoding import EncodedSet
from apet.tasks.objectives import Batch, Objective
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
        eval_steps: steps between measurements; the last step is always measured.
        data_seed: order of the examples, and dropout.
        target_score: end once the validation metric reaches this, in [0, 1]; None = never.
    """

    max_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    max_grad_norm: float | None
    eval_steps: int
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


def train(
    handle: Handle,
    objective: Objective,
    examples: EncodedSet,
    measure: Callable[[], Measurement],
    schedule: TrainingSchedule,
    accelerator: Accelerator,
    progress: Progress,
    resume: ResumeFile | None = None,
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

    Returns:
        The curve, and the predictions of the values that were kept.

    Raises:
        DivergedError: the loss is not a number any more; the step and the rate are named.
        ApetError: a batch that the processes cannot share, or an unfinished run that is another one.
    """
    snapshot = resume.load() if resume is not None else None  # first: what is refused is refused before any work
    model = _model_to_train(handle, schedule, accelerator)
    values = handle.parameters()
    groups = handle.parameter_groups(schedule.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, fused=True)
    if snapshot is None:
        score, predictions = measure()
        points = [EvalPoint(0, None, score, 0.0)]
        best = _Best(0, _copy(values), predictions)
    else:
        points, best = snapshot.points, _Best(snapshot.best, snapshot.best_values, snapshot.predictions)
        _put(values, snapshot.values)
        optimizer.load_state_dict(snapshot.optimizer)
        progress.log(f"going on from step {points[-1].step} of {schedule.max_steps}")
    losses: list[Tensor] = []
    seconds, first_step = points[-1].seconds, points[-1].step + 1
    target = math.inf if schedule.target_score is None else schedule.target_score
    # Dropout draws from torch's global generator: it is seeded for the loop and given back as it was.
    with torch.random.fork_rng(), progress.begin(_title(handle), schedule.max_steps):
        torch.manual_seed(schedule.data_seed)
        if snapshot is not None:
            set_random_states(snapshot.random)
        batches = _batches_on_device(objective, examples, schedule, accelerator, first_step - 1)
        model.train()
        began = time.perf_counter()
        for step, batch in zip(range(first_step, schedule.max_steps + 1), batches, strict=False):
            loss = _take_step(model, objective, batch, values, optimizer, schedule.max_grad_norm, accelerator)
            losses.append(loss)  # not read before the next measurement: reading waits for the device
            if step % schedule.eval_steps == 0 or step == schedule.max_steps:
                mean_loss = _finite_mean(losses, accelerator, step, schedule.learning_rate)
                seconds += time.perf_counter() - began
                score, predictions = measure()
                points.append(EvalPoint(step, mean_loss, score, seconds))
                losses = []
                if score.score > points[best.place].score.score:
                    best = _Best(len(points) - 1, _copy(values), predictions)
                if points[best.place].score.score >= target:
                    break
                if resume is not None and step < schedule.max_steps:
                    resume = _keep(resume, points, values, optimizer, best, progress)
                model.train()  # measuring has left it in evaluation mode
                began = time.perf_counter()
            progress.update(step, _note(points[-1], points[best.place]))
    _restore(handle, best)
    return TrainingResult(points, best.predictions)


@dataclass(frozen=True)
class _Best:
    """The best measurement so far, by its place among them, with what it was measured with."""

    place: int
    values: list[Tensor]
    predictions: list[Answer]


def _keep(
    resume: ResumeFile,
    points: list[EvalPoint],
    values: list[Tensor],
    optimizer: torch.optim.Optimizer,
    best: _Best,
    progress: Progress,
) -> ResumeFile | None:
    """Keep the state on disk; a disk that is full stops the keeping, not the training."""
    state = Snapshot(
        points, _copy(values), optimizer.state_dict(), random_states(), best.place, best.values, best.predictions
    )
    try:
        resume.save(state)
    except OSError as e:
        progress.log(f"the run cannot be kept on the way ({e.strerror or e}); once stopped, it begins anew")
        return None
    return resume


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


def _batches_on_device(
    objective: Objective, examples: EncodedSet, schedule: TrainingSchedule, accelerator: Accelerator, num_done: int
) -> Iterator[Batch]:
    """Training batches without end, each process's share of them on its device.

    Yields:
        A padded batch of ``batch_size`` examples, divided by the number of processes.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    # Every process draws the same batches and takes every world-th example: together they train on the whole batch.
    drawn = training_batches(examples.lengths, schedule.batch_size, schedule.data_seed)
    for rows in islice(drawn, num_done, None):  # those of steps that are done are drawn, and no more
        yield to_device(accelerator.device, objective.collate([examples[i] for i in rows[rank::world]]))


def _take_step(
    model: nn.Module,
    objective: Objective,
    batch: Batch,
    values: list[Tensor],
    optimizer: torch.optim.Optimizer,
    max_grad_norm: float | None,
    accelerator: Accelerator,
) -> Tensor:
    """Take one optimizer step on a batch.

    Returns:
        The loss before the step, ``()``, still on its device.
    """
    loss = objective.loss(model, batch)
    accelerator.backward(loss)
    if max_grad_norm is not None:
        nn.utils.clip_grad_norm_(values, max_grad_norm)
    optimizer.step()
    # To None, not to zeros: no memory is written, and a value that gets no gradient is not moved by AdamW's moments.
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


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


def _restore(handle: Handle, best: _Best) -> None:
    """Leave the best values in place."""
    handle.model.eval()
    _put(handle.parameters(), best.values)
    handle.refresh()  # weights are read outside a forward from now on


def _put(values: list[Tensor], given: list[Tensor]) -> None:
    # Copied into the parameters that are there: the optimizer, the hooks and the model's tree all refer to them.
    with torch.no_grad():
        for value, new in zip(values, given, strict=True):
            value.copy_(new)


def _note(last: EvalPoint, best: EvalPoint) -> str:
    loss = f"loss {last.loss:.3f}  " if last.loss is not None else ""
    return f"{loss}{best.score.metric} {last.score.score:.3f} (best {best.score.score:.3f})"


def best_point(points: list[EvalPoint]) -> EvalPoint:
    """The measurement whose values are kept: the highest, the earliest of equals."""
    return max(points, key=lambda p: (p.score.score, -p.step))


def _copy(values: list[Tensor]) -> list[Tensor]:
    return [v.detach().clone() for v in values]


def _title(handle: Handle) -> str:
    return f"{handle.spec.method} {handle.spec.num_trainable:,}"
