"""What was run, in a sentence or two, under every figure and table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from apet.analysis.board import Scale
from apet.analysis.convergence import LAST, REACHED
from apet.analysis.frames import complete
from apet.analysis.study import Analysis
from apet.report.wording import listed, significant

INTERVALS = "Bars: 95 % t-interval over seeds; item-level intervals stand in the tables and beside each point."
HOLES = "† some planned runs are missing; the mean is over what all sides have."


def ran(a: Analysis, families: Iterable[str] | None = None) -> str:
    """Backbones, tasks, measures, seeds, steps and items of the complete runs."""
    done = complete(a.board.runs)
    if families is not None:
        done = done[done["family"].isin(list(families))]
    if done.empty:
        return "No run is complete."
    seeds = done.groupby(["backbone", "task", "method", "trainable_parameters"])["seed"].nunique()
    parts = [
        plural(done["backbone"].nunique(), "backbone"),
        plural(done["task"].nunique(), "task"),
        between(seeds, "seed") + " a cell",
        between(done["steps"], "step"),
        between(done["n"], "validation item") + " a task",
    ]
    heads = sorted({int(h) for h in done["head_parameters"].dropna() if h > 0})
    head = f" A task head is counted apart ({heads[0]:,} to {heads[-1]:,} parameters)." if heads else ""
    measures = listed(sorted(set(done["measure"])))
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
    own = all(g.own_size for g in a.gaps)
    size = "" if own else " A method that never chose its own size is shown at the largest count tried."
    return (
        "Full fine-tuning and the methods at their own sizes over the scale of the backbone; gap = full fine-tuning −"
        f" method, paired by seed, averaged over tasks.{size} {INTERVALS} {ran(a)}"
    )


def structure(a: Analysis) -> str:
    """Of E2."""
    return (
        "At each method's exact count: the method, APET-adjacent and APET-discrete, averaged over tasks."
        f" {INTERVALS} {ran(a)}"
    )


def convergence(a: Analysis) -> str:
    """Of E3."""
    return (
        "Validation measure over steps, averaged over tasks, then over seeds; bands: 95 % t-interval over seeds;"
        f" vertical lines: mean steps to convergence. {RULE} {ran(a)}"
    )


RULE = (
    "A curve has converged at the first evaluation from which its isotonic fit has made"
    f" {100 * REACHED:.0f} % of the rise from step 0 to its plateau, the mean of the last {100 * LAST:.0f} % of them."
)


def levels(a: Analysis) -> str:
    """Of E4."""
    return (
        "Validation measure over the number of trained parameters. Dashed: full fine-tuning; dotted: chance. Bars on"
        f" the frame: ranges of the low (below) and high (above) thresholds. {INTERVALS} {ran(a)}"
    )


def thresholds(a: Analysis) -> str:
    """Of E5."""
    return (
        "Low threshold: the smallest N where the lower end of the seeds' 95 % interval lies above chance. High"
        " threshold: the smallest N where full fine-tuning − method is shown to be at most"
        f" {significant(100 * a.margin)} point{'' if a.margin == 0.01 else 's'} (upper end of the 95 % interval, paired"
        " by seed)."
        " Each is a range: above the largest N that fails, at most the smallest N that passes without a failure above"
        f" it; open where the counts tried do not settle it; with one seed the item-level interval decides. {ran(a)}"
    )


def tasks(a: Analysis) -> str:
    """Of E6."""
    return f"Validation measure in percent, mean over seeds ± half the 95 % t-interval. {HOLES} {ran(a)}"


def transfer(a: Analysis) -> str:
    """Of E7."""
    seeds = between((r.relative.seeds for r in a.relatives), "seed")
    items = between((r.relative.items for r in a.relatives), "item")
    return (
        "Relative transfer: zero-shot measure of the module trained on the source (row) over the measure of the one"
        f" trained on the target itself (column), in percent; tasks grouped by category. {seeds}, {items} a target."
    )


def scales(of: Sequence[Scale]) -> str:
    """``tiny (0.1 M) < mid (1 M)``."""
    return " < ".join(f"{s.name} ({s.parameters / 1e6:.3g} M)" for s in of)
