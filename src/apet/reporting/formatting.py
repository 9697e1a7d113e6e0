"""Numbers as people read them; what is unknown is a dash, never a 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

from apet.analysis.intervals import Estimate

UNKNOWN = "–"
MEAN_OVER_TASKS = "mean over tasks"
"""Stands where a task's name would."""
DISPLAY_NAMES = {
    "fine-tuning": "full fine-tuning",
    "prompt": "Prompt",
    "bitfit": "BitFit",
    "lora": "LoRA",
    "adapter": "Adapter",
    "ia3": "(IA)³",
    "ln-tuning": "LN-tuning",
}


def display_name(method: str) -> str:
    """The method as the field writes it: ``LoRA``, ``APET-discrete``; a method unknown here keeps its own name."""
    if method.startswith("apet-"):
        return "APET-" + method.removeprefix("apet-")
    return DISPLAY_NAMES.get(method, method)


def page_kind(what: str, about_data: str) -> str:
    """What a page is, with a word of warning where its data are made up.

    Args:
        what: such as ``study report``.
        about_data: what was done to the data, in words.

    Returns:
        The small words above a page's title.
    """
    return f"{what} · synthetic data" if "synthetic" in about_data else what


def percent(x: float, digits: int = 1) -> str:
    """A fraction in percent, or a difference of fractions in points, without the unit."""
    rounded = round(100 * x, digits) + 0.0  # + 0.0 turns −0.0 into 0.0
    return UNKNOWN if math.isnan(x) else f"{rounded:.{digits}f}".replace("-", "−")


def interval(low: float, high: float, digits: int = 1) -> str:
    """Both ends of an interval in percent or points: ``78.0 to 84.1``."""
    return UNKNOWN if math.isnan(low) else f"{percent(low, digits)} to {percent(high, digits)}"


def count(n: float) -> str:
    """A whole number with thousands marked: ``53,152``."""
    return UNKNOWN if math.isnan(n) else f"{int(n):,}"


def significant(x: float, digits: int = 3) -> str:
    """Any other number, to so many significant digits."""
    if math.isnan(x):
        return UNKNOWN
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    rounded = float(f"{x:.{digits}g}")
    # Python's g would write 1.8e+03 for a number with more digits before the point than are asked for
    text = f"{rounded:,.0f}" if 10**digits <= abs(rounded) < 1e6 else f"{rounded:.{digits}g}"
    return text.replace("-", "−")


def both_intervals(e: Estimate) -> str:
    """The 95 % intervals over seeds and over items, each with what stands behind it."""
    over_seeds = (
        f"seeds (n = {e.num_seeds}, sd {percent(e.sd, 2)}): {interval(e.ci_low, e.ci_high)}"
        if e.num_seeds > 1
        else "one seed"
    )
    over_items = (
        ""
        if math.isnan(e.item_ci_low)
        else f"; {e.ci_method} (n = {e.num_examples:,}): {interval(e.item_ci_low, e.item_ci_high)}"
    )
    return over_seeds + over_items


def mean_and_spread(e: Estimate) -> str:
    """``81.2 ± 1.3``: the mean and half the seeds' interval, in percent; a dagger where planned runs are missing.

    An interval that is cut short at 0 or 100 % is not symmetric, and is written out: ``59.5 (0.0 to 100.0)``.

    Returns:
        The number as a cell of a table shows it.
    """
    spread = ""
    if not math.isnan(e.half_width):
        cut_short = e.ci_high - e.ci_low < 2 * e.half_width - 1e-9
        spread = f" ({interval(e.ci_low, e.ci_high)})" if cut_short else f" ± {percent(e.half_width)}"
    return f"{percent(e.score)}{spread}{' †' if e.num_missing else ''}"


def mean_and_intervals(e: Estimate) -> str:
    """The number with both intervals, in percent or points; a dagger where planned runs are missing."""
    over_seeds = f"{e.num_seeds} seeds: {interval(e.ci_low, e.ci_high)}" if e.num_seeds > 1 else "1 seed"
    over_items = "" if math.isnan(e.item_ci_low) else f"; items: {interval(e.item_ci_low, e.item_ci_high)}"
    return f"{percent(e.score)} ({over_seeds}{over_items}){' †' if e.num_missing else ''}"


def join_words(words: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]
