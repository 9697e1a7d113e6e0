"""Classification-head objective of encoders: a linear head over the classes, no label words."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import nn

from apet.backbones.family import ObjectiveName
from apet.errors import ApetError
from apet.tasks.answers import Answer
from apet.tasks.encoding import Encoded, truncate_parts
from apet.tasks.examples import Example
from apet.tasks.objectives.likelihood import likeliest
from apet.tasks.objectives.objective import Batch, Labeled, Objective, model_inputs
from apet.tasks.task import Task

MAX_SEGMENTS = 2
"""Texts that an encoder tells apart."""


class ClassificationHead(Objective):
    """Columns as they are, the second as its own segment; one class for each label."""

    name: ClassVar[ObjectiveName] = "classification-head"
    is_generative: ClassVar[bool] = False

    @classmethod
    def check(cls, task: Task) -> None:
        """Refuse a task of free text, or of more columns than an encoder has segments.

        Raises:
            ApetError: the task is such a one.
        """
        super().check(task)
        if len(task.columns) > MAX_SEGMENTS:
            raise ApetError(
                f"task {task.name!r} has {len(task.columns)} columns; a classification head reads one or two segments."
                " Give a backbone with a language-model head, or fewer columns"
            )

    def encode(self, example: Example) -> Encoded:
        """``[CLS] first [SEP] second [SEP]``; the target is the class."""
        t = self.tokenizer
        segments = [(t.encode(example.texts[c]), True) for c in self.task.columns]
        num_special = len(t.prefix_ids) + len(t.suffix_ids) + (len(t.separator_ids) if len(segments) > 1 else 0)
        kept, num_cut = truncate_parts(segments, self.max_input_length - num_special)
        ids = [*t.prefix_ids, *kept[0]]
        segment_start = None
        for segment in kept[1:]:
            ids += t.separator_ids
            segment_start = len(ids)
            ids += segment
        ids += t.suffix_ids
        # New texts come without references, and so without a target.
        target = [self.task.label_words.index(word) for word in example.references[:1]]
        start = len(ids) if segment_start is None else segment_start
        return Encoded(np.array(ids, np.int32), np.array(target, np.int32), start, num_cut=num_cut)

    def logits(self, model: nn.Module, batch: Batch) -> Labeled:
        """Of the classes, (batch, classes)."""
        return model(**model_inputs(batch)).logits, batch["target"][:, 0]

    def predict(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """The label word of the likeliest class."""
        return likeliest(self.task.label_words, model(**model_inputs(batch)).logits)
