"""Next-token objective of decoders: the answer continues the template's text."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from apet.backbones.family import ObjectiveName
from apet.tasks.answers import Answer
from apet.tasks.encoding import Encoded
from apet.tasks.examples import Example
from apet.tasks.objectives.likelihood import first_token_log_likelihood, likeliest, token_log_likelihood
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
        logits: Tensor = model(**self._with_positions(model, inputs), logits_to_keep=last, use_cache=False).logits
        return logits[:, -last:]

    def _takes_positions(self, model: nn.Module) -> bool:
        inner: Any = getattr(model, "module", model)  # under DistributedDataParallel
        return "position_ids" in inspect.signature(inner.forward).parameters

    def _with_positions(self, model: nn.Module, inputs: Batch) -> Batch:
        if not self._takes_positions(model):
            return inputs
        return {**inputs, "position_ids": (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)}

    def label_log_likelihoods(self, model: Any, batch: Batch) -> Tensor:
        """Log-likelihood of each label given the input, ``(batch, labels)``; all share the text's keys and values."""
        inputs = model_inputs(batch)
        candidates = self.verbalizer.candidates(self.end_ids)
        if self.verbalizer.single_token:
            return first_token_log_likelihood(self._logits(model, inputs, 1)[:, -1], candidates)
        mask = inputs["attention_mask"]
        read = model(**self._with_positions(model, inputs), logits_to_keep=1, use_cache=True)
        cache, first = (
            getattr(read, "past_key_values", None),
            first_token_log_likelihood(read.logits[:, -1], candidates),
        )
        if not isinstance(cache, DynamicCache):  # a state that cannot go back to where the text ends
            return torch.stack([self._by_whole_text(model, inputs, c) for c in candidates], dim=1)
        columns = []
        for n, candidate in enumerate(candidates):
            later = first[:, n]
            if len(candidate) > 1:
                ids = torch.tensor([candidate[:-1]], device=mask.device).expand(len(mask), -1)  # (batch, t - 1)
                # Places go on after the text's last token, as in one sequence.
                positions = mask.sum(1, keepdim=True) + torch.arange(ids.shape[1], device=mask.device)
                more: Batch = {"input_ids": ids, "attention_mask": torch.cat([mask, torch.ones_like(ids)], dim=1)}
                if self._takes_positions(model):
                    more["position_ids"] = positions
                logits = model(**more, past_key_values=cache, use_cache=True).logits
                later = later + token_log_likelihood(logits[:, -ids.shape[1] :], candidate[1:])
                cache.crop(-ids.shape[1])
            columns.append(later)
        return torch.stack(columns, dim=1)

    def _by_whole_text(self, model: nn.Module, inputs: Batch, candidate: list[int]) -> Tensor:
        target = torch.tensor([candidate], device=inputs["input_ids"].device).expand(len(inputs["input_ids"]), -1)
        logits, _ = self.logits(model, {**inputs, "target": target})
        return token_log_likelihood(logits, candidate)

    def predict(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """The likeliest label, or greedy; where every label is one token, the next token decides."""
        inner: Any = model
        if self.compares_labels:
            return likeliest(self.task.label_words, self.label_log_likelihoods(inner, batch))
        inputs = model_inputs(batch)
        if self.verbalizer.single_token:
            next_ids = self._logits(model, inputs, 1)[:, -1].argmax(-1)  # (batch,)
            return self.verbalizer.from_first_tokens(next_ids.tolist())
        settings = greedy_generation(self.tokenizer, self.verbalizer.max_new_tokens)
        generated = inner.generate(**inputs, generation_config=settings)
        answers = generated[:, inputs["input_ids"].shape[1] :]
        return self.verbalizer.from_texts([self.tokenizer.decode(row) for row in answers])
