"""Masked-label-word objective of encoders with a masked-LM head: which label word fills the blank.

Schick and Schütze 2021; Gao et al. 2021.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from apet.backbones.describe import describe
from apet.backbones.family import ObjectiveName
from apet.errors import ApetError
from apet.tasks.answers import Answer
from apet.tasks.encoding import Encoded
from apet.tasks.examples import Example
from apet.tasks.metrics import TaskType
from apet.tasks.objectives.likelihood import likeliest
from apet.tasks.objectives.objective import Batch, Labeled, Objective, model_inputs
from apet.tasks.objectives.verbalizer import check_distinct
from apet.tasks.task import Task
from apet.tasks.tokenization import TextTokenizer


class MaskedLabelWord(Objective):
    """The template with a mask at the answer's place; only the label words compete for it."""

    name: ClassVar[ObjectiveName] = "masked-label-word"
    is_generative: ClassVar[bool] = False
    task_types: ClassVar[tuple[TaskType, ...]] = ("single-label",)

    def __init__(self, task: Task, tokenizer: TextTokenizer, max_input_length: int) -> None:
        super().__init__(task, tokenizer, max_input_length)
        if tokenizer.pretrained.mask_token_id is None:
            raise ApetError("this backbone's tokenizer has no mask token; use objective=classification-head")
        self._head_module = ""
        self.word_ids: list[int] = []
        for word in task.label_words:
            ids = tokenizer.encode_word(self.template.lead + word)
            if len(ids) > 1:
                raise ApetError(
                    f"label word {word!r} is {len(ids)} tokens here and one mask holds one;"
                    f" give a one-token word, labels={{{word}: …}} (in a task file under labels), or"
                    " objective=classification-head"
                )
            self.word_ids += ids
        check_distinct(task.label_words, [[i] for i in self.word_ids])

    def encode(self, example: Example) -> Encoded:
        """``[CLS] text before [MASK] text after [SEP]``; the target is the class."""
        t = self.tokenizer
        tail = t.encode(self.template.tail)
        room = self.max_input_length - len(t.prefix_ids) - len(t.suffix_ids) - len(tail) - 1
        text, num_cut = self._encode_template(example, room)
        ids = [*t.prefix_ids, *text, t.pretrained.mask_token_id, *tail, *t.suffix_ids]
        target = [self.task.label_words.index(word) for word in example.references[:1]]
        mask_position = len(t.prefix_ids) + len(text)
        return Encoded(np.array(ids, np.int32), np.array(target, np.int32), len(ids), mask_position, num_cut)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Pad to the longest; with the place of each mask, ``mask_position`` ``(batch,)``."""
        return {**super().collate(rows), "mask_position": torch.tensor([r.mask_position for r in rows])}

    def _word_logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits of the label words at the mask, ``(batch, labels)``."""
        inner = getattr(model, "module", model)  # under DistributedDataParallel
        self._head_module = self._head_module or _first_head_module(inner)
        with _restricted_to(inner.get_submodule(self._head_module), batch["mask_position"]):
            logits: Tensor = model(**model_inputs(batch)).logits  # (batch, 1, vocab)
        return logits[:, 0, self.word_ids]

    def logits(self, model: nn.Module, batch: Batch) -> Labeled:
        """Of the label words, (batch, labels)."""
        return self._word_logits(model, batch), batch["target"][:, 0]

    def predict(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """The likeliest label word."""
        return likeliest(self.task.label_words, self._word_logits(model, batch))


def _first_head_module(model: nn.Module) -> str:
    """Path of the first module of the language-model head."""
    return next(x.module for x in describe(model).layers if x.stack == "lm_head")


@contextmanager
def _restricted_to(head: nn.Module, positions: Tensor) -> Iterator[None]:
    """Let the head see one position of each row: ``(batch, seq, d)`` -> ``(batch, 1, d)``.

    The head is a product of d x vocabulary; at every position it would cost more than the rest of a small encoder.
    """

    def pick(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden: Tensor = args[0]
        rows = torch.arange(len(hidden), device=hidden.device)
        return (hidden[rows, positions.to(hidden.device)][:, None], *args[1:])

    hook = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()
