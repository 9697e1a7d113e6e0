"""The training loop: AdamW on the N values, the best of them kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from apet.attach import Handle
from apet.errors import ApetError
from apet.tasks.batches import training_batches
from apet.tasks.encoding import EncodedSet
from apet.tasks.measures import Score
from apet.tasks.objectives import Objective
from apet.training.evaluation import on
from apet.training.watch import Watch


@dataclass(frozen=True)
class Point:
    """One measurement along a run.

    Attributes:
        step: optimizer steps done.
        loss: mean training loss since the last point; None at step 0.
        score: on validation.
        seconds: of training so far, measuring not included.
    """

    step: int
    loss: float | None
    score: Score
    seconds: float


Measured = tuple[Score, list[str | None]]


@dataclass(frozen=True)
class Schedule:
    """How to train.

    Attributes:
        steps: optimizer steps.
        batch_size: examples a step, over all processes.
        rate: learning rate, constant, without warm-up (paper appendix B.1).
        weight_decay: of AdamW.
        clip: largest norm of the gradient, or None.
        interval: steps between measurements; the last step is always measured.
        data_seed: order of the examples, and dropout.
        stop_at: end once the validation measure reaches this, or None.
    """

    steps: int
    batch_size: int
    rate: float
    weight_decay: float
    clip: float | None
    interval: int
    data_seed: int
    stop_at: float | None = None


@dataclass(frozen=True)
class Fit:
    """What training came to.

    Attributes:
        points: the curve, the untrained model first.
        answers: on validation, of the values that were kept.
    """

    points: list[Point]
    answers: list[str | None]


class Diverged(ApetError):
    """Training produced a loss that is no number."""


def fit(
    handle: Handle,
    objective: Objective,
    train: EncodedSet,
    measure: Callable[[], Measured],
    schedule: Schedule,
    accelerator: Accelerator,
    watch: Watch,
) -> Fit:
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
    optimizer = torch.optim.AdamW(values, lr=schedule.rate, weight_decay=schedule.weight_decay, fused=True)
    rank, world = accelerator.process_index, accelerator.num_processes
    if schedule.batch_size % world:
        raise ApetError(f"batch_size={schedule.batch_size} cannot be shared by {world} processes; give a multiple")
    score, answers = measure()
    points = [Point(0, None, score, 0.0)]
    best, kept = points[0], _copy(values)
    losses: list[Tensor] = []
    seconds = 0.0
    enough = math.inf if schedule.stop_at is None else schedule.stop_at
    with torch.random.fork_rng(), watch.begin(_title(handle), schedule.steps):
        torch.manual_seed(schedule.data_seed)
        batches = training_batches(train.lengths, schedule.batch_size, schedule.data_seed)
        model.train()
        began = time.perf_counter()
        for step, rows in zip(range(1, schedule.steps + 1), batches, strict=False):
            batch = on(accelerator.device, objective.collate([train[i] for i in rows[rank::world]]))
            loss = objective.loss(model, batch)
            accelerator.backward(loss)
            if schedule.clip is not None:
                nn.utils.clip_grad_norm_(values, schedule.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
            if step % schedule.interval == 0 or step == schedule.steps:
                mean = float(accelerator.reduce(torch.stack(losses).mean(), "mean"))
                if not math.isfinite(mean):
                    raise Diverged(
                        f"the loss was {mean} by step {step} at learning rate {schedule.rate:g}; give a smaller one"
                    )
                seconds += time.perf_counter() - began
                score, given = measure()
                points.append(Point(step, mean, score, seconds))
                losses = []
                if score.value > best.score.value:
                    best, kept, answers = points[-1], _copy(values), given
                if best.score.value >= enough:
                    break
                model.train()
                began = time.perf_counter()
            shown = f"loss {points[-1].loss:.3f}  " if points[-1].loss is not None else ""
            watch.advance(
                step, f"{shown}{best.score.measure} {points[-1].score.value:.3f} (best {best.score.value:.3f})"
            )
    model.eval()
    with torch.no_grad():
        for v, k in zip(values, kept, strict=True):
            v.copy_(k)
    handle.refresh()
    return Fit(points, answers)


def best_of(points: list[Point]) -> Point:
    """The measurement whose values are kept: the highest, the earliest of equals."""
    return max(points, key=lambda p: (p.score.value, -p.step))


def _copy(values: list[Tensor]) -> list[Tensor]:
    return [v.detach().clone() for v in values]


def _title(handle: Handle) -> str:
    return f"{handle.theta.method} {handle.theta.n:,}"
