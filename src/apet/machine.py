"""How long operations take on a machine: a model of few numbers, and these numbers of the processor that this runs on.

An operation takes as long as its arithmetic or its memory traffic, whichever is longer (Williams et al. 2009, the
roofline), and no less than it takes to begin one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

CACHED = 2**23
"""Bytes that an operation's tensors may have together to be taken for cached."""


@dataclass(frozen=True)
class Machine:
    """What decides how long operations take.

    Attributes:
        flops_per_second: of large matrix products.
        bytes_per_second: read and written in memory.
        cached_bytes_per_second: read and written in a cache, by operations on at most `CACHED` bytes.
        seconds_per_operation: to begin one, on its way from Python.
    """

    flops_per_second: float
    bytes_per_second: float
    cached_bytes_per_second: float
    seconds_per_operation: float

    def seconds(self, flops: int, num_bytes: int) -> float:
        """How long an operation takes."""
        bandwidth = self.cached_bytes_per_second if num_bytes <= CACHED else self.bytes_per_second
        return max(flops / self.flops_per_second, num_bytes / bandwidth, self.seconds_per_operation)


def measure_machine(dtype: torch.dtype = torch.float32) -> Machine:
    """The processor of this machine, by a few operations that take a tenth of a second together.

    Args:
        dtype: of the products.

    Returns:
        What decides how long its operations take.
    """
    a = torch.randn(768, 768).to(dtype)
    large, cached, small = torch.randn(2**24), torch.randn(2**19), torch.randn(8, requires_grad=True)
    return Machine(
        flops_per_second=2 * 768**3 / _shortest(lambda: a @ a),
        bytes_per_second=2 * large.nbytes / _shortest(lambda: large.mul_(1)),
        cached_bytes_per_second=3 * cached.nbytes / _shortest(lambda: cached + cached),
        # Two products, a sum, and their three gradients with what autograd does around them.
        seconds_per_operation=_shortest(lambda: (small * small * small).sum().backward(), 50) / 6,
    )


def _shortest(run: Callable[[], object], times: int = 8) -> float:
    durations = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        durations.append(time.perf_counter() - began)
    return min(durations)
