"""Roles read off module paths, for architectures that no family describes: the names that modeling files share."""

from __future__ import annotations

import re

_ATTENTION = re.compile(r"attn|attention")
_CROSS = re.compile(r"cross|encoder_attn|encdec|encoder_attention|context_attn")
_MLP = re.compile(r"mlp|ffn|ff\b|feed_?forward|intermediate|experts?\b|moe|densereludense|dense_block")

_ATTENTION_ROLES: dict[str, str] = {
    r"q|q_proj|query|q_lin|wq|w_q|query_proj|linear_q|q_linear|to_q": "q",
    r"k|k_proj|key|k_lin|wk|w_k|key_proj|linear_k|k_linear|to_k": "k",
    r"v|v_proj|value|v_lin|wv|w_v|value_proj|linear_v|v_linear|to_v": "v",
    r"qkv|qkv_proj|query_key_value|c_attn|wqkv|w_pack|in_proj|qkv_linear|att_proj": "qkv",
    r"kv|kv_proj|key_value|kv_linear": "kv",
    r"o|o_proj|out_proj|out|out_lin|c_proj|wo|w_o|dense|output\.dense|output|proj|output_proj|attn_out|linear_out"
    r"|final_linear": "out",
    r"q_norm|query_norm|q_layernorm|q_ln|query_layernorm": "q_norm",
    r"k_norm|key_norm|k_layernorm|k_ln|key_layernorm": "k_norm",
    r"relative_attention_bias": "relative_bias",
    r"pos_query_proj|pos_q_proj": "pos_q",
    r"pos_key_proj|pos_proj": "pos_k",
    r".*(norm|ln)": "norm",
}
_MLP_ROLES: dict[str, str] = {
    r"gate_proj|wi_0|w1|w_gate|gate_linear": "gate",
    r"up_proj|wi_1|wi|w3|fc1|fc_1|lin1|linear1|c_fc|fc_in|dense_h_to_4h|fully_connected_1|dense_in|intermediate\.dense"
    r"|dense|w_up|up_linear|ff1|ffn": "up",
    r"gate_up_proj|wi|gate_and_up_proj|wi_proj|w12|input_linear|gate_up_linear": "gate_up",
    r"down_proj|wo|w2|fc2|fc_2|lin2|linear2|c_proj|fc_out|dense_4h_to_h|fully_connected_2|dense_out|output\.dense"
    r"|w_down|output_linear|ff2|output|ffn_output": "down",
    r"router|gate|router\.(layer|classifier|weight)": "router",
    r"experts": "experts",
    r".*(norm|ln)": "norm",
}
_WITHOUT_CONTEXT = [
    "up_proj",
    "gate_proj",
    "down_proj",
    "fc1",
    "fc2",
    "lin1",
    "lin2",
    "linear1",
    "linear2",
    "wi",
    "wi_0",
    "wi_1",
    "gate_up_proj",
]
"""Leaf names that belong to a feed-forward also where no word of the path says so."""

_ATTENTION_NORMS = re.compile(
    r"input_layernorm|ln_1|norm_?1|attention_norm|self_attn_layer_norm|attn_norm|sa_layer_norm|ln1|ln_attn|pre_ln"
    r"|attention_layernorm|layernorm_before|.*attention\.layer_?norm|self_attn_norm|attn_layer_norm|operator_norm|.*attention\.output\.layernorm"
    r"|pre_attn_norm|input_norm|temporal_pre_norm|pre_self_attn_layernorm"
)
_CROSS_NORMS = re.compile(
    r"encoder_attn_layer_norm|cross_attn_layer_norm|.*cross_?attention.*norm|post_cross.*|pre_cross.*"
)
_MLP_NORMS = re.compile(
    r"post_attention_layernorm|ln_2|norm_?2|ffn_norm|mlp_norm|final_layer_norm|output_layer_norm|ln2|ln_mlp"
    r"|mlp_layernorm|pre_feedforward_layernorm|output\.layernorm|layernorm_after|full_layer_layer_norm|pre_mlp_layernorm"
    r"|channel_pre_norm|pre_ff_layernorm|ff_layernorm|layer_norm|layernorm"
)
_POST_NORMS = {r"post_feedforward_layernorm|post_mlp_layernorm|post_ffn_norm": "mlp.post_norm"}


def role_of(path: str, is_norm: bool, has_feedforward_norm: bool) -> str:
    """The role that a layer's path inside its block tells.

    Args:
        path: inside the block, such as ``self_attn.q_proj``.
        is_norm: whether the layer is a norm.
        has_feedforward_norm: whether the block has a norm named for the feed-forward, so that the one "after attention"
            normalizes attention's own output.

    Returns:
        The role; ``other`` where the path tells none.
    """
    low = path.lower()
    leaf = low.rpartition(".")[2]
    last_two = ".".join(low.split(".")[-2:])
    prefix = "cross_attn" if _CROSS.search(low) else "attn"
    if is_norm:
        inner = _first(_ATTENTION_ROLES, leaf) if _ATTENTION.search(low) else None
        if inner in ("q_norm", "k_norm"):
            return f"{prefix}.{inner}"
        return _norm_role(low, leaf, has_feedforward_norm)
    in_experts = re.search(r"experts\.\d+|shared_experts?\b", low)
    if _ATTENTION.search(low) and not in_experts:
        role = _first(_ATTENTION_ROLES, last_two) or _first(_ATTENTION_ROLES, leaf)
        return f"{prefix}.{role}" if role and role != "norm" else "other"
    if leaf in _WITHOUT_CONTEXT or _MLP.search(low) or last_two in ("output.dense", "intermediate.dense"):
        role = _first(_MLP_ROLES, last_two) or _first(_MLP_ROLES, leaf)
        return f"mlp.{role}" if role and role != "norm" else "other"
    return "other"


def _norm_role(low: str, leaf: str, has_feedforward_norm: bool) -> str:
    for pattern, role in _POST_NORMS.items():
        if re.fullmatch(pattern, leaf):
            return role
    if has_feedforward_norm and re.fullmatch(
        r"post_attention_(layer)?norm|post_attn_norm|post_self_attn_layernorm", leaf
    ):
        return "attn.post_norm"
    if _CROSS_NORMS.fullmatch(low) or _CROSS_NORMS.fullmatch(leaf):
        return "cross_attn.norm"
    if _ATTENTION_NORMS.fullmatch(low) or _ATTENTION_NORMS.fullmatch(leaf):
        return "attn.norm"
    if _MLP_NORMS.fullmatch(leaf) or low.endswith("output.layernorm"):
        return "mlp.norm"
    return "norm"


def _first(roles: dict[str, str], name: str) -> str | None:
    return next((role for pattern, role in roles.items() if re.fullmatch(pattern, name)), None)


def outside_role(path: str, is_embedding: bool, is_norm: bool) -> str:
    """The role of a layer outside the blocks, apart from the token embedding and the output projection.

    Args:
        path: from the base model.
        is_embedding: whether it is one.
        is_norm: whether it is one.

    Returns:
        The role; ``other`` where the path tells none.
    """
    low = path.lower()
    leaf = low.rpartition(".")[2]
    if is_embedding:
        if re.search(r"token_type|segment", low):
            return "embed.types"
        # The last part, since a whole embedding layer may be called "position embeddings".
        return "embed.positions" if re.search(r"pos", leaf) else "other"
    if is_norm:
        return "embed.norm" if re.search(r"emb", low) and not re.search(r"layer_?norm_?f|final", leaf) else "norm"
    if leaf == "pooler" or low.endswith("pooler.dense"):
        return "pooler"
    if re.search(r"embed.*(project|hidden_mapping)|project_in|embeddings_project|hidden_in", low):
        return "embed.project"
    return "other"
