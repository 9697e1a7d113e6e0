"""What one module computes: a product, a look-up, a norm, or something else; and which entries nothing trains."""

from __future__ import annotations

from torch import nn
from transformers.pytorch_utils import Conv1D

from apet.backbones.positions import LayerKind
from apet.kernels.formulas import gradient_formula, is_quantized

OTHER: tuple[LayerKind, int, int] = ("other", 0, 0)
"""Of a layer of which only the parameters are known."""

PYTORCHS_OWN = (nn.Linear, Conv1D, nn.Embedding, nn.LayerNorm)
"""Modules whose classes say what they compute, also where the architecture could not be tried."""


def layer_kind(module: nn.Module) -> tuple[LayerKind, int, int]:
    """What a module computes, and the sizes of its input and output.

    Args:
        module: that owns parameters.

    Returns:
        The kind, d_in and d_out; `OTHER` where it is none of the products, also of a linear layer of an own kind, such
        as one that multiplies group by group.
    """
    weight = module._parameters.get("weight")
    formula = gradient_formula(module, "weight") if weight is not None else None
    if isinstance(module, nn.Embedding):
        return "embedding", module.num_embeddings, module.embedding_dim
    if isinstance(module, nn.Linear) and (formula is not None or is_quantized(module)):
        return "linear", module.in_features, module.out_features
    if isinstance(module, Conv1D) and formula is not None:  # GPT-2's linear layer; stores (d_in, d_out)
        return "linear", module.nx, module.nf
    if weight is not None and formula is not None and formula.name in ("layer_norm", "rms_norm"):
        return "norm", weight.shape[-1], weight.shape[-1]
    return OTHER


def unused_entries(stack: str, role: str, module: nn.Module) -> tuple[int, int]:
    """Flat entries ``[first, last)`` of an embedding that nothing can train.

    Args:
        stack: of its layer.
        role: of its layer.
        module: any.

    Returns:
        The first rows where positions are counted from a later one, a padding token's row, or the bucket of relative
        positions that no distance falls into; of other modules none.
    """
    if not isinstance(module, nn.Embedding):
        return 0, 0
    rows, d, padding = module.num_embeddings, module.embedding_dim, module.padding_idx
    if role == "embed.positions":
        first_used: int = getattr(module, "offset", 0) if padding is None else padding + 1
        return 0, first_used * d
    if role == "attn.relative_bias" and stack == "encoder":  # the upper half of the buckets looks ahead
        return rows // 2 * d, (rows // 2 + 1) * d
    return (0, 0) if padding is None else (padding * d, (padding + 1) * d)
