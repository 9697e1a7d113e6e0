"""Heads beside the one over classes: a number, several labels, a score for each choice, a tag for each token."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from apet.backbones.family import ObjectiveName
from apet.tasks.answers import Answer
from apet.tasks.encoding import Encoded
from apet.tasks.examples import Example
from apet.tasks.metrics import TaskType
from apet.tasks.objectives.classification_head import ClassificationHead
from apet.tasks.objectives.likelihood import likeliest
from apet.tasks.objectives.objective import IGNORED, Batch, Labeled

THRESHOLD = 0.5
"""Probability from which a label of several is given."""


class RegressionHead(ClassificationHead):
    """One output; mean squared error to the target, of which the training data's mean and spread are taken off."""

    name: ClassVar[ObjectiveName] = "regression-head"
    task_types: ClassVar[tuple[TaskType, ...]] = ("regression",)

    def _target(self, example: Example) -> list[int]:
        values = [(float(r) - self.task.target_mean) / self.task.target_std for r in example.references[:1]]
        # Targets are kept as integers, those of every objective in one array: the bits of a float32 are one.
        return np.array(values, np.float32).view(np.int32).tolist()

    def logits(self, model: nn.Module, batch: Batch) -> Labeled:
        """What the head says, (batch,), and the standardized targets, (batch,)."""
        return self._output(model, batch)[:, 0], batch["target"][:, 0].int().view(torch.float32)

    def criterion(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean squared error."""
        return nn.functional.mse_loss(logits.float(), target)

    def predict(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """The number, in the data's units."""
        values = self._output(model, batch)[:, 0].float() * self.task.target_std + self.task.target_mean
        return [Answer(f"{v:.6g}") for v in values.tolist()]


class MultiLabelHead(ClassificationHead):
    """One output for each label; binary cross-entropy of each by itself."""

    name: ClassVar[ObjectiveName] = "multi-label-head"
    task_types: ClassVar[tuple[TaskType, ...]] = ("multi-label",)

    def _target(self, example: Example) -> list[int]:
        return [self.task.label_words.index(w) for r in example.references[:1] for w in json.loads(r)]

    def logits(self, model: nn.Module, batch: Batch) -> Labeled:
        """Of the labels, (batch, labels), and which of them are right, 0 or 1."""
        logits, target = self._output(model, batch), batch["target"]
        # A place more for what fills short rows; it is cut off.
        right = torch.zeros(len(logits), logits.shape[1] + 1, device=logits.device)
        right.scatter_(1, torch.where(target == IGNORED, logits.shape[1], target), 1.0)
        return logits, right[:, :-1]

    def criterion(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean binary cross-entropy."""
        return nn.functional.binary_cross_entropy_with_logits(logits.float(), target)

    def predict(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """Every label that is likelier than not, as a JSON list."""
        answers = []
        for row in self._output(model, batch).float().sigmoid().tolist():
            given = [w for w, p in zip(self.task.label_words, row, strict=True) if p > THRESHOLD]
            answers.append(Answer(json.dumps(given, ensure_ascii=False), scores=tuple(row)))
        return answers


class MultipleChoiceHead(ClassificationHead):
    """One output for the text with each of its choices; they compete, as under transformers' MultipleChoice heads.

    That head is the same one output over the pooled state; the one of sequence classification exists for more
    architectures.
    """

    name: ClassVar[ObjectiveName] = "multiple-choice-head"
    task_types: ClassVar[tuple[TaskType, ...]] = ("multiple-choice",)

    def encode(self, example: Example) -> Encoded:
        """All choices' inputs, one after another; the target is the right one, then each one's length and segment."""
        choices = self.choices(example)
        question = " ".join(example.texts[c] for c in self.task.columns)
        rows = [self._segments([question, choice]) for choice in choices]
        right = choices.index(example.references[0]) if example.references else 0
        places = [number for row in rows for number in (len(row.input_ids), row.segment_start)]
        ids = np.concatenate([row.input_ids for row in rows])
        num_cut = sum(row.num_cut for row in rows)
        return Encoded(ids, np.array([right, *places], np.int32), len(ids), num_cut=num_cut)

    def choices(self, example: Example) -> list[str]:
        """The choices of an example."""
        return list(json.loads(example.texts[str(self.task.choices)]))

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """A row for each choice, ``(batch · choices, seq)``; ``target`` ``(batch, 1 + choices)``: which, and who is."""
        most = max((len(row.target) - 1) // 2 for row in rows)
        single: list[Encoded] = []
        targets = torch.zeros(len(rows), 1 + most, dtype=torch.long)
        for n, row in enumerate(rows):
            right, *places = row.target.tolist()
            start = 0
            for length, segment in zip(places[::2], places[1::2], strict=True):
                single.append(Encoded(row.input_ids[start : start + length], row.target[:0], segment))
                start += length
            missing = most - len(places) // 2
            single += [single[-1]] * missing  # choices that a row has not: they take no part
            targets[n] = torch.tensor([right, *[1] * (most - missing), *[0] * missing])
        return {**super().collate(single), "target": targets}

    def logits(self, model: nn.Module, batch: Batch) -> Labeled:
        """Of the choices, (batch, choices), and the right one, (batch,)."""
        target = batch["target"]
        scores = self._output(model, batch)[:, 0].view(len(target), -1)
        return scores.float().masked_fill(target[:, 1:] == 0, float("-inf")), target[:, 0]

    def predict(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """The place of the likeliest choice, whose text `worded` puts in."""
        scores, _ = self.logits(model, batch)
        places = likeliest([str(n) for n in range(scores.shape[1])], scores)
        counts = batch["target"][:, 1:].sum(1).tolist()
        return [Answer(a.text, scores=(a.scores or ())[:n]) for a, n in zip(places, counts, strict=True)]

    def worded(self, answer: Answer, example: Example) -> Answer:
        """The choice's own text in place of its number."""
        return Answer(self.choices(example)[int(answer.text)], scores=answer.scores)


class TokenClassificationHead(ClassificationHead):
    """A class for each token of a list, read off its first piece."""

    name: ClassVar[ObjectiveName] = "token-classification-head"
    task_types: ClassVar[tuple[TaskType, ...]] = ("token-classification",)

    def encode(self, example: Example) -> Encoded:
        """``[CLS] pieces [SEP]``; the target is the class at each token's first piece, and nothing elsewhere."""
        t, words = self.tokenizer, self.task.label_words
        tokens: list[str] = json.loads(example.texts[self.task.columns[0]])
        # Byte-level tokenizers read a word within a text with the space before it.
        pieces = [t.encode(token if n == 0 else f" {token}") or [t.pad_id] for n, token in enumerate(tokens)]
        tags = [words.index(tag) for r in example.references[:1] for tag in r.split()] or [0] * len(tokens)
        room = self.max_input_length - len(t.prefix_ids) - len(t.suffix_ids)
        ids, target = [*t.prefix_ids], [IGNORED] * len(t.prefix_ids)
        num_cut = 0
        for piece, tag in zip(pieces, tags, strict=True):
            if num_cut or len(ids) - len(t.prefix_ids) + len(piece) > room:
                num_cut += len(piece)  # a token is read whole or not at all, and none after one that is not
                continue
            ids += piece
            target += [tag, *[IGNORED] * (len(piece) - 1)]
        ids += t.suffix_ids
        target += [IGNORED] * len(t.suffix_ids)
        return Encoded(np.array(ids, np.int32), np.array(target, np.int32), len(ids), num_cut=num_cut)

    def logits(self, model: nn.Module, batch: Batch) -> Labeled:
        """Of the classes of each piece, (batch, seq, classes)."""
        return self._output(model, batch), batch["target"]

    def predict(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """The tags of the tokens that were read, with spaces between them; the probability of each."""
        probabilities = self._output(model, batch).float().softmax(-1)
        best, tags = probabilities.max(-1)
        answers = []
        for score, tag, target in zip(best.tolist(), tags.tolist(), batch["target"].tolist(), strict=True):
            places = [n for n, t in enumerate(target) if t != IGNORED]
            words = " ".join(self.task.label_words[tag[n]] for n in places)
            answers.append(Answer(words, scores=tuple(score[n] for n in places)))
        return answers
