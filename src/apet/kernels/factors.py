"""Low-rank pairs and bottlenecks with few trained entries: fused with the output that they are added to.

Written with plain operations, a pair costs a pass over the whole hidden state for its scale, its sum and each of their
gradients; its product is small beside that. Here the sum is a part of the last product, and of the input only the
columns that meet a trained entry are kept for backward.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apet.masks.mask import Lines, Mask

GATHER_MAX_SHARE = 0.25
"""Largest share of live lines that are gathered; beyond it, the product with all of them is as fast. Products of this
kind are bound by memory, and a gathered column costs about four times its bytes."""


def is_fusible(y: Tensor) -> bool:
    """Whether what is added to an output goes through the functions here: a graph shows the plain operations."""
    return not torch.compiler.is_compiling() and y.is_floating_point()


def without_autocast(y: Tensor) -> AbstractContextManager[object]:
    """Context in which products stay in the precision of the layer's output, as their gradients do."""
    kind = y.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


class Factor:
    """Masked matrix of a pair or bottleneck, with the lines that hold its trained entries.

    Args:
        masks: of matrices that stand below each other in it, of as many columns (a vector is one row).
        outer: its lines that meet the hidden state, ``rows`` of what reads it and ``columns`` of what writes it.
        device: of the values.
    """

    def __init__(self, masks: Sequence[Mask], outer: Lines, device: torch.device) -> None:
        columns = masks[0].shape[-1]
        ends = list(itertools.accumulate(mask.size for mask in masks))
        self.shape = (ends[-1] // columns, columns)
        self.device = device
        self.reads = outer == "rows"
        flat = np.concatenate([m.indices + end - m.size for m, end in zip(masks, ends, strict=True)])
        # A slice is padded, which is cheaper than to be scattered.
        self.slice = masks[0].slice if len(masks) == 1 else None
        self.indices = None if self.slice is not None else torch.from_numpy(flat).to(device)
        self.live: Tensor | None = None
        self.run: slice | None = None
        row, column = flat // columns, flat % columns
        lines, nth = np.unique(row if self.reads else column, return_inverse=True)
        if len(lines) > GATHER_MAX_SHARE * self.shape[0 if self.reads else 1]:
            return
        places = nth * columns + column if self.reads else row * len(lines) + nth
        self.places, self.live = torch.from_numpy(places).to(device), torch.from_numpy(lines).to(device)
        first, last = int(lines[0]), int(lines[-1]) + 1
        if last - first == len(lines):
            self.run = slice(first, last)

    def matrix(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """The matrix in its own shape, masked entries zero."""
        size = self.shape[0] * self.shape[1]
        if self.slice is not None:
            flat = nn.functional.pad(values, (self.slice.start, size - self.slice.stop))
        else:
            assert self.indices is not None
            flat = values.new_zeros(size).scatter(0, self.indices, values)
        return flat.view(self.shape).to(dtype)

    def live_matrix(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Its live lines alone; the whole matrix where they are too many to be gathered."""
        if self.live is None:
            return self.matrix(values, dtype)
        shape = (len(self.live), self.shape[1]) if self.reads else (self.shape[0], len(self.live))
        return values.new_zeros(shape[0] * shape[1]).scatter(0, self.places, values).view(shape).to(dtype)

    def gathered(self, h: Tensor) -> Tensor:
        """The columns of a hidden state that meet live lines, (tokens, live)."""
        if self.live is None:
            return h
        # A copy, not a view: kept for backward, a view would keep all columns alive.
        return h[:, self.run].contiguous() if self.run is not None else h.index_select(1, self.live)

    def entries(self, gradient: Tensor) -> Tensor:
        """The trained entries of a gradient in the shape of `live_matrix`, (k,), fp32."""
        flat = gradient.reshape(-1)
        if self.live is not None:
            return flat[self.places].float()
        return (flat[self.slice] if self.slice is not None else flat[self.indices]).float()


class PairSum(torch.autograd.Function):
    """``y + s · x A B``, with the k gradients of the pair from two products with the columns that it touches."""

    @staticmethod
    def forward(y: Tensor, x: Tensor, a: Tensor, b: Tensor, factors: tuple[Factor, Factor], scale: float) -> Tensor:
        """Add the product to y, (tokens, d_out), in the last of the two multiplications."""
        down, up = factors
        inner = _along_tokens(down, a, down.gathered(x))
        return torch.addmm(y, inner.t(), up.matrix(b, y.dtype), alpha=scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the live columns of the input; the inner state is computed again, which is cheaper than to keep it."""
        _, x, a, b, ctx.factors, ctx.scale = inputs
        ctx.save_for_backward(ctx.factors[0].gathered(x), a, b)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Gradients of y, x, and of both factors' entries."""
        grad: Tensor = grads[0]
        x, a, b = ctx.saved_tensors
        down, up = ctx.factors
        inner = _along_tokens(down, a, x)
        written = up.gathered(grad)
        grad_b = up.entries(inner @ written) * ctx.scale if ctx.needs_input_grad[3] else None
        grad_inner = (up.live_matrix(b, grad.dtype) @ written.t()) * ctx.scale
        grad_a = down.entries((grad_inner @ x).t()) if ctx.needs_input_grad[2] else None
        grad_x = grad_inner.t() @ down.matrix(a, grad.dtype).t() if ctx.needs_input_grad[1] else None
        return grad, grad_x, grad_a, grad_b, None, None


class BottleneckSum(torch.autograd.Function):
    """``y + σ(y D + c) U + e``, σ = GELU, with the gradients of all trained entries.

    U and e are one factor, e as the row of a unit that is always one: its sum then costs no pass of its own.
    """

    @staticmethod
    def forward(
        y: Tensor, d: Tensor, c: Tensor | None, u: Tensor, factors: tuple[Factor, Factor], width: int
    ) -> Tensor:
        """Add the bottleneck to y, (tokens, d_out), in the last of its multiplications; c is a dense vector."""
        down, up = factors
        inner = _inner(down.gathered(y), d, c, down)
        return torch.addmm(y, _hidden(inner, up).t(), up.matrix(u, y.dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the live columns; the inner state is computed again."""
        y, d, c, u, ctx.factors, ctx.width = inputs
        ctx.save_for_backward(ctx.factors[0].gathered(y), d, c, u)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Gradients of y and of all trained entries."""
        grad: Tensor = grads[0]
        y, d, c, u = ctx.saved_tensors
        down, up = ctx.factors
        inner = _inner(y, d, c, down)
        written = up.gathered(grad)
        grad_u = up.entries(_hidden(inner, up) @ written)
        grad_hidden = up.live_matrix(u, grad.dtype)[: ctx.width] @ written.t()
        grad_inner = torch.ops.aten.gelu_backward(grad_hidden, inner)
        grad_c = token_sum(grad_inner) if c is not None else None
        grad_d = down.entries((grad_inner @ y).t())
        grad_y = torch.addmm(grad, grad_inner.t(), down.matrix(d, grad.dtype).t()) if ctx.needs_input_grad[0] else None
        return grad_y, grad_d, grad_c, grad_u, None, None


def token_sum(rows: Tensor) -> Tensor:
    """Sums of (m, tokens) over the tokens, (m,), fp32: in bf16, what is small beside the sum so far would be lost."""
    return rows.sum(1, dtype=torch.promote_types(rows.dtype, torch.float32)).float()


def _along_tokens(down: Factor, values: Tensor, h: Tensor) -> Tensor:
    """What a factor reads of the gathered columns of a hidden state, (r, tokens).

    Returns:
        Its rows along the tokens: products of thin matrices of that orientation take a third of the time of the other
        (docs/log.md, 2026-11-27).
    """
    return down.live_matrix(values, h.dtype).t().contiguous() @ h.t()


def _inner(y: Tensor, d: Tensor, c: Tensor | None, down: Factor) -> Tensor:
    """The bottleneck's state before σ, (m, tokens)."""
    inner = _along_tokens(down, d, y)
    return inner if c is None else inner + c.to(y.dtype)[:, None]


def _hidden(inner: Tensor, up: Factor) -> Tensor:
    """Its state after σ, and a one where U has a row for the bias."""
    hidden = nn.functional.gelu(inner)
    return hidden if up.shape[0] == len(inner) else nn.functional.pad(hidden, (0, 0, 0, 1), value=1.0)
