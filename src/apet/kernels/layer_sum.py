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
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from apet.kernels.factors import token_sum
from apet.kernels.in_place import InPlaceDelta
from apet.kernels.sparse_gradients import linear_weight_grad


class Masked(Protocol):
    """A delta layer with masked weights."""

    def dense(self, name: str, dtype: torch.dtype) -> Tensor:
        """The weight in its own shape, masked entries zero."""

    def entries(self, name: str, gradient: Tensor) -> Tensor:
        """The trained entries of a gradient in the weight's shape, (k,), fp32."""

    def get_parameter(self, target: str) -> nn.Parameter:
        """The trained entries, (k,)."""

    def has_weight(self, name: str) -> bool:
        """Whether it has a weight of this name."""


@dataclass(frozen=True)
class Term:
    """What one delta does at a linear layer, for a pass over all of them.

    Attributes:
        kind: ``pair`` and ``bottleneck`` add products, ``vector`` a constant; ``weight`` and ``bias`` add nothing,
            since their entries are written into the layer, and ask for these entries' gradients.
        layer: of the first three.
        names: of its weights, in the order pair: A, B; bottleneck: D, c, U, e, of which c and e may lack; vector: e.
        scale: of a pair's product.
        delta: of the last two.
    """

    kind: Literal["pair", "bottleneck", "vector", "weight", "bias"]
    layer: Masked | None = None
    names: tuple[str, ...] = ()
    scale: float = 1.0
    delta: InPlaceDelta | None = None

    def tensors(self) -> list[Tensor]:
        """The trained tensors, as its gradients come."""
        if self.layer is None:
            assert self.delta is not None
            return [self.delta.values]
        return [self.layer.get_parameter(n) for n in self.names if self.layer.has_weight(n)]


@dataclass
class _Rows:
    """A term's matrices in one forward, in the layer's precision.

    Attributes:
        reads: (r, d_in) of the input, or None.
        writes: (q, d_out) to the output.
        down: a bottleneck's Dᵀ, (m, d_out).
        mixes: what a bottleneck reads of the rows before it, ``Dᵀ Mᵀ``, (m, rows before).
        inner: its state before σ, (m, tokens).
        first: its first row among all that are written.
    """

    writes: Tensor
    first: int
    reads: Tensor | None = None
    down: Tensor | None = None
    mixes: Tensor | None = None
    inner: Tensor | None = None


@dataclass
class Carry:
    """What a pass's end hands to its beginning in backward: the thin product that the input's gradient still lacks."""

    in_place: bool
    product: tuple[Tensor, Tensor] | None = None


class LayerSum(torch.autograd.Function):
    """A linear layer's output and all that its deltas add to it, with the gradients of all their trained entries."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        x: Tensor,
        terms: Sequence[Term],
        layer: nn.Linear,
        carry: Carry | None,
        *values: Tensor,
    ) -> Tensor:
        """Add all products to the output, (…, d_out); the input is (…, d_in)."""
        flat_x = x.reshape(-1, x.shape[-1])
        rows, shifts = _matrices(terms, layer, y.dtype)
        coefficients, writes = _coefficients(rows, shifts, terms, flat_x)
        if writes is not None:
            assert coefficients is not None
            flat_y = y.view(-1, y.shape[-1])
            if y._is_view():
                y = torch.addmm(flat_y, coefficients.t(), writes).view_as(y)
            else:  # the layer made it for nobody else
                ctx.mark_dirty(y)
                flat_y.addmm_(coefficients.t(), writes)
        else:
            y = y.detach()
        ctx.terms, ctx.layer, ctx.carry, ctx.rows = terms, layer, carry, rows
        ctx.save_for_backward(flat_x, coefficients, writes)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        """Form the gradients of all trained entries; the output's own goes on as it came."""
        x, coefficients, writes = ctx.saved_tensors
        rows: dict[int, _Rows] = ctx.rows
        grad: Tensor = grads[0]
        flat = grad.reshape(-1, grad.shape[-1])
        terms: Sequence[Term] = ctx.terms
        weight, bias = ctx.layer.weight, ctx.layer.bias
        results: dict[int, list[Tensor]] = {}
        changes: dict[int, Tensor] = {}
        if writes is not None:
            of_rows, of_writes = writes @ flat.t(), coefficients @ flat
        downs: list[tuple[int, Tensor]] = []  # bottlenecks and the gradients of their Dᵀ so far
        for n, row in reversed(rows.items()):
            own = slice(row.first, row.first + len(row.writes))
            if row.reads is None:
                continue
            if row.down is None:
                changes[n] = of_rows[own]
                continue
            assert row.inner is not None
            assert row.mixes is not None
            m = len(row.inner)
            change = torch.ops.aten.gelu_backward(of_rows[own][:m], row.inner)
            changes[n] = change
            before = slice(0, row.first)
            mixed = change @ coefficients[before].t()
            of_rows[before] += row.mixes.t() @ change
            of_writes[before] += mixed.t() @ row.down
            of_down = mixed @ writes[before]
            if bias is not None:
                of_down = of_down + token_sum(change).to(bias.dtype)[:, None] * bias
            downs.append((n, of_down))
        read: dict[int, Tensor] = {}
        if changes:
            order = sorted(changes)
            change = torch.cat([changes[n] for n in order])
            reads = torch.cat([r for n in order if (r := rows[n].reads) is not None])
            if ctx.carry is not None:
                ctx.carry.product = (change, reads)
            read = dict(zip(order, (change @ x).split([len(changes[n]) for n in order]), strict=True))
        of_down_by_term = {n: of_down + read[n] @ weight.t() for n, of_down in downs}
        for n, term in enumerate(terms):
            if n in rows:
                own = of_writes[rows[n].first : rows[n].first + len(rows[n].writes)]
                results[n] = _gradients(term, own, read.get(n), of_down_by_term.get(n), changes.get(n))
                continue
            assert term.delta is not None
            mask, indices = term.delta.mask, term.delta.indices
            # What reaches the layer's own output is this gradient and what the bottlenecks send down.
            if term.kind == "bias":
                whole = token_sum(flat.t())
                for n_down, _ in downs:
                    down = rows[n_down].down
                    assert down is not None
                    whole = whole + token_sum(changes[n_down]) @ down.float()
                results[n] = [whole[mask.slice] if indices is None else whole[indices]]
                continue
            entries = linear_weight_grad(flat, x, mask, indices)
            for n_down, _ in downs:
                down = rows[n_down].down
                assert down is not None
                entries = entries + _product_entries(down, read[n_down], term.delta)
            results[n] = [entries]
        return (grad, None, None, None, None, *(g for n in range(len(terms)) for g in results[n]))


def _matrices(
    terms: Sequence[Term], layer: nn.Linear, dtype: torch.dtype
) -> tuple[dict[int, _Rows], dict[int, Tensor]]:
    """Each writing term's matrices, and what is added to a bottleneck's state: c, and what it reads of the bias."""
    rows: dict[int, _Rows] = {}
    shifts: dict[int, Tensor] = {}
    first = 0
    for n, term in enumerate(terms):
        if term.layer is None:
            continue
        held = term.layer
        if term.kind == "pair":
            a, b = (held.dense(name, dtype) for name in term.names)
            rows[n] = _Rows(b * term.scale if term.scale != 1.0 else b, first, a.t())
        elif term.kind == "vector":
            rows[n] = _Rows(held.dense(term.names[0], dtype)[None], first)
        else:
            down_name, down_bias, up_name, up_bias = term.names
            down, up = held.dense(down_name, dtype).t(), held.dense(up_name, dtype)
            if held.has_weight(up_bias):
                up = torch.cat([up, held.dense(up_bias, dtype)[None]])
            mixes = torch.cat([down.new_zeros(len(down), 0), *(down @ row.writes.t() for row in rows.values())], dim=1)
            rows[n] = _Rows(up, first, down @ layer.weight, down, mixes)
            shift = down.new_zeros(len(down)) if layer.bias is None else down @ layer.bias
            shifts[n] = shift + held.dense(down_bias, dtype) if held.has_weight(down_bias) else shift
        first += len(rows[n].writes)
    return rows, shifts


def _coefficients(
    rows: dict[int, _Rows], shifts: dict[int, Tensor], terms: Sequence[Term], x: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """C as (q, tokens) and M as (q, d_out); None where nothing is written."""
    if not rows:
        return None, None
    reads = {n: row.reads for n, row in rows.items() if row.reads is not None}
    states = {}
    if reads:
        states = dict(
            zip(reads, (torch.cat(list(reads.values())) @ x.t()).split([len(r) for r in reads.values()]), strict=True)
        )
    parts: list[Tensor] = []
    for n, row in rows.items():
        if row.reads is None:
            parts.append(x.new_ones(1, len(x)))
            continue
        state = states[n]
        if row.down is None:
            parts.append(state)
            continue
        state = state + shifts[n][:, None]
        if row.first:
            assert row.mixes is not None
            state = state + row.mixes @ torch.cat(parts)
        row.inner = state
        parts.append(nn.functional.gelu(state))
        if len(row.writes) > len(state):  # the output's bias, as the row of a unit that is always one
            parts.append(x.new_ones(1, len(x)))
    return torch.cat(parts), torch.cat([row.writes for row in rows.values()])


def _gradients(
    term: Term, writes: Tensor, read: Tensor | None, down: Tensor | None, change: Tensor | None
) -> list[Tensor]:
    """A writing term's gradients, in the order of its tensors, from those of its matrices."""
    held = term.layer
    assert held is not None
    if term.kind == "vector":
        return [held.entries(term.names[0], writes[0])]
    assert read is not None
    assert change is not None
    if term.kind == "pair":
        return [held.entries(term.names[0], read.t()), held.entries(term.names[1], writes) * term.scale]
    assert down is not None
    width = len(change)
    whole = (down.t(), token_sum(change), writes[:width], writes[-1])
    return [held.entries(n, g) for n, g in zip(term.names, whole, strict=True) if held.has_weight(n)]


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
