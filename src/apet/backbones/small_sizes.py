"""How small each size of a configuration becomes: one table from names of fields to sizes that fit each other."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

WIDTH, HEADS, HEAD_DIM, INNER, VOCABULARY, POSITIONS = 32, 4, 8, 48, 128, 64

Fields = Mapping[str, object]
Size = int | Callable[[int, Fields], int]


def small_size(name: str, value: int, fields: Fields) -> int | None:
    """Look up the small size of a field.

    Args:
        name: of the field.
        value: its size in the full configuration, positive.
        fields: the full configuration, by the names of its class and by transformers' common names.

    Returns:
        The small size; None for a number that is not a size, or that no rule knows.
    """
    for pattern, size in _RULES:
        if pattern.fullmatch(name):
            return min(value, size) if isinstance(size, int) else size(value, fields)
    return None


def head_size(fields: Fields) -> int:
    """The size of a head of the small model."""
    full = fields.get("head_dim")
    return _beside_rope(full, fields) if type(full) is int else HEAD_DIM


def int_field(fields: Fields, name: str, default: int) -> int:
    """A field that is a number, or the default where it is none or missing."""
    value = fields.get(name)
    return value if type(value) is int else default


def _exactly(size: int) -> Callable[[int, Fields], int]:
    """Also where it was smaller: sizes that divide each other must all be of one kind."""
    return lambda _, __: size


def _key_value_heads(value: int, fields: Fields) -> int:
    """As many as heads, one, or a number between."""
    return HEADS if value == int_field(fields, "num_attention_heads", 0) else min(value, HEADS // 2)


def _key_heads(value: int, fields: Fields) -> int:
    return HEADS // 2 if value < int_field(fields, "linear_num_value_heads", value) else HEADS


def _beside_width(value: int, fields: Fields) -> int:
    """A width that is the model's own, or less, or more."""
    width = int_field(fields, "hidden_size", value)
    return WIDTH // 2 if value < width else WIDTH * math.ceil(value / width)


def _beside_head(value: int, fields: Fields) -> int:
    width, heads = int_field(fields, "hidden_size", 1), int_field(fields, "num_attention_heads", 1)
    return HEAD_DIM * max(1, round(value * heads / width))


def _beside_rope(value: int, fields: Fields) -> int:
    """Size of a head, in proportion to the part that latent attention rotates, where there is one."""
    rope = int_field(fields, "qk_rope_head_dim", 0)
    return max(1, round(HEAD_DIM * value / rope)) if rope else HEAD_DIM


def _rotary_dim(value: int, fields: Fields) -> int:
    return (
        HEAD_DIM
        if value * int_field(fields, "num_attention_heads", 1) >= int_field(fields, "hidden_size", 1)
        else HEAD_DIM // 2
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
