"""Learning rates of the micro-paper: one race by one rule for every method, number of parameters and raced scale.

    python benchmarks/rate_race.py runs/rates                        # what is missing of it; the same call goes on
    python benchmarks/rate_race.py runs/rates --scale t5-nano        # a part, beside others
    python benchmarks/rate_race.py runs/rates --page                 # and write docs/results/rates.csv

A heat trains 384 steps of 32 on training rows of one task; no validation or test row is seen. What counts is the mean
training loss of its last 96 steps, when each row has been seen once or not at all. Three rates, then on to the side of
the best until it lies inside, each a third or three times the last. Of rates within 2 % of the lowest loss the one
nearest to the middle is taken: at a plateau, where nothing is learnt yet, losses say nothing of the rate. The middles
are those of trials by hand (docs/log.md). Scales between two raced ones lie on the line through them in logarithms.
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
TASK = "microworld-rotten-tomatoes"
STEPS, LAST = 384, 96
RACED = ["microworld-t5-nano", "microworld-t5-small", "microworld-t5-base", "microworld-t5-xl"]
MIDDLES = {"fine-tuning": 1e-3, "bitfit": 0.03, "lora": 4e-3, "adapter": 4e-3, "apet": 1e-2}
"""Method -> the rate that its race begins about on T5-small; on others by the inverse of the width."""
NEAR, MOST_POWER = 1.02, 4
CELLS = [
    *((method, None) for method in ("fine-tuning", "lora", "bitfit", "adapter")),
    *((method, budget) for budget in ("1024", "16384") for method in ("lora", "apet-adjacent", "apet-discrete")),
]
Heat = dict[str, JsonValue]


def rate_of(scale: str, method: str, power: int) -> float:
    """A candidate, to three digits."""
    middle = MIDDLES["apet" if method.startswith("apet") else method] * 64 / SCALES[scale].d_model
    return float(f"{middle * 3.0**power:.3g}")


def late_loss(heat: Heat) -> float:
    """Mean loss of the last steps; infinite where it diverged."""
    loss = heat["late_loss"]
    return math.inf if loss is None else float(str(loss))


def missing_powers(ran: dict[int, Heat]) -> list[int]:
    """Powers that are still to be run: the first three, then one beyond the best while that is at an edge."""
    first = [p for p in (-1, 0, 1) if p not in ran]
    if first:
        return first
    best = min(ran, key=lambda p: late_loss(ran[p]))
    edge = best + 1 if best == max(ran) else best - 1 if best == min(ran) else None
    return [] if edge is None or abs(edge) > MOST_POWER else [edge]


def taken(ran: dict[int, Heat]) -> Heat:
    """The heat whose rate is taken."""
    lowest = min(map(late_loss, ran.values()))
    return ran[min((p for p in ran if late_loss(ran[p]) <= NEAR * lowest), key=lambda p: (abs(p), p))]


def race(path: Path, scale: str, method: str, budget: str | None, racing: Path, resources: Resources) -> Heat:
    """Run what is missing of one race; each heat is a line of the file.

    Returns:
        The heat whose rate is taken.
    """
    while True:
        known: list[Heat] = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        ran = {int(str(h["power"])): h for h in known if (h["method"], h["budget"]) == (method, budget)}
        powers = missing_powers(ran)
        if not powers:
            return taken(ran)
        began = time.perf_counter()
        rates = [rate_of(scale, method, power) for power in powers]
        settings = {
            "backbone": scale,
            "task": TASK,
            "data": str(racing.absolute()),
            "method": method,
            "budget": budget,
            "max_steps": STEPS,
            "batch_size": 32,
            "eval_steps": LAST,
            "num_threads": 1,
            "dtype": "float32",
        }
        plans = [resolve(validate_config({**settings, "learning_rate": rate}), resources.cache) for rate in rates]
        for n, done in tune_side_by_side(plans, [None] * len(plans), resources):
            heat: Heat = {"scale": scale, "method": method, "budget": budget, "power": powers[n]}
            heat |= {"learning_rate": rates[n], "num_trainable": plans[n].num_trainable}
            if isinstance(done, ApetError):
                heat |= {"late_loss": None, "score": None}
            else:
                heat |= {"late_loss": done.points[-1].loss, "score": done.points[-1].score.score}
            heat |= {"seconds": round((time.perf_counter() - began) / len(plans), 1)}
            with path.open("a") as f:
                f.write(json.dumps(heat) + "\n")


def race_all(folder: Path, scales: list[str]) -> None:
    """Every race of these scales."""
    task = registered_tasks()[TASK]
    parts = part(task, load_data(task))
    raced_on = {e.normalized_text for e in parts.race}
    parts = replace(parts, race_train=[e for e in parts.train if e.normalized_text not in raced_on])
    files = write_parts(parts, task, folder / "rows", "racing")
    for scale in scales:
        resources = Resources()
        for method, budget in CELLS:
            won = race(folder / f"{scale}.jsonl", scale, method, budget, files.racing, resources)
            print(f"{scale} {method} {budget or 'default'}: {won['learning_rate']} loss {won['late_loss']}", flush=True)


def write_results(folder: Path) -> None:
    """All heats, with a mark at those whose rate is taken."""
    rows = []
    for scale in RACED:
        path = folder / f"{scale}.jsonl"
        known: list[Heat] = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        for method, budget in CELLS:
            ran = {int(str(h["power"])): h for h in known if (h["method"], h["budget"]) == (method, budget)}
            if ran and not missing_powers(ran):
                best = taken(ran)
                rows += [{**h, "taken": h is best} for h in ran.values()]
    table = pd.DataFrame(rows).sort_values(["scale", "method", "num_trainable", "learning_rate"], ignore_index=True)
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
