"""The mask m of a trainable weight W̃ = W ⊙ m: which entries are trained (paper section 5.1, figures 4 and 8).

A mask is kept as its definition, a few numbers, never as a tensor of zeros and ones. Its indices are flat, row-major
and sorted; they are computed when they are asked for and take O(k) memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from apet.errors import ApetError
from apet.seeding import Integers

Lines = Literal["rows", "columns"]
MaskKind = Literal["dense", "contiguous", "sampled", "scored", "listed"]
Plain = int | str | None | list["Plain"]
"""What a definition is made of: it is written as JSON."""


@dataclass(frozen=True)
class Mask:
    """Mask of one tensor: the entries that are trained.

    Attributes:
        shape: of the tensor.
        num_trainable: how many entries are trained, at least 1.
        kind: ``dense`` (all entries); ``contiguous`` (one run along rows or columns); ``sampled`` (drawn by a
            distribution from a seed); ``scored`` (the entries that a distribution ranks first, known once the scores
            are); ``listed`` (given one by one).
        start, along: of a contiguous mask, which skips the unused entries. One along columns is contiguous in
            column-major order.
        distribution: name of the distribution that draws a sampled mask or ranks a scored one.
        seed: of a sampled mask: mask_seed, then the names of its place.
        cover: every row (or column) holds at least one trained entry, since the entries of another weight that meet an
            empty line would have no gradient.
        unused: flat entries ``[first, last)`` that are never trained, because no input reaches them.
        listed: flat indices of a listed mask.

    Examples:
        >>> from apet import Mask
        >>> Mask(shape=(2, 3), num_trainable=2, kind="contiguous", start=1).indices
        array([1, 2])
    """

    shape: tuple[int, ...]
    num_trainable: int
    kind: MaskKind
    start: int = 0
    along: Lines = "rows"
    distribution: str = ""
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
        """The trained entries as a slice of the flat tensor, or None where they are not one."""
        if self.kind == "dense":
            return slice(0, self.size)
        if self.kind == "contiguous" and (self.along == "rows" or len(self.shape) == 1 or 1 in self.shape):
            first, last = self.span
            # A run with unused entries inside is not a slice: these would be written and trained with it.
            return slice(first, last) if last - first == self.num_trainable else None
        return None

    @property
    def span(self) -> tuple[int, int]:
        """Flat entries ``[first, last)`` from end to end of a contiguous mask along rows, unused ones included."""
        skipped = self.unused[1] - self.unused[0]
        first, last = self.start, self.start + self.num_trainable
        return first + skipped * (first >= self.unused[0]), last + skipped * (last > self.unused[0])

    @cached_property
    def indices(self) -> Integers:
        """Flat row-major indices, sorted, (k,).

        Raises:
            ApetError: the mask is scored and its scores are not known yet.
        """
        if self.slice is not None:
            return np.arange(self.slice.start, self.slice.stop, dtype=np.int64)
        if self.kind == "contiguous" and self.along == "rows":
            return self.skip_unused(np.arange(self.start, self.start + self.num_trainable, dtype=np.int64))
        if self.kind == "contiguous":
            rows, columns = self.shape
            # Number p in column-major order is row p % rows of column p // rows.
            in_column_order = np.arange(self.start, self.start + self.num_trainable, dtype=np.int64)
            return np.sort(in_column_order % rows * columns + in_column_order // rows)
        if self.kind == "listed":
            return np.asarray(self.listed, dtype=np.int64)
        # A distribution is looked up by name, so that the mask stays plain data that can be written and compared.
        from apet.masks.distributions import DISTRIBUTIONS

        return DISTRIBUTIONS.get(self.distribution).indices(self)

    def skip_unused(self, numbers: Integers) -> Integers:
        """Flat indices of entries that were numbered without the unused ones, (k,)."""
        first, last = self.unused
        return numbers + (last - first) * (numbers >= first)

    def definition(self) -> list[Plain]:
        """The mask as plain data, (listed indices apart); equal definitions mean equal indices."""
        return [
            list(self.shape),
            self.num_trainable,
            self.kind,
            self.start,
            self.along,
            self.distribution,
            list(self.seed),
            self.cover,
            list(self.unused),
        ]


def reshaped(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Mask of the same entries, by row and column, in a tensor of another shape, such as that of a larger vocabulary.

    Args:
        mask: not scored.
        shape: of the tensor now; of as many axes.

    Returns:
        The mask, in a kind that needs no seed: from that, other entries would be drawn.

    Raises:
        ApetError: a trained entry is outside of the new shape.
    """
    if shape == mask.shape:
        return mask
    try:
        indices = np.ravel_multi_index(np.unravel_index(mask.indices, mask.shape), shape)
    except ValueError as e:
        raise ApetError(
            f"of a tensor of shape {mask.shape}, entries are trained that shape {shape} does not have"
        ) from e
    if shape[1:] == mask.shape[1:] and mask.slice is not None:  # more rows: it is the same run
        return Mask(shape, mask.num_trainable, "contiguous", start=mask.slice.start)
    return listed_mask(shape, indices)


def dense_mask(shape: tuple[int, ...]) -> Mask:
    """Mask under which every entry is trained."""
    return Mask(shape, math.prod(shape), "dense")


def listed_mask(shape: tuple[int, ...], indices: Integers | list[int]) -> Mask:
    """Mask of entries that are given one by one.

    Args:
        shape: of the tensor.
        indices: flat row-major indices in any order.

    Returns:
        The mask, its indices sorted.

    Raises:
        ApetError: no index, one twice, or one outside the tensor.
    """
    ordered = np.sort(np.asarray(indices, dtype=np.int64).reshape(-1))
    size = math.prod(shape)
    if not len(ordered) or ordered[0] < 0 or ordered[-1] >= size or (np.diff(ordered) == 0).any():
        raise ApetError(
            f"indices for shape {shape} must be distinct, at least one, and lie in [0, {size}); came"
            f" {len(ordered)} of them" + (f" from {ordered[0]} to {ordered[-1]}" if len(ordered) else "")
        )
    return Mask(shape, len(ordered), "listed", listed=tuple(ordered.tolist()))
