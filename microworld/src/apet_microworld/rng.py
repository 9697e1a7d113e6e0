"""Choices drawn from a named random stream: the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from apet.seeding import SeededGenerator

Item = TypeVar("Item")


class Rng(SeededGenerator):
    """A stream of the seed and an address that picks from lists; raw numbers are drawn ahead, since texts need many."""

    def __init__(self, seed: int, *address: str) -> None:
        super().__init__(seed, *address)
        self._ahead: list[int] = []

    def uniform(self, low: int, high: int) -> int:
        """One integer in ``[low, high]``."""
        if not self._ahead:
            self._ahead = [int(raw) for raw in self._bits.random_raw(4096)[::-1]]
        return low + self._ahead.pop() % (high - low + 1)

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
        """True in so many of a hundred cases."""
        return self.uniform(1, 100) <= percent
