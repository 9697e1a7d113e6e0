"""The support of a mask m: which entries of W are unmasked, and so are parameters (paper section 5.1, figures 4 and 8).

A support is kept as its definition (a few numbers), never as a mask. Its indices are flat, row-major and sorted;
they are drawn when asked for and take O(k) memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from apet.errors import ApetError
from apet.seeding import Integers, SeededGenerator

Distribution = Literal["adjacent", "discrete"]
Lines = Literal["rows", "columns"]


@dataclass(frozen=True)
class Mask:
    """The unmasked entries of one tensor.

    Attributes:
        shape: of the tensor.
        count: how many entries are unmasked, at least 1.
        kind: ``full`` (all); ``run`` (one contiguous run along rows or columns: adjacent); ``scattered``
            (drawn at random: discrete); ``listed`` (given by the caller).
        start, along: of a run, which goes past the gap. One along columns is contiguous in column-major order.
        seed: address of a scattered draw (mask_seed, then the place's names).
        cover: every row (or column) holds at least one entry of a scattered draw.
        gap: flat entries ``[first, last)`` that are never drawn, because no input reaches them.
        listed: flat indices of a listed support.
    """

    shape: tuple[int, ...]
    num_trainable: int
    kind: Literal["full", "run", "scattered", "listed"]
    start: int = 0
    along: Lines = "rows"
    seed: tuple[int | str, ...] = ()
    cover: Lines | None = None
    unused: tuple[int, int] = (0, 0)
    listed: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Entries of the tensor, masked ones included."""
        return math.prod(self.shape)

    @property
    def slice(self) -> slice | None:
        """The support as a slice of the flat tensor, where it is one."""
        if self.kind == "full":
            return slice(0, self.size)
        if self.kind == "run" and (self.along == "rows" or len(self.shape) == 1 or 1 in self.shape):
            first, last = self.span
            return slice(first, last) if last - first == self.num_trainable else None
        return None

    @property
    def span(self) -> tuple[int, int]:
        """Flat entries ``[first, last)`` between the ends of a run along rows, a gap inside it included."""
        hole = self.unused[1] - self.unused[0]
        first, last = self.start, self.start + self.num_trainable
        return first + hole * (first >= self.unused[0]), last + hole * (last > self.unused[0])

    @cached_property
    def indices(self) -> Integers:
        """Flat row-major indices, sorted, (k,)."""
        here = self.slice
        if here is not None:
            return np.arange(here.start, here.stop, dtype=np.int64)
        if self.kind == "run" and self.along == "rows":
            return self._past_gap(np.arange(self.start, self.start + self.num_trainable, dtype=np.int64))
        if self.kind == "run":
            rows, columns = self.shape
            at = np.arange(self.start, self.start + self.num_trainable, dtype=np.int64)
            return np.sort(at % rows * columns + at // rows)
        if self.kind == "listed":
            return np.asarray(self.listed, dtype=np.int64)
        return self._draw()

    def _draw(self) -> Integers:
        mask_seed, *address = self.seed
        stream = SeededGenerator(int(mask_seed), *map(str, address))
        if self.cover is None:
            return self._past_gap(stream.choice(self.size - (self.unused[1] - self.unused[0]), self.num_trainable))
        rows, columns = self.shape
        if self.cover == "rows":
            one_each = np.arange(rows, dtype=np.int64) * columns + stream.integers(columns, rows)
        else:
            one_each = stream.integers(rows, columns) * columns + np.arange(columns, dtype=np.int64)
        one_each = np.sort(one_each)
        rest = stream.choice(self.size - len(one_each), self.num_trainable - len(one_each))
        # The rest is drawn among the entries not yet taken: shift each draw past the taken ones before it.
        gaps = one_each - np.arange(len(one_each), dtype=np.int64)
        rest = rest + np.searchsorted(gaps, rest, side="right")
        return np.sort(np.concatenate([one_each, rest]))

    def _past_gap(self, at: Integers) -> Integers:
        """Flat indices of entries that were numbered without the gap."""
        first, last = self.unused
        return at + (last - first) * (at >= first)

    def definition(self) -> list[Any]:
        """The definition as plain data; equal specs mean equal indices."""
        fixed = [list(self.shape), self.num_trainable, self.kind, self.start, self.along, list(self.seed), self.cover]
        return [*fixed, list(self.unused)]


def dense_mask(shape: tuple[int, ...]) -> Mask:
    """Every entry."""
    return Mask(shape, math.prod(shape), "full")


def listed_mask(shape: tuple[int, ...], indices: Integers | list[int]) -> Mask:
    """The entries whose flat row-major indices are given.

    Raises:
        ApetError: no index, one twice, or one outside the tensor.
    """
    at = np.sort(np.asarray(indices, dtype=np.int64).reshape(-1))
    size = math.prod(shape)
    if not len(at) or at[0] < 0 or at[-1] >= size or (np.diff(at) == 0).any():
        raise ApetError(
            f"indices for shape {shape} must be distinct, at least one, and lie in [0, {size}); came {len(at)} of them"
            + (f" from {at[0]} to {at[-1]}" if len(at) else "")
        )
    return Mask(shape, len(at), "listed", listed=tuple(at.tolist()))


def draw_mask(
    shape: tuple[int, ...],
    count: int,
    distribution: Distribution,
    mask_seed: int,
    *address: str,
    cover: Lines | None = None,
    gap: tuple[int, int] = (0, 0),
) -> Mask:
    """Choose ``count`` entries of a tensor by a rule and a seed.

    Args:
        shape: of the tensor.
        count: 1 ≤ count ≤ entries outside the gap; with ``cover`` at least the number of its lines.
        distribution: ``adjacent`` is one run along rows or columns (which of the two is drawn, too);
            ``discrete`` scatters uniformly without replacement.
        mask_seed: the user's seed.
        address: names of the place, so that equal shapes do not share a mask.
        cover: every row (column) gets an entry. A run then starts where it meets all lines.
        gap: flat entries ``[first, last)`` that must not be chosen.
    """
    size, hole = math.prod(shape), gap[1] - gap[0]
    usable = size - hole
    if not 1 <= count <= usable:
        raise ApetError(f"{count} entries of a tensor of shape {shape} ({hole} unusable); give 1 to {usable}")
    if count == size:
        return dense_mask(shape)
    if distribution == "discrete":
        return Mask(shape, count, "scattered", seed=(mask_seed, *address), cover=cover, unused=gap)
    stream = SeededGenerator(mask_seed, *address)
    if len(shape) == 1:
        return Mask(shape, count, "run", stream.uniform(0, usable - count), unused=gap)
    if cover is None:
        along: Lines = "rows" if hole or stream.uniform(0, 1) == 0 else "columns"
        return Mask(shape, count, "run", stream.uniform(0, usable - count), along, unused=gap)
    lines, width = shape if cover == "rows" else shape[::-1]
    low, high = max(0, (lines - 1) * width + 1 - count), min(width - 1, size - count)
    if low <= high:
        return Mask(shape, count, "run", stream.uniform(low, high), cover, cover=cover)
    across: Lines = "columns" if cover == "rows" else "rows"
    return Mask(shape, count, "run", stream.uniform(0, size - count), across, cover=cover)
