"""The matrices of all deltas at one linear layer: formed by one scatter, and their gradients read back by one gather.

A delta alone has up to four matrices of a few hundred entries. To form each and to read each one's gradient back costs
a dozen small operations, whatever their size: on a small backbone, or a fast device, more than all products with them.
So all of them lie in one flat buffer, in the order in which the products take them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from apet.kernels.in_place import InPlaceDelta
from apet.masks.mask import Mask


class Masked(Protocol):
    """A delta layer with masked weights."""

    @property
    def insertion(self) -> object:
        """What it was made from; another one where its masks have changed."""

    def mask(self, name: str) -> Mask:
        """The entries of a weight."""

    def holder(self, name: str) -> tuple[nn.Module, str]:
        """The module that holds a weight's trained entries, (k,), and the name they have there."""

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

    def held(self) -> list[str]:
        """Names of the weights that there are; none of a term that is written into the layer."""
        return [] if self.layer is None else [n for n in self.names if self.layer.has_weight(n)]

    def holders(self) -> list[tuple[nn.Module, str]]:
        """Module and attribute of each trained tensor, as its gradients come."""
        if self.layer is None:
            assert self.delta is not None
            return [(self.delta, "values")]
        return [self.layer.holder(n) for n in self.held()]


@dataclass(frozen=True)
class Place:
    """Where a writing term's rows are.

    Attributes:
        term: its number.
        kind: of it.
        writes: its rows among all that are written.
        reads: its rows among what is read: of a pair among those of pairs, of a bottleneck among those of bottlenecks.
        has_bias: whether the last row that it writes is e.
    """

    term: int
    kind: Literal["pair", "bottleneck", "vector"]
    writes: slice
    reads: slice
    has_bias: bool


@dataclass(frozen=True)
class Matrices:
    """All matrices, or all their gradients.

    Attributes:
        writes: B of pairs, U and e of bottlenecks, e of vectors, (q, d_out).
        reads: Aᵀ of pairs, (r, d_in).
        down: Dᵀ of bottlenecks, (m, d_out).
        shifts: c of bottlenecks, (m,).
    """

    writes: Tensor
    reads: Tensor
    down: Tensor
    shifts: Tensor


class TermMatrices:
    """Where every trained entry lies among the matrices of a layer's terms.

    Args:
        terms: of the layer.
        d_in: of the layer.
        d_out: of the layer.

    Attributes:
        places: of the terms that write, in their order.
        num_tensors: trained tensors of each term that writes; 0 = it does not, its one is written into the layer.
        has_shifts: whether any bottleneck has a c.
    """

    def __init__(self, terms: Sequence[Term], d_in: int, d_out: int) -> None:
        self.made_from = _made_from(terms)
        self.places: list[Place] = []
        self.num_tensors = [len(term.held()) for term in terms]
        self._holders = [holder for term in terms for holder in term.holders()]
        self.device = device = _device(self._holders)
        q = r = m = 0
        for n, term in enumerate(terms):
            if term.layer is None:
                continue
            assert term.kind in ("pair", "bottleneck", "vector")
            width = 0 if term.kind == "vector" else term.layer.mask(term.names[0]).shape[1]
            has_bias = term.kind == "vector" or (term.kind == "bottleneck" and term.layer.has_weight(term.names[3]))
            first = r if term.kind == "pair" else m
            rows = slice(q, q + width + has_bias)
            self.places.append(Place(n, term.kind, rows, slice(first, first + width), has_bias))
            q, r, m = rows.stop, r + width * (term.kind == "pair"), m + width * (term.kind == "bottleneck")
        self._shapes = (q, d_out), (r, d_in), (m, d_out), (m,)
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self.has_shifts = any(t.kind == "bottleneck" and t.names[1] in t.held() for t in terms)
        where, scales = [], []
        for place in self.places:
            term = terms[place.term]
            for name in term.held():
                where.append(self._where(term, place, name))
                scales.append(np.full(len(where[-1]), term.scale if name == term.names[-1] else 1.0, np.float32))
        self._counts = [len(w) for w in where]
        self._where_all = torch.from_numpy(np.concatenate(where or [np.zeros(0, np.int64)])).to(device)
        all_scales = np.concatenate(scales or [np.ones(0, np.float32)])
        self._scales = None if (all_scales == 1).all() else torch.from_numpy(all_scales).to(device)

    def values(self) -> list[Tensor]:
        """The trained tensors of all terms, as their gradients come."""
        return [getattr(module, name) for module, name in self._holders]

    def fits(self, terms: Sequence[Term]) -> bool:
        """Whether the terms' masks and device are still those that it was made for."""
        now = _made_from(terms)
        return all(a is b for a, b in zip(now, self.made_from, strict=True)) and self.device == _device(self._holders)

    def _where(self, term: Term, place: Place, name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Places of a weight's entries in the buffer, (k,)."""
        assert term.layer is not None
        mask = term.layer.mask(name)
        (_, d_out), (_, d_in), *_ = self._shapes
        reads, down, shifts = np.cumsum(self._sizes)[:3]
        own = mask.indices
        if term.kind == "pair" and name == term.names[0]:  # A is (d_in, r)
            return int(reads) + (place.reads.start + own % mask.shape[1]) * d_in + own // mask.shape[1]
        if term.kind == "bottleneck" and name == term.names[0]:  # D is (d_out, m)
            return int(down) + (place.reads.start + own % mask.shape[1]) * d_out + own // mask.shape[1]
        if term.kind == "bottleneck" and name == term.names[1]:
            return int(shifts) + place.reads.start + own
        is_last = place.has_bias and name == term.names[-1]
        return (place.writes.stop - 1 if is_last else place.writes.start) * d_out + own

    def form(self, values: Sequence[Tensor], dtype: torch.dtype) -> Matrices:
        """The matrices, masked entries zero.

        Args:
            values: of all terms, as `values` gives them, each (k,).
            dtype: of the layer's own arithmetic. Cast last: the values and their gradients stay fp32.

        Returns:
            Views of one buffer.
        """
        rest = iter(values)
        writing = [v for number in self.num_tensors for v in islice(rest, number or 1) if number]
        entries = torch.cat(writing)
        if self._scales is not None:
            entries = entries * self._scales
        flat = entries.new_zeros(sum(self._sizes)).scatter_(0, self._where_all, entries).to(dtype)
        views = [part.view(shape) for part, shape in zip(flat.split(self._sizes), self._shapes, strict=True)]
        return Matrices(*views)

    def entries(self, gradients: Matrices) -> list[Tensor]:
        """The trained entries of the matrices' gradients, each (k,), fp32: the inverse of `form`."""
        g = gradients
        flat = torch.cat([part.reshape(-1) for part in (g.writes, g.reads, g.down, g.shifts)])
        entries = flat.index_select(0, self._where_all).float()
        if self._scales is not None:
            entries = entries * self._scales
        return list(entries.split(self._counts))


def _made_from(terms: Sequence[Term]) -> list[object]:
    return [term.layer.insertion for term in terms if term.layer is not None]


def _device(holders: Sequence[tuple[nn.Module, str]]) -> torch.device:
    module, name = holders[0]
    values: Tensor = getattr(module, name)
    return values.device
