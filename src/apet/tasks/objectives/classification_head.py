"""Classification-head objective of encoders: a linear head over the classes, no label words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from apet.backbones.family import ObjectiveName
from apet.errors import ApetError
from apet.tasks.answers import Answer
from apet.tasks.encoding import Encoded, truncate_parts
from apet.tasks.examples import Example
from apet.tasks.metrics import TaskType
from apet.tasks.objectives.likelihood import likeliest
from apet.tasks.objectives.objective import Batch, Labeled, Objective, model_inputs
from apet.tasks.task import Task

MAX_SEGMENTS = 2
"""Texts that an encoder tells apart."""


class ClassificationHead(Objective):
    """Columns as they are, the second as its own segment; one class for each label."""

    name: ClassVar[ObjectiveName] = "classification-head"
    is_generative: ClassVar[bool] = False

    task_types: ClassVar[tuple[TaskType, ...]] = ("single-label",)

    @classmethod
    def check(cls, task: Task) -> None:
        """Refuse a task of another type, or of more columns than an encoder has segments.

        Raises:
            ApetError: the task is such a one.
        """
        super().check(task)
        if len(task.columns) > MAX_SEGMENTS and task.task_type != "multiple-choice":
            raise ApetError(
                f"task {task.name!r} has {len(task.columns)} columns; a classification head reads one or two segments."
                " Give a backbone with a language-model head, or fewer columns"
            )

    def encode(self, example: Example) -> Encoded:
        """``[CLS] first [SEP] second [SEP]``, and the target."""
        read = self._segments([example.texts[c] for c in self.task.columns])
        # New texts come without references, and so without a target.
        return replace(read, target=np.array(self._target(example), np.int32))

    def _target(self, example: Example) -> list[int]:
        """The class."""
        return [self.task.label_words.index(word) for word in example.references[:1]]

    def _segments(self, texts: Sequence[str]) -> Encoded:
        t = self.tokenizer
        segments = [(t.encode(text), True) for text in texts]
        num_special = len(t.prefix_ids) + len(t.suffix_ids) + (len(t.separator_ids) if len(segments) > 1 else 0)
        kept, num_cut = truncate_parts(segments, self.max_input_length - num_special)
        ids = [*t.prefix_ids, *kept[0]]
        segment_start = None
        for segment in kept[1:]:
            ids += t.separator_ids
            segment_start = len(ids)
            ids += segment
        ids += t.suffix_ids
        start = len(ids) if segment_start is None else segment_start
        return Encoded(np.array(ids, np.int32), np.empty(0, np.int32), start, num_cut=num_cut)

    def _output(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the head says, ``(batch, outputs)``, of each token ``(batch, seq, outputs)``."""
        config = getattr(getattr(model, "module", model), "config")  # under DistributedDataParallel
        if config.pad_token_id is None:
            # Decoders read the class off the last token that is none of these: without one they take no batch.
            config.pad_token_id = self.tokenizer.pad_id
        logits: Tensor = model(**model_inputs(batch)).logits
        return logits

    def logits(self, model: nn.Module, batch: Batch) -> Labeled:
        """Of the classes, (batch, classes)."""
        return self._output(model, batch), batch["target"][:, 0]

    def predict(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """The label word of the likeliest class."""
        return likeliest(self.task.label_words, self._output(model, batch))
