"""How long products of a hidden state with few columns take, by how the thin matrix lies in memory.

    python benchmarks/thin_products.py [--tokens 1024] [--width 384]

Each product is taken both ways in turn, in a drawn order; times are the least processor time of one thread, of many.
``x R`` with R (width, r) against ``Rᵀ xᵀ`` with Rᵀ (r, width), and ``xᵀ C`` with C (tokens, r) against ``Cᵀ x``.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable

import torch
from torch import Tensor

ROUNDS, REPEATS = 40, 4


def ways(x: Tensor, r: int) -> dict[str, Callable[[], Tensor]]:
    """The two products of a hidden state, (tokens, width), each in both orientations."""
    tokens, width = x.shape
    read, state = torch.randn(width, r).to(x), torch.randn(tokens, r).to(x)
    read_t, state_t = read.t().contiguous(), state.t().contiguous()
    return {
        "x R": lambda: x @ read,
        "Rᵀ xᵀ": lambda: read_t @ x.t(),
        "xᵀ C": lambda: x.t() @ state,
        "Cᵀ x": lambda: state_t @ x,
    }


def microseconds(run: Callable[[], Tensor]) -> float:
    """Processor time of one call."""
    began = time.thread_time()
    for _ in range(REPEATS):
        run()
    return 1e6 * (time.thread_time() - began) / REPEATS


def main() -> None:
    """Measure, print one line a dtype and r."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--width", type=int, default=384)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(options.tokens, options.width).to(dtype)
        for r in (1, 3, 8, 24):
            products = ways(x, r)
            least = dict.fromkeys(products, float("inf"))
            for _ in range(ROUNDS):
                for name in random.sample(list(products), len(products)):
                    least[name] = min(least[name], microseconds(products[name]))
            shown = "  ".join(f"{name} {time_taken:6.0f}" for name, time_taken in least.items())
            print(f"{str(dtype).removeprefix('torch.'):8}  r {r:2}  {shown}  microseconds")


if __name__ == "__main__":
    main()
