"""Gradients of k chosen entries of a weight, from the layer's input and the gradient of its output.

Each function gives what autograd would put at those entries of a dense gradient, without keeping a dense gradient:
products in the layer's own precision, as autograd takes them, results in fp32. `SparseGradientTap` ties them into
autograd: an identity on the layer's output whose backward forms the k gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from apet.masks.mask import Mask

SAMPLED_PRODUCT_MAX_DENSITY = {4: 0.1, 2: 0.01}
"""Density up to which sampled products beat the dense one, by bytes of the layer's numbers. Measured on a CPU
(docs/log.md, 2026-11-24): break-even at 7–19 % in fp32; in bf16, whose dense product is fast, at 0–6 %."""

GATHERED_MAX_SHARE = 0.75
"""Entries, as a share of rows + columns, up to which the columns of each entry are gathered: MKL's sampled product
copies both matrices first, whatever k is. Measured on a CPU (benchmarks/sampled_product.py --gathered): the ratio is
0.7 to 1.0 at 0.75 and passes 1 before 1.5."""

SAMPLED_LOOKUP_MAX_DENSITY = 0.05
"""Density up to which sampled look-ups beat a dense gradient of an embedding: break-even at 3–12 %."""

Gradient = Callable[[Tensor, Tensor], Tensor]


class SparseGradientTap(torch.autograd.Function):
    """Identity on a layer's output that gives k values their gradient.

    In backward, ``values`` get ``gradient(source, grad_y)``, and ``y`` its own gradient. Only the layer's input is
    kept, which the layer keeps for its own backward anyway: a tap costs no activation memory.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, values: Tensor, source: Tensor, gradient: Gradient) -> Tensor:
        """Keep the layer's input, (…, d_in); hand its output on, (…, d_out)."""
        ctx.save_for_backward(source)
        ctx.gradient = gradient
        # An alias, not a view: models add in place to what a layer returns, which autograd forbids on a view.
        return y.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Form the k gradients, (k,), fp32."""
        (source,) = ctx.saved_tensors
        return grads[0], ctx.gradient(source, grads[0]) if ctx.needs_input_grad[1] else None, None, None


def linear_weight_grad(left: Tensor, right: Tensor, mask: Mask, indices: Tensor | None) -> Tensor:
    """Entries of ``leftᵀ right``, the gradient of a linear layer's weight.

    Args:
        left: (tokens, rows): the output's gradient, or the input where the weight is stored (d_in, d_out).
        right: (tokens, columns): the other of the two.
        mask: which entries; its shape is (rows, columns).
        indices: flat indices (k,) on the same device; None where the mask is a slice.

    Returns:
        (k,), fp32.
    """
    rows, columns = mask.shape
    if left.dtype != right.dtype:  # under autocast: the layer computed in the lower of the two
        low = min(left.dtype, right.dtype, key=lambda d: d.itemsize)
        left, right = left.to(low), right.to(low)
    if mask.kind == "dense":
        return (left.t() @ right).reshape(-1).float()
    if mask.kind == "contiguous":
        first, last = mask.start, mask.start + mask.num_trainable - 1
        if mask.along == "rows":
            # Only the rows that the run touches are multiplied, then its ends are cut off.
            top, bottom = first // columns, last // columns + 1
            block = (left[:, top:bottom].t() @ right).reshape(-1)
            return block[first - top * columns : last + 1 - top * columns].float()
        near, far = first // rows, last // rows + 1
        # A run along columns touches few columns: only those are multiplied.
        # The thin matrix first: the other orientation takes three times as long (docs/log.md, 2026-11-27).
        block = (right[:, near:far].t() @ left).t().float()
        if indices is None:  # a tensor of one row or one column
            return block.reshape(-1)[: mask.num_trainable] if rows == 1 else block.reshape(-1)[first : last + 1]
        return block[indices // columns, indices % columns - near]
    assert indices is not None
    if mask.num_trainable > SAMPLED_PRODUCT_MAX_DENSITY.get(left.dtype.itemsize, 0.0) * mask.size:
        return (left.t() @ right).reshape(-1)[indices].float()
    return sampled_product(left, right, indices)


# A custom operator, because torch.compile cannot trace the sparse product.
@torch.library.custom_op("apet::sampled_product", mutates_args=())
def sampled_product(left: Tensor, right: Tensor, indices: Tensor) -> Tensor:
    """Sampled dense-dense product: entries ``indices`` of ``leftᵀ right``, each by its own dot product over the tokens.

    Args:
        left: (tokens, rows).
        right: (tokens, columns).
        indices: flat indices, sorted, (k,).

    Returns:
        (k,), fp32.
    """
    rows, columns = left.shape[1], right.shape[1]
    if not left.is_cuda and left.dtype == torch.float32 and len(indices) <= GATHERED_MAX_SHARE * (rows + columns):
        return (left.index_select(1, indices // columns) * right.index_select(1, indices % columns)).sum(0)
    if left.is_cuda or torch.backends.mkl.is_available():
        starts = torch.arange(rows + 1, device=indices.device) * columns
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "sparse CSR is in beta"
            mask = torch.sparse_csr_tensor(
                torch.searchsorted(indices, starts),
                indices % columns,
                torch.zeros(len(indices), device=indices.device),
                (rows, columns),
                check_invariants=False,
            )
        return torch.sparse.sampled_addmm(mask, left.t().float(), right.float(), beta=0.0).values()
    # Without MKL: gather the two columns of each entry, as many at a time as keep the buffers at 16 MiB.
    out = torch.empty(len(indices), device=left.device)
    step = max(1, 2**22 // max(1, len(left)))
    for i in range(0, len(indices), step):
        entries = indices[i : i + step]
        out[i : i + step] = (left[:, entries // columns].float() * right[:, entries % columns].float()).sum(0)
    return out


@sampled_product.register_fake
def _(left: Tensor, right: Tensor, indices: Tensor) -> Tensor:
    return left.new_empty(indices.shape, dtype=torch.float32)


def embedding_weight_grad(
    ids: Tensor, grad: Tensor, mask: Mask, indices: Tensor | None, padding: int | None = None
) -> Tensor:
    """Entries of an embedding's gradient: the sum of ``grad`` over the places where a row was looked up.

    Args:
        ids: (tokens,), rows that were looked up.
        grad: (tokens, d), the gradient of what came out.
        mask: which entries; its shape is (rows, d).
        indices: flat indices (k,) on the same device; None where the mask is a slice.
        padding: a row whose lookups give no gradient, PyTorch's ``padding_idx``.

    Returns:
        (k,), fp32.
    """
    rows, d = mask.shape
    if padding is not None:  # autograd gives the padding row no gradient
        grad = torch.where((ids == padding)[:, None], 0, grad)
    if mask.kind == "contiguous" and mask.along == "rows" and rows > 1:
        first, last = mask.span
        top, bottom = first // d, (last - 1) // d + 1
        inside = (ids >= top) & (ids < bottom)
        block = torch.zeros(bottom - top, d, device=grad.device)
        block.index_add_(0, torch.where(inside, ids - top, 0), torch.where(inside[:, None], grad, 0).float())
        block = block.reshape(-1)
        return block[first - top * d : last - top * d] if indices is None else block[indices - top * d]
    if mask.slice is not None or mask.num_trainable > SAMPLED_LOOKUP_MAX_DENSITY * mask.size:
        dense = torch.zeros(rows, d, device=grad.device).index_add_(0, ids, grad.float()).reshape(-1)
        return dense[mask.slice] if indices is None else dense[indices]
    assert indices is not None
    return sampled_lookup(ids, grad, indices, rows)


@torch.library.custom_op("apet::sampled_lookup", mutates_args=())
def sampled_lookup(ids: Tensor, grad: Tensor, indices: Tensor, rows: int) -> Tensor:
    """Entries ``indices`` of an embedding's gradient, without the dense one.

    Args:
        ids: (tokens,), rows that were looked up.
        grad: (tokens, d), the gradient of what came out.
        indices: flat indices, (k,).
        rows: of the embedding.

    Returns:
        (k,), fp32; no (rows, d) tensor is formed.
    """
    d = grad.shape[1]
    places = torch.argsort(ids)  # the tokens that looked up one row lie together
    per_row = torch.bincount(ids, minlength=rows)
    first = per_row.cumsum(0) - per_row
    row = indices // d
    count = per_row[row]
    # One item for each pair of an entry and a token that looked up its row; they are summed by entry at the end.
    entry = torch.repeat_interleave(torch.arange(len(indices), device=ids.device), count)
    nth = torch.arange(len(entry), device=ids.device) - (count.cumsum(0) - count)[entry]
    hits = grad[places[first[row[entry]] + nth], indices[entry] % d]
    return torch.zeros(len(indices), device=grad.device).index_add_(0, entry, hits.float())


@sampled_lookup.register_fake
def _(ids: Tensor, grad: Tensor, indices: Tensor, rows: int) -> Tensor:
    return grad.new_empty(indices.shape, dtype=torch.float32)


def norm_scale_grad(x: Tensor, grad: Tensor, eps: float, centered: bool) -> Tensor:
    """Gradient of a norm's scale: Σ over tokens of ``grad ⊙ x̂``.

    Args:
        x: (tokens, d), the norm's input.
        grad: (tokens, d).
        eps: of the norm.
        centered: LayerNorm takes the mean out, RMSNorm does not.

    Returns:
        (d,), fp32.
    """
    x = x.float()  # norms compute in fp32 whatever their input
    if centered:
        normal = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=eps)
    else:
        normal = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return (grad.float() * normal).sum(0)
