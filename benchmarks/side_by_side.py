"""Runs in one pass against the same runs one after another: where does sharing the frozen layers win?

    python benchmarks/side_by_side.py [--json FILE] [--backbones A,B] [--methods lora,bitfit] [--runs 2,4,8]

Both ways in turns, several times, with one thread each; the same steps and measurements are timed.
A ratio below 1 is a gain.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from pathlib import Path
from typing import Annotated, TypedDict

import torch
import typer

from apet.training.config import validate_config
from apet.training.group import tune_side_by_side
from apet.training.resolve import resolve
from apet.training.resources import Resources
from apet.training.run import tune
from apet.training.run_plan import RunPlan

PAIRS = 3
SETTINGS = {"max_steps": 20, "eval_steps": 10, "max_eval_samples": 100, "dtype": "float32", "num_threads": 1}


class Cell(TypedDict):
    """One line of the table."""

    backbone: str
    method: str
    batch_size: int
    runs: int
    parameters: int
    alone_seconds: float
    ratios: list[float]


def main(
    backbones: str = "microworld-t5-mini,microworld-t5-base,microworld-t5-large,microworld-bert-base",
    methods: str = "lora,bitfit,prompt,adapter,apet-discrete",
    runs: str = "1,2,4,8",
    batch_size: int = 16,
    task: str = "microworld-sst2",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Measure every combination."""
    resources, cells = Resources(), []
    for backbone in backbones.split(","):
        for method in methods.split(","):
            for num_runs in map(int, runs.split(",")):
                base = {"backbone": backbone, "task": task, "method": method, "batch_size": batch_size, **SETTINGS}
                plans = [resolve(validate_config({**base, "seed": n}), resources.cache) for n in range(num_runs)]
                cells.append(cell := measured(plans, resources))
                low, middle, high = statistics.quantiles(cell["ratios"], n=4) if PAIRS > 1 else cell["ratios"] * 3
                print(
                    f"{backbone:24} {method:14} R={num_runs:<2} alone {cell['alone_seconds']:6.2f} s"
                    f"  ratio {middle:.2f} [{low:.2f}, {high:.2f}]",
                    flush=True,
                )
    if json_file is not None:
        about = {"machine": platform.processor(), "torch": torch.__version__, "threads": 1, "pairs": PAIRS}
        json_file.write_text(json.dumps({**about, "cells": cells}, indent=1) + "\n", "utf-8")


def measured(plans: list[RunPlan], resources: Resources) -> Cell:
    """Both ways in turns; the first time of each, which loads what is shared, does not count."""
    one_by_one(plans[:1], resources)
    in_one_pass(plans, resources)
    pairs = [(one_by_one(plans, resources), in_one_pass(plans, resources)) for _ in range(PAIRS)]
    config, backbone = plans[0].config, plans[0].backbone
    return {
        "backbone": config.backbone,
        "method": config.method,
        "batch_size": config.batch_size,
        "runs": len(plans),
        "parameters": backbone.num_parameters,
        "alone_seconds": statistics.median(alone for alone, _ in pairs),
        "ratios": [shared / alone for alone, shared in pairs],
    }


def one_by_one(plans: list[RunPlan], resources: Resources) -> float:
    """Seconds of the runs one after another."""
    began = time.perf_counter()
    for plan in plans:
        tune(plan, None, resources)
    return time.perf_counter() - began


def in_one_pass(plans: list[RunPlan], resources: Resources) -> float:
    """Seconds of the runs side by side."""
    began = time.perf_counter()
    for _, outcome in tune_side_by_side(plans, [None] * len(plans), resources):
        if isinstance(outcome, Exception):
            raise outcome
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
