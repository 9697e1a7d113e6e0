"""Measuring a tuned backbone on a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from apet.tasks.batches import evaluation_batches
from apet.tasks.encoding import EncodedSet
from apet.tasks.examples import Example
from apet.tasks.metrics import MetricScore, compute_metric
from apet.tasks.objectives import Batch, Objective


@dataclass(frozen=True)
class Split:
    """Examples of one split with their tokens."""

    examples: Sequence[Example]
    encoded: EncodedSet


@torch.no_grad()
def predict(
    model: nn.Module,
    objective: Objective,
    encoded: EncodedSet,
    batch_size: int,
    tick: Callable[[int], None] = lambda n: None,
) -> list[str | None]:
    """One answer for each example, in order; the model is left in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    out: list[str | None] = [None] * len(encoded)
    done = 0
    for rows in evaluation_batches(encoded.lengths, batch_size):
        batch = to_device(device, objective.collate([encoded[i] for i in rows]))
        for i, answer in zip(rows, objective.predict(model, batch), strict=True):
            out[i] = answer
        done += len(rows)
        tick(done)
    return out


def evaluate(
    model: nn.Module, objective: Objective, split: Split, batch_size: int
) -> tuple[MetricScore, list[str | None]]:
    """The task's measure on a split, and the answers it was computed from."""
    answers = predict(model, objective, split.encoded, batch_size)
    return compute_metric(objective.task.metric, answers, [e.references for e in split.examples]), answers


def to_device(device: torch.device, batch: Batch) -> Batch:
    """The batch on a device."""
    return {k: v.to(device, non_blocking=True) for k, v in batch.items()}
