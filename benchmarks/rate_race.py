"""Learning rates of the micro-paper: one race by one rule for every method, number of parameters and raced scale.

    python benchmarks/rate_race.py runs/rates                        # what is missing of it; the same call goes on
    python benchmarks/rate_race.py runs/rates --scale t5-nano        # a part, beside others
    python benchmarks/rate_race.py runs/rates --page                 # and write docs/results/rates.csv

A heat trains 512 steps of 32 in float32 on training rows of an easy task and of a hard one (the rate of an easy task
alone misleads, docs/log.md); no validation or test row is seen. What counts is the mean over both of the training loss
of the last 128 steps, when each row has been seen once or twice. Three rates, then on to the side of the best until it
lies inside, each a third or three times the last. Of rates within 2 % of the lowest loss the one nearest to the middle
is taken: at a plateau, where nothing is learnt yet, losses say nothing of the rate. The middles are those of trials by
hand (docs/log.md). Scales between two raced ones lie on the line through them in logarithms.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from pydantic import JsonValue

from apet.errors import ApetError
from apet.recommendation.parts import part, write_parts
from apet.tasks.sources import load_data
from apet.tasks.task import registered_tasks
from apet.training.config import validate_config
from apet.training.group import tune_side_by_side
from apet.training.resolve import resolve
from apet.training.resources import Resources
from apet_microworld.scales import SCALES

RESULTS = Path(__file__).parents[1] / "docs" / "results"
TASKS = ("microworld-rotten-tomatoes", "microworld-qqp")
STEPS, LAST = 512, 128
RACED = ["microworld-t5-nano", "microworld-t5-small", "microworld-t5-base", "microworld-t5-xl"]
MIDDLES = {"fine-tuning": 1e-3, "bitfit": 0.01, "lora": 4e-3, "adapter": 2e-3, "apet": 1e-2}
"""Method -> the rate that its race begins about on T5-small; on others by the inverse of the width."""
NEAR, MOST_POWER = 1.02, 4
CELLS = [
    *((method, None) for method in ("fine-tuning", "lora", "bitfit", "adapter")),
    *((method, budget) for budget in ("1024", "16384") for method in ("lora", "apet-adjacent", "apet-discrete")),
]
Heat = dict[str, JsonValue]
Losses = dict[int, float]
"""Power of three by which the middle is multiplied -> mean loss over the tasks."""


def rate_of(scale: str, method: str, power: int) -> float:
    """A candidate, to three digits."""
    middle = MIDDLES["apet" if method.startswith("apet") else method] * 64 / SCALES[scale].d_model
    return float(f"{middle * 3.0**power:.3g}")


def losses_of(heats: list[Heat], method: str, budget: str | None) -> Losses:
    """What a cell's powers came to, of those that ran on every task; infinite where one diverged."""
    by_power: dict[int, list[float]] = {}
    for h in heats:
        if (h["method"], h["budget"]) == (method, budget):
            loss = h["late_loss"]
            by_power.setdefault(int(str(h["power"])), []).append(math.inf if loss is None else float(str(loss)))
    return {power: sum(found) / len(found) for power, found in by_power.items() if len(found) == len(TASKS)}


def missing_powers(losses: Losses) -> list[int]:
    """Powers that are still to be run: the first three, then one beyond the best while that is at an edge."""
    first = [p for p in (-1, 0, 1) if p not in losses]
    if first:
        return first
    best = min(losses, key=losses.__getitem__)
    edge = best + 1 if best == max(losses) else best - 1 if best == min(losses) else None
    return [] if edge is None or abs(edge) > MOST_POWER else [edge]


def taken(losses: Losses) -> int:
    """The power whose rate is taken."""
    lowest = min(losses.values())
    return min((p for p, loss in losses.items() if loss <= NEAR * lowest), key=lambda p: (abs(p), p))


def read(path: Path) -> list[Heat]:
    """All heats of a scale so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def race(path: Path, scale: str, method: str, budget: str | None, racing: dict[str, Path], resources: Resources) -> str:
    """Run what is missing of one race; each heat is a line of the file.

    Returns:
        How it ended, in words.
    """
    while powers := missing_powers(losses_of(read(path), method, budget)):
        ran = {(h["power"], h["task"]) for h in read(path) if (h["method"], h["budget"]) == (method, budget)}
        for task in TASKS:
            run_heats(path, scale, method, budget, task, [p for p in powers if (p, task) not in ran], racing, resources)
    losses = losses_of(read(path), method, budget)
    power = taken(losses)
    return f"{scale} {method} {budget or 'default'}: {rate_of(scale, method, power)}, loss {losses[power]:.4f}"


def run_heats(
    path: Path,
    scale: str,
    method: str,
    budget: str | None,
    task: str,
    powers: list[int],
    racing: dict[str, Path],
    resources: Resources,
) -> None:
    """Heats of some powers on one task, in one pass where that can be."""
    if not powers:
        return
    began = time.perf_counter()
    settings = {
        "backbone": scale,
        "task": task,
        "data": str(racing[task].absolute()),
        "method": method,
        "budget": budget,
        "max_steps": STEPS,
        "batch_size": 32,
        "eval_steps": LAST,
        "num_threads": 1,
        "dtype": "float32",
    }
    plans = [
        resolve(validate_config({**settings, "learning_rate": rate_of(scale, method, p)}), resources.cache)
        for p in powers
    ]
    for n, done in tune_side_by_side(plans, [None] * len(plans), resources):
        last = None if isinstance(done, ApetError) else done.points[-1]
        heat: Heat = {
            "scale": scale,
            "method": method,
            "budget": budget,
            "task": task,
            "power": powers[n],
            "learning_rate": rate_of(scale, method, powers[n]),
            "num_trainable": plans[n].num_trainable,
            "late_loss": None if last is None else last.loss,
            "score": None if last is None else last.score.score,
            "seconds": round((time.perf_counter() - began) / len(plans), 1),
        }
        with path.open("a") as f:
            f.write(json.dumps(heat) + "\n")


def race_all(folder: Path, scales: list[str]) -> None:
    """Every race of these scales."""
    racing = {}
    for name in TASKS:
        task = registered_tasks()[name]
        parts = part(task, load_data(task))
        measured_on = {e.normalized_text for e in parts.race}
        parts = replace(parts, race_train=[e for e in parts.train if e.normalized_text not in measured_on])
        racing[name] = write_parts(parts, task, folder / "rows", name).racing
    for scale in scales:
        resources = Resources()
        for method, budget in CELLS:
            print(race(folder / f"{scale}.jsonl", scale, method, budget, racing, resources), flush=True)


def write_results(folder: Path) -> None:
    """All heats of the races that are over, with a mark at those whose rate is taken."""
    rows = []
    for scale in RACED:
        heats = read(folder / f"{scale}.jsonl")
        for method, budget in CELLS:
            losses = losses_of(heats, method, budget)
            if not missing_powers(losses):
                mine = [h for h in heats if (h["method"], h["budget"]) == (method, budget)]
                rows += [{**h, "taken": h["power"] == taken(losses)} for h in mine]
    table = pd.DataFrame(rows).sort_values(
        ["scale", "method", "num_trainable", "task", "learning_rate"], ignore_index=True
    )
    table.to_csv(RESULTS / "rates.csv", index=False, float_format="%.5g")


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", action="append", help="such as t5-small; without it, all that are raced")
    parser.add_argument("--page", action="store_true", help="write docs/results/rates.csv of the races that are over")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    race_all(given.folder, [f"microworld-{s}" for s in given.scale] if given.scale else RACED)
    if given.page:
        write_results(given.folder)


if __name__ == "__main__":
    main()
