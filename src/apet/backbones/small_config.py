"""A shrunken copy of any transformers configuration, whose model shows in milliseconds what the full one does."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import cast

from transformers import PreTrainedConfig

WIDTH, HEADS, HEAD_DIM, INNER, VOCABULARY, POSITIONS = 32, 4, 8, 48, 128, 64
MAX_LAYERS = 8
"""Deepest stack that is built to show layers in the order in which they stand."""

Fields = dict[str, object]
Size = int | Callable[[int, Fields], int]


def small_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Shrink a configuration to a model of some ten thousand parameters that is built and run at once.

    Sizes become small; every choice stays: activations, norms, biases, tying, kinds of layers, kinds of rotary
    embeddings, numbers of labels. There are two layers, or as many as it takes to show every kind of layer. What
    cannot be shrunk is left as it is.

    Args:
        config: of any model, left unchanged.

    Returns:
        The small configuration, of the same class.

    Example:
        >>> from transformers import LlamaConfig
        >>> small = small_config(LlamaConfig(attention_bias=True, num_key_value_heads=8))
        >>> small.hidden_size, small.num_hidden_layers, small.num_key_value_heads, small.attention_bias
        (32, 2, 2, True)
    """
    return _shrunken(config, {})


def _shrunken(config: PreTrainedConfig, token_ids: dict[int, int]) -> PreTrainedConfig:
    small = copy.deepcopy(config)
    vars(small).pop("_heterogeneity_spec", None)  # names layers that may be gone
    fields = _fields(config)
    layers = _shown_layers(config, fields)
    standard_names = {own: name for name, own in type(config).attribute_map.items()}
    fields |= {standard_names[name]: value for name, value in fields.items() if name in standard_names}
    for name, value in _fields(config).items():
        shrink = _Shrinker(fields, layers, token_ids)
        new = shrink.value(name, value, standard_names.get(name, name))
        if new != value:
            _set(small, name, new)
    overrides = _overrides_by_layer(config)
    if overrides:
        small.per_layer_config = {
            new: {
                name: _Shrinker(fields | own, layers, token_ids).value(name, value, name) for name, value in own.items()
            }
            for new, old in enumerate(layers)
            if (own := overrides.get(old))
        }
    for name, value in _CONSTRAINTS.get(config.model_type, lambda _: {})(small).items():
        _set(small, name, value)
    return small


def _fields(config: PreTrainedConfig) -> Fields:
    # Not by getattr: where layers override a field, a configuration refuses to say its common value.
    return {name: value for name, value in vars(config).items() if not name.startswith("_")}


def _get(config: PreTrainedConfig, name: str) -> object:
    try:
        return getattr(config, name, None)
    except Exception:  # where layers differ in what it depends on
        return None


def _set(config: PreTrainedConfig, name: str, value: object) -> None:
    try:
        setattr(config, name, value)
    except Exception:  # each class validates in its own way; what it does not take stays as large as it was
        return


def _overrides_by_layer(config: PreTrainedConfig) -> dict[int, Fields]:
    spec = vars(config).get("_heterogeneity_spec")
    return {} if spec is None else spec.per_layer_overrides


# --- Which layers are kept ------------------------------------------------------------------------------------------

_PER_LAYER = re.compile(r".*(layer|attn|types|pattern).*|intermediate_size")
_LAYER_INDICES = re.compile(r"(?!no_rope).*(layers|layer_ids|indices|idxs)")
_FIRST_LAYERS = re.compile(
    r"first_k_dense_replace|num_dense_layers|num_hash_layers|max_window_layers|moe_layer_(start|end)_index"
)
_LAST_LAYERS = re.compile(r"num_kv_shared_layers")
_PERIODS = re.compile(
    r".*(layer_period|layers_period|sparse_step|layer_interval|layer_step|layer_freq|every_n_layers|layer_group_size"
    r"|sliding_window_pattern|attention_interval|attention_frequency)"
)
_DEPTHS = re.compile(r"(.*_)?(num_|n_)?(hidden_|encoder_|decoder_)?layers?(_per_stack)?|num_blocks|depth")
_NO_DEPTHS = re.compile(r".*(dense|sparse|shared|window|hash|moe|adapter|lstm|residual|nextn|feature|mtp).*")


def _depth(config: PreTrainedConfig) -> int:
    depth = _get(config, "num_hidden_layers")
    return depth if isinstance(depth, int) else 0


def _is_list_of_layers(name: str, value: object, depth: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == depth > 0 and _PER_LAYER.fullmatch(name) is not None


def _are_layer_indices(name: str, value: object, depth: int) -> bool:
    return (
        isinstance(value, (list, tuple))
        and _LAYER_INDICES.fullmatch(name) is not None
        and all(type(i) is int and 0 <= i < depth for i in value)
        and len(set(value)) == len(value)
    )


def _shown_layers(config: PreTrainedConfig, fields: Fields) -> list[int]:
    """The layers to keep, in order.

    Returns:
        The shortest beginning of the stack that has a layer of every kind; where this is more than `MAX_LAYERS`, the
        first layer of every kind.
    """
    depth = _depth(config)
    computed = {
        name: _get(config, name)
        for name in dir(type(config))
        if isinstance(getattr(type(config), name, None), property) and _PER_LAYER.fullmatch(name)
    }
    kinds = [_kind_of_layer(i, depth, {**computed, **fields}, _overrides_by_layer(config)) for i in range(depth)]
    firsts = sorted(kinds.index(kind) for kind in set(kinds))
    shown = firsts if firsts and firsts[-1] >= MAX_LAYERS else list(range(max(firsts, default=0) + 1))
    if len(shown) > MAX_LAYERS:
        shown = shown[:MAX_LAYERS]
    others = [i for i in range(depth) if i not in shown]
    return sorted(shown + others[: max(0, 2 - len(shown))])


def _kind_of_layer(i: int, depth: int, fields: Fields, overrides: dict[int, Fields]) -> tuple[str, ...]:
    """Everything that a configuration says of one layer in particular."""
    kind = [repr(overrides.get(i))]
    for name, value in fields.items():
        if _are_layer_indices(name, value, depth):
            kind.append(str(i in cast("Sequence[int]", value)))
        elif _is_list_of_layers(name, value, depth):
            kind.append(repr(cast("Sequence[object]", value)[i]))
        elif type(value) is int and value > 0:
            if _FIRST_LAYERS.fullmatch(name):
                kind.append(str(i < value))
            elif _LAST_LAYERS.fullmatch(name):
                kind.append(str(i >= depth - value))
            elif _PERIODS.fullmatch(name) and value <= MAX_LAYERS:
                kind.append(str(i % value))
    return tuple(kind)


# --- How small a field becomes --------------------------------------------------------------------------------------


def _number(fields: Fields, name: str, default: int) -> int:
    value = fields.get(name)
    return value if type(value) is int else default


def _key_value_heads(value: int, fields: Fields) -> int:
    if value == _number(fields, "num_attention_heads", 0):
        return HEADS
    return min(value, HEADS // 2)


def _beside_width(value: int, fields: Fields) -> int:
    """A width that is the model's own, or a multiple of it, or one that differs from it."""
    width = _number(fields, "hidden_size", value)
    return WIDTH // 2 if value < width else WIDTH * round(value / width)


def _beside_head(value: int, fields: Fields) -> int:
    width, heads = _number(fields, "hidden_size", 1), _number(fields, "num_attention_heads", 1)
    return HEAD_DIM * max(1, round(value * heads / width))


def _beside_rope(value: int, fields: Fields) -> int:
    """Size of a head, in proportion to the part that latent attention rotates, where there is one."""
    rope = _number(fields, "qk_rope_head_dim", 0)
    return max(1, round(HEAD_DIM * value / rope)) if rope else HEAD_DIM


def _rotary_dim(value: int, fields: Fields) -> int:
    width, heads = _number(fields, "hidden_size", 1), _number(fields, "num_attention_heads", 1)
    return HEAD_DIM if value * heads >= width else HEAD_DIM // 2


def _mamba_heads(value: int, fields: Fields) -> int:
    expand = next((e for n in ("expand", "mamba_expand") if type(e := fields.get(n)) is int), 2)
    return HEADS * expand


def _heads(value: int, fields: Fields) -> int:
    return _mamba_heads(value, fields) if "expand" in fields else HEADS


def _share_of_experts(value: int, fields: Fields) -> int:
    return 1 if value < _number(fields, "n_group", value + 1) else min(value, 2)


_SIZES: tuple[tuple[str, Size], ...] = (
    # vocabulary, positions, windows
    (r"type_vocab_sizes?", 16),
    (r".*vocab_?(size|offset).*|.*group_vocab", VOCABULARY),
    (r"max_2d_position_embeddings|num_position_embeddings", 1024),
    (r"original_max_position_embeddings", POSITIONS // 2),
    (r".*position_embeddings|.*(source|target)_positions|n_positions|n_ctx|max_seq_len", POSITIONS),
    (r"context_length|model_max_length|mem_len", POSITIONS),
    (r"sliding_window(_size)?|attention_chunk_size|(local_)?attention_window(_size|_len)?|window_size", 8),
    (r"local_attention|local_radius|keep_window_size", 8),
    (r"(mamba_)?chunk_size|index_topk|index_topk_blocks", 8),
    # experts
    (r"(n|num|moe_num)(_routed|_local)?_experts|zero_expert_num", 4),
    (r"(num_)?experts_per_tok(en)?|moe_k|moe_top_?k", 2),
    (r"n_group|num_expert_group", 2),
    (r"topk_group", _share_of_experts),
    (r"(moe|expert|shared)_.*(intermediate|ffn)_(hidden_)?size|router_hidden_size|moe_intermediate_size", WIDTH // 2),
    # state-space layers: heads x head size = expand x width
    (r"mamba_n_heads|mamba_num_heads|n_mamba_heads", _mamba_heads),
    (r"mamba_d_head|mamba_head_?dim", HEAD_DIM),
    (r"mamba_d_ssm", 2 * WIDTH),
    (r"mamba_n_?groups|n_groups", 2),
    (r"(ssm_)?state_size|mamba_d_state", 8),
    (r"time_step_rank|mamba_dt_rank", 4),
    # heads
    (r"(num|swa_num|n)_(key_value|kv)_heads|kv_n_heads|num_query_groups", _key_value_heads),
    (r"num_heads", _heads),
    (r".*(attention|attn)_heads|n_heads?|.*num_(key|value)_heads|linear_num_heads|index_n_heads", HEADS),
    (r"num_attention_heads_per_layer", HEADS),
    (r"attention_head_dim", _beside_head),
    (r"rotary_dim", _rotary_dim),
    (r"(mamba|linear)_.*head_dim|d_head|d_kv|kv_channels|attention_head_size|dim_head", HEAD_DIM),
    (r".*head_dim", _beside_rope),
    (r"coordinate_size", 6),  # four coordinates and two shapes fill the width
    (r"shape_size", 4),
    (r".*lora_rank|.*_rank", WIDTH // 2),
    # widths
    (
        r"attention_hidden_size|embedding_size|(input|output)_embedding_size|word_embed_proj_dim|lru_width",
        _beside_width,
    ),
    (r"embedding_dim|prediction_head_size|true_hidden_size|intra_bottleneck_size|d_latents", _beside_width),
    (r"num_latents|max_depth", 8),
    (r"num_self_attends_per_block", 2),
    (r"ls?h?_attn_chunk_length|local_attn_chunk_length", 4),
    (r".*hidden_(size|dim)|d_model|dim|n_embd|emb_dim|embed_dim", WIDTH),
    (r".*intermediate_size.*|.*ffn_(dim|hidden_size)|d_ff|dff|d_inner|dim_ff|n_inner|feed_forward_size", INNER),
)
_RULES = tuple((re.compile(pattern), size) for pattern, size in _SIZES)
_TOKEN_ID = re.compile(r".*token_(id|index)|(bos|eos|pad|unk|mask)_index")
_LABELS = ("id2label", "label2id")


class _Shrinker:
    """Makes values of fields small, given the whole configuration and the layers that are kept."""

    def __init__(self, fields: Fields, layers: Sequence[int], token_ids: dict[int, int]) -> None:
        self._fields, self._layers, self._token_ids = fields, layers, token_ids
        self._depth = _number(fields, "num_hidden_layers", 0)

    def value(self, name: str, value: object, standard_name: str) -> object:
        if isinstance(value, PreTrainedConfig):
            return _shrunken(value, self._token_ids)
        if isinstance(value, dict) and ("rope_theta" in value or "rope_type" in value):
            return self._rope(value)
        if isinstance(value, float) and name in ("partial_rotary_factor", "rotary_pct"):
            return self._rotated_part(value)
        if isinstance(value, dict) and name not in _LABELS:
            return {k: self.value(k, v, k) if isinstance(k, str) else v for k, v in value.items()}
        if _are_layer_indices(name, value, self._depth):
            kept = set(cast("Sequence[int]", value))
            return type(value)(new for new, old in enumerate(self._layers) if old in kept)  # type: ignore[call-arg]
        if _is_list_of_layers(name, value, self._depth):
            value = type(value)(cast("Sequence[object]", value)[i] for i in self._layers)  # type: ignore[call-arg]
        if isinstance(value, (list, tuple)):
            return type(value)(self.value(name, v, standard_name) for v in value)
        if type(value) is not int or value <= 0:
            return value
        return self._number(name, value, standard_name)

    def _rope(self, parameters: Fields) -> Fields:
        small = {k: self.value(k, v, k) for k, v in parameters.items()}
        fraction = small.get("partial_rotary_factor", 1.0)
        angles = int(self._head_dim * fraction) // 2 if isinstance(fraction, float) else self._head_dim // 2
        for name, value in parameters.items():
            if isinstance(value, list) and name.endswith("_factor"):  # one for each angle
                small[name] = value[:angles]
            elif isinstance(value, list) and name.endswith("_section"):  # parts of the angles
                ends = [round(angles * sum(value[: i + 1]) / sum(value)) for i in range(len(value))]
                small[name] = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return small

    @property
    def _head_dim(self) -> int:
        return _beside_rope(_number(self._fields, "head_dim", HEAD_DIM), self._fields)

    def _rotated_part(self, fraction: float) -> float:
        """The fraction of a small head that is rotated: four features at least, an even number, not all."""
        head = self._head_dim
        features = int(head * fraction)
        if fraction >= 1 or (features >= 4 and features % 2 == 0):
            return fraction
        return min(max(4, 2 * round(features / 2)), head - 2) / head

    def _number(self, name: str, value: int, standard_name: str) -> int:
        if _TOKEN_ID.fullmatch(name):
            # The same id stays the same in every part of a composite configuration.
            return (
                value
                if value < VOCABULARY
                else self._token_ids.setdefault(value, VOCABULARY - 1 - len(self._token_ids))
            )
        if _FIRST_LAYERS.fullmatch(name):
            return sum(i < value for i in self._layers)
        if _LAST_LAYERS.fullmatch(name):
            return sum(i >= self._depth - value for i in self._layers)
        if _DEPTHS.fullmatch(name) and not _NO_DEPTHS.fullmatch(name):
            return min(value, max(len(self._layers), 2))
        for candidate in dict.fromkeys((name, standard_name)):
            for pattern, size in _RULES:
                if pattern.fullmatch(candidate):
                    return min(value, size if isinstance(size, int) else size(value, self._fields))
        return value


_CONSTRAINTS: dict[str, Callable[[PreTrainedConfig], Fields]] = {
    "git_vision_model": lambda c: {"image_size": 2 * c.patch_size},  # as many tokens as patches stand before the text
    "gpt_neo": lambda c: {"attention_types": [[list(c.attention_layers), 1]]},
    "hrm_text": lambda c: {"num_hidden_layers": c.num_layers_per_stack * c.H_cycles * (c.L_cycles + 1)},
    "lilt": lambda _: {"hidden_size": 48},  # six equal parts and four heads
    "reformer": lambda _: {"axial_pos_shape": [4, POSITIONS // 4], "axial_pos_embds_dim": [WIDTH // 4, 3 * WIDTH // 4]},
    "xlstm": lambda _: {"hidden_size": 64, "embedding_dim": 64},  # rounded up to this for values, not for states
}
"""What no rule for a name can know, by model type: values of a small configuration that make it a valid one."""
