"""Where k entries of a weight's gradient are cheaper one by one than as a part of the dense gradient.

For linear layers (a dot product each) and embeddings (a sum over the places where the row was looked up) of several
sizes, and for densities from 0.2 % to 30 %, both ways run in turn, so that whatever else the machine does falls on
both alike. The median of the paired ratios sampled / dense is printed; below 1, sampling wins. Break-even is where
the ratio crosses 1, by straight lines between the logarithms.

    python benchmarks/sampled_product.py [--threads 1] [--pairs 15] [--gathered]
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch

from apet.kernels.sparse_gradients import sampled_lookup, sampled_product
from apet.masks.distributions import draw_mask

SIZES = [(1024, 384, 384), (1024, 1536, 384), (2048, 768, 768), (2048, 3072, 768), (1024, 1024, 4096)]
LOOKUPS = [(1024, 30522, 384), (2048, 8000, 768)]
Run = Callable[[], object]
SHARES = [0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 3.0]
DENSITIES = [0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3]


def seconds(run: Run) -> float:
    """One timed call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def chosen_entries(rows: int, columns: int, density: float) -> torch.Tensor:
    """Flat indices of a discrete support."""
    count = max(1, int(density * rows * columns))
    return torch.from_numpy(draw_mask((rows, columns), count, "discrete", 0, "here").indices)


def product(tokens: int, rows: int, columns: int, density: float, dtype: torch.dtype) -> tuple[Run, Run]:
    """Both ways of a linear layer's gradient: sampled, dense."""
    left, right = torch.randn(tokens, rows, dtype=dtype), torch.randn(tokens, columns, dtype=dtype)
    indices = chosen_entries(rows, columns, density)
    return (
        lambda: sampled_product(left, right, indices),
        lambda: (left.t() @ right).reshape(-1)[indices].float(),
    )


def lookup(tokens: int, rows: int, d: int, density: float, dtype: torch.dtype) -> tuple[Run, Run]:
    """Both ways of an embedding's gradient: sampled, dense."""
    ids, grad = torch.randint(0, rows, (tokens,)), torch.randn(tokens, d, dtype=dtype)
    indices = chosen_entries(rows, d, density)
    return (
        lambda: sampled_lookup(ids, grad, indices, rows),
        lambda: torch.zeros(rows, d).index_add_(0, ids, grad.float()).reshape(-1)[indices],
    )


def ratio(sampled: Run, dense: Run, pairs: int) -> float:
    """Median of sampled / dense over paired runs."""
    dense(), sampled()
    return statistics.median(seconds(sampled) / seconds(dense) for _ in range(pairs))


def gathered(tokens: int, rows: int, columns: int, share: float) -> tuple[Run, Run]:
    """Both ways of a sampled product in fp32, by the columns of each entry and by MKL; ``share`` of rows + columns."""
    left, right = torch.randn(tokens, rows), torch.randn(tokens, columns)
    indices = chosen_entries(rows, columns, share * (rows + columns) / (rows * columns))

    def way(limit: float) -> Run:
        def run() -> object:
            with patch("apet.kernels.sparse_gradients.GATHERED_MAX_SHARE", limit):
                return sampled_product(left, right, indices)

        return run

    return way(math.inf), way(0.0)


def crossing(ratios: list[float]) -> str:
    """Density at which the ratio passes 1."""
    logs = np.log(ratios)
    for i in range(len(logs) - 1):
        if logs[i] < 0 <= logs[i + 1]:
            part = -logs[i] / (logs[i + 1] - logs[i])
            at = math.exp((1 - part) * math.log(DENSITIES[i]) + part * math.log(DENSITIES[i + 1]))
            return f"{at:.1%}"
    return f"< {DENSITIES[0]:.1%}" if logs[0] >= 0 else f"> {DENSITIES[-1]:.1%}"


def main() -> None:
    """Print a table in Markdown: a row for each size, a column for each density."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--gathered", action="store_true", help="sampled products of few entries, in two ways")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.gathered:
        print("gathered / MKL by entries as a share of rows + columns\n")
        print("| tokens, rows x columns | " + " | ".join(map(str, SHARES)) + " |\n|---|" + "--:|" * len(SHARES))
        for tokens, rows, columns in SIZES:
            cells = " | ".join(f"{ratio(*gathered(tokens, rows, columns, s), chosen.pairs):.2f}" for s in SHARES)
            print(f"| {tokens}, {rows} x {columns} | {cells} |", flush=True)
        return
    print(f"torch {torch.__version__}, {chosen.threads} thread(s), median of {chosen.pairs} pairs, sampled / dense\n")
    print("| layer: tokens, rows x columns | dtype | " + " | ".join(f"{d:.1%}" for d in DENSITIES) + " | break-even |")
    print("|---|---|" + "--:|" * (len(DENSITIES) + 1))
    types = (torch.float32, torch.bfloat16)
    cases: list[tuple[str, Callable[..., tuple[Run, Run]], tuple[int, ...], torch.dtype]]
    cases = [("linear", product, sizes, t) for sizes in SIZES for t in types]
    cases += [("embedding", lookup, sizes, torch.float32) for sizes in LOOKUPS]
    for layer, both, sizes, dtype in cases:
        ratios = [ratio(*both(*sizes, d, dtype), chosen.pairs) for d in DENSITIES]
        cells = " | ".join(f"{r:.2f}" for r in ratios)
        name = "{}: {}, {} x {}".format(layer, *sizes)
        print(f"| {name} | {str(dtype)[6:]} | {cells} | {crossing(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
