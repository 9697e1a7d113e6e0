"""Scores of a tuned backbone on a split, and what guessing scores without any learning."""

from __future__ import annotations

import json
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


@torch.no_grad()
def answer_probabilities(model: nn.Module, objective: Objective, encoded: EncodedSet, batch_size: int) -> list[float]:
    """How likely a writer finds each answer, its end included.

    Args:
        model: with whatever is attached to it.
        objective: of a backbone that writes.
        encoded: examples whose targets are the answers.
        batch_size: examples a forward.

    Returns:
        A probability an example, in order.
    """
    model.eval()
    device = next(model.parameters()).device
    found = [0.0] * len(encoded)
    for rows in evaluation_batches(encoded.lengths, batch_size):
        logits, target = objective.logits(model, to_device(device, objective.collate([encoded[i] for i in rows])))
        is_token = target >= 0
        tokens = logits.float().log_softmax(-1).gather(-1, target.clamp(min=0)[..., None])[..., 0]  # (batch, t)
        for i, p in zip(rows, (tokens * is_token).sum(1).exp().tolist(), strict=True):
            found[i] = p
    return found


def evaluate(model: nn.Module, objective: Objective, split: Split, batch_size: int) -> Measurement:
    """The task's metric on a split.

    Returns:
        The score with its interval, and the answers that it was computed from.
    """
    answers = predict(model, objective, split.encoded, batch_size)
    answers = [objective.worded(a, e) for a, e in zip(answers, split.examples, strict=True)]
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


def untrained_baseline(task: Task, objective: ObjectiveName, examples: Sequence[Example]) -> float:
    """What guessing scores: the same answer to everything, the one that scores best where nothing is known.

    Args:
        task: how answers are scored.
        objective: how the backbone answers (paper section 3: a generated guess hits nothing).
        examples: that are scored.

    Returns:
        The share of the most frequent label, 0 where answers are written; of other types the metric of the mean, of
        the most frequent labels or tag, and of one choice of so many.
    """
    references = [e.references for e in examples]
    if task.is_classification:
        writes = is_generative(objective) and task.scoring == "generate"
        guess = most_frequent([r[0] for r in references])
        if writes or task.metric == "accuracy":
            return 0.0 if writes else majority_baseline(references)
        guesses = [guess] * len(examples)
    elif task.task_type == "regression":
        mean = sum(float(r[0]) for r in references) / len(references)
        guesses = [repr(mean)] * len(examples)
    elif task.task_type == "multi-label":
        guesses = [most_frequent([r[0] for r in references])] * len(examples)
    elif task.task_type == "token-classification":
        tag = most_frequent([tag for r in references for tag in r[0].split()])
        guesses = [" ".join([tag] * len(r[0].split())) for r in references]
    elif task.choices is not None:
        return sum(1 / len(json.loads(e.texts[task.choices])) for e in examples) / len(examples)
    else:
        return 0.0
    return compute_metric(task.metric, guesses, references, task.tokenizer).score


def most_frequent(texts: Sequence[str]) -> str:
    """The most frequent text, the first of equals."""
    return Counter(texts).most_common(1)[0][0]


def to_device(device: torch.device, batch: Batch) -> Batch:
    """The batch on a device."""
    return {k: v.to(device, non_blocking=True) for k, v in batch.items()}
