"""APET-adjacent: entries that lie side by side, in rows or in columns (paper figure 4, left)."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from apet.masks.distributions.distribution import Distribution
from apet.masks.mask import Lines, Mask
from apet.seeding import Integers, SeededGenerator


class Adjacent(Distribution):
    """One contiguous run of entries along rows or along columns; which of the two, and where it starts, is drawn."""

    name: ClassVar[str] = "adjacent"
    description: ClassVar[str] = "one run along rows or columns (Su et al. 2023, APET-adjacent)"

    def choose(self, size: int, count: int, generator: SeededGenerator) -> Integers:
        """Choose a run of a vector."""
        start = generator.uniform(0, size - count)
        return np.arange(start, start + count, dtype=np.int64)

    def mask(
        self,
        shape: tuple[int, ...],
        count: int,
        seed: tuple[int | str, ...],
        cover: Lines | None,
        unused: tuple[int, int],
    ) -> Mask:
        """Define the run by its start and direction: O(1) memory, and a slice where it lies along rows."""
        mask_seed, *address = seed
        generator = SeededGenerator(int(mask_seed), *map(str, address))
        size, num_unused = math.prod(shape), unused[1] - unused[0]
        last_start = size - num_unused - count
        if len(shape) != 2:  # of more axes than two, such as stacked experts: a run in memory
            return Mask(shape, count, "contiguous", generator.uniform(0, last_start), unused=unused)
        if cover is None:
            # Unused entries are whole rows: a run along columns would have to step over them again and again.
            along: Lines = "rows" if num_unused or generator.uniform(0, 1) == 0 else "columns"
            return Mask(shape, count, "contiguous", generator.uniform(0, last_start), along, unused=unused)
        lines, width = shape if cover == "rows" else shape[::-1]
        # A run along the lines meets all of them if it starts in the first one and reaches the last one.
        low, high = max(0, (lines - 1) * width + 1 - count), min(width - 1, size - count)
        if low <= high:
            return Mask(shape, count, "contiguous", generator.uniform(low, high), cover, cover=cover)
        # Too short for that: across the lines, a run as long as there are lines meets each of them wherever it starts.
        across: Lines = "columns" if cover == "rows" else "rows"
        return Mask(shape, count, "contiguous", generator.uniform(0, size - count), across, cover=cover)
