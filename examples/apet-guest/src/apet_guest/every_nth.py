"""Every n-th entry of a weight: as far from each other as a budget allows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from apet.masks.distributions import Distribution
from apet.seeding import Integers, SeededGenerator


class EveryNth(Distribution):
    """Entries at equal distances; where the first one lies is drawn."""

    name: ClassVar[str] = "every-nth"
    description: ClassVar[str] = "at equal distances"

    def choose(self, size: int, count: int, generator: SeededGenerator) -> Integers:
        """Choose entries ``size / count`` apart."""
        entries = np.arange(count, dtype=np.int64) * size // count
        return np.sort((entries + generator.uniform(0, size - 1)) % size)
