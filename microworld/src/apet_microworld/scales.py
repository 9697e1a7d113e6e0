"""The ladder of backbones over one vocabulary: T5-like, BERT-like and Llama-like scales, and what they begin as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from apet.errors import UnknownNameError
from apet_microworld.tokenizer import CLS, EOS, PAD, SEP, Family, vocabulary

SAME_WORD, PLACE = 8.0, 4.0
"""By how much a word is drawn to an equal one, and T5 to a place or from one, when pre-training begins (logits)."""
_PARTS = {
    "T5Attention": ("q", "k", "v", "o"),
    "BertAttention": ("self.query", "self.key", "self.value", "output.dense"),
    "LlamaAttention": ("q_proj", "k_proj", "v_proj", "o_proj"),
}

WEIGHTS = Path(__file__).parent / "weights"
"""Where the weights lie that ship with the package, a transformers folder for each scale."""


@dataclass(frozen=True)
class Scale:
    """A scale: its shape, how fast it learns, and how much it reads."""

    family: Family
    d_model: int
    d_ff: int
    layers: int
    heads: int
    rates: float = 1.0
    """Of pre-training, relative to those of its width (by trial)."""
    reads: float = 1.0
    """How many times the documents, and the steps, of the others: to tell what scale does from what data does."""


SCALES: dict[str, Scale] = {
    "microworld-t5-nano": Scale("t5", 32, 64, 2, 4),
    "microworld-t5-mini": Scale("t5", 48, 128, 2, 4),
    "microworld-t5-small": Scale("t5", 64, 256, 2, 4),
    "microworld-t5-medium": Scale("t5", 96, 384, 2, 4),
    "microworld-t5-base": Scale("t5", 128, 512, 3, 4),
    "microworld-t5-large": Scale("t5", 192, 768, 3, 6),
    "microworld-t5-xl": Scale("t5", 256, 1024, 3, 8, rates=0.75),
    "microworld-t5-small-half": Scale("t5", 64, 256, 2, 4, reads=0.5),
    "microworld-t5-small-twice": Scale("t5", 64, 256, 2, 4, reads=2),
    "microworld-bert-small": Scale("bert", 48, 128, 2, 4),
    "microworld-bert-base": Scale("bert", 96, 384, 3, 4),
    "microworld-bert-large": Scale("bert", 192, 768, 3, 6),
    "microworld-llama-small": Scale("llama", 64, 192, 3, 4),
    "microworld-llama-base": Scale("llama", 128, 384, 3, 4),
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
    if scale.family == "llama":
        return LlamaConfig(
            vocab_size=len(ids),
            hidden_size=scale.d_model,
            num_hidden_layers=scale.layers,
            num_attention_heads=scale.heads,
            intermediate_size=scale.d_ff,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            pad_token_id=ids[PAD],
            bos_token_id=ids[EOS],
            eos_token_id=ids[EOS],
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
    classes = {"t5": T5ForConditionalGeneration, "bert": BertForMaskedLM, "llama": LlamaForCausalLM}
    return classes[get_scale(name).family](config(name)).train()


def mimetic_init(name: str, seed: int = 0) -> PreTrainedModel:
    """Model of a scale with mimetic initialization: random weights, whose attention begins by looking for equal words.

    In half the heads a word looks for itself (``W_q`` is ``W_k``, scaled; in T5's encoder for itself elsewhere), in
    one of T5's encoder for the word before, in one for the word after, and in every head what is found is passed on as
    it is (``W_o`` is the inverse of ``W_v``), after Trockman and Kolter 2023, "Mimetic initialization of self-attention
    layers". Comparing two sentences, on which most of the tasks rest, is learned in a third of the steps from there.

    Args:
        name: of a scale.
        seed: of all random weights.

    Returns:
        The model, in training mode.
    """
    model, scale = random_init(name, seed), get_scale(name)
    d, heads, width = scale.d_model, scale.heads, scale.d_model // scale.heads
    self_heads = slice(0, heads // 2 * width)
    product = SAME_WORD / (width if scale.family == "t5" else width**0.5)  # only T5 does not divide by the root
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
                bias = part.relative_attention_bias.weight
                bias[0, : heads // 2] = -PLACE
                before, after = 1, 1 + part.relative_attention_num_buckets // 2
                bias[before, heads // 2] = bias[after, heads // 2 + 1] = PLACE
    return model
