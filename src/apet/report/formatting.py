"""Numbers as people read them; what is unknown is a dash, never a 0."""

from __future__ import annotations

import math

from apet.analysis.intervals import Estimate
from apet.analysis.thresholds import Bracket, Threshold

NONE = "–"
NAMES = {
    "fine-tuning": "full fine-tuning",
    "prompt": "Prompt",
    "bitfit": "BitFit",
    "lora": "LoRA",
    "adapter": "Adapter",
    "apet-adjacent": "APET-adjacent",
    "apet-discrete": "APET-discrete",
}


def named(method: str) -> str:
    """The method as the field writes it."""
    return NAMES.get(method, method)


def kind(what: str, about_data: str) -> str:
    """What a page is, with a word of warning where its data are made up."""
    return f"{what} · synthetic data" if "synthetic" in about_data else what


def points(x: float, digits: int = 1) -> str:
    """A fraction in percent, or a difference of fractions in points."""
    rounded = round(100 * x, digits) + 0.0  # no −0.0
    return NONE if math.isnan(x) else f"{rounded:.{digits}f}".replace("-", "−")


def span(low: float, high: float, digits: int = 1) -> str:
    """An interval in percent or points."""
    return NONE if math.isnan(low) else f"{points(low, digits)} to {points(high, digits)}"


def count(n: float) -> str:
    """A number of parameters."""
    return NONE if math.isnan(n) else f"{int(n):,}"


def significant(x: float, digits: int = 3) -> str:
    """Any other number."""
    if math.isnan(x):
        return NONE
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    rounded = float(f"{x:.{digits}g}")
    text = f"{rounded:,.0f}" if 10**digits <= abs(rounded) < 1e6 else f"{rounded:.{digits}g}"  # 1,800, not 1.8e+03
    return text.replace("-", "−")


def both(e: Estimate) -> str:
    """Both intervals, labelled."""
    over_seeds = (
        f"seeds (n = {e.num_seeds}, sd {points(e.sd, 2)}): {span(e.ci_low, e.ci_high)}"
        if e.num_seeds > 1
        else "one seed"
    )
    over_items = (
        ""
        if math.isnan(e.item_ci_low)
        else f"; {e.ci_method} (n = {e.num_examples:,}): {span(e.item_ci_low, e.item_ci_high)}"
    )
    return over_seeds + over_items


def brief(e: Estimate) -> str:
    """``81.2 ± 1.3``: the mean and half the seeds' interval, in percent; a dagger where planned runs are missing.

    An interval that a measure's own ends cut short is written out: ``59.5 (0.0 to 100.0)``.
    """
    spread = ""
    if not math.isnan(e.half_width):
        cut = e.ci_high - e.ci_low < 2 * e.half_width - 1e-9
        spread = f" ({span(e.ci_low, e.ci_high)})" if cut else f" ± {points(e.half_width)}"
    return f"{points(e.score)}{spread}{' †' if e.num_missing else ''}"


def full(e: Estimate) -> str:
    """The number with both intervals, in percent or points."""
    over_seeds = f"{e.num_seeds} seeds: {span(e.ci_low, e.ci_high)}" if e.num_seeds > 1 else "1 seed"
    over_items = "" if math.isnan(e.item_ci_low) else f"; items: {span(e.item_ci_low, e.item_ci_high)}"
    return f"{points(e.score)} ({over_seeds}{over_items}){' †' if e.num_missing else ''}"


def bracket(b: Bracket, tried: tuple[int, ...]) -> str:
    """Where a threshold lies."""
    if math.isinf(b.upper):
        return f"above {count(b.lower)}" if b.lower else f"not shown up to {count(tried[-1])}"
    return f"{count(b.lower)} – {count(b.upper)}" if b.lower else f"at most {count(b.upper)}"


def threshold_notes(t: Threshold) -> str:
    """What a reader must know beside the range."""
    notes = [] if t.ci_method == "seeds" else ["counts with one seed decided by the items"]
    if t.bracket.undecided:
        notes.append(f"{t.bracket.undecided} count{'s' * (t.bracket.undecided > 1)} undecided")
    if not t.bracket.monotone:
        notes.append("not monotone")
    return "; ".join(notes)


def listed(words: list[str]) -> str:
    """``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]
