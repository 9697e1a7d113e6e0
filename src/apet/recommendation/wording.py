"""The answer in words: the one sentence, and what progress says on the way to it."""

from __future__ import annotations

from collections.abc import Sequence

from apet.recommendation.answer import Recommendation, Tried
from apet.recommendation.arms import Arm
from apet.tasks.score_text import shown_as

NAMES = {
    "fine-tuning": "full fine-tuning",
    "lora": "LoRA",
    "bitfit": "BitFit",
    "adapter": "adapters",
    "prompt": "a prompt",
    "ia3": "(IA)³",
    "ln-tuning": "LN-tuning",
    "apet": "APET",
}


def method_name(family: str) -> str:
    """A family as the field writes it: ``LoRA (every linear layer)``."""
    first, space, rest = family.partition(" ")
    base, bracket, settings = first.partition("(")
    return NAMES.get(base, base) + (f" ({settings}" if bracket else "") + space + rest


def describe(use: Tried, where: str, rank: int | None) -> str:
    """An arm in words: ``LoRA with 2,048 parameters (rank 1 on attn.q, attn.v, learning rate 0.001)``."""
    name = method_name(use.family.partition(" ")[0])
    if use.method == "fine-tuning":
        return f"{name} ({use.num_trainable:,} parameters, learning rate {use.learning_rate:g})"
    place = f"rank {rank} on {where}" if rank else f"on {where}"
    return f"{name} with {use.num_trainable:,} parameters ({place}, learning rate {use.learning_rate:g})"


def rival_words(rival: Arm | None, tried: Sequence[Tried]) -> str:
    """The arm that might be better: ``LoRA with 704 parameters``, and whether that is only expected of it.

    Args:
        rival: that arm; None = there is none.
        tried: arms that have a score.

    Returns:
        The words; empty where there is no rival.
    """
    if rival is None:
        return ""
    ran = any((t.family, t.num_trainable) == (rival.family, rival.num_trainable) for t in tried)
    return f"{method_name(rival.family)} with {rival.num_trainable:,} parameters" + ("" if ran else " (not run yet)")


def headline(r: Recommendation) -> str:
    """The first line on the screen and of the page."""
    if r.use is None:
        return (
            f"nothing is measured yet: no run came to an end within {duration(r.within)};"
            " the same command with a larger --within goes on"
        )
    used = describe(r.use, r.where, r.rank)
    if r.state == "nothing to reach":
        test = f", on {r.test.num_examples:,} test rows {_interval(r)}" if r.test else ""
        what = "the best constant answer" if r.constant >= r.untrained else "the untrained model"
        base, best = number(r.metric, max(r.constant, r.untrained)), number(r.metric, r.use.score)
        return (
            f"nothing beats {what} ({base}): full fine-tuning comes to {number(r.metric, r.reference_score)}, the best"
            f" of {len(r.tried)} tried, {used}, to {best} on {r.num_validation:,} validation rows{test}; train on more"
            " or other data, or for longer: --within, --max-steps"
        )
    begin = f"use {used}: "
    if r.reference_score is None:
        begin = f"not decided yet, no run of {method_name(r.reference)} came to an end; so far use {used}: "
    elif r.state == "not decided" and r.rival:
        more = (
            f"{duration(r.seconds_to_decide)} more would decide it with 80 %"
            if r.seconds_to_decide
            else ("more time alone is not likely to decide it")
        )
        begin = f"not decided between {used} and {r.rival}; {more}; so far, the first: "
    elif r.state == "not decided":
        few = (
            f" (there was time for {r.num_raced} of {r.num_families} ways to tune)"
            if r.num_raced < r.num_families
            else ""
        )
        begin = f"not decided yet{few}; so far use {used}: "
    return begin + "; ".join(_facts(r))


def _facts(r: Recommendation) -> list[str]:
    assert r.use is not None
    facts = []
    if r.test is not None:
        facts.append(f"{r.metric} {_interval(r)} on {r.test.num_examples:,} test rows never used for choosing")
        if r.test.ci_low <= r.constant:
            facts.append(f"not shown to beat the best constant answer ({number(r.metric, r.constant)})")
    seeds = f", mean of {r.use.num_seeds} seeds" if r.use.num_seeds > 1 else ""
    on = f"on the {r.num_validation:,} validation rows {number(r.metric, r.use.score)}{seeds}"
    if r.reference_score is not None and r.use.family != r.reference:
        on += f", {method_name(r.reference)} {number(r.metric, r.reference_score)}"
    facts.append(on)
    if r.nothing_below is not None:
        facts.append(f"nothing below {r.nothing_below:,} parameters is likely to come to {r.reach}")
    if r.use.method != "fine-tuning":
        facts += _costs(r, r.use)
    return facts


def _costs(r: Recommendation, use: Tried) -> list[str]:
    costs = []
    if use.relative_time is not None:
        costs.append(f"a step costs {use.relative_time:.2f} ×")
    if use.relative_memory is not None:
        costs.append(f"memory {use.relative_memory:.2f} ×")
    if r.file_bytes is not None:
        costs.append(f"the file is {size(r.file_bytes)}")
    return [", ".join(costs)] if costs else []


def _interval(r: Recommendation) -> str:
    assert r.test is not None
    ends = [number(r.metric, r.test.ci_low), number(r.metric, r.test.ci_high)]
    low, high = ends if shown_as(r.metric).factor > 0 else ends[::-1]  # of an error the better end is the smaller
    return f"{number(r.metric, r.test.score)} ({low} to {high})"


def number(metric: str, score: float | None) -> str:
    """A score, a share as one, an error as the positive number that it is."""
    if score is None:
        return "no score"
    value = score if shown_as(metric).factor > 0 else -score
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"


def duration(seconds: float | None) -> str:
    """A time as a person would say it: ``40 seconds``, ``12 minutes``, ``3.5 hours``."""
    if seconds is None:
        return "an unknown time"
    if seconds < 90:
        return f"{max(seconds, 1):.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def clock(seconds: float) -> str:
    """A moment of the search: ``2:05``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def size(num_bytes: int) -> str:
    """``9 kB``, in powers of 1,000."""
    value = float(num_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
