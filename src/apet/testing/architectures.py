"""Every text architecture of transformers as a tiny random model, with inputs that fit it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.models.auto import modeling_auto

from apet.backbones.family import ObjectiveName
from apet.backbones.small_config import small_config
from apet.errors import UnknownNameError

_MAPPINGS: dict[ObjectiveName, str] = {
    "next-token": "MODEL_FOR_CAUSAL_LM_MAPPING",
    "text-to-text": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "masked-label-word": "MODEL_FOR_MASKED_LM_MAPPING",
    "classification-head": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
}
IGNORED = -100


class Architecture(NamedTuple):
    """One class of model for one model type.

    Attributes:
        model_type: as ``config.model_type`` has it.
        objective: for which transformers maps the type to the class.
        class_name: of the model.
    """

    model_type: str
    objective: ObjectiveName
    class_name: str

    @property
    def model_class(self) -> type[nn.Module]:
        """The class, imported when it is asked for: all of them take a minute."""
        return _model_class(self.model_type, self.objective)


def _enumerate() -> tuple[Architecture, ...]:
    return tuple(
        Architecture(model_type, objective, names if isinstance(names, str) else names[0])
        for objective, mapping in _MAPPINGS.items()
        for model_type, names in getattr(modeling_auto, f"{mapping}_NAMES").items()
    )


ARCHITECTURES: tuple[Architecture, ...] = _enumerate()
"""Every pair of model type and objective of transformers' four mappings for text, 404 in transformers 5.23."""

_INDEXER: dict[str, object] = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 256,
    "indexer_budget": 2048,
    "indexer_compress_ratio": 4,
}
_REQUIRED: dict[str, dict[str, object]] = {
    # With these types' own defaults no model can be built or trained: a size or a list is missing, or a cache is on
    # that changes states in place.
    "bamba": {"attn_layer_indices": [1]},
    "blt": {"use_cache": False},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "dbrx": {"attn_config": {"clip_qkv": 8.0, "kv_n_heads": 8, "rope_theta": 500000.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "granitemoehybrid": {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "lfm2_moe": {"num_hidden_layers": 4, "layer_types": ["conv", "conv", "full_attention", "conv"]},
    "ministral": {"head_dim": 128},
    "nemotron": {"head_dim": 128, "num_key_value_heads": 8},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "rwkv": {"use_cache": False},
    "xlstm": {"use_cache": False},
    "xmod": {"default_language": "en_XX"},
}


def build_architecture(
    model_type: str, objective: ObjectiveName, *, seed: int = 0, settings: Mapping[str, object] | None = None
) -> nn.Module:
    """Build a tiny model of an architecture in evaluation mode; every parameter random, biases and scales too.

    Args:
        model_type: as ``config.model_type`` has it.
        objective: which of the type's classes.
        seed: of the values.
        settings: fields of the full-size configuration that differ from the type's defaults.

    Returns:
        The model, in evaluation mode.
    """
    model_class = _model_class(model_type, objective)
    config = small_config(CONFIG_MAPPING[model_type](**{**_REQUIRED.get(model_type, {}), **(settings or {})}))
    config = _config_for(model_class, config)
    _complete(config, objective)
    torch.manual_seed(seed)
    model = model_class(config)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1 or bool((p == p.flatten()[0]).all()):  # initialized to a constant, as residual gates are
                p.add_(torch.randn_like(p) * 0.1)
    return model.eval()


def _model_class(model_type: str, objective: ObjectiveName) -> type[nn.Module]:
    if not any(a.model_type == model_type and a.objective == objective for a in ARCHITECTURES):
        known = [a.model_type for a in ARCHITECTURES if a.objective == objective]
        raise UnknownNameError(f"model type for {objective}", model_type, known)
    classes = getattr(modeling_auto, _MAPPINGS[objective])[CONFIG_MAPPING[model_type]]
    return cast("type[nn.Module]", classes[0] if isinstance(classes, tuple) else classes)


def _config_for(model_class: type[nn.Module], config: PreTrainedConfig) -> PreTrainedConfig:
    """The part of a composite configuration that the class takes: its decoder is built from the decoder's alone."""
    wanted = getattr(model_class, "config_class")
    parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    return next((part for part in parts if type(part) is wanted), config)


def _complete(config: PreTrainedConfig, objective: ObjectiveName) -> None:
    """Set what training asks of a user and a type's defaults leave open."""
    text = config.get_text_config(decoder=True) if objective == "next-token" else config
    if objective == "next-token" and hasattr(text, "is_decoder"):
        text.is_decoder = True  # else a BERT reads what it is to foretell
    for part in (config, config.get_text_config()):
        if getattr(part, "pad_token_id", None) is None:
            part.pad_token_id = 0
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = config.pad_token_id


def architecture_batch(
    model: nn.Module, *, rows: int = 2, seq: int = 12, seed: int = 1, left: bool = False
) -> dict[str, Tensor]:
    """Make inputs that fit a model of any architecture, padded on one side, and labels for its own loss.

    Args:
        model: of `build_architecture`.
        rows: examples in the batch; every second is shorter by a third.
        seq: tokens of the longest.
        seed: of the token ids.
        left: pad on the left, as decoders that generate need it.

    Returns:
        ``input_ids``, ``attention_mask``, (rows, seq), and ``labels``.
    """
    config = getattr(model, "config")
    generator = torch.Generator().manual_seed(seed)
    special = _special_ids(config)
    ordinary = torch.tensor([i for i in range(2, min(96, _vocabulary(config))) if i not in special])

    def draw(*shape: int) -> Tensor:
        return ordinary[torch.randint(len(ordinary), shape, generator=generator)]

    if config.model_type in ("perceiver", "reformer"):  # which read as many tokens as they have positions
        seq = config.max_position_embeddings
    ids = draw(rows, seq)
    lengths = torch.tensor([seq if row % 2 == 0 else seq - seq // 3 for row in range(rows)])
    mask = (torch.arange(seq)[None] < lengths[:, None]).long()
    if config.is_encoder_decoder:  # classifiers of these read the state at the end-of-sequence token
        eos = getattr(config, "eos_token_id", None)
        ids[torch.arange(rows), lengths - 1] = eos if isinstance(eos, int) else 1
    if left:
        ids = torch.stack([row.roll(seq - int(n)) for row, n in zip(ids, lengths, strict=True)])
        mask = mask.flip(1)
    pad = getattr(config, "pad_token_id", None)
    ids = torch.where(mask.bool(), ids, pad if isinstance(pad, int) else 0)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if type(model).__name__.endswith("ForSequenceClassification"):
        inputs["labels"] = torch.arange(rows) % config.num_labels
    elif config.is_encoder_decoder:
        inputs["labels"] = draw(rows, seq // 2)
        start = torch.full((rows, 1), getattr(config, "decoder_start_token_id", None) or 0)
        inputs["decoder_input_ids"] = torch.cat([start, inputs["labels"][:, :-1]], dim=1)
    else:
        inputs["labels"] = torch.where(mask.bool(), ids, IGNORED)
    return inputs


def _vocabulary(config: PreTrainedConfig) -> int:
    sizes = [getattr(c, "vocab_size", None) for c in (config, config.get_text_config())]
    return min((n for n in sizes if isinstance(n, int)), default=96)


def _special_ids(config: PreTrainedConfig) -> set[int]:
    """Ids that mean something to the model: padding, ends, places of images."""
    ids: set[int] = set()
    for name, value in {**config.get_text_config().to_dict(), **config.to_dict()}.items():
        if "token" in name or name.endswith("_index"):
            ids.update(v for v in (value if isinstance(value, list) else [value]) if type(v) is int)
    return ids
