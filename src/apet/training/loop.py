"""The training loop: AdamW on the N values, the best of them kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from apet.attachment import Handle
from apet.errors import ApetError
from apet.tasks.batches import training_batches
from apet.tasks.encoding import EncodedSet
from apet.tasks.metrics import MetricScore
from apet.tasks.objectives import Objective
from apet.training.evaluation import to_device
from apet.training.progress import Progress


@dataclass(frozen=True)
class EvalPoint:
    """One measurement along a run.

    Attributes:
        step: optimizer steps done.
        loss: mean training loss since the last point; None at step 0.
        score: on validation.
        seconds: of training so far, measuring not included.
    """

    step: int
    loss: float | None
    score: MetricScore
    seconds: float


Measured = tuple[MetricScore, list[str | None]]


@dataclass(frozen=True)
class TrainingSchedule:
    """How to train.

    Attributes:
        steps: optimizer steps.
        batch_size: examples a step, over all processes.
        rate: learning rate, constant, without warm-up (paper appendix B.1).
        weight_decay: of AdamW.
        max_grad_norm: largest norm of the gradient, or None.
        interval: steps between measurements; the last step is always measured.
        data_seed: order of the examples, and dropout.
        target_score: end once the validation measure reaches this, or None.
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
        answers: on validation, of the values that were kept.
    """

    points: list[EvalPoint]
    predictions: list[str | None]


class DivergedError(ApetError):
    """Training produced a loss that is no number."""


def train(
    handle: Handle,
    objective: Objective,
    train: EncodedSet,
    measure: Callable[[], Measured],
    schedule: TrainingSchedule,
    accelerator: Accelerator,
    watch: Progress,
) -> TrainingResult:
    """Train θ and leave its best values in place: those with the highest validation measure, the earliest of equals.

    Args:
        handle: the attached θ.
        objective: the loss.
        train: encoded examples.
        measure: the validation measure of the model as it stands, and its answers.
        schedule: steps, rates, seeds.
        accelerator: devices and processes.
        watch: progress.

    Raises:
        Diverged: the loss is no longer a number; the step and the rate are named.
    """
    model = handle.model
    if accelerator.num_processes > 1:  # it is on its device already
        model = accelerator.prepare_model(model)
    values = handle.parameters()
    optimizer = torch.optim.AdamW(values, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True)
    rank, world = accelerator.process_index, accelerator.num_processes
    if schedule.batch_size % world:
        raise ApetError(f"batch_size={schedule.batch_size} cannot be shared by {world} processes; give a multiple")
    score, answers = measure()
    points = [EvalPoint(0, None, score, 0.0)]
    best, kept = points[0], _copy(values)
    losses: list[Tensor] = []
    seconds = 0.0
    enough = math.inf if schedule.target_score is None else schedule.target_score
    with torch.random.fork_rng(), watch.begin(_title(handle), schedule.max_steps):
        torch.manual_seed(schedule.data_seed)
        batches = training_batches(train.lengths, schedule.batch_size, schedule.data_seed)
        model.train()
        began = time.perf_counter()
        for step, rows in zip(range(1, schedule.max_steps + 1), batches, strict=False):
            batch = to_device(accelerator.device, objective.collate([train[i] for i in rows[rank::world]]))
            loss = objective.loss(model, batch)
            accelerator.backward(loss)
            if schedule.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(values, schedule.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
            if step % schedule.eval_steps == 0 or step == schedule.max_steps:
                mean = float(accelerator.reduce(torch.stack(losses).mean(), "mean"))
                if not math.isfinite(mean):
                    raise DivergedError(
                        f"the loss was {mean} by step {step} at learning rate {schedule.learning_rate:g}; give a smaller one"
                    )
                seconds += time.perf_counter() - began
                score, given = measure()
                points.append(EvalPoint(step, mean, score, seconds))
                losses = []
                if score.score > best.score.score:
                    best, kept, answers = points[-1], _copy(values), given
                if best.score.score >= enough:
                    break
                model.train()
                began = time.perf_counter()
            shown = f"loss {points[-1].loss:.3f}  " if points[-1].loss is not None else ""
            watch.update(step, f"{shown}{best.score.metric} {points[-1].score.score:.3f} (best {best.score.score:.3f})")
    model.eval()
    with torch.no_grad():
        for v, k in zip(values, kept, strict=True):
            v.copy_(k)
    handle.refresh()
    return TrainingResult(points, answers)


def best_point(points: list[EvalPoint]) -> EvalPoint:
    """The measurement whose values are kept: the highest, the earliest of equals."""
    return max(points, key=lambda p: (p.score.score, -p.step))


def _copy(values: list[Tensor]) -> list[Tensor]:
    return [v.detach().clone() for v in values]


def _title(handle: Handle) -> str:
    return f"{handle.spec.method} {handle.spec.num_trainable:,}"
