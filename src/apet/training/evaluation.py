"""Scores of a tuned backbone on a split, and what guessing scores without any learning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from apet.backbones.family import ObjectiveName
from apet.tasks.answers import Answer
from apet.tasks.batches import evaluation_batches
from apet.tasks.encoding import EncodedSet
from apet.tasks.examples import Example
from apet.tasks.metrics import MetricScore, compute_metric
from apet.tasks.objectives import Batch, Objective, is_generative
from apet.tasks.task import Task

Measurement = tuple[MetricScore, list[Answer]]
"""A score and the answers that it was computed from."""


@dataclass(frozen=True)
class Split:
    """Examples of one split with their tokens.

    Attributes:
        examples: in the order of the data.
        encoded: their tokens, in the same order.
    """

    examples: Sequence[Example]
    encoded: EncodedSet


@dataclass(frozen=True)
class EvalPoint:
    """One measurement along a run.

    Attributes:
        step: optimizer steps done.
        loss: mean training loss since the last point; None at step 0.
        score: on the validation split.
        seconds: of training so far, measuring not included.
    """

    step: int
    loss: float | None
    score: MetricScore
    seconds: float


@torch.no_grad()
def predict(
    model: nn.Module,
    objective: Objective,
    encoded: EncodedSet,
    batch_size: int,
    tick: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """Answers of a model to encoded examples; the model is left in evaluation mode.

    Args:
        model: with whatever is attached to it.
        objective: reads answers off the model's outputs.
        encoded: the examples.
        batch_size: examples a forward.
        tick: told how many examples are done.

    Returns:
        One answer an example, in order.
    """
    model.eval()
    device = next(model.parameters()).device
    answers = [Answer("")] * len(encoded)
    done = 0
    for rows in evaluation_batches(encoded.lengths, batch_size):
        # Batches are sorted by length; answers go back to the places of their examples.
        batch = to_device(device, objective.collate([encoded[i] for i in rows]))
        for i, answer in zip(rows, objective.predict(model, batch), strict=True):
            answers[i] = answer
        done += len(rows)
        tick(done)
    return answers


def evaluate(model: nn.Module, objective: Objective, split: Split, batch_size: int) -> Measurement:
    """The task's metric on a split.

    Returns:
        The score with its interval, and the answers that it was computed from.
    """
    answers = predict(model, objective, split.encoded, batch_size)
    references = [e.references for e in split.examples]
    return score_answers(objective.task, answers, references), answers


def score_answers(task: Task, answers: Sequence[Answer], references: Sequence[tuple[str, ...]]) -> MetricScore:
    """The task's metric over answers.

    Args:
        task: whose metric.
        answers: one an example.
        references: accepted answers of each example.

    Returns:
        The score with its interval.
    """
    return compute_metric(task.metric, [a.scored for a in answers], references, task.tokenizer)


def majority_baseline(references: Sequence[tuple[str, ...]]) -> float:
    """Accuracy of always answering the most frequent label, in [0, 1].

    Args:
        references: accepted answers of each example.

    Returns:
        The share of that label.
    """
    return max(Counter(references).values()) / len(references)


def untrained_baseline(task: Task, objective: ObjectiveName, references: Sequence[tuple[str, ...]]) -> float:
    """What guessing scores, in [0, 1]: the majority's share; 0 where answers come from the whole vocabulary.

    Args:
        task: how answers are scored.
        objective: how the backbone answers (paper section 3: a generated guess hits nothing).
        references: accepted answers of each example.

    Returns:
        The score.
    """
    writes = is_generative(objective) and not (task.is_classification and task.scoring == "likelihood")
    return 0.0 if writes else majority_baseline(references)


def to_device(device: torch.device, batch: Batch) -> Batch:
    """The batch on a device."""
    return {k: v.to(device, non_blocking=True) for k, v in batch.items()}
