"""How near the estimate of a step's memory and time (`apet.estimate`) comes to a step, both beside full fine-tuning.

    python benchmarks/estimates.py [--threads 1] [--pairs 9]

Steps of the delta and of full fine-tuning alternate; the median of the paired ratios stands beside the estimate. The
memory of a step is the most that the allocator reports.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from speed import peak_bytes, seconds
from speed_ways import CASES, Case
from torch import Tensor, nn

import apet
from apet.backbones.loading import build_model
from apet.costs import FLOAT, MOMENTS, estimate, inputs_of
from apet.machine import measure_machine

METHODS = ("lora", "apet", "bitfit", "adapter", "prompt")


def step_of(model: nn.Module, trained: list[Tensor], case: Case) -> Callable[[], None]:
    """What the estimate has in mind, with numbers in it."""
    inputs = inputs_of(model, case.batch, case.length)
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def step() -> None:
        logits = model(**inputs).logits
        target = torch.zeros(logits[..., 0].numel(), dtype=torch.long)
        nn.functional.cross_entropy(logits.flatten(0, -2).float(), target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=9)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    machine = measure_machine()
    print(f"torch {torch.__version__}, {chosen.threads} thread(s), {machine}\n")
    print("| backbone | method | time: estimate | measured | error | memory: estimate | measured | error |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for case in CASES["cpu"]:
        config = case.build().config
        whole = build_model(config).train()
        full = step_of(whole, list(whole.parameters()), case)
        full()
        weights = sum(p.nbytes for p in whole.parameters())
        full_memory = weights + weights // FLOAT * MOMENTS + peak_bytes(full, "cpu")
        for method in METHODS:
            spec = apet.plan(config, method)
            told = estimate(config, spec, case.batch, case.length, machine=machine)
            model = build_model(config).train()
            step = step_of(model, list(apet.attach(model, spec).parameters()), case)
            step()
            memory = weights + (FLOAT + MOMENTS) * spec.num_trainable + peak_bytes(step, "cpu")
            time = statistics.median(seconds(step, "cpu") / seconds(full, "cpu") for _ in range(chosen.pairs))
            cells = ""
            for estimated, measured in ((told.relative_time, time), (told.relative_memory, memory / full_memory)):
                cells += f" {estimated:.3f} | {measured:.3f} | {estimated / measured - 1:+.0%} |"
            print(f"| {case.name} | {method} |{cells}", flush=True)


if __name__ == "__main__":
    main()
