"""Encoder–decoders: text in, text out; a label is a word to be written (Raffel et al. 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from apet.backbones.loading import Use
from apet.tasks.encoding import Encoded
from apet.tasks.examples import Example
from apet.tasks.objectives.objective import Batch, Objective, cross_entropy, inputs_of
from apet.tasks.objectives.words import LabelWords, greedy
from apet.tasks.reader import Reader
from apet.tasks.task import Task


class TextToText(Objective):
    """The template's text goes into the encoder; the decoder writes the answer."""

    use: ClassVar[Use] = "text-to-text"

    def __init__(self, task: Task, reader: Reader, max_input: int) -> None:
        super().__init__(task, reader, max_input)
        self.words = LabelWords(task, reader, lead="")

    def encode(self, example: Example) -> Encoded:
        """Input with its end token; the target is the answer with its own, or without where it had to be cut."""
        r = self.reader
        text, cut = self._prompted(example, self.max_input - len(r.before) - len(r.after))
        ids = [*r.before, *text, *r.after]
        target, lost = self.words.target(r.ids(example.answers[0]), r.after) if example.answers else ([], 0)
        return Encoded(np.array(ids, np.int32), np.array(target, np.int32), len(ids), cut=cut + lost)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross entropy over the answer's tokens."""
        inner: Any = getattr(model, "module", model)  # under DistributedDataParallel
        target = batch["target"]
        shifted = inner.prepare_decoder_input_ids_from_labels(labels=target)
        logits = model(**inputs_of(batch), decoder_input_ids=shifted, use_cache=False).logits
        return cross_entropy(logits, target)

    def predict(self, model: nn.Module, batch: Batch) -> list[str | None]:
        """Greedy. Where every label is one token, one step of the decoder decides."""
        inner: Any = model
        inputs = inputs_of(batch)
        start = inner.config.decoder_start_token_id
        if self.words.one_step:
            first = torch.full((len(inputs["input_ids"]), 1), start, device=inputs["input_ids"].device)
            logits = inner(**inputs, decoder_input_ids=first, use_cache=False).logits
            return self.words.of_tokens(logits[:, -1].argmax(-1).tolist())
        settings = greedy(self.reader, self.words.most, decoder_start_token_id=start)
        written = inner.generate(**inputs, generation_config=settings)
        return self.words.of_texts([self.reader.text(row[1:]) for row in written])
