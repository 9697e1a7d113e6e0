"""Which examples share a step: random, yet of similar length, so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from apet.seeding import SeededGenerator

BATCHES_PER_POOL = 32
"""Batches that are sorted by length together: large enough to pad little, small enough to stay random."""


def training_batches(lengths: npt.NDArray[np.int64], batch_size: int, data_seed: int) -> Iterator[list[int]]:
    """Batches of example numbers without end, every example once an epoch.

    Args:
        lengths: tokens of each example, (n,).
        batch_size: of every batch, the last of an epoch included: it is filled from the next one's pool.
        data_seed: decides the order.

    Yields:
        Row numbers of a batch.
    """
    assert len(lengths), "no example to train on"
    generator = SeededGenerator(data_seed, "batches")
    queue: list[int] = []
    while True:
        while len(queue) < min(max(batch_size, len(lengths)), BATCHES_PER_POOL * batch_size):
            queue += _shuffled(generator, len(lengths))
        # A pool is of whole batches; what is left over waits for the next epoch, so that no batch is short.
        take = min(len(queue) // batch_size, BATCHES_PER_POOL) * batch_size
        pool, queue = sorted(queue[:take], key=lambda i: int(lengths[i])), queue[take:]
        # The pool is sorted, its batches are not: lengths must not grow in the course of an epoch.
        for c in _shuffled(generator, take // batch_size):
            yield pool[c * batch_size : (c + 1) * batch_size]


def _shuffled(generator: SeededGenerator, n: int) -> list[int]:
    # Sorted by 62-bit random keys, two of which are hardly ever equal: a shuffle without a loop in Python.
    return np.argsort(generator.integers(2**62, n), kind="stable").tolist()


def evaluation_batches(lengths: npt.NDArray[np.int64], batch_size: int) -> list[list[int]]:
    """Batches of example numbers, every example once, longest first: memory runs out at the first batch or never."""
    order = np.argsort(-lengths, kind="stable").tolist()
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
