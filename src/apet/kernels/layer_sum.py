"""All deltas at one linear layer as one pass over its input, its output, and their gradients.

Each delta alone reads and writes whole hidden states: a pair reads the input and rewrites the output, a bottleneck
reads the output and rewrites it once more, and autograd adds their gradients of the input one by one. With a few
hundred trained entries their arithmetic is nothing, these passes are everything. But what they add to an output is a
product of few rows, ``C M`` with C (tokens, q) and M (q, d_out), and what they read can be read from the input alone:
a bottleneck's ``(x Wᵀ + b + C M) D`` is ``x (Wᵀ D) + b D + C (M D)``. So forward is one thin product with the input and
one added to the output; backward is two with the output's gradient, one with the input, and one added to the input's
gradient, in place.

Thin matrices lie here with their q rows along the tokens, (q, tokens): products of that orientation take a third of
the time of the other (docs/log.md, 2026-11-27).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from apet.kernels.factors import token_sum
from apet.kernels.in_place import InPlaceDelta
from apet.kernels.sparse_gradients import linear_weight_grad
from apet.kernels.term_matrices import Matrices, Term, TermMatrices


@dataclass
class Carry:
    """What a pass's end hands to its beginning in backward: the thin product that the input's gradient still lacks."""

    in_place: bool
    product: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class _Forward:
    """What a forward leaves to its backward.

    Attributes:
        made: all matrices.
        reads: all that is read of the input, (r + m, d_in): a bottleneck reads the layer's own output.
        inner: states of the bottlenecks before σ, (m, tokens) each, by term.
        mixes: what a bottleneck reads of the rows written before it, ``Dᵀ Mᵀ``, (m, rows before), by term.
    """

    made: Matrices
    reads: Tensor
    inner: dict[int, Tensor]
    mixes: dict[int, Tensor]


class LayerSum(torch.autograd.Function):
    """A linear layer's output and all that its deltas add to it, with the gradients of all their trained entries."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        x: Tensor,
        terms: Sequence[Term],
        matrices: TermMatrices,
        layer: nn.Linear,
        carry: Carry | None,
        *values: Tensor,
    ) -> Tensor:
        """Add all products to the output, (…, d_out); the input is (…, d_in); values are those of all terms."""
        flat_x = x.reshape(-1, x.shape[-1])
        ctx.forward = coefficients = None
        if not matrices.places:
            y = y.detach()
        else:
            made = matrices.form(values, y.dtype)
            coefficients, ctx.forward = _coefficients(matrices, made, layer, flat_x)
            flat_y = y.view(-1, y.shape[-1])
            if y._is_view():
                y = torch.addmm(flat_y, coefficients.t(), made.writes).view_as(y)
            else:  # the layer made it for nobody else
                ctx.mark_dirty(y)
                flat_y.addmm_(coefficients.t(), made.writes)
        ctx.terms, ctx.matrices, ctx.layer, ctx.carry = terms, matrices, layer, carry
        ctx.save_for_backward(flat_x, coefficients)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        """Form the gradients of all trained entries; the output's own goes on as it came."""
        x, coefficients = ctx.saved_tensors
        grad: Tensor = grads[0]
        flat = grad.reshape(-1, grad.shape[-1])
        written: list[Tensor] = []
        sent_down: list[tuple[Tensor, Tensor, Tensor]] = []
        if ctx.matrices.places:
            written, sent_down = _backward(ctx, flat, x, coefficients)
        results: list[Tensor] = []
        rest = iter(written)
        for term, number in zip(ctx.terms, ctx.matrices.num_tensors, strict=True):
            if number:
                results += islice(rest, number)
                continue
            assert term.delta is not None
            mask, indices = term.delta.mask, term.delta.indices
            # What reaches the layer's own output is this gradient and what the bottlenecks send down.
            if term.kind == "bias":
                whole = token_sum(flat.t())
                for down, change, _ in sent_down:
                    whole = whole + token_sum(change) @ down.float()
                results.append(whole[mask.slice] if indices is None else whole[indices])
                continue
            entries = linear_weight_grad(flat, x, mask, indices)
            for down, _, read in sent_down:
                entries = entries + _product_entries(down, read, term.delta)
            results.append(entries)
        return (grad, None, None, None, None, None, *results)


def _coefficients(matrices: TermMatrices, made: Matrices, layer: nn.Linear, x: Tensor) -> tuple[Tensor, _Forward]:
    """C as (q, tokens), and what backward needs of how it came to be."""
    num_pairs = len(made.reads)
    reads = torch.cat([made.reads, made.down @ layer.weight]) if len(made.down) else made.reads
    states = reads @ x.t()
    if len(made.down):
        shifts = made.shifts if matrices.has_shifts else None
        if layer.bias is not None:
            read = made.down @ layer.bias
            shifts = read if shifts is None else shifts + read
        if shifts is not None:
            states[num_pairs:] += shifts[:, None]
    parts: list[Tensor] = []
    left = _Forward(made, reads, {}, {})
    for place in matrices.places:
        if place.kind == "pair":
            parts.append(states[place.reads])
        elif place.kind == "bottleneck":
            state = states[num_pairs:][place.reads]
            if place.writes.start:
                left.mixes[place.term] = mixes = made.down[place.reads] @ made.writes[: place.writes.start].t()
                state = state + mixes @ torch.cat(parts)
            left.inner[place.term] = state
            parts.append(nn.functional.gelu(state))
        if place.has_bias:  # as the row of a unit that is always one
            parts.append(x.new_ones(1, len(x)))
    return torch.cat(parts), left


def _backward(
    ctx: Any, flat: Tensor, x: Tensor, coefficients: Tensor
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor, Tensor]]]:
    """Gradients of the writing terms' entries, and what each bottleneck sends down into the layer's own output.

    Returns:
        The gradients in the order of the tensors; of each bottleneck Dᵀ, its state's gradient, and that read from the
        input.
    """
    left: _Forward = ctx.forward
    made, layer, places = left.made, ctx.layer, ctx.matrices.places
    num_pairs = len(made.reads)
    of_rows, of_writes = made.writes @ flat.t(), coefficients @ flat
    changes: dict[int, Tensor] = {}
    of_down = torch.empty_like(made.down)
    for place in reversed(places):
        own = of_rows[place.writes]
        if place.kind == "pair":
            changes[place.term] = own
        elif place.kind == "bottleneck":
            inner = left.inner[place.term]
            changes[place.term] = change = torch.ops.aten.gelu_backward(own[: len(inner)], inner)
            if place.writes.start:
                before = slice(0, place.writes.start)
                mixed = change @ coefficients[before].t()
                of_rows[before] += left.mixes[place.term].t() @ change
                of_writes[before] += mixed.t() @ made.down[place.reads]
                of_down[place.reads] = mixed @ made.writes[before]
            else:
                of_down[place.reads] = 0
    order = [p for kind in ("pair", "bottleneck") for p in places if p.kind == kind]
    of_shifts = made.shifts
    read = made.reads
    if order:
        change = torch.cat([changes[p.term] for p in order])
        if ctx.carry is not None:
            ctx.carry.product = (change, left.reads)
        read = change @ x
        if len(made.down):
            of_shifts = token_sum(change[num_pairs:])
            if layer.bias is not None:
                of_down.addr_(of_shifts.to(layer.bias.dtype), layer.bias)
            of_down.addmm_(read[num_pairs:], layer.weight.t())
    entries = ctx.matrices.entries(Matrices(of_writes, read[:num_pairs], of_down, of_shifts))
    sent_down = [
        (made.down[p.reads], changes[p.term], read[num_pairs:][p.reads]) for p in places if p.kind == "bottleneck"
    ]
    return entries, sent_down


def _product_entries(down: Tensor, read: Tensor, delta: InPlaceDelta) -> Tensor:
    """Entries of ``D readᵀ``, (d_out, d_in), of which only these are formed where they are few."""
    mask, indices = delta.mask, delta.indices
    columns = mask.shape[1]
    if indices is not None:
        row, column = indices // columns, indices % columns
        return (down[:, row].float() * read[:, column].float()).sum(0)
    assert mask.slice is not None
    top, bottom = mask.slice.start // columns, -(-mask.slice.stop // columns)
    block = (down[:, top:bottom].t() @ read).reshape(-1)
    return block[mask.slice.start - top * columns : mask.slice.stop - top * columns].float()
