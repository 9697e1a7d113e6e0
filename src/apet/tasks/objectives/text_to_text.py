"""Text-to-text objective of encoder-decoders: a label is a word to be written (Raffel et al. 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from apet.backbones.family import ObjectiveName
from apet.tasks.answers import Answer
from apet.tasks.encoding import Encoded
from apet.tasks.examples import Example
from apet.tasks.objectives.likelihood import first_token_log_likelihood, likeliest, token_log_likelihood
from apet.tasks.objectives.objective import Batch, Labeled, Objective, model_inputs
from apet.tasks.objectives.verbalizer import Verbalizer, greedy_generation
from apet.tasks.task import Task
from apet.tasks.tokenization import TextTokenizer


class TextToText(Objective):
    """The template's text goes into the encoder; the decoder writes the answer."""

    name: ClassVar[ObjectiveName] = "text-to-text"

    def __init__(self, task: Task, tokenizer: TextTokenizer, max_input_length: int) -> None:
        super().__init__(task, tokenizer, max_input_length)
        self.verbalizer = Verbalizer(task, tokenizer, lead="")

    def encode(self, example: Example) -> Encoded:
        """Input with its end token; the target is the answer with its own, or without where it had to be cut."""
        t = self.tokenizer
        text, num_cut = self._encode_template(example, self.max_input_length - len(t.prefix_ids) - len(t.suffix_ids))
        ids = [*t.prefix_ids, *text, *t.suffix_ids]
        target: list[int] = []
        if example.references:
            answer = t.encode(example.references[0])
            target, num_target_cut = self.verbalizer.limit_target(answer, t.suffix_ids)
            num_cut += num_target_cut
        return Encoded(np.array(ids, np.int32), np.array(target, np.int32), len(ids), num_cut=num_cut)

    def logits(self, model: nn.Module, batch: Batch) -> Labeled:
        """Of the answer's tokens, (batch, answer, vocab)."""
        inner: Any = getattr(model, "module", model)  # under DistributedDataParallel
        target = batch["target"]
        shifted = inner.prepare_decoder_input_ids_from_labels(labels=target)
        logits = model(**model_inputs(batch), decoder_input_ids=shifted, use_cache=False).logits
        return logits, target

    def label_log_likelihoods(self, model: Any, batch: Batch) -> Tensor:
        """Log-likelihood of each label given the input, ``(batch, labels)``; all share the encoder's states."""
        mask = batch["attention_mask"]
        states = model.get_encoder()(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        candidates = self.verbalizer.candidates(self.tokenizer.suffix_ids)
        start = model.config.decoder_start_token_id

        def logits(before: list[int]) -> Tensor:
            read = torch.tensor([[start, *before]], device=mask.device).expand(len(mask), -1)  # (batch, t)
            # A new object each time: a model may write into the one that it is given.
            given = BaseModelOutput(last_hidden_state=states)
            answers = model(encoder_outputs=given, attention_mask=mask, decoder_input_ids=read, use_cache=False)
            return answers.logits  # (batch, t, vocab)

        if self.verbalizer.single_token:
            return first_token_log_likelihood(logits([])[:, -1], candidates)
        # One by one: the decoder is cheap beside the encoder, and memory does not grow with the number of labels.
        return torch.stack([token_log_likelihood(logits(c[:-1]), c) for c in candidates], dim=1)

    def predict(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """The likeliest label, or greedy; where every label is one token, one step of the decoder decides."""
        inner: Any = model
        if self.compares_labels:
            return likeliest(self.task.label_words, self.label_log_likelihoods(inner, batch))
        inputs = model_inputs(batch)
        start = inner.config.decoder_start_token_id
        if self.verbalizer.single_token:
            first = torch.full((len(inputs["input_ids"]), 1), start, device=inputs["input_ids"].device)  # (batch, 1)
            logits = inner(**inputs, decoder_input_ids=first, use_cache=False).logits  # (batch, 1, vocab)
            return self.verbalizer.from_first_tokens(logits[:, -1].argmax(-1).tolist())
        settings = greedy_generation(self.tokenizer, self.verbalizer.max_new_tokens, decoder_start_token_id=start)
        generated = inner.generate(**inputs, generation_config=settings)
        # The first token is the start token; a tokenizer need not know it as a special one.
        return self.verbalizer.from_texts([self.tokenizer.decode(row[1:]) for row in generated])
