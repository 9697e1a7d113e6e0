"""What was run, in a sentence or two, under every figure and table."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from apet.analysis.convergence import LAST, REACHED
from apet.analysis.frames import FULL, complete
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.reporting.formatting import display_name, join_words
from apet.reporting.variants import convergence_pairs, structure_variants

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


def gap_by_scale(a: Analysis) -> str:
    """Caption of E1."""
    all_default = all(g.is_default_size for g in a.gaps)
    size = (
        "" if all_default else " A method that was never run at its default size is shown at the largest count tried."
    )
    return (
        "Full fine-tuning and the methods at their default sizes over the scale of the backbone; gap = full"
        f" fine-tuning − method, paired by seed, averaged over tasks.{size}{_unequal_steps(a)} {INTERVALS}"
        f" {MISSING_RUNS} {run_summary(a, {(g.scale.name, g.method, g.num_trainable) for g in a.gaps})}"
    )


def _unequal_steps(a: Analysis) -> str:
    """Where full fine-tuning was trained for another number of steps than a method it is compared with."""
    done = complete(a.data.runs)
    parts = []
    for scale in a.data.scales:
        runs = done[done["backbone"] == scale.name]
        is_full = runs["method"] == FULL
        full_steps, other_steps = (set(runs.loc[side, "max_steps"]) for side in (is_full, ~is_full))
        if full_steps and other_steps and full_steps != other_steps:
            methods = count_range(other_steps, "step")
            parts.append(f"{count_range(full_steps, 'step')} on {scale.name}, the methods {methods}")
    return f" Unequal training: full fine-tuning took {join_words(parts)}." if parts else ""


def structure(a: Analysis) -> str:
    """Caption of E2."""
    cells = {(s.scale.name, m, s.num_trainable) for s in a.structures for m in s.scores}
    sides = ["the method", *map(display_name, structure_variants(a))]
    return (
        f"At each method's exact count: {join_words(sides)}, averaged over the tasks and seeds that all of them have."
        f" {INTERVALS} {MISSING_RUNS} {run_summary(a, cells, {s.task for s in a.structures})}"
    )


def convergence(a: Analysis) -> str:
    """Caption of E3."""
    pairs = [" against ".join(map(display_name, p)) for p in convergence_pairs(a.convergence_comparisons)]
    compared = {
        (c.scale.name, m, c.num_trainable)
        for c in a.convergence_comparisons
        if c.num_trainable is not None
        for m in (c.first, c.second)
    }
    return (
        f"{join_words(pairs)}: validation score over steps, averaged over tasks, then over seeds; bands: 95 %"
        " t-interval over seeds. A curve is the mean of these tasks and seeds, converged or not; a dotted line the mean"
        f" steps of the pairs in which both converged (how many: in the table). {CONVERGENCE_RULE} The interval of a"
        " ratio takes in the seeds and the distance between evaluations."
        f" {run_summary(a, compared)}"
    )


def score_by_budget(a: Analysis, scale: Scale | None = None) -> str:
    """Caption of E4.

    Args:
        a: of the study.
        scale: of one backbone; None = of all.

    Returns:
        The caption.
    """
    cells = {(p.scale.name, p.method, p.num_trainable) for p in a.budget_points if scale in (None, p.scale)}
    ranges = RANGES if scale is not None or len(a.data.scales) == 1 else ""
    return (
        f"{a.data.split.capitalize()} score over the number of trained parameters. {LEVELS}{ranges} {INTERVALS}"
        f" {MISSING_RUNS} {run_summary(a, cells)}"
    )


def thresholds(a: Analysis) -> str:
    """Caption of E5."""
    cells = {(t.scale.name, t.method, n) for t in a.thresholds for n in t.tried}
    return (
        "Thick: the range that holds the threshold, its median marked; thin, dashed, with a hollow arrow: open, the"
        " counts tried do not settle that end. Low threshold: the smallest N a tenth of the way from what is had"
        " without training (the better of untrained score and best constant answer) to full fine-tuning. High"
        f" threshold: the smallest N at {a.reach.describe()}."
        " Median and 95 % interval of the posterior of the score over log N, fitted to all runs of a method; on these"
        " items."
        f" {run_summary(a, cells, {t.task for t in a.thresholds})}"
    )


def concentration(a: Analysis) -> str:
    """Caption of E8."""
    cells = {(c.scale.name, m, c.num_trainable) for c in a.concentrations for m in c.methods.values()}
    return (
        "Exactly N parameters on k weights, N / k on each, from few weights to many; averaged over the tasks and seeds"
        f" that all points of an N have. {INTERVALS} {MISSING_RUNS}"
        f" {run_summary(a, cells, {c.task for c in a.concentrations})}"
    )


def task_table(a: Analysis) -> str:
    """Caption of E6."""
    return (
        f"{a.data.split.capitalize()} score in percent, mean over seeds ± half the 95 % t-interval, or its ends where"
        f" it reaches 0 or 100; of one seed the score alone. {MISSING_RUNS} {run_summary(a)}"
    )


def transfer(a: Analysis) -> str:
    """Caption of E7."""
    seeds = count_range((t.relative.num_seeds for t in a.transfer_scores), "seed")
    items = count_range((t.relative.num_examples for t in a.transfer_scores), "item")
    return (
        "Relative transfer: zero-shot score of the delta trained on the source (row) over the score of the one"
        f" trained on the target itself (column), in percent; tasks grouped by category. {seeds}, {items} a target;"
        " intervals over seeds and over items stand in the table."
    )
