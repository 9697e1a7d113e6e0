"""What was run, in a sentence or two, under every figure and table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from apet.analysis.convergence import LAST, REACHED
from apet.analysis.frames import FULL, complete
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.report.formatting import listed, significant

INTERVALS = "Whiskers: 95 % t-interval over seeds, thin ones over the items of a single seed; both stand in the tables."
HOLES = "† some planned runs are missing; the mean is over what all sides have."

Cells = Collection[tuple[str, str, int]]
"""(backbone, method, N)."""


def ran(a: Analysis, cells: Cells | None = None, tasks: Collection[str | None] | None = None) -> str:
    """Backbones, tasks, measures, seeds, steps and items of the complete runs; of these cells and tasks, or of all."""
    done = complete(a.data.runs)
    if tasks is not None:
        done = done[done["task"].isin([t for t in tasks if t is not None])]
    if cells is not None:
        wanted = set(cells)
        at = zip(done["backbone"], done["method"], done["num_trainable"], strict=True)
        done = done[[(b, m, int(n)) in wanted for b, m, n in at]]
    if done.empty:
        return "No run is complete."
    seeds = done.groupby(["backbone", "task", "method", "num_trainable"])["seed"].nunique()
    parts = [
        plural(done["backbone"].nunique(), "backbone"),
        plural(done["task"].nunique(), "task"),
        between(seeds, "seed") + " a cell",
        between(done["max_steps"], "step"),
        between(done["num_examples"], "validation item") + " a task",
    ]
    heads = sorted({int(h) for h in done["num_head_parameters"].dropna() if h > 0})
    head = f" A task head is counted apart ({heads[0]:,} to {heads[-1]:,} parameters)." if heads else ""
    measures = listed(sorted(set(done["metric"])))
    return f"{plural(len(done), 'complete run')}: {', '.join(parts)}; {measures} on validation data.{head}"


def plural(n: int, word: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def between(values: Iterable[float], word: str) -> str:
    """``3 seeds`` or ``1–5 seeds``."""
    known = [int(v) for v in values if v == v]
    if not known:
        return f"unknown {word}s"
    low, high = min(known), max(known)
    return plural(low, word) if low == high else f"{low:,}–{high:,} {word}s"


def gap(a: Analysis) -> str:
    """Of E1."""
    own = all(g.is_default_size for g in a.gaps)
    size = "" if own else " A method that never chose its own size is shown at the largest count tried."
    return (
        "Full fine-tuning and the methods at their own sizes over the scale of the backbone; gap = full fine-tuning −"
        f" method, paired by seed, averaged over tasks.{size}{_unequal_steps(a)} {INTERVALS} {HOLES}"
        f" {ran(a, {(g.scale.name, g.method, g.num_trainable) for g in a.gaps})}"
    )


def _unequal_steps(a: Analysis) -> str:
    """Where full fine-tuning was trained for another number of steps than a method it is held against."""
    done = complete(a.data.runs)
    parts = []
    for scale in a.data.scales:
        mine = done[done["backbone"] == scale.name]
        full, others = (set(mine.loc[side, "max_steps"]) for side in (mine["method"] == FULL, mine["method"] != FULL))
        if full and others and full != others:
            parts.append(f"{between(full, 'step')} on {scale.name}, the methods {between(others, 'step')}")
    return f" Unequal training: full fine-tuning took {listed(parts)}." if parts else ""


def structure(a: Analysis) -> str:
    """Of E2."""
    cells = {(s.scale.name, m, s.num_trainable) for s in a.structures for m in s.scores}
    return (
        "At each method's exact count: the method, APET-adjacent and APET-discrete, averaged over the tasks and seeds"
        f" that all three have. {INTERVALS} {HOLES} {ran(a, cells, {s.task for s in a.structures})}"
    )


def convergence(a: Analysis) -> str:
    """Of E3."""
    return (
        "Validation measure over steps, averaged over tasks, then over seeds; bands: 95 % t-interval over seeds;"
        f" vertical lines: mean steps to convergence of the pairs that both converged. {RULE} The interval of a ratio"
        f" takes in the seeds and the distance between evaluations. {ran(a, _raced(a))}"
    )


RULE = (
    "A curve has converged at the first evaluation from which its isotonic fit has made"
    f" {100 * REACHED:.0f} % of the rise from step 0 to its plateau, the mean of the last {100 * LAST:.0f} % of them."
)


def _raced(a: Analysis) -> Cells:
    return {
        (r.scale.name, m, r.num_trainable)
        for r in a.convergence_comparisons
        if r.num_trainable is not None
        for m in (r.first, r.second)
    }


def levels(a: Analysis, scale: Scale | None = None) -> str:
    """Of E4, of one backbone or of all."""
    cells = {(x.scale.name, x.method, x.num_trainable) for x in a.budget_points if scale in (None, x.scale)}
    return (
        "Validation measure over the number of trained parameters. Dashed: full fine-tuning; dotted: chance. Bars on"
        f" the frame: ranges of the low (below) and high (above) thresholds. {INTERVALS} {HOLES} {ran(a, cells)}"
    )


def thresholds(a: Analysis) -> str:
    """Of E5."""
    cells = {(t.scale.name, t.method, n) for t in a.thresholds for n in t.tried}
    return (
        "Low threshold: the smallest N where the lower end of the seeds' 95 % interval lies above chance; undecided"
        " where only the items' does. High threshold: the smallest N where full fine-tuning − method is shown to be at"
        f" most {significant(100 * a.margin)} point{'' if a.margin == 0.01 else 's'} (upper end of the 95 % interval,"
        " paired by seed). Each is a range: above the largest N that fails, at most the smallest N that passes without"
        " a failure above it; open where the counts tried do not settle it; one seed is decided by its items."
        f" {ran(a, cells, {t.task for t in a.thresholds})}"
    )


def tasks(a: Analysis) -> str:
    """Of E6."""
    return (
        "Validation measure in percent, mean over seeds ± half the 95 % t-interval, or its ends where it reaches 0 or"
        f" 100; of one seed the measure alone. {HOLES} {ran(a)}"
    )


def transfer(a: Analysis) -> str:
    """Of E7."""
    seeds = between((r.relative.num_seeds for r in a.transfer_scores), "seed")
    items = between((r.relative.num_examples for r in a.transfer_scores), "item")
    return (
        "Relative transfer: zero-shot measure of the module trained on the source (row) over the measure of the one"
        f" trained on the target itself (column), in percent; tasks grouped by category. {seeds}, {items} a target;"
        " intervals over seeds and over items stand in the table."
    )


def scales(of: Sequence[Scale]) -> str:
    """``tiny (0.1 M) < mid (1 M)``."""
    return " < ".join(f"{s.name} ({s.num_parameters / 1e6:.3g} M)" for s in of)
