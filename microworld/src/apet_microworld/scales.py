"""The ladder of backbones: four T5-like and three BERT-like scales over one vocabulary, and how each is pre-trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from apet.errors import UnknownNameError
from apet_microworld.tokenizer import CLS, EOS, PAD, SEP, vocabulary

SAME_WORD, SAME_PLACE = 8.0, 4.0
"""By how much a word is drawn to an equal one, and T5 kept from its own place, when pre-training begins (logits)."""
_PARTS = {
    "T5Attention": ("q", "k", "v", "o"),
    "BertAttention": ("self.query", "self.key", "self.value", "output.dense"),
}

WEIGHTS = Path(__file__).parent / "weights"
"""Where the weights lie that ship with the package, a transformers folder for each scale."""


@dataclass(frozen=True)
class Scale:
    """A scale: its shape, and the steps, relative learning rate and initialization of its pre-training (by trial)."""

    family: Literal["t5", "bert"]
    d_model: int
    d_ff: int
    layers: int
    heads: int
    max_steps: int
    relative_rate: float
    init_from: str | None = None
    """The smaller scale that this one is expanded from (``expansion.py``); None = it begins with `mimetic_init`."""


SCALES: dict[str, Scale] = {
    "microworld-t5-mini": Scale("t5", 32, 32, 2, 4, max_steps=7000, relative_rate=0.03),
    "microworld-t5-small": Scale("t5", 64, 256, 2, 4, max_steps=7000, relative_rate=0.03),
    "microworld-t5-base": Scale(
        "t5", 128, 512, 3, 4, max_steps=7000, relative_rate=0.02, init_from="microworld-t5-small"
    ),
    "microworld-t5-large": Scale(
        "t5", 256, 768, 4, 4, max_steps=7000, relative_rate=0.012, init_from="microworld-t5-base"
    ),
    "microworld-bert-small": Scale("bert", 48, 96, 2, 4, max_steps=7000, relative_rate=0.04),
    "microworld-bert-base": Scale("bert", 128, 512, 3, 4, max_steps=7000, relative_rate=0.04),
    "microworld-bert-large": Scale("bert", 256, 1024, 5, 4, max_steps=7000, relative_rate=0.025),
}


def get_scale(name: str) -> Scale:
    """The scale of a name.

    Args:
        name: such as ``microworld-t5-small``.

    Returns:
        The scale.

    Raises:
        UnknownNameError: no such scale; the nearest names are listed.
    """
    if name not in SCALES:
        raise UnknownNameError("microworld scale", name, SCALES)
    return SCALES[name]


def config(name: str) -> PreTrainedConfig:
    """The transformers configuration of a scale.

    The T5 shapes are those of the first T5 (ReLU, output projection tied to the embeddings): a tied pair needs no care
    when it is built, saved or loaded.

    Args:
        name: of a scale.

    Returns:
        The configuration.
    """
    scale, ids = get_scale(name), {word: i for i, word in enumerate(vocabulary())}
    if scale.family == "t5":
        return T5Config(
            vocab_size=len(ids),
            d_model=scale.d_model,
            d_kv=scale.d_model // scale.heads,
            d_ff=scale.d_ff,
            num_layers=scale.layers,
            num_heads=scale.heads,
            feed_forward_proj="relu",
            tie_word_embeddings=True,
            dropout_rate=0.0,
            pad_token_id=ids[PAD],
            eos_token_id=ids[EOS],
            decoder_start_token_id=ids[PAD],
        )
    return BertConfig(
        vocab_size=len(ids),
        hidden_size=scale.d_model,
        num_hidden_layers=scale.layers,
        num_attention_heads=scale.heads,
        intermediate_size=scale.d_ff,
        max_position_embeddings=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=ids[PAD],
        bos_token_id=ids[CLS],
        eos_token_id=ids[SEP],
    )


def random_init(name: str, seed: int = 0) -> PreTrainedModel:
    """Model of a scale with random weights, as transformers draws them: what a pre-trained one is compared with."""
    torch.manual_seed(seed)
    model = (T5ForConditionalGeneration if get_scale(name).family == "t5" else BertForMaskedLM)(config(name))
    return model.train()


def mimetic_init(name: str, seed: int = 0) -> PreTrainedModel:
    """Model of a scale with mimetic initialization: random weights, whose attention begins by looking for equal words.

    In half the heads a word looks for itself (``W_q`` is ``W_k``, scaled; in T5's encoder for itself elsewhere), and in
    every head what is found is passed on as it is (``W_o`` is the inverse of ``W_v``), after Trockman and Kolter 2023,
    "Mimetic initialization of self-attention layers". Comparing two sentences, on which most of the tasks rest, is
    learned in a third of the steps from there.

    Args:
        name: of a scale.
        seed: of all random weights.

    Returns:
        The model, in training mode.
    """
    model, scale = random_init(name, seed), get_scale(name)
    d, heads, width = scale.d_model, scale.heads, scale.d_model // scale.heads
    self_heads = slice(0, heads // 2 * width)
    product = SAME_WORD / (width if scale.family == "t5" else width**0.5)  # BERT divides by the root, T5 does not
    for part in model.modules():
        names = _PARTS.get(type(part).__name__)
        if names is None:
            continue
        q, k, v, o = (part.get_submodule(n) for n in names)
        with torch.no_grad():
            rotation, matching = (torch.linalg.qr(torch.randn(d, d))[0] for _ in range(2))
            v.weight.copy_(rotation)
            o.weight.copy_(rotation.T)
            q.weight[self_heads] = matching[self_heads] * product
            k.weight[self_heads] = matching[self_heads]
            if scale.family == "t5" and not part.is_decoder and part.has_relative_attention_bias:
                part.relative_attention_bias.weight[0, : heads // 2] = -SAME_PLACE
    return model
