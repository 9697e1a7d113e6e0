"""Encoder–decoders: text in, text out; a label is a word to be written (Raffel et al. 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

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


class TextToText(Objective):
    """The template's text goes into the encoder; the decoder writes the answer."""

    name: ClassVar[ObjectiveName] = "text-to-text"

    def __init__(self, task: Task, reader: TextTokenizer, max_input_length: int) -> None:
        super().__init__(task, reader, max_input_length)
        self.words = Verbalizer(task, reader, lead="")

    def encode(self, example: Example) -> Encoded:
        """Input with its end token; the target is the answer with its own, or without where it had to be cut."""
        r = self.reader
        text, cut = self._prompted(example, self.max_input_length - len(r.before) - len(r.after))
        ids = [*r.before, *text, *r.after]
        target, lost = self.words.target(r.ids(example.references[0]), r.after) if example.references else ([], 0)
        return Encoded(np.array(ids, np.int32), np.array(target, np.int32), len(ids), num_cut=cut + lost)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross entropy over the answer's tokens."""
        inner: Any = getattr(model, "module", model)  # under DistributedDataParallel
        target = batch["target"]
        shifted = inner.prepare_decoder_input_ids_from_labels(labels=target)
        logits = model(**model_inputs(batch), decoder_input_ids=shifted, use_cache=False).logits
        return cross_entropy(logits, target)

    def predict(self, model: nn.Module, batch: Batch) -> list[str | None]:
        """Greedy. Where every label is one token, one step of the decoder decides."""
        inner: Any = model
        inputs = model_inputs(batch)
        start = inner.config.decoder_start_token_id
        if self.words.single_token:
            first = torch.full((len(inputs["input_ids"]), 1), start, device=inputs["input_ids"].device)
            logits = inner(**inputs, decoder_input_ids=first, use_cache=False).logits
            return self.words.of_tokens(logits[:, -1].argmax(-1).tolist())
        settings = greedy_generation(self.reader, self.words.max_new_tokens, decoder_start_token_id=start)
        written = inner.generate(**inputs, generation_config=settings)
        return self.words.of_texts([self.reader.text(row[1:]) for row in written])
