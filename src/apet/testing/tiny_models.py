"""Tiny random backbones of every family, built in code: two equal blocks each, so that equal masks would be seen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BloomConfig,
    BloomForCausalLM,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from apet.handle import Handle
from apet.methods import Method, make_method
from apet.planning import plan

VOCAB = 61
PAD = 0
_COMMON = {"vocab_size": VOCAB, "pad_token_id": PAD}
_ENCODER = {
    **_COMMON,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
_T5 = {**_COMMON, "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": PAD}
_LLAMA = {**_ENCODER, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}


def _t5_gated() -> nn.Module:
    model = T5ForConditionalGeneration(T5Config(**_T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False))
    model.lm_head.weight = nn.Parameter(torch.randn(VOCAB, 16) * 0.1)
    return model


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "t5-relu-tied": lambda: T5ForConditionalGeneration(T5Config(**_T5)),
    "t5-gated": _t5_gated,
    "bert": lambda: BertForSequenceClassification(BertConfig(**_ENCODER)),
    "bert-mlm": lambda: BertForMaskedLM(BertConfig(**_ENCODER)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**_ENCODER, bos_token_id=1, eos_token_id=2)),
    "electra": lambda: ElectraForSequenceClassification(ElectraConfig(**_ENCODER, embedding_size=8)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(**_COMMON, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=64)
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(**_COMMON, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2)
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_LLAMA)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**_LLAMA)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_LLAMA, tie_word_embeddings=True)),
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(**_COMMON, hidden_size=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    ),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(
            **_COMMON,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=24,
            activation_function="gelu",  # a ReLU unit may be off for every input, whatever is trained there
            max_position_embeddings=64,
            word_embed_proj_dim=12,
            bos_token_id=1,
            eos_token_id=2,
        )
    ),
}


def build(name: str | Callable[[], nn.Module], dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
    """Build a tiny model in evaluation mode; every parameter random, biases and scales too.

    Args:
        name: of one of `BUILDERS`, or a function that returns a model.
        dtype: of its parameters.
        seed: of their values.

    Returns:
        The model, in evaluation mode.
    """
    torch.manual_seed(seed)
    model = (BUILDERS[name] if isinstance(name, str) else name)()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.add_(torch.randn_like(p) * 0.1)
    return model.to(dtype).eval()


def batch(model: nn.Module, *, rows: int = 3, seq: int = 9, seed: int = 1, left: bool = False) -> dict[str, Tensor]:
    """Make inputs with padding on one side, and labels for the model's own loss.

    Args:
        model: that will read them.
        rows: examples in the batch.
        seq: tokens of each.
        seed: of the token ids.
        left: pad on the left, as decoders that generate need it.

    Returns:
        ``input_ids``, ``attention_mask``, (rows, seq), and ``labels``.
    """
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCAB, (rows, seq), generator=g)
    lengths = torch.tensor([seq, seq - 2, seq - 4][:rows])
    mask = (torch.arange(seq)[None] < lengths[:, None]).long()
    if left:
        mask = mask.flip(1)
    ids = torch.where(mask.bool(), ids, PAD)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if getattr(model, "config").is_encoder_decoder:
        inputs["labels"] = torch.randint(3, VOCAB, (rows, 4), generator=g)
    elif hasattr(model, "classifier"):
        inputs["labels"] = torch.arange(rows) % 2
    else:
        inputs["labels"] = torch.where(mask.bool(), ids, -100)
    return inputs


def some_budget(model: nn.Module, method: str | Method) -> int | None:
    """Pick a budget below the method's full size on a tiny model, and not a round number; None for fine-tuning."""
    method = make_method(method) if isinstance(method, str) else method
    if method.name == "fine-tuning":
        return None
    return min(173, plan(model, method).num_trainable * 2 // 3)


def outputs(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Compute the logits without gradients."""
    with torch.no_grad():
        return model(**inputs).logits


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copy the state dict."""
    return {k: v.clone() for k, v in model.state_dict(keep_vars=False).items()}


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Compare two snapshots bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def shake(handle: Handle, scale: float = 0.05, seed: int = 3) -> None:
    """Move every trainable value by Gaussian noise, as training would."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for v in handle.parameters():
            v.add_(torch.randn(v.shape, generator=g) * scale)
