"""Encoders with their masked-LM head: which label word fills the blank (Schick and Schütze 2021; Gao et al. 2021)."""

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
from apet.tasks.encoding import Encoded
from apet.tasks.examples import Example
from apet.tasks.objectives.objective import Batch, Objective, cross_entropy, model_inputs
from apet.tasks.objectives.verbalizer import refuse_equal
from apet.tasks.task import Task
from apet.tasks.tokenization import TextTokenizer


class MaskedLabelWord(Objective):
    """The template with a mask at the answer's place; only the label words compete for it."""

    name: ClassVar[ObjectiveName] = "masked-label-word"
    is_generative: ClassVar[bool] = False

    def __init__(self, task: Task, reader: TextTokenizer, max_input_length: int) -> None:
        super().__init__(task, reader, max_input_length)
        if reader.tokenizer.mask_token_id is None:
            raise ApetError("this backbone's tokenizer has no mask token; use objective=classification-head")
        self._door = ""
        self.word_ids: list[int] = []
        for word in task.label_words:
            ids = reader.word(self.template.lead + word)
            if len(ids) > 1:
                raise ApetError(
                    f"label word {word!r} is {len(ids)} tokens here and one mask holds one;"
                    " give a one-token word in labels, or use objective=classification-head"
                )
            self.word_ids += ids
        refuse_equal(task.label_words, [[i] for i in self.word_ids])

    def encode(self, example: Example) -> Encoded:
        """``[CLS] text before [MASK] text after [SEP]``; the target is the class."""
        r = self.reader
        tail = r.ids(self.template.tail)
        room = self.max_input_length - len(r.before) - len(r.after) - len(tail) - 1
        text, cut = self._prompted(example, room)
        ids = [*r.before, *text, r.tokenizer.mask_token_id, *tail, *r.after]
        target = [self.task.label_words.index(a) for a in example.references[:1]]
        blank = len(r.before) + len(text)
        return Encoded(np.array(ids, np.int32), np.array(target, np.int32), len(ids), blank, cut)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """With the place of each mask, ``blank`` (batch,)."""
        return {**super().collate(rows), "blank": torch.tensor([r.blank for r in rows])}

    def _scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits of the label words at the mask, (batch, labels)."""
        inner = getattr(model, "module", model)  # under DistributedDataParallel
        self._door = self._door or _door(inner)
        with _sees_only(inner.get_submodule(self._door), batch["blank"]):
            logits: Tensor = model(**model_inputs(batch)).logits
        return logits[:, 0, self.word_ids]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross entropy over the label words."""
        return cross_entropy(self._scores(model, batch), batch["target"][:, 0])

    def predict(self, model: nn.Module, batch: Batch) -> list[str | None]:
        """The likeliest label word."""
        return [self.task.label_words[i] for i in self._scores(model, batch).argmax(-1).tolist()]


def _door(model: nn.Module) -> str:
    """The first module of the language-model head."""
    return next(x.module for x in describe(model).layers if x.stack == "lm_head")


@contextmanager
def _sees_only(head: nn.Module, places: Tensor) -> Iterator[None]:
    """Give the head one place of each row: (batch, seq, d) -> (batch, 1, d).

    It is d x vocabulary; at every place it would cost more than the rest of a small encoder.
    """

    def pick(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        h: Tensor = args[0]
        return (h[torch.arange(len(h), device=h.device), places.to(h.device)][:, None], *args[1:])

    hook = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()
