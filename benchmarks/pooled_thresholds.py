"""Thresholds over several tasks, and their slope over scale, by curves that are fitted to planted runs.

    python benchmarks/pooled_thresholds.py [STUDIES] > docs/results/pooled-thresholds.md

The posteriors of single curves are independent, so the median over tasks is a median of their draws: is it covered, and
how much narrower is it? And what does the whole way, runs to curves to slope, make of thresholds that do and do not
fall?
Shapes and noise are those of benchmarks/curve_recovery.py.
"""

from __future__ import annotations

import math
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from curve_recovery import BASE, World

from apet.analysis.claims.thresholds import high_falls, median_log10
from apet.analysis.claims.verdict import SUPPORTED, holm
from apet.analysis.curve_values import Levels, RunScore, ThresholdKind
from apet.analysis.curves import BudgetCurve, fit_curve
from apet.analysis.intervals import Floats
from apet.analysis.study_data import Scale
from apet.analysis.thresholds import Threshold

COUNTS = tuple(4**k for k in range(9))
NUM_SEEDS, NUM_FULL = 2, 3
NOISE = 0.015
TASKS = (1, 3, 5)
NUM_SCALES, NUM_SCALE_TASKS = 6, 3
SCATTER = 0.7
"""Octaves, of a backbone about the line and of a task about the backbone."""


def fitted(world: World) -> BudgetCurve:
    """The curve of one backbone, task and method."""
    runs = [RunScore(n, world.run(n)) for n in COUNTS for _ in range(NUM_SEEDS)]
    return fit_curve(runs, Levels(BASE, BASE, tuple(world.run(None) for _ in range(NUM_FULL))))


def threshold(curve: BudgetCurve, kind: ThresholdKind, scale: Scale, task: str) -> Threshold:
    """Its threshold, with the draws."""
    return Threshold(scale, task, "lora", kind, curve.threshold(kind), COUNTS, NUM_SEEDS, curve.crossings(kind))


def pooled(shape: str, num_studies: int) -> list[str]:
    """Rows of the first table."""
    scale = Scale("s", "t5", 10**6)
    hits: dict[tuple[ThresholdKind, int], list[bool]] = {}
    lengths: dict[tuple[ThresholdKind, int], list[float]] = {}
    kinds: tuple[ThresholdKind, ...] = ("low", "high")
    for study in range(num_studies):
        shifts = np.random.default_rng([study, 7]).uniform(-2, 2, max(TASKS))
        worlds = [World(shape, float(x), NOISE, np.random.default_rng([study, j])) for j, x in enumerate(shifts)]
        curves = [fitted(w) for w in worlds]
        for kind in kinds:
            made = [threshold(c, kind, scale, f"task{j}") for j, c in enumerate(curves)]
            truths = [w.truth(kind) * math.log10(2) for w in worlds]
            for m in TASKS:
                low, high = _ends(*median_log10(made[:m], np.random.default_rng(0)))
                hits.setdefault((kind, m), []).append(low <= float(np.median(truths[:m])) <= high)
                lengths.setdefault((kind, m), []).append((high - low) / math.log10(2))
    rows = []
    for kind in kinds:
        covered = [f"{100 * np.mean(hits[kind, m]):.0f}" for m in TASKS]
        octaves = [f"{np.median(lengths[kind, m]):.1f}" for m in TASKS]
        rows.append("| " + " | ".join([shape, kind, *covered, *octaves]) + " |")
    return rows


def _ends(low: Floats, high: Floats) -> tuple[float, float]:
    return (
        float(np.quantile(low, 0.025, method="inverted_cdf")),
        float(np.quantile(high, 0.975, method="inverted_cdf")),
    )


def supported(octaves: float, num_studies: int) -> float:
    """Share of studies of which the fall of the high threshold is supported; it falls by so much over two tenfolds."""
    sizes = np.linspace(4.7, 6.7, NUM_SCALES)
    hits = []
    for study in range(num_studies):
        rng = np.random.default_rng([study, 11])
        made = []
        for i, x in enumerate(sizes):
            scale = Scale(f"s{i}", "t5", round(10**x))
            middle = octaves * (0.5 - i / (NUM_SCALES - 1)) + SCATTER * rng.standard_normal()
            for j in range(NUM_SCALE_TASKS):
                shift = float(middle + SCATTER * rng.standard_normal())
                world = World("logistic", shift, NOISE, np.random.default_rng([study, i, j]))
                made.append(threshold(fitted(world), "high", scale, f"task{j}"))
        hits.append(holm(high_falls(made))[0].verdict == SUPPORTED)
    return float(np.mean(hits))


def main(num_studies: int) -> None:
    """Print the page."""
    tasks = " | ".join(f"{m}" for m in TASKS)
    print(f"""# Thresholds over several tasks and over scale, from planted runs

Made by `python benchmarks/pooled_thresholds.py > docs/results/pooled-thresholds.md`: {num_studies} studies a row.
{len(COUNTS)} counts from {COUNTS[0]} to {COUNTS[-1]:,}, {NUM_SEEDS} runs each, {NUM_FULL} of full fine-tuning; seeds
with a sd of {100 * NOISE:g} points, 40 points from chance to full fine-tuning.

How often the 95 % interval of the median log threshold over so many tasks holds the true one, and its median length in
octaves; an end is open where a task's is.

| shape | threshold | covered %, tasks: {tasks} | octaves, tasks: {tasks} |
|{"---|" * (2 + 2 * len(TASKS))}""")
    for shape in ("logistic", "Gompertz", "power law", "step"):
        print("\n".join(pooled(shape, num_studies)), flush=True)
    print(f"""
The high threshold over {NUM_SCALES} backbones of two tenfolds, {NUM_SCALE_TASKS} tasks, scattering by {SCATTER:g}
octaves a backbone and a task: how often its fall is called supported.

| falls over all, octaves | supported % |
|---|---|""")
    for octaves in (0.0, 4.0):
        print(f"| {octaves:g} | {100 * supported(octaves, num_studies):.0f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
