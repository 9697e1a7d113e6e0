"""What an objective is: tokens of an example, a batch, a loss, predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from apet.backbones.family import ObjectiveName
from apet.errors import ApetError
from apet.tasks.answers import Answer
from apet.tasks.encoding import Encoded, TokenIds, truncate_parts
from apet.tasks.examples import Example
from apet.tasks.metrics import TaskType
from apet.tasks.task import Task
from apet.tasks.template import Template
from apet.tasks.tokenization import TextTokenizer

Batch = dict[str, Tensor]
Labeled = tuple[Tensor, Tensor]
IGNORED = -100
"""Label of places without a loss, PyTorch's own."""


class Objective(ABC):
    """How one kind of backbone solves a task: what it reads, its loss, its predictions. Methods do not depend on it.

    Attributes:
        task: what is learned.
        tokenizer: of the backbone.
        max_input_length: tokens of one input, special ones included.
        template: how a row reads as text.

    Args:
        task: what is learned.
        tokenizer: of the backbone.
        max_input_length: tokens of one input, special ones included.

    Raises:
        ApetError: the task cannot be solved that way, or its label words do not fit the tokenizer.
    """

    name: ClassVar[ObjectiveName]
    padding: ClassVar[Literal["left", "right"]] = "right"
    is_generative: ClassVar[bool] = True
    """Predictions come from the whole vocabulary, so an untrained backbone guesses none (paper section 3: 0 %)."""
    task_types: ClassVar[tuple[TaskType, ...]] = ("single-label", "text-generation")
    """Types of task that it serves."""

    def __init__(self, task: Task, tokenizer: TextTokenizer, max_input_length: int) -> None:
        self.check(task)
        self.task = task
        self.tokenizer = tokenizer
        self.max_input_length = max_input_length
        self.template = Template.parse(task.template, task.columns)

    @classmethod
    def check(cls, task: Task) -> None:
        """Refuse a task that this objective cannot serve, before any tokenizer is loaded.

        Raises:
            ApetError: free text is asked of a backbone that cannot write.
        """
        if not cls.is_generative and task.task_type == "text-generation":
            raise ApetError(f"task {task.name!r} asks for free text; an encoder cannot write. Give a T5 or a decoder")
        if task.task_type not in cls.task_types:
            raise ApetError(
                f"task {task.name!r} is of type {task.task_type}, which {cls.name} does not serve; leave objective out"
                " to have one that fits, and give an encoder, such as all-minilm-l6-v2"
            )

    @property
    def compares_labels(self) -> bool:
        """Whether a writer answers with its likeliest label word, in place of what it would write by itself."""
        return self.task.is_classification and self.task.scoring == "likelihood"

    def recipe(self) -> list[object]:
        """Everything besides the examples that decides the tokens, as plain data: the key of their cache."""
        t = self.task
        return [
            self.name,
            t.template,
            t.columns,
            t.label_words,
            *([t.choices, t.target_mean, t.target_std] if t.type else []),
            t.max_target_length,
            self.max_input_length,
            self.tokenizer.fingerprint,
        ]

    @abstractmethod
    def encode(self, example: Example) -> Encoded:
        """Tokens of one example; the target is that of its first reference, where it has one."""

    @abstractmethod
    def logits(self, model: nn.Module, batch: Batch) -> Labeled:
        """Logits of the answers, (batch, …, classes), and their labels, (batch, …)."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a batch in fp32, ``()``."""
        return self.criterion(*self.logits(model, batch))

    def criterion(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean loss over what `logits` returns, in fp32, ``()``."""
        return cross_entropy(logits, target)

    def losses(self, model: nn.Module, batch: Batch, num_runs: int) -> list[Tensor]:
        """Mean loss of each run's rows in a batch of blocks of rows, one a run."""
        logits, target = self.logits(model, batch)
        blocks = zip(logits.chunk(num_runs), target.chunk(num_runs), strict=True)
        return [self.criterion(own_logits, own_target) for own_logits, own_target in blocks]

    @abstractmethod
    def predict(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """One answer for each row."""

    def worded(self, answer: Answer, example: Example) -> Answer:
        """An answer in the words of its example."""
        return answer

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Pad to the longest.

        Returns:
            ``input_ids``, ``attention_mask`` and the like ``(batch, seq)``, ``target`` ``(batch, t)``.
        """
        ids = [r.input_ids for r in rows]
        batch = {
            "input_ids": _pad(ids, self.tokenizer.pad_id, self.padding),
            "attention_mask": _pad([np.ones_like(i) for i in ids], 0, self.padding),
        }
        if self.tokenizer.has_segments:
            seq = batch["input_ids"].shape[1]
            # Padding is in the first segment, as tokenizers have it.
            segment_start = torch.tensor([[r.segment_start] for r in rows])
            batch["token_type_ids"] = (torch.arange(seq)[None] >= segment_start).long() * batch["attention_mask"]
        batch["target"] = _pad([r.target for r in rows], IGNORED, "right")
        return batch

    def _encode_template(self, example: Example, room: int) -> tuple[list[int], int]:
        """The template's text before the answer, within ``room`` tokens.

        Returns:
            Its tokens, and how many were cut.
        """
        parts = [(self.tokenizer.encode(text), may_shorten) for text, may_shorten in self.template.parts(example.texts)]
        kept, num_cut = truncate_parts(parts, room)
        return [i for part in kept for i in part], num_cut


def model_inputs(batch: Batch) -> Batch:
    """What the model's forward takes of a batch."""
    return {k: v for k, v in batch.items() if k not in ("target", "mask_position")}


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the places that have a label; logits ``(…, classes)``, target ``(…)``."""
    # In fp32: bf16 logits of a large vocabulary lose the small differences that the loss is about.
    return nn.functional.cross_entropy(logits.flatten(0, -2).float(), target.flatten(), ignore_index=IGNORED)


def _pad(rows: Sequence[TokenIds], value: int, side: str) -> Tensor:
    longest = max(len(r) for r in rows)
    out = torch.full((len(rows), longest), value, dtype=torch.long)
    for i, r in enumerate(rows):
        columns = slice(longest - len(r), None) if side == "left" else slice(0, len(r))
        out[i, columns] = torch.from_numpy(r.astype(np.int64))
    return out
