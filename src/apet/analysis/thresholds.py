"""Low and high threshold of N: better than chance, and as good as full fine-tuning (E5; section 5.3 of the paper).

- *Low*: an N passes where the lower end of the seeds' 95 % interval lies above chance, is undecided where only that of
  the items does (few seeds, or one that learned nothing), and fails otherwise.
- *High*: an N passes where full fine-tuning − method is shown to be at most one point (its upper end is ≤ 0.01), fails
  where it is shown to be more (its lower end is > 0.01), and is undecided in between.

With one seed the item-level intervals decide instead, and the result says so. The threshold lies above the largest N
that fails below the first pass, and at most at the smallest N that passes and has no failure above it. Curves should
rise with N, so an undecided N above one that passes is a lack of power and changes nothing; a failure above one that
passes widens the range to take in both, and the range is marked as not monotone. Nothing is fitted between the counts
that were run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from apet.analysis.frames import FULL
from apet.analysis.intervals import Estimate
from apet.analysis.score_by_budget import BudgetPoint
from apet.analysis.study_data import Scale

DEFAULT_MARGIN = 0.01
"""Of the high threshold: one point."""

ThresholdKind = Literal["low", "high"]
CountState = Literal["passes", "fails", "undecided"]


@dataclass(frozen=True)
class Bracket:
    """Range of N that holds a threshold: above ``lower``, at most ``upper``.

    Attributes:
        lower: largest N that fails; 0 = none did, the threshold may lie below every N tried.
        upper: smallest N that passes without a failure above; infinite = there is none.
        undecided: number of counts between the two that can be neither.
        monotone: whether no N fails above one that passes.
    """

    lower: float
    upper: float
    undecided: int
    monotone: bool


@dataclass(frozen=True)
class Threshold:
    """Low or high threshold of one method.

    Attributes:
        scale: the backbone.
        task: None = of the mean over the tasks.
        method: display name.
        kind: low or high.
        bracket: the range of N that holds it.
        tried: the counts, ascending.
        states: of each count.
        seeds: fewest behind any count.
        ci_method: which intervals decided, those over seeds or those over items.
    """

    scale: Scale
    task: str | None
    method: str
    kind: ThresholdKind
    bracket: Bracket
    tried: tuple[int, ...]
    states: tuple[CountState, ...]
    seeds: int
    ci_method: Literal["seeds", "items"]


def bracket(counts: Sequence[int], states: Sequence[CountState]) -> Bracket:
    """Range of N in which a threshold lies, by what each count decided.

    Args:
        counts: N, ascending.
        states: of each.

    Returns:
        The range, how many counts inside it are undecided, and whether no failure lies above a pass.
    """
    passes = [i for i, state in enumerate(states) if state == "passes"]
    fails = [i for i, state in enumerate(states) if state == "fails"]
    first_pass = passes[0] if passes else len(states)
    fails_below = [i for i in fails if i < first_pass]
    # A pass with a failure above it may be luck: the upper end takes the first pass that no failure contradicts, and
    # the lower end stays below the first pass of all, so that the range holds the threshold whichever was the luck.
    lasting_pass = next((i for i in passes if i > max(fails, default=-1)), len(states))
    start = fails_below[-1] + 1 if fails_below else 0
    return Bracket(
        lower=float(counts[start - 1]) if fails_below else 0.0,
        upper=float(counts[lasting_pass]) if lasting_pass < len(states) else math.inf,
        undecided=sum(state == "undecided" for state in states[start:lasting_pass]),
        monotone=max(fails, default=-1) < first_pass,
    )


def above_chance(score: Estimate, chance: float) -> CountState:
    """One-sided test of the low threshold at one N: is the score above chance?

    Args:
        score: of the method.
        chance: score of the majority class; 0 for free text.

    Returns:
        ``passes`` where the lower end over seeds (of one seed: over items) lies above chance, ``undecided`` where only
        the one over items does, else ``fails``.
    """
    # Two or three seeds make a wide t-interval; where the items show more than chance, it is power that lacks, and
    # calling the N a failure would move the threshold up by what more seeds would take back.
    low = score.ci_low if score.num_seeds > 1 else score.item_ci_low
    return "passes" if low > chance else "undecided" if score.item_ci_low > chance else "fails"


def reaches_full(gap: Estimate | None, margin: float = DEFAULT_MARGIN) -> CountState:
    """Non-inferiority test of the high threshold at one N: is the gap to full fine-tuning at most the margin?

    Args:
        gap: full fine-tuning − method; None where they share no seed.
        margin: largest gap that still counts as equal, in [0, 1].

    Returns:
        ``passes`` where the interval's upper end is within the margin, ``fails`` where its lower end is beyond it, else
        ``undecided``.
    """
    if gap is None:
        return "undecided"
    # A gap that is not significant proves nothing with few seeds; equality has to be shown by the interval's upper end.
    low, high = (gap.ci_low, gap.ci_high) if gap.num_seeds > 1 else (gap.item_ci_low, gap.item_ci_high)
    return "passes" if high <= margin else "fails" if low > margin else "undecided"


def thresholds(points: Sequence[BudgetPoint], margin: float = DEFAULT_MARGIN) -> list[Threshold]:
    """Low and high thresholds of every backbone, task and method that was run at two counts or more.

    Args:
        points: as `budget_points` returns them.
        margin: of the high threshold, in [0, 1].

    Returns:
        By family, scale, task (the mean over tasks first) and method; of each the low one, then the high one, where
        full fine-tuning was run.
    """

    def curve(p: BudgetPoint) -> tuple[str, int, str, bool, str, str]:
        return p.scale.family, p.scale.num_parameters, p.scale.name, p.task is not None, p.task or "", p.method

    all_thresholds = []
    for _, group in groupby(sorted(points, key=lambda p: (*curve(p), p.num_trainable)), key=curve):
        budget_curve = list(group)
        # One count has no range; and a single default size would otherwise be called a threshold.
        if budget_curve[0].method == FULL or len(budget_curve) < 2:
            continue
        low_states = [above_chance(p.score, p.untrained_baseline) for p in budget_curve]
        all_thresholds.append(_threshold("low", budget_curve, low_states))
        if any(p.gap is not None for p in budget_curve):
            high_states = [reaches_full(p.gap, margin) for p in budget_curve]
            all_thresholds.append(_threshold("high", budget_curve, high_states))
    return all_thresholds


def _threshold(kind: ThresholdKind, budget_curve: list[BudgetPoint], states: list[CountState]) -> Threshold:
    """Threshold of one curve over N."""
    counts = tuple(p.num_trainable for p in budget_curve)
    estimates = [p.score if kind == "low" else p.gap for p in budget_curve]
    fewest_seeds = min(e.num_seeds for e in estimates if e is not None)
    first = budget_curve[0]
    return Threshold(
        scale=first.scale,
        task=first.task,
        method=first.method,
        kind=kind,
        bracket=bracket(counts, states),
        tried=counts,
        states=tuple(states),
        seeds=fewest_seeds,
        ci_method="seeds" if fewest_seeds > 1 else "items",
    )
