"""Are planted thresholds recovered by the budget curve, also of shapes that its model does not contain?

    python benchmarks/curve_recovery.py [DRAWS] [WORKERS]

A true share of the way over log2 N, moved at random by up to two octaves; 17 counts from 1 to 65,536; scores with
normal noise over seeds; 20 runs in all, those of full fine-tuning included. The table goes to docs/results/curves.md.

- *curve*: `next_run` chooses, the curve answers; four runs at a time, two for each threshold, after two of
  full fine-tuning and one at every second count.
- *grid, curve*: every count once and three of full fine-tuning; the curve answers.
- *grid*: the same runs; the threshold lies between the last count below the level and the next.
- *bisection*: three runs of full fine-tuning, then by halves for the high and for the low threshold, two runs a count.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Two processes beside each other, and matrices so small that threads only stand in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from apet.analysis.curve_values import HIGH_SHARE, LOW_SHARE, Levels, RunScore, ThresholdKind
from apet.analysis.curves import fit_curve
from apet.analysis.intervals import Floats

PAGE = Path(__file__).parents[1] / "docs/results/curves.md"
BASE, FULL = 0.4, 0.8
COUNTS = [2**k for k in range(17)]
NUM_RUNS = 20
NOISES = (0.01, 0.03, 0.05)
KINDS: tuple[ThresholdKind, ...] = ("low", "high")
PREFACE = """# Planted thresholds, recovered

Made by `python benchmarks/curve_recovery.py`: 200 draws for each shape and noise, 20 runs in each. Errors are medians
of the distance to the true threshold in octaves; *covered* is how often the 95 % interval holds it. *Curve*: runs
chosen by `next_run`, answered by the budget curve. *Grid, curve*: every count once, answered by the curve. *Grid* and
*bisection* answer by the scores alone. The way from chance to full fine-tuning is 40 points, so that 95 % of it lies
two points below. The model holds the logistic curve, nearly the step and Gompertz's, not the others.

"""
WAYS = ("curve", "grid, curve", "grid", "bisection")


def _logistic(z: Floats) -> Floats:
    return 1 / (1 + np.exp(-z))


SHAPES: dict[str, Callable[[Floats], Floats]] = {
    "logistic": lambda x: _logistic(x - 8),
    "step": lambda x: (x >= 8.0).astype(float),
    "Gompertz": lambda x: np.exp(-np.exp(-(x - 7) / 1.5)),
    "power law": lambda x: 1 - (1 + 2.0 ** (x - 5)) ** -0.6,
    "two steps": lambda x: 0.5 * _logistic((x - 5) / 0.4) + 0.5 * _logistic((x - 11) / 0.4),
    "dip": lambda x: _logistic((x - 7) / 0.8) - 0.3 * np.exp(-0.5 * ((x - 9.5) / 0.8) ** 2),
}
"""Share of the way over log2 N. The model holds the logistic one, nearly the Gompertz and the step, not the others."""


@dataclass(frozen=True)
class World:
    """One planted curve with its noise.

    Attributes:
        shape: name.
        shift: to the right, in octaves.
        noise: standard deviation over seeds, in [0, 1].
        rng: of the noise.
    """

    shape: str
    shift: float
    noise: float
    rng: np.random.Generator

    def share(self, log2_counts: Floats) -> Floats:
        """True share of the way."""
        return SHAPES[self.shape](log2_counts - self.shift)

    def run(self, n: int | None) -> float:
        """Score of one run; of full fine-tuning without N."""
        share = 1.0 if n is None else float(self.share(np.array([math.log2(n)]))[0])
        return min(1.0, BASE + (FULL - BASE) * share + self.noise * float(self.rng.standard_normal()))

    def truth(self, kind: ThresholdKind) -> float:
        """True threshold in log2 N, where the share is first reached."""
        x = np.linspace(-8, 24, 32_001)
        return float(x[(self.share(x) >= (LOW_SHARE if kind == "low" else HIGH_SHARE)).argmax()])


@dataclass(frozen=True)
class Found:
    """An answer: middle and interval in log2 N, within the counts; NaN = no interval."""

    middle: float
    low: float = math.nan
    high: float = math.nan


def by_curve(world: World) -> dict[ThresholdKind, Found]:
    """Runs chosen by `next_run`."""
    full = [world.run(None) for _ in range(2)]
    runs = [RunScore(n, world.run(n)) for n in COUNTS[1::2]]
    while len(full) + len(runs) < NUM_RUNS:
        curve = fit_curve(runs, Levels(BASE, BASE, tuple(full)), COUNTS[0], COUNTS[-1])
        for kind in KINDS:
            # Two at a time, at different counts: that costs half the posteriors.
            tried: set[int | None] = set()
            for _ in range(min(2, NUM_RUNS - len(full) - len(runs))):
                counts = [n for n in COUNTS if n not in tried]
                full_seeds = 0 if None in tried else NUM_RUNS
                chosen = curve.next_run(kind, counts, max_seeds=NUM_RUNS, max_full_seeds=full_seeds)
                assert chosen is not None
                n = chosen.num_trainable
                tried.add(n)
                if n is None:
                    full.append(world.run(None))
                else:
                    runs.append(RunScore(n, world.run(n)))
    return _answers(runs, full)


def _answers(runs: list[RunScore], full: list[float]) -> dict[ThresholdKind, Found]:
    curve = fit_curve(runs, Levels(BASE, BASE, tuple(full)), COUNTS[0], COUNTS[-1])
    found: dict[ThresholdKind, Found] = {}
    for kind in KINDS:
        t = curve.threshold(kind)
        low, middle, high = (math.log2(n) if n > 0 else -math.inf for n in (t.ci_low, t.median, t.ci_high))
        found[kind] = Found(_within(middle), low, high)
    return found


def _within(log2_count: float) -> float:
    """A threshold beyond the counts is as far as they can tell."""
    return min(max(log2_count, 0.0), math.log2(COUNTS[-1]))


def by_grid(world: World) -> tuple[dict[ThresholdKind, Found], dict[ThresholdKind, Found]]:
    """Every count once: the answers of the curve, and those of the scores alone."""
    full = [world.run(None) for _ in range(3)]
    runs = [RunScore(n, world.run(n)) for n in COUNTS]
    alone: dict[ThresholdKind, Found] = {}
    for kind in KINDS:
        level = _level(kind, full)
        below = [i for i, r in enumerate(runs) if r.score < level]
        alone[kind] = Found(_within(max(below, default=-1) + 0.5))
    return _answers(runs, full), alone


def by_bisection(world: World) -> dict[ThresholdKind, Found]:
    """Two runs at each count that halves what is left."""
    full = [world.run(None) for _ in range(3)]
    mean: dict[int, float] = {}
    found: dict[ThresholdKind, Found] = {}
    for kind in KINDS[::-1]:
        failing, passing, level = -1, len(COUNTS), _level(kind, full)
        while passing - failing > 1:
            middle = (failing + passing) // 2
            if middle not in mean:
                mean[middle] = (world.run(COUNTS[middle]) + world.run(COUNTS[middle])) / 2
            failing, passing = (failing, middle) if mean[middle] >= level else (middle, passing)
        found[kind] = Found(_within((failing + passing) / 2))
    return found


def _level(kind: ThresholdKind, full: list[float]) -> float:
    return BASE + (LOW_SHARE if kind == "low" else HIGH_SHARE) * (float(np.mean(full)) - BASE)


def one_draw(shape: str, noise: float, seed: int) -> dict[tuple[str, str], tuple[float, bool, float]]:
    """All ways in one world: (way, threshold) -> error in octaves, whether the interval covers, its length."""

    def world(way: int) -> World:
        shift = float(np.random.default_rng([seed, 99]).uniform(-2, 2))
        return World(shape, shift, noise, np.random.default_rng([seed, way]))

    grid_curve, grid = by_grid(world(1))
    found = dict(zip(WAYS, (by_curve(world(0)), grid_curve, grid, by_bisection(world(2))), strict=True))
    results: dict[tuple[str, str], tuple[float, bool, float]] = {}
    for way, answers in found.items():
        for kind, f in answers.items():
            truth = world(0).truth(kind)
            covers = f.low <= truth <= f.high
            results[way, kind] = (abs(f.middle - _within(truth)), covers, _within(f.high) - _within(f.low))
    return results


def _cell(job: tuple[str, float, int]) -> list[str]:
    """Rows of the table for one shape and noise."""
    shape, noise, num_draws = job
    draws = [one_draw(shape, noise, seed) for seed in range(num_draws)]
    rows = []
    for kind in KINDS:
        errors = {way: float(np.median([d[way, kind][0] for d in draws])) for way in WAYS}
        covered = {way: float(np.mean([d[way, kind][1] for d in draws])) for way in WAYS[:2]}
        length = float(np.median([d["curve", kind][2] for d in draws]))
        cells = [shape, f"{100 * noise:g}", kind, *(f"{errors[w]:.2f}" for w in WAYS)]
        rows.append("| " + " | ".join([*cells, *(f"{100 * c:.0f}" for c in covered.values()), f"{length:.1f}"]) + " |")
    return rows


def main(num_draws: int, workers: int) -> None:
    """Make the table."""
    jobs = [(shape, noise, num_draws) for shape in SHAPES for noise in NOISES]
    head = (
        "| shape | sd over seeds, points | threshold | error: curve | grid, curve | grid | bisection"
        " | covered %: curve | grid, curve | octaves of the interval |\n|" + "---|" * 10
    )
    table = [head]
    with ProcessPoolExecutor(workers) as pool:
        for rows in pool.map(_cell, jobs):
            print("\n".join(rows), flush=True)
            table += rows
    PAGE.write_text(PREFACE + "\n".join([*table, "", missed(table[1:])]) + "\n")


def missed(rows: list[str]) -> str:
    """The goals with the rows that miss them."""
    cells = [[c.strip() for c in row.strip("|").split("|")] for row in rows]
    names = {
        "covered less than 90 %": [c for c in cells if float(c[7]) < 90],
        "median error above one octave": [c for c in cells if float(c[3]) > 1],
        "more error than bisection": [c for c in cells if float(c[3]) > float(c[6])],
        "more error than the grid by its scores": [c for c in cells if float(c[3]) > float(c[5])],
        "more error than the grid by the curve": [c for c in cells if float(c[3]) > float(c[4])],
    }
    lines = [
        f"- {name}: {len(found)} of {len(cells)}. " + "; ".join(" ".join(c[:3]) for c in found)
        for name, found in names.items()
    ]
    return "Goals missed by *curve* (shape, sd, threshold):\n\n" + "\n".join(lines)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, int(sys.argv[2]) if len(sys.argv) > 2 else 2)
