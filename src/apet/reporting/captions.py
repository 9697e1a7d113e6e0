"""What was run, in a sentence or two, under every figure and table."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from apet.analysis.convergence import LAST, REACHED
from apet.analysis.frames import complete
from apet.analysis.study import Analysis
from apet.reporting.formatting import join_words

INTERVALS = "Whiskers: 95 % t-interval over seeds; thin, dotted: of one seed, over its items. Both stand in the tables."
MISSING_RUNS = "Hollow, †: planned runs are missing; the mean is over what all sides have."
LEVELS = (
    "Horizontal lines: full fine-tuning; dotted, where scores come near it: the baseline (majority class; 0 for free"
    " text)."
)
RANGES = " Bars on the frame: ranges of the low (below) and high (above) thresholds."
CONVERGENCE_RULE = (
    "A curve has converged at the first evaluation from which its isotonic fit has made"
    f" {100 * REACHED:.0f} % of the rise from step 0 to its plateau, the mean over the last {100 * LAST:.0f} % of its"
    " steps."
)
CellKey = tuple[str, str, int]
"""Backbone, method and N: runs that differ in task and seed alone."""


def run_summary(
    a: Analysis, cells: Collection[CellKey] | None = None, tasks: Collection[str | None] | None = None
) -> str:
    """Backbones, tasks, metrics, seeds, steps and items of the complete runs.

    Args:
        a: of the study.
        cells: only runs of these; None = of all.
        tasks: only runs on these; None = on all.

    Returns:
        One or two sentences for the end of a caption.
    """
    done = complete(a.data.runs)
    if tasks is not None:
        done = done[done["task"].isin([t for t in tasks if t is not None])]
    if cells is not None:
        kept = set(cells)
        cell_of_run = zip(done["backbone"], done["method"], done["num_trainable"], strict=True)
        done = done[[(b, m, int(n)) in kept for b, m, n in cell_of_run]]
    if done.empty:
        return "No run is complete."
    seeds = done.groupby(["backbone", "task", "method", "num_trainable"])["seed"].nunique()
    parts = [
        plural(done["backbone"].nunique(), "backbone"),
        plural(done["task"].nunique(), "task"),
        count_range(seeds, "seed") + " a cell",
        count_range(done["max_steps"], "step"),
        count_range(done["num_examples"], f"{a.data.split} item") + " a task",
    ]
    heads = sorted({int(h) for h in done["num_head_parameters"].dropna() if h > 0})
    head = f" A task head is counted apart ({heads[0]:,} to {heads[-1]:,} parameters)." if heads else ""
    chosen = " with the values that validation chose" if "test" in a.data.split else ""
    on = f"{join_words(sorted(set(done['metric'])))} on {a.data.split} data{chosen}"
    return f"{plural(len(done), 'complete run')}: {', '.join(parts)}; {on}.{head}"


def plural(n: int, word: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def count_range(values: Iterable[float], word: str) -> str:
    """``3 seeds`` or ``1–5 seeds``."""
    known = [int(v) for v in values if v == v]  # NaN is not equal to itself
    if not known:
        return f"unknown {word}s"
    low, high = min(known), max(known)
    return plural(low, word) if low == high else f"{low:,}–{high:,} {word}s"
