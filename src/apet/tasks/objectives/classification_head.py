"""Encoders without a use for words: a linear head over the classes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from apet.backbones.family import ObjectiveName
from apet.errors import ApetError
from apet.tasks.encoding import Encoded, truncate_parts
from apet.tasks.examples import Example
from apet.tasks.objectives.objective import Batch, Objective, cross_entropy, model_inputs
from apet.tasks.task import Task


class ClassificationHead(Objective):
    """Columns as they are, the second as its own segment; one class for each label."""

    name: ClassVar[ObjectiveName] = "classification-head"
    is_generative: ClassVar[bool] = False

    @classmethod
    def check(cls, task: Task) -> None:
        """As every objective; and no more than two columns."""
        super().check(task)
        if len(task.columns) > 2:
            raise ApetError(
                f"task {task.name!r} has {len(task.columns)} columns; a classification head reads one or two segments."
                " Give a backbone with a language-model head, or fewer columns"
            )

    def encode(self, example: Example) -> Encoded:
        """``[CLS] first [SEP] second [SEP]``; the target is the class."""
        r = self.reader
        segments = [(r.ids(example.texts[c]), True) for c in self.task.columns]
        special = len(r.before) + len(r.after) + (len(r.between) if len(segments) > 1 else 0)
        kept, cut = truncate_parts(segments, self.max_input_length - special)
        ids = [*r.before, *kept[0]]
        if len(kept) > 1:
            ids += r.between
        split = len(ids)
        for segment in kept[1:]:
            ids += segment
        ids += r.after
        target = [self.task.label_words.index(a) for a in example.references[:1]]
        split = split if len(kept) > 1 else len(ids)
        return Encoded(np.array(ids, np.int32), np.array(target, np.int32), split, num_cut=cut)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross entropy over the classes."""
        return cross_entropy(model(**model_inputs(batch)).logits, batch["target"][:, 0])

    def predict(self, model: nn.Module, batch: Batch) -> list[str | None]:
        """The likeliest class."""
        return [self.task.label_words[i] for i in model(**model_inputs(batch)).logits.argmax(-1).tolist()]
