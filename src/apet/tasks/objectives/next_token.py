"""Next-token objective of decoders: the answer continues the template's text."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from apet.backbones.family import ObjectiveName
from apet.tasks.answers import Answer
from apet.tasks.encoding import Encoded
from apet.tasks.examples import Example
from apet.tasks.objectives.objective import Batch, Labeled, Objective, model_inputs
from apet.tasks.objectives.verbalizer import Verbalizer, greedy_generation
from apet.tasks.task import Task
from apet.tasks.tokenization import TextTokenizer


class NextToken(Objective):
    """Loss on the answer's tokens only. Padding is on the left, so that all answers begin at the same place."""

    name: ClassVar[ObjectiveName] = "next-token"
    padding: ClassVar[Literal["left", "right"]] = "left"

    def __init__(self, task: Task, tokenizer: TextTokenizer, max_input_length: int) -> None:
        super().__init__(task, tokenizer, max_input_length)
        self.verbalizer = Verbalizer(task, tokenizer, self.template.lead)
        end = tokenizer.pretrained.eos_token_id
        self.end_ids = [end] if end is not None else []

    def encode(self, example: Example) -> Encoded:
        """Text up to the answer; the target is the answer, with an end token where it is not one known token."""
        t = self.tokenizer
        text, num_cut = self._encode_template(example, self.max_input_length - len(t.prefix_ids))
        ids = [*t.prefix_ids, *text] or self.end_ids or [t.pad_id]  # an empty text still needs a place to go on from
        target: list[int] = []
        if example.references:
            end = [] if self.verbalizer.single_token else self.end_ids
            answer = t.encode(self.template.lead + example.references[0])
            target, num_target_cut = self.verbalizer.limit_target(answer, end)
            num_cut += num_target_cut
        return Encoded(np.array(ids, np.int32), np.array(target, np.int32), len(ids), num_cut=num_cut)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Pad to the longest, without token types: they mean nothing to a decoder."""
        return {k: v for k, v in super().collate(rows).items() if k != "token_type_ids"}

    def logits(self, model: nn.Module, batch: Batch) -> Labeled:
        """Of the answer's tokens, ``(batch, answer, vocab)``; text and answer are read as one sequence."""
        target = batch["target"]
        is_token = target >= 0
        inputs = {
            "input_ids": torch.cat([batch["input_ids"], torch.where(is_token, target, self.tokenizer.pad_id)], dim=1),
            "attention_mask": torch.cat([batch["attention_mask"], is_token.long()], dim=1),
        }
        # The logits before an answer's token predict it: one more place than the answer has, without the last.
        logits = self._logits(model, inputs, target.shape[1] + 1)
        return logits[:, :-1], target

    def _logits(self, model: nn.Module, inputs: Batch, last: int) -> Tensor:
        """Logits of the last places, ``(batch, last, vocab)``; positions are counted from the first real token."""
        inner: Any = getattr(model, "module", model)  # under DistributedDataParallel
        if "position_ids" in inspect.signature(inner.forward).parameters:
            inputs = {**inputs, "position_ids": (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)}
        logits: Tensor = model(**inputs, logits_to_keep=last, use_cache=False).logits
        return logits[:, -last:]

    def predict(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """Greedy. Where every label is one token, the next token decides."""
        inner: Any = model
        inputs = model_inputs(batch)
        if self.verbalizer.single_token:
            next_ids = self._logits(model, inputs, 1)[:, -1].argmax(-1)  # (batch,)
            return self.verbalizer.from_first_tokens(next_ids.tolist())
        settings = greedy_generation(self.tokenizer, self.verbalizer.max_new_tokens)
        generated = inner.generate(**inputs, generation_config=settings)
        answers = generated[:, inputs["input_ids"].shape[1] :]
        return self.verbalizer.from_texts([self.tokenizer.decode(row) for row in answers])
