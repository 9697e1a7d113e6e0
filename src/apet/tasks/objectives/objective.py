"""What every objective owes: tokens of an example, a batch, a loss, predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from apet.backbones.family import ObjectiveName
from apet.errors import ApetError
from apet.tasks.encoding import Encoded, truncate_parts
from apet.tasks.examples import Example
from apet.tasks.task import Task
from apet.tasks.template import Template
from apet.tasks.tokenization import TextTokenizer

Batch = dict[str, Tensor]
IGNORED = -100
"""Label of places without a loss, PyTorch's own."""


class Objective(ABC):
    """How one kind of backbone learns a task. A method never needs to know which one runs.

    Attributes:
        task: what is learnt.
        reader: the backbone's tokenizer.
        max_input_length: tokens of one input, special ones included.
    """

    name: ClassVar[ObjectiveName]
    padding: ClassVar[Literal["left", "right"]] = "right"
    is_generative: ClassVar[bool] = True
    """Answers come from the whole vocabulary, so guessing hits none (paper section 3: 0 %)."""

    def __init__(self, task: Task, tokenizer: TextTokenizer, max_input_length: int) -> None:
        self.check(task)
        self.task = task
        self.reader = tokenizer
        self.max_input_length = max_input_length
        self.template = Template.parse(task.template, task.columns)

    @classmethod
    def check(cls, task: Task) -> None:
        """Refuse a task that this objective cannot serve, before any tokenizer is loaded.

        Raises:
            ApetError: free text is asked of a backbone that cannot write.
        """
        if not cls.is_generative and not task.is_classification:
            raise ApetError(f"task {task.name!r} asks for free text; an encoder cannot write. Give a T5 or a decoder")

    def recipe(self) -> list[object]:
        """What decides the tokens besides the examples, as plain data."""
        t = self.task
        return [
            self.name,
            t.template,
            t.columns,
            t.label_words,
            t.max_target_length,
            self.max_input_length,
            self.reader.fingerprint,
        ]

    @abstractmethod
    def encode(self, example: Example) -> Encoded:
        """Tokens of one example; of its first answer, where it has one."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a batch in fp32, ()."""

    @abstractmethod
    def predict(self, model: nn.Module, batch: Batch) -> list[str | None]:
        """One answer for each row; None = none of the label words."""

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Pad to the longest: ``input_ids``, ``attention_mask`` and the like (batch, seq), ``target`` (batch, t)."""
        batch = self._padded([r.ids for r in rows])
        if self.reader.segments:
            seq = batch["input_ids"].shape[1]
            split = torch.tensor([[r.split] for r in rows])
            batch["token_type_ids"] = (torch.arange(seq)[None] >= split).long() * batch["attention_mask"]
        batch["target"] = _filled([r.target for r in rows], IGNORED, "right")
        return batch

    def _padded(self, ids: Sequence[np.ndarray]) -> Batch:
        return {
            "input_ids": _filled(ids, self.reader.pad, self.padding),
            "attention_mask": _filled([np.ones_like(i) for i in ids], 0, self.padding),
        }

    def _prompted(self, example: Example, room: int) -> tuple[list[int], int]:
        """The template's text before the answer within ``room`` tokens, and how many were cut."""
        parts = [(self.reader.ids(text), short) for text, short in self.template.parts(example.texts)]
        kept, cut = truncate_parts(parts, room)
        return [i for part in kept for i in part], cut


def model_inputs(batch: Batch) -> Batch:
    """What the model's forward takes."""
    return {k: v for k, v in batch.items() if k not in ("target", "blank")}


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the places that have a label; logits (…, classes), target (…)."""
    return nn.functional.cross_entropy(logits.flatten(0, -2).float(), target.flatten(), ignore_index=IGNORED)


def _filled(rows: Sequence[np.ndarray], value: int, side: str) -> Tensor:
    longest = max(len(r) for r in rows)
    out = torch.full((len(rows), longest), value, dtype=torch.long)
    for i, r in enumerate(rows):
        place = slice(longest - len(r), None) if side == "left" else slice(0, len(r))
        out[i, place] = torch.from_numpy(r.astype(np.int64))
    return out
