"""E5: the low threshold, above chance, and the high threshold, as good as full fine-tuning, as ranges of N.

- *Low*: an N passes where the lower end of the seeds' 95 % interval lies above chance, is undecided where only that of
  the items does (few seeds, or one that learnt nothing), and fails otherwise.
- *High*: an N passes where full fine-tuning − method is shown to be at most one point (its upper end is ≤ 0.01), fails
  where it is shown to be more (its lower end is > 0.01), and is undecided in between.

With one seed the item-level intervals decide instead, and the basis says so. The threshold lies above the largest N
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

from apet.analysis.score_by_budget import BudgetPoint
from apet.analysis.frames import FULL
from apet.analysis.intervals import Estimate
from apet.analysis.study_data import Scale

DEFAULT_MARGIN = 0.01
"""Of the high threshold: one point."""

Kind = Literal["low", "high"]
State = Literal["passes", "fails", "undecided"]


@dataclass(frozen=True)
class Bracket:
    """Where a threshold lies: above ``above``, at most ``reached``.

    Attributes:
        above: largest N that fails; 0 = none did, the threshold may lie below every N tried.
        reached: smallest N that passes without a failure above; infinite = there is none.
        undecided: counts between the two that can be neither.
        monotone: whether no N fails above one that passes.
    """

    lower: float
    upper: float
    undecided: int
    monotone: bool


@dataclass(frozen=True)
class Threshold:
    """One threshold of one method.

    Attributes:
        scale: the backbone.
        task: None = of the mean over the tasks.
        method: display name.
        kind: low or high.
        bracket: the range.
        tried: the counts, ascending.
        states: of each count.
        seeds: fewest behind any count.
        basis: seeds or items.
    """

    scale: Scale
    task: str | None
    method: str
    kind: Kind
    bracket: Bracket
    tried: tuple[int, ...]
    states: tuple[State, ...]
    seeds: int
    ci_method: Literal["seeds", "items"]


def bracket(counts: Sequence[int], states: Sequence[State]) -> Bracket:
    """The range that the states of ascending counts leave."""
    passes = [i for i, s in enumerate(states) if s == "passes"]
    fails = [i for i, s in enumerate(states) if s == "fails"]
    first = passes[0] if passes else len(states)
    below = [i for i in fails if i < first]
    for_good = next((i for i in passes if i > max(fails, default=-1)), len(states))
    start = below[-1] + 1 if below else 0
    return Bracket(
        lower=float(counts[start - 1]) if below else 0.0,
        upper=float(counts[for_good]) if for_good < len(states) else math.inf,
        undecided=sum(s == "undecided" for s in states[start:for_good]),
        monotone=max(fails, default=-1) < first,
    )


def above_chance(level: Estimate, chance: float) -> State:
    """The rule of the low threshold at one count."""
    low = level.ci_low if level.num_seeds > 1 else level.item_ci_low
    return "passes" if low > chance else "undecided" if level.item_ci_low > chance else "fails"


def reaches_full(behind: Estimate | None, margin: float = DEFAULT_MARGIN) -> State:
    """The rule of the high threshold at one count.

    Args:
        behind: full fine-tuning − method; None where they share no seed.
        margin: what still counts as equal.
    """
    if behind is None:
        return "undecided"
    low, high = (behind.ci_low, behind.ci_high) if behind.num_seeds > 1 else (behind.item_ci_low, behind.item_ci_high)
    return "passes" if high <= margin else "fails" if low > margin else "undecided"


def thresholds(levels: Sequence[BudgetPoint], margin: float = DEFAULT_MARGIN) -> list[Threshold]:
    """Both thresholds of every backbone, task and method that was run at two counts or more."""

    def curve(x: BudgetPoint) -> tuple[str, int, str, bool, str, str]:
        return x.scale.family, x.scale.num_parameters, x.scale.name, x.task is not None, x.task or "", x.method

    found = []
    for _, group in groupby(sorted(levels, key=lambda x: (*curve(x), x.num_trainable)), key=curve):
        points = list(group)
        if points[0].method == FULL or len(points) < 2:
            continue
        found.append(_threshold("low", points, [above_chance(p.score, p.untrained_baseline) for p in points]))
        if any(p.gap is not None for p in points):
            found.append(_threshold("high", points, [reaches_full(p.gap, margin) for p in points]))
    return found


def _threshold(kind: Kind, points: list[BudgetPoint], states: list[State]) -> Threshold:
    counts = tuple(p.num_trainable for p in points)
    numbers = [p.score if kind == "low" else p.gap for p in points]
    seeds = min(x.num_seeds for x in numbers if x is not None)
    first = points[0]
    basis: Literal["seeds", "items"] = "seeds" if seeds > 1 else "items"
    return Threshold(
        first.scale, first.task, first.method, kind, bracket(counts, states), counts, tuple(states), seeds, basis
    )
