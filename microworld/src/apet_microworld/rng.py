"""Seeded choices from lists: the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from apet.seeding import SeededGenerator

Item = TypeVar("Item")
BLOCK = 4096
"""Raw numbers that are drawn at once: one call of NumPy for each number took most of the time of writing texts."""


class Rng(SeededGenerator):
    """Random generator with a seed and an address that picks from lists.

    Args:
        seed: decides what is said.
        address: names that make this stream one text's or task's own. Texts are pinned to these words, so they never
            change, whatever the code around them is called.
    """

    def __init__(self, seed: int, *address: str) -> None:
        super().__init__(seed, *address)
        self._raw_numbers: list[int] = []

    def uniform(self, low: int, high: int) -> int:
        """One integer in ``[low, high]``."""
        if not self._raw_numbers:
            # Reversed, so that popping from the end uses them in the order of the stream.
            self._raw_numbers = [int(raw) for raw in self._bits.random_raw(BLOCK)[::-1]]
        return low + self._raw_numbers.pop() % (high - low + 1)

    def pick(self, items: Sequence[Item]) -> Item:
        """One item, all equally likely."""
        return items[self.uniform(0, len(items) - 1)]

    def sample(self, items: Sequence[Item], k: int) -> list[Item]:
        """``k`` different items in random order."""
        pool = list(items)
        for i in range(k):
            j = self.uniform(i, len(pool) - 1)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:k]

    def chance(self, percent: int) -> bool:
        """True in ``percent`` of a hundred cases."""
        return self.uniform(1, 100) <= percent
