"""A shrunken copy of any transformers configuration, whose model shows in milliseconds what the full one does."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import cast

from transformers import PreTrainedConfig

from apet.backbones.small_sizes import (
    HEAD_DIM,
    POSITIONS,
    VOCABULARY,
    WIDTH,
    Fields,
    head_size,
    int_field,
    small_size,
)

MAX_LAYERS = 8
"""Deepest stack that is built to show layers in the order in which they stand."""


def small_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Shrink a configuration to a model of some ten thousand parameters that is built and run at once.

    Sizes become small; every choice stays: activations, norms, biases, tying, kinds of layers, kinds of rotary
    embeddings, numbers of labels. There are two layers, or as many as it takes to show every kind of layer. What
    cannot be shrunk is left as it is.

    Args:
        config: of any model, left unchanged.

    Returns:
        The small configuration, of the same class.

    Examples:
        >>> from transformers import LlamaConfig
        >>> small = small_config(LlamaConfig(attention_bias=True, num_key_value_heads=8))
        >>> small.hidden_size, small.num_hidden_layers, small.num_key_value_heads, small.attention_bias
        (32, 2, 2, True)
    """
    small = _shrunken(config, {})
    if small._attn_implementation not in (None, "eager", "sdpa"):
        _set(small, "_attn_implementation", None)  # a kernel, no part of the architecture: this copy runs anywhere
    return small


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
        small_overrides = {
            new: {n: _Shrinker({**fields, **layer}, layers, token_ids).shrink(n, v) for n, v in layer.items()}
            for new, old in enumerate(layers)
            if (layer := overrides.get(old))
        }
        _set(small, "per_layer_config", small_overrides)
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

_LIST_OF_LAYERS = re.compile(r".*(layer|attn|types|pattern|window).*|intermediate_size")
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


# --- How values become small ----------------------------------------------------------------------------------------

_DEPTHS = re.compile(r"(.*_)?(num_|n_)?(hidden_|encoder_|decoder_)?layers?(_per_stack)?|num_blocks|depth")
_NO_DEPTHS = re.compile(r".*(dense|sparse|shared|window|hash|moe|adapter|lstm|residual|nextn|feature|mtp).*")
_TOKEN_ID = re.compile(r".*token_(id|index)|(bos|eos|pad|unk|mask)_index")
_LABELS = ("id2label", "label2id")


class _Shrinker:
    """Makes the values of fields small, given the whole configuration and the layers that are kept."""

    def __init__(self, fields: Fields, layers: Sequence[int], token_ids: dict[int, int]) -> None:
        self._fields, self._layers, self._token_ids = fields, layers, token_ids
        self._depth = int_field(fields, "num_hidden_layers", 0)

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
        sizes = (small_size(n, value, self._fields) for n in (name, standard_name) if n)
        return next((size for size in sizes if size is not None), value)

    def _rotated_part(self, fraction: float) -> float:
        """The fraction of a small head that is rotated: four features at least, an even number, not all."""
        features = int(head_size(self._fields) * fraction)
        if fraction >= 1 or (features >= 4 and features % 2 == 0):
            return fraction
        return min(max(4, 2 * round(features / 2)), head_size(self._fields) - 2) / head_size(self._fields)

    def _fit_rope(self, parameters: dict[str, object]) -> dict[str, object]:
        """Cut what has one entry for each angle to the angles of a small head."""
        fraction = parameters.get("partial_rotary_factor")
        angles = int(head_size(self._fields) * (fraction if isinstance(fraction, float) else 1)) // 2
        for name, value in parameters.items():
            if isinstance(value, list) and name.endswith("_factor"):
                parameters[name] = value[:angles]
            elif isinstance(value, list) and name.endswith("_section"):
                ends = [round(angles * sum(value[: i + 1]) / sum(value)) for i in range(len(value))]
                parameters[name] = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return parameters


def _one_more_hybrid(config: PreTrainedConfig) -> Fields:
    """Layers that share their weights are seen to share them where there are two."""
    kinds = [*config.layers_block_type, "hybrid"]
    indices = {"hybrid_layer_ids": [i for i, kind in enumerate(kinds) if kind == "hybrid"]}
    return {
        "num_hidden_layers": len(kinds),
        "layers_block_type": kinds,
        **(indices if hasattr(config, "hybrid_layer_ids") else {}),
    }


_CONSTRAINTS: dict[str, Callable[[PreTrainedConfig], Fields]] = {
    "blt_global_transformer": lambda _: {"hidden_size": 2 * WIDTH, "head_dim": 2 * HEAD_DIM},  # two states a patch
    "deepseek_v4": lambda c: {"compress_rates": {k: min(v, 8) for k, v in c.compress_rates.items()}},  # tokens to one
    "gpt_neo": lambda c: {"attention_types": [[list(c.attention_layers), 1]]},  # from which it makes the list anew
    "hrm_text": lambda c: {"num_hidden_layers": c.num_layers_per_stack * c.H_cycles * (c.L_cycles + 1)},
    "lilt": lambda _: {"hidden_size": 48},  # six equal parts and four heads
    "reformer": lambda _: {"axial_pos_shape": (4, POSITIONS // 4), "axial_pos_embds_dim": (WIDTH // 4, 3 * WIDTH // 4)},
    "xlstm": lambda _: {"hidden_size": 128, "embedding_dim": 128},  # half of it is rounded up to 64, but for the cache
    "zamba": _one_more_hybrid,
    "zamba2": _one_more_hybrid,
}
"""What no rule for a name can know, by model type: values of a small configuration that make it a valid one."""
