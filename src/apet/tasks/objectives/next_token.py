"""Decoders: the answer continues the template's text."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from apet.backbones.family import ObjectiveName
from apet.tasks.encoding import Encoded
from apet.tasks.examples import Example
from apet.tasks.objectives.objective import Batch, Objective, cross_entropy, model_inputs
from apet.tasks.objectives.verbalizer import Verbalizer, greedy_generation
from apet.tasks.task import Task
from apet.tasks.tokenization import TextTokenizer


class NextToken(Objective):
    """Loss on the answer's tokens only. Padding is on the left, so that all answers begin at the same place."""

    name: ClassVar[ObjectiveName] = "next-token"
    padding: ClassVar[Literal["left", "right"]] = "left"

    def __init__(self, task: Task, reader: TextTokenizer, max_input_length: int) -> None:
        super().__init__(task, reader, max_input_length)
        self.words = Verbalizer(task, reader, self.template.lead)
        self.end = [reader.tokenizer.eos_token_id] if reader.tokenizer.eos_token_id is not None else []

    def encode(self, example: Example) -> Encoded:
        """Text up to the answer; the target is the answer, with an end token where it is not one known token."""
        r = self.reader
        text, cut = self._prompted(example, self.max_input_length - len(r.before))
        ids = [*r.before, *text] or self.end or [r.pad]  # an empty text still needs a place to go on from
        target: list[int] = []
        if example.references:
            end = [] if self.words.single_token else self.end
            target, lost = self.words.target(r.ids(self.template.lead + example.references[0]), end)
            cut += lost
        return Encoded(np.array(ids, np.int32), np.array(target, np.int32), len(ids), num_cut=cut)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """As every objective; token types have no meaning to a decoder."""
        return {k: v for k, v in super().collate(rows).items() if k != "token_type_ids"}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross entropy over the answer's tokens, (batch, text) and (batch, answer) read as one sequence."""
        target = batch["target"]
        real = target >= 0
        inputs = {
            "input_ids": torch.cat([batch["input_ids"], torch.where(real, target, self.reader.pad)], dim=1),
            "attention_mask": torch.cat([batch["attention_mask"], real.long()], dim=1),
        }
        t = target.shape[1]
        logits = self._logits(model, inputs, t + 1)
        return cross_entropy(logits[:, :-1], target)

    def _logits(self, model: nn.Module, inputs: Batch, last: int) -> Tensor:
        """Logits of the last places, (batch, last, vocab); positions are counted from the first real token."""
        inner: Any = getattr(model, "module", model)  # under DistributedDataParallel
        if "position_ids" in inspect.signature(inner.forward).parameters:
            inputs = {**inputs, "position_ids": (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)}
        logits: Tensor = model(**inputs, logits_to_keep=last, use_cache=False).logits
        return logits[:, -last:]

    def predict(self, model: nn.Module, batch: Batch) -> list[str | None]:
        """Greedy. Where every label is one token, the next token decides."""
        inner: Any = model
        inputs = model_inputs(batch)
        if self.words.single_token:
            return self.words.of_tokens(self._logits(model, inputs, 1)[:, -1].argmax(-1).tolist())
        settings = greedy_generation(self.reader, self.words.max_new_tokens)
        written = inner.generate(**inputs, generation_config=settings)
        return self.words.of_texts([self.reader.text(row[inputs["input_ids"].shape[1] :]) for row in written])
