"""The same delta layer of several runs, side by side: their weights stacked, each acting on its run's rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from apet.masks.mask import Mask

if TYPE_CHECKING:
    from apet.layers.base import DeltaLayer


class Stack:
    """Layers of one form at one position, one a run; a run that has none there is left as it is.

    Weights of different shapes, such as pairs of different ranks, are filled up with zeros, which add nothing.

    Args:
        layers: of each run.

    Attributes:
        layers: of each run.
        first: any of them.
    """

    def __init__(self, layers: Sequence[DeltaLayer | None]) -> None:
        self.layers = layers
        self.first = next(layer for layer in layers if layer is not None)
        self._dense: dict[str, StackedWeight | None] = {}

    @property
    def scale(self) -> float | Tensor:
        """Factor of each run's layer: one number, or (runs, 1, 1)."""
        scales = [1.0 if layer is None else layer.insertion.scale for layer in self.layers]
        used = {s for s, layer in zip(scales, self.layers, strict=True) if layer is not None}
        first = next(self.first.parameters())
        return used.pop() if len(used) == 1 else torch.tensor(scales, device=first.device)[:, None, None]

    def dense(self, name: str, dtype: torch.dtype) -> Tensor | None:
        """Every run's ``W ⊙ m``.

        Args:
            name: of the weight.
            dtype: of the result.

        Returns:
            (runs, …) in the largest shape that one has; None where no run has such a weight.
        """
        if name not in self._dense:
            entries = [_entries(layer, name) for layer in self.layers]
            self._dense[name] = StackedWeight(entries) if any(e is not None for e in entries) else None
        weight = self._dense[name]
        return None if weight is None else weight.dense(dtype)

    def apart(self, x: Tensor) -> Tensor:
        """Rows of all runs as (runs, rows of one, …, d); a vector of each run, (runs, 1, d), then fits them."""
        return x.reshape(len(self.layers), -1, x.shape[-1])


Entries = tuple[Tensor, Mask]


def _entries(layer: DeltaLayer | None, name: str) -> Entries | None:
    if layer is None:
        return None
    return next(((value, layer.mask(name)) for own, value in layer.values() if own == name), None)


class StackedWeight:
    """One weight of several runs as one tensor, formed by one scatter; gradients come back by one gather.

    Args:
        entries: of each run: values (k,) and where they lie; None = nothing.
    """

    def __init__(self, entries: Sequence[Entries | None]) -> None:
        there = [e for e in entries if e is not None]
        shapes = [mask.shape for _, mask in there]
        self.values = [values for values, _ in there]
        self.shape = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
        self._entries = entries
        self.size = int(torch.Size(self.shape).numel())

    @cached_property
    def _is_whole(self) -> bool:
        """Whether every entry of every run is trained: then nothing has to be scattered."""
        return all(e is not None and e[1].kind == "dense" and e[1].shape == self.shape for e in self._entries)

    @cached_property
    def _indices(self) -> Tensor:
        indices = []
        for n, e in enumerate(self._entries):
            if e is None:
                continue
            own = torch.from_numpy(e[1].indices)
            if e[1].shape != self.shape:
                own = _moved(own, e[1].shape, self.shape)
            indices.append(own + n * self.size)
        return torch.cat(indices).to(self.values[0].device)

    def dense(self, dtype: torch.dtype) -> Tensor:
        """All of them, (runs, …)."""
        values = torch.cat(self.values)
        if not self._is_whole:
            values = values.new_zeros(len(self._entries) * self.size).scatter(0, self._indices, values)
        return values.view(len(self._entries), *self.shape).to(dtype)


def _moved(indices: Tensor, shape: tuple[int, ...], larger: tuple[int, ...]) -> Tensor:
    """Flat indices into a tensor as those into a larger one that holds it in its corner."""
    places = torch.unravel_index(indices, shape)
    moved = torch.zeros_like(indices)
    for place, size in zip(places, larger, strict=True):
        moved = moved * size + place
    return moved


def add_vectors(output: Tensor, stack: Stack, vectors: Tensor | None) -> Tensor:
    """Add to each run's rows its vector, (runs, d)."""
    if vectors is None:
        return output
    return (stack.apart(output) + vectors[:, None]).view_as(output)
