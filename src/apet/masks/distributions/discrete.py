"""APET-discrete: entries scattered over the whole weight (paper figure 4, right)."""

from __future__ import annotations

from typing import ClassVar

from apet.masks.distributions.distribution import Distribution
from apet.seeding import Integers, SeededGenerator


class Discrete(Distribution):
    """Entries drawn uniformly at random, without replacement."""

    name: ClassVar[str] = "discrete"
    description: ClassVar[str] = "scattered at random (Su et al. 2023, APET-discrete)"

    def choose(self, size: int, count: int, generator: SeededGenerator) -> Integers:
        """Choose uniformly."""
        return generator.choice(size, count)
