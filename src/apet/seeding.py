"""Seeded random generators with a purpose and an address: the same on every machine, never shared by two places."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


def derive_seed(seed: int, *address: str) -> int:
    """Derive the 64-bit seed of one place from the user's seed and the place's name.

    Args:
        seed: the user's, such as ``mask_seed``.
        address: names that tell this place from every other, such as a position and a weight.

    Returns:
        The first eight bytes of a SHA-256, so that neighboring seeds and places share nothing.
    """
    text = "\x1f".join([str(seed), *address])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


class SeededGenerator:
    """Generator of random integers from PCG64's raw output, whose stream NumPy promises never to change.

    NumPy's own ``Generator`` methods may give other numbers in a later release, which would move every mask.

    Args:
        seed: the user's, such as ``mask_seed``.
        address: names that make this stream the place's own.
    """

    def __init__(self, seed: int, *address: str) -> None:
        self._bits = np.random.PCG64(derive_seed(seed, *address))

    def integers(self, high: int, n: int) -> Integers:
        """Draw ``n`` integers in ``[0, high)``, (n,). The bias of the remainder is below high / 2**64."""
        raw = np.asarray(self._bits.random_raw(n), dtype=np.uint64)
        return (raw % np.uint64(high)).astype(np.int64)

    def uniform(self, low: int, high: int) -> int:
        """Draw one integer in ``[low, high]``, both ends included."""
        return low + int(self.integers(high - low + 1, 1)[0])

    def choice(self, n: int, k: int) -> Integers:
        """Draw ``k`` distinct integers in ``[0, n)``.

        Args:
            n: how many there are.
            k: how many to draw.

        Returns:
            Sorted, (k,); memory and time O(k), or O(n) for more than half of them.
        """
        if 2 * k > n:  # drawing what is left out needs fewer draws, and fewer repeats
            chosen = np.ones(n, dtype=bool)
            chosen[self.choice(n, n - k)] = False
            return np.flatnonzero(chosen).astype(np.int64)
        distinct = np.empty(0, dtype=np.int64)
        while len(distinct) < k:
            drawn = np.concatenate([distinct, self.integers(n, k - len(distinct) + 8)])
            _, first = np.unique(drawn, return_index=True)
            distinct = drawn[np.sort(first)]  # in the order drawn, so that cutting off the surplus favors no entry
        return np.sort(distinct[:k])

    def permutation(self, items: Sequence[int]) -> list[int]:
        """Shuffle a copy of ``items`` (Fisher and Yates)."""
        shuffled = list(items)
        for i in range(len(shuffled) - 1, 0, -1):
            j = self.uniform(0, i)
            shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
        return shuffled
