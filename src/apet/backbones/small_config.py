"""A shrunken copy of any transformers configuration, whose model shows in milliseconds what the full one does."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from transformers import PreTrainedConfig

WIDTH, HEADS, HEAD_DIM, INNER, VOCABULARY, POSITIONS = 32, 4, 8, 48, 128, 64
MAX_LAYERS = 8
"""Deepest stack that is built to show layers in the order in which they stand."""

Fields = Mapping[str, object]
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
    overrides = _overrides_by_layer(config)
    vars(small).pop("_heterogeneity_spec", None)  # names layers that may be gone
    # Not by getattr: where layers override a field, a configuration refuses to say its common value.
    own = {name: value for name, value in vars(config).items() if not name.startswith("_")}
    standard_names = {name: standard for standard, name in type(config).attribute_map.items()}
    depth = _depth(config)
    fields = {
        **{standard_names.get(name, name): value for name, value in own.items()},
        **own,
        "num_hidden_layers": depth,
    }
    layers = _shown_layers(config, fields, depth)

    shrinker = _Shrinker(fields, layers, token_ids)
    for name, value in own.items():
        if isinstance(value, PreTrainedConfig):
            _set(small, name, _shrunken(value, token_ids))
        else:
            new = shrinker.shrink(name, value, standard_names.get(name))
            if new != value:
                _set(small, name, new)
    if overrides:
        small.per_layer_config = {
            new: {n: _Shrinker({**fields, **layer}, layers, token_ids).shrink(n, v) for n, v in layer.items()}
            for new, old in enumerate(layers)
            if (layer := overrides.get(old))
        }
    for name, value in _CONSTRAINTS.get(config.model_type, lambda _: {})(small).items():
        _set(small, name, value)
    return small


def _get(config: PreTrainedConfig, name: str) -> object:
    try:
        return getattr(config, name, None)
    except Exception:  # computed from what this configuration lacks, or from what its layers override
        return None


def _set(config: PreTrainedConfig, name: str, value: object) -> None:
    try:
        setattr(config, name, value)
    except Exception:  # each class checks in its own way; what it does not take stays as large as it was
        return


def _depth(config: PreTrainedConfig) -> int:
    depth = _get(config, "num_hidden_layers")
    return depth if isinstance(depth, int) else 0


def _overrides_by_layer(config: PreTrainedConfig) -> dict[int, Fields]:
    spec = vars(config).get("_heterogeneity_spec")
    return {} if spec is None else spec.per_layer_overrides


# --- Which layers are kept ------------------------------------------------------------------------------------------

_LIST_OF_LAYERS = re.compile(r".*(layer|attn|types|pattern).*|intermediate_size")
_LAYER_INDICES = re.compile(r"(?!no_rope).*(layers|layer_ids|indices|idxs)")
_FIRST_LAYERS = re.compile(r"first_k_dense_replace|num_dense_layers|max_window_layers|moe_layer_(start|end)_index")
_LAST_LAYERS = re.compile(r"num_kv_shared_layers")
_PERIOD = re.compile(r".*(sparse_step|layer_interval|layer_step|layer_freq|attention_frequency)")


def _is_list_of_layers(name: str, value: object, depth: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == depth and _LIST_OF_LAYERS.fullmatch(name) is not None


def _are_layer_indices(name: str, value: object, depth: int) -> bool:
    return (
        isinstance(value, (list, tuple))
        and _LAYER_INDICES.fullmatch(name) is not None
        and all(type(i) is int and 0 <= i < depth for i in value)
        and len(set(value)) == len(value)
    )


def _shown_layers(config: PreTrainedConfig, fields: Fields, depth: int) -> list[int]:
    """The layers to keep, in order.

    Returns:
        The shortest beginning of the stack that has a layer of every kind; where this is more than `MAX_LAYERS`, the
        first layer of every kind.
    """
    computed = {
        name: _get(config, name)
        for name, member in ((name, getattr(type(config), name, None)) for name in dir(type(config)))
        if isinstance(member, property) and _LIST_OF_LAYERS.fullmatch(name)
    }
    overrides = _overrides_by_layer(config)
    kinds = [_kind_of_layer(i, {**computed, **fields}, depth, overrides.get(i)) for i in range(depth)]
    firsts = sorted(kinds.index(kind) for kind in set(kinds))
    last = max(firsts, default=0)
    shown = list(range(last + 1)) if last < MAX_LAYERS else firsts[:MAX_LAYERS]
    others = [i for i in range(depth) if i not in shown]
    return sorted(shown + others[: max(0, 2 - len(shown))])


def _kind_of_layer(i: int, fields: Fields, depth: int, overrides: Fields | None) -> tuple[str, ...]:
    """Everything that a configuration says of one layer in particular."""
    kind = [repr(overrides)]
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
            elif _PERIOD.fullmatch(name) and value <= MAX_LAYERS:
                kind.append(str(i % value))
    return tuple(kind)


# --- How small a number becomes -------------------------------------------------------------------------------------


def _int(fields: Fields, name: str, default: int) -> int:
    value = fields.get(name)
    return value if type(value) is int else default


def _exactly(size: int) -> Callable[[int, Fields], int]:
    """Also where it was smaller: sizes that divide each other must all be of one kind."""
    return lambda _, __: size


def _key_value_heads(value: int, fields: Fields) -> int:
    """As many as heads, one, or a number between."""
    return HEADS if value == _int(fields, "num_attention_heads", 0) else min(value, HEADS // 2)


def _key_heads(value: int, fields: Fields) -> int:
    return HEADS // 2 if value < _int(fields, "linear_num_value_heads", value) else HEADS


def _beside_width(value: int, fields: Fields) -> int:
    """A width that is the model's own, or less, or more."""
    width = _int(fields, "hidden_size", value)
    return WIDTH // 2 if value < width else WIDTH * math.ceil(value / width)


def _beside_head(value: int, fields: Fields) -> int:
    width, heads = _int(fields, "hidden_size", 1), _int(fields, "num_attention_heads", 1)
    return HEAD_DIM * max(1, round(value * heads / width))


def _beside_rope(value: int, fields: Fields) -> int:
    """Size of a head, in proportion to the part that latent attention rotates, where there is one."""
    rope = _int(fields, "qk_rope_head_dim", 0)
    return max(1, round(HEAD_DIM * value / rope)) if rope else HEAD_DIM


def _rotary_dim(value: int, fields: Fields) -> int:
    return (
        HEAD_DIM if value * _int(fields, "num_attention_heads", 1) >= _int(fields, "hidden_size", 1) else HEAD_DIM // 2
    )


def _expanded(size: int) -> Callable[[int, Fields], int]:
    """Widths and heads of state-space layers, which are a multiple of the model's."""

    def expanded(_: int, fields: Fields) -> int:
        expand = fields.get("expand", fields.get("mamba_expand", 2))
        return int(size * expand) if isinstance(expand, (int, float)) else 2 * size

    return expanded


def _only_if_expanded(size: int) -> Callable[[int, Fields], int]:
    return lambda value, fields: _expanded(size)(value, fields) if "expand" in fields else size


_SIZES: tuple[tuple[str, Size], ...] = (
    # A number is a limit, a function gives the size. Vocabulary, positions, windows:
    (r"type_vocab_sizes?", 16),
    (r".*vocab_?(size|offset).*|.*group_vocab|num_hash_buckets", VOCABULARY),
    (r"max_2d_position_embeddings|num_position_embeddings", 1024),
    (r"original_max_position_embeddings", POSITIONS // 2),
    (r".*position_embeddings|.*(source|target)_positions|n_positions|n_ctx|max_seq_len", POSITIONS),
    (r"context_length|model_max_length|mem_len", POSITIONS),
    (r"sliding_window(_size)?|attention_chunk_size|(local_)?attention_window(_size|_len)?|window_size", 8),
    (r"local_attention|local_radius|keep_window_size|(mamba_)?chunk_size", 8),
    (r"index_topk|index_topk_blocks|indexer_budget", 8),
    (r"indexer_compress_ratio", 2),
    (r"l(sh|ocal)_attn_chunk_length", 4),
    # Experts:
    (r"(n|num|moe_num)(_routed|_local)?_experts|zero_expert_num", 4),
    (r"(num_)?experts_per_tok(en)?|moe_k|moe_top_?k", 2),
    (r"n_group|num_expert_group", 2),
    (r"topk_group", 1),
    (r"(moe|expert|shared)_.*(intermediate|ffn)_(hidden_)?size|router_hidden_size", _exactly(WIDTH // 2)),
    # State-space layers: heads x size of a head = width x expand.
    (r"mamba_n_heads|mamba_num_heads|n_mamba_heads", _expanded(HEADS)),
    (r"num_heads", _only_if_expanded(HEADS)),
    (r"mamba_d_head|mamba_head_?dim", _exactly(HEAD_DIM)),
    (r"mamba_d_ssm", _expanded(WIDTH)),
    (r"mamba_n_?groups|n_groups", 2),
    (r"(ssm_)?state_size|mamba_d_state", 8),
    (r"time_step_rank|mamba_dt_rank", 4),
    # Heads:
    (r"(num|swa_num|n)_(key_value|kv)_heads|kv_n_heads|num_query_groups", _key_value_heads),
    (r"linear_num_key_heads", _key_heads),
    (r".*(attention|attn)_heads(_per_layer)?|n_heads?|linear_num_(value_)?heads|index(er)?_n_heads", _exactly(HEADS)),
    (r"attention_head_dim", _beside_head),
    (r"rotary_dim", _rotary_dim),
    (r"linear_.*head_dim|d_head|d_kv|kv_channels|attention_head_size|dim_head", _exactly(HEAD_DIM)),
    (r".*head_dim", _beside_rope),
    # Widths:
    (r".*rank", _exactly(WIDTH // 2)),
    (
        r"hidden_size_(global|per_layer_input)|attention_hidden_size|true_hidden_size|intra_bottleneck_size",
        _beside_width,
    ),
    (r"((input|output)_)?embedding_size|embedding_dim|word_embed_proj_dim|prediction_head_size", _beside_width),
    (r"lru_width|d_latents|ple_embed_dim", _beside_width),
    (r"hidden_dim", lambda _, fields: INNER if "dim" in fields else WIDTH),
    (r".*hidden_size|d_model|dim|n_embd|emb_dim|embed_dim", _exactly(WIDTH)),
    (r"intermediate_size", lambda _, fields: _expanded(WIDTH)(0, fields) if "expand" in fields else INNER),
    (r".*intermediate_size.*|mlp_dim|.*ffn_(dim|hidden_size)|d_ff|dff|d_inner|dim_ff|n_inner", _exactly(INNER)),
    (r"feed_forward_size", _exactly(INNER)),
    (r"block_multiple_of", 8),
    (r"coordinate_size", 6),  # four coordinates and two shapes fill the width
    (r"shape_size", 4),
    # Stacks of their own, and towers for images and sound that stand beside the text:
    (r"block_sizes|num_self_attends_per_block", 2),
    (r"num_latents|max_depth", 8),
    (r"adapter_(in|out)_dim|adapter_input_size|out_hidden_size|output_channels", _exactly(WIDTH)),
    (r"nemo_conv_channels|.*_out_channel", _exactly(WIDTH)),
    (r"num_filters|depths", 2),
)
_RULES = tuple((re.compile(pattern), size) for pattern, size in _SIZES)
_DEPTHS = re.compile(r"(.*_)?(num_|n_)?(hidden_|encoder_|decoder_)?layers?(_per_stack)?|num_blocks|depth")
_NO_DEPTHS = re.compile(r".*(dense|sparse|shared|window|hash|moe|adapter|lstm|residual|nextn|feature|mtp).*")
_TOKEN_ID = re.compile(r".*token_(id|index)|(bos|eos|pad|unk|mask)_index")
_LABELS = ("id2label", "label2id")


class _Shrinker:
    """Makes the values of fields small, given the whole configuration and the layers that are kept."""

    def __init__(self, fields: Fields, layers: Sequence[int], token_ids: dict[int, int]) -> None:
        self._fields, self._layers, self._token_ids = fields, layers, token_ids
        self._depth = _int(fields, "num_hidden_layers", 0)

    def shrink(self, name: str, value: object, standard_name: str | None = None) -> object:
        if isinstance(value, dict):
            if name in _LABELS:
                return value
            small = {k: self.shrink(k, v) if isinstance(k, str) else v for k, v in value.items()}
            return self._fit_rope(small) if "rope_type" in value or "rope_theta" in value else small
        if isinstance(value, (list, tuple)):
            return type(value)(self._shrink_items(name, value, standard_name))
        if isinstance(value, float) and name in ("partial_rotary_factor", "rotary_pct"):
            return self._rotated_part(value)
        return self._shrink_number(name, value, standard_name) if type(value) is int and value > 0 else value

    def _shrink_items(self, name: str, items: Sequence[object], standard_name: str | None) -> list[object]:
        if _are_layer_indices(name, items, self._depth):
            return [new for new, old in enumerate(self._layers) if old in items]
        if _is_list_of_layers(name, items, self._depth):
            items = [items[i] for i in self._layers]
        return [self.shrink(name, item, standard_name) for item in items]

    def _shrink_number(self, name: str, value: int, standard_name: str | None) -> int:
        if _TOKEN_ID.fullmatch(name):
            # The same id stays the same in every part of a composite configuration.
            last = VOCABULARY - 1 - len(self._token_ids)
            return value if value < VOCABULARY else self._token_ids.setdefault(value, last)
        if _FIRST_LAYERS.fullmatch(name):
            return sum(i < value for i in self._layers)
        if _LAST_LAYERS.fullmatch(name):
            return sum(i >= self._depth - value for i in self._layers)
        if _DEPTHS.fullmatch(name) and not _NO_DEPTHS.fullmatch(name):
            return min(value, max(len(self._layers), 2))
        for candidate in (name, standard_name or name):
            for pattern, size in _RULES:
                if pattern.fullmatch(candidate):
                    return min(value, size) if isinstance(size, int) else size(value, self._fields)
        return value

    @property
    def _head_dim(self) -> int:
        return _beside_rope(_int(self._fields, "head_dim", HEAD_DIM), self._fields)

    def _rotated_part(self, fraction: float) -> float:
        """The fraction of a small head that is rotated: four features at least, an even number, not all."""
        features = int(self._head_dim * fraction)
        if fraction >= 1 or (features >= 4 and features % 2 == 0):
            return fraction
        return min(max(4, 2 * round(features / 2)), self._head_dim - 2) / self._head_dim

    def _fit_rope(self, parameters: dict[str, object]) -> dict[str, object]:
        """Cut what has one entry for each angle to the angles of a small head."""
        fraction = parameters.get("partial_rotary_factor")
        angles = int(self._head_dim * (fraction if isinstance(fraction, float) else 1)) // 2
        for name, value in parameters.items():
            if isinstance(value, list) and name.endswith("_factor"):
                parameters[name] = value[:angles]
            elif isinstance(value, list) and name.endswith("_section"):
                ends = [round(angles * sum(value[: i + 1]) / sum(value)) for i in range(len(value))]
                parameters[name] = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return parameters


_CONSTRAINTS: dict[str, Callable[[PreTrainedConfig], Fields]] = {
    "blt_global_transformer": lambda _: {"hidden_size": 2 * WIDTH, "head_dim": 2 * HEAD_DIM},  # two states a patch
    "gpt_neo": lambda c: {"attention_types": [[list(c.attention_layers), 1]]},  # from which it makes the list anew
    "hrm_text": lambda c: {"num_hidden_layers": c.num_layers_per_stack * c.H_cycles * (c.L_cycles + 1)},
    "lilt": lambda _: {"hidden_size": 48},  # six equal parts and four heads
    "reformer": lambda _: {"axial_pos_shape": (4, POSITIONS // 4), "axial_pos_embds_dim": (WIDTH // 4, 3 * WIDTH // 4)},
    "xlstm": lambda _: {"hidden_size": 128, "embedding_dim": 128},  # half of it is rounded up to 64, but for the cache
}
"""What no rule for a name can know, by model type: values of a small configuration that make it a valid one."""
