"""Random streams with a purpose and an address: the same on every machine, never shared by two places."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


def derive_seed(seed: int, *address: str) -> int:
    """A 64-bit seed for one place, from the user's seed and the place's name."""
    text = "\x1f".join([str(seed), *address])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


class SeededGenerator:
    """Uniform integers from PCG64's raw output, whose stream numpy promises never to change.

    Args:
        seed: the user's, such as ``mask_seed``.
        address: names that make this stream the place's own.
    """

    def __init__(self, seed: int, *address: str) -> None:
        self._bits = np.random.PCG64(derive_seed(seed, *address))

    def integers(self, high: int, n: int) -> Integers:
        """``n`` integers in ``[0, high)``. The bias of the remainder is below high / 2**64."""
        raw = np.asarray(self._bits.random_raw(n), dtype=np.uint64)
        return (raw % np.uint64(high)).astype(np.int64)

    def uniform(self, low: int, high: int) -> int:
        """One integer in ``[low, high]``."""
        return low + int(self.integers(high - low + 1, 1)[0])

    def choice(self, n: int, k: int) -> Integers:
        """``k`` distinct integers in ``[0, n)``, sorted; memory and time O(k), or O(n) for more than half of them."""
        if 2 * k > n:
            out = np.ones(n, dtype=bool)
            out[self.choice(n, n - k)] = False
            return np.flatnonzero(out).astype(np.int64)
        found = np.empty(0, dtype=np.int64)
        while len(found) < k:
            drawn = np.concatenate([found, self.integers(n, k - len(found) + 8)])
            _, first = np.unique(drawn, return_index=True)
            found = drawn[np.sort(first)]  # in the order drawn, so that cutting off the surplus favours no entry
        return np.sort(found[:k])

    def permutation(self, items: Sequence[int]) -> list[int]:
        """The items in random order."""
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.uniform(0, i)
            out[i], out[j] = out[j], out[i]
        return out
