"""The micro-paper's study on the microworld's ladder: its design, made of the raced rates, and its runs by scale.

    python benchmarks/rate_race.py runs/rates --page                     # docs/results/rates.csv first
    python benchmarks/micropaper.py --write                              # docs/results/micropaper/study.yaml
    python benchmarks/micropaper.py runs/micropaper --scale t5-nano --seed 0    # a part; the same call goes on
    python benchmarks/micropaper.py runs/micropaper --export             # to docs/results/micropaper/export/
    apet report docs/results/micropaper/export/* --output runs/micropaper/report

Parts are made on different days and machines: what an export holds is not run again, each export is a folder of its
own, and all of them are reported as one study.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import yaml
from pydantic import JsonValue

import apet
from apet.commands.studying import make_runs, plan_runs
from apet.training.progress import Progress
from apet_microworld.scales import SCALES

RESULTS = Path(__file__).parents[1] / "docs" / "results"
PAPER = RESULTS / "micropaper"
EXPORTS = PAPER / "export"
LADDER = [name for name, scale in SCALES.items() if scale.family == "t5" and scale.reads == 1]
TASKS = ["rotten-tomatoes", "mnli", "qnli", "mrpc", "qqp"]
"""Of three categories, with room to learn at every scale (docs/results/headroom.md)."""
EQUAL = ["1024", "16384"]
"""Counts at which every scale and structure is raced and run."""
METHODS = ["fine-tuning", "bitfit", "lora", "adapter", "apet-adjacent", "apet-discrete"]


def rate(rates: pd.DataFrame, scale: str, method: str, budget: str) -> float:
    """The raced rate of a cell; between two raced widths, on the line through them in logarithms.

    Args:
        rates: as `benchmarks/rate_race.py` wrote them, ``default`` for a method's own size.
        scale: backbone.
        method: name.
        budget: as in the study.

    Returns:
        Learning rate, to three digits.
    """
    known = rates[rates.taken & (rates.method == method) & (rates.budget == budget)]
    widths = {SCALES[s].d_model: float(r) for s, r in zip(known.scale, known.learning_rate, strict=True)}
    width = SCALES[scale].d_model
    below, above = max(w for w in widths if w <= width), min(w for w in widths if w >= width)
    share = 0.0 if below == above else math.log(width / below) / math.log(above / below)
    return float(f"{widths[below] ** (1 - share) * widths[above] ** share:.3g}")


def study() -> dict[str, JsonValue]:
    """The design, with a rate for every method, scale and count."""
    rates = pd.read_csv(RESULTS / "rates.csv", dtype={"budget": str}).fillna({"budget": "default"})
    raced = {SCALES[s].d_model for s in rates.scale}
    scales = [s for s in LADDER if min(raced) <= SCALES[s].d_model <= max(raced)]
    cells = set(zip(rates.method, rates.budget, strict=True))
    overrides: list[JsonValue] = [
        {"match": {"method": "lora"}, "budgets": ["default", *EQUAL]},
        {"match": {"method": "apet-*"}, "budgets": [*EQUAL]},
    ]
    for method, budget in sorted(cells, key=lambda c: (METHODS.index(c[0]), c[1].zfill(9))):
        for scale in scales:
            value = rate(rates, scale, method, budget)
            match: JsonValue = {"method": method, "backbone": scale, "budget": budget}
            overrides.append({"match": match, "set": {"learning_rate": value}})
    overrides.append({"match": {"method": "fine-tuning"}, "set": {"save_delta": False}})
    return {
        "name": "micropaper",
        "description": "the paper's claims on the made-up ladder; everything in it is synthetic",
        "backbones": [*scales],
        "tasks": [f"microworld-{t}" for t in TASKS],
        "methods": [*METHODS],
        "budgets": ["default"],
        "seeds": [0, 1, 2],
        "run_defaults": {
            "max_steps": 1024,
            "batch_size": 32,
            "eval_steps": "log",
            "max_eval_samples": 500,
            "max_test_samples": 4000,
            "num_threads": 1,
            "dtype": "float32",
        },
        "overrides": overrides,
    }


def main() -> None:
    """Write the design, run a part of it, or export what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--scale", action="append", help="such as t5-small; without it, all")
    parser.add_argument("--seed", type=int, action="append", help="without it, all")
    parser.add_argument("--workers", type=int, default=0, help="runs at a time; 0 = one a core")
    parser.add_argument("--write", action="store_true", help="write docs/results/micropaper/study.yaml")
    parser.add_argument("--export", action="store_true", help="write the runs that there are, and make none")
    given = parser.parse_args()
    if given.write:
        (PAPER / "study.yaml").write_text(yaml.safe_dump(study(), sort_keys=False, width=110), "utf-8")
    if given.folder is None:
        return
    for scale in [f"microworld-{s}" for s in given.scale] if given.scale else LADDER:
        folder = given.folder / scale
        if given.export:
            export(folder)
        else:
            run(scale, folder, given.seed, given.workers)


def exported() -> set[str]:
    """Runs that an export holds."""
    tables = [pd.read_csv(path) for path in EXPORTS.glob("*/runs.csv.gz")]
    return {run_id for t in tables for run_id in t.loc[t["state"] == "complete", "run_id"]}


def run(scale: str, folder: Path, seeds: list[int] | None, workers: int) -> None:
    """Run what is missing of a scale."""
    filters: dict[str, str | list[str]] = {"backbone": scale}
    if seeds:
        filters["seed"] = [str(s) for s in seeds]
    plan = plan_runs(str(PAPER / "study.yaml"), {}, filters=filters)
    done = exported()
    missing = tuple(r for r in plan.runs if r.run_id not in done)
    if missing:
        make_runs(replace(plan, runs=missing), folder, Progress(), workers=workers)


def export(folder: Path) -> None:
    """Write the runs of a folder that no export holds."""
    if not folder.is_dir() or not set(apet.Study(folder).results()) - exported():
        return
    number = len([*EXPORTS.glob(f"{folder.name}-*")]) + 1
    apet.Study(folder).export(EXPORTS / f"{folder.name}-{number}", "csv.gz")


if __name__ == "__main__":
    main()
