"""Races: which learning rate an arm gets, and which families are worth whole runs.

A heat is a short run on part of the training rows, measured on the rest of them. Heats share their rows, their order
and their items, so that what they differ in is the arm and the rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from apet.recommendation.arms import RATE_STEP, Arm, Family, Measurement, Trial

SHARE = 4
"""Heats take the steps of a whole run divided by this."""
FIRST_POWERS = (-1, 0, 1)
MAX_POWER = 5
"""Powers of `RATE_STEP` about the default rate within which a race stays."""
MOST = 0.8
"""Of the way from the loss of the smallest rate to the lowest, that the rate that is taken must get."""
FLAT = 0.005
"""Of the loss, within which rates are not told apart: then the one that the race began about is taken."""
COLLAPSED = 0.5
"""Of the way that another run at the same rate comes, below which a whole run has collapsed."""
SURE_ERRORS = 4.0
"""Standard errors by which it must differ from that run."""
MOST_GIVEN_UP = 2
"""Rates of an arm that are given up, at most: where seeds still differ as much, it is not the rate."""
NEAR = 2.6
"""Octaves of N within which an arm takes the rate of a neighbor's race."""


@dataclass(frozen=True)
class Race:
    """How the race of an arm stands.

    Attributes:
        arm: whose learning rate it is.
        missing: rates whose heats are still to be run; none = it is over.
        rate: the one that was taken; None = not over, or every rate diverged.
        score: best score of a heat, in [0, 1].
        error: standard error of it.
        loss: of the best rate, mean over the steps of its heat.
    """

    arm: Arm
    missing: tuple[float, ...]
    rate: float | None
    score: float = math.nan
    error: float = math.nan
    loss: float = math.nan

    @property
    def is_over(self) -> bool:
        """Whether no heat is missing."""
        return not self.missing


def race(
    arm: Arm, around: float, center: int, heats: Iterable[Measurement], spread: Sequence[int] | None = None
) -> Race:
    """How a race stands: three rates, then on to the side of the best until it lies inside.

    The loss decides: the mean over all steps of a heat, each on rows not seen before, tells rates apart long before
    their scores do, which must only not be worse than the best by more than a standard error. Taken is not the best
    but the smallest rate that gets `MOST` of its way: rates at the edge of stability
    win short trials and lose long runs.

    Args:
        arm: whose race it is.
        around: the method's default rate; candidates are powers of `RATE_STEP` times it.
        center: power that the race begins about.
        heats: made so far, of any arms.
        spread: powers that it begins with; None = one to each side of the center.

    Returns:
        What is missing, or the rate.
    """
    ran = {
        round(math.log(m.trial.learning_rate / around, RATE_STEP)): m
        for m in heats
        if m.trial.arm == arm and m.trial.seed == 0
    }
    first = [p for p in (spread or [center + p for p in FIRST_POWERS]) if abs(p) <= MAX_POWER]
    missing = [p for p in first if p not in ran]
    if missing:
        return Race(arm, tuple(_rate(around, p) for p in missing), None)
    scores = {p: m.score for p, m in ran.items() if m.score is not None}
    if not scores:  # every one diverged: smaller ones, while there are any
        lowest = min(ran) - 1
        return Race(arm, (_rate(around, lowest),) if lowest >= -MAX_POWER else (), None)
    highest = max(scores, key=lambda p: scores[p])
    good = [p for p, score in scores.items() if score >= scores[highest] - ran[highest].error]
    losses = [ran[p].loss for p in good]
    flat = max(losses) - min(losses) <= FLAT * abs(min(losses))
    best = min(good, key=lambda p: (0 if flat else ran[p].loss, abs(p - center)))
    edge = best + 1 if best == max(ran) else best - 1 if best == min(ran) else None
    if edge is not None and abs(edge) <= MAX_POWER and not flat:
        return Race(arm, (_rate(around, edge),), None)
    way = max(ran[min(scores)].loss - ran[best].loss, 0.0)
    enough = [p for p in good if p <= best and ran[p].loss <= ran[best].loss + (1 - MOST) * way]
    taken = best if flat else min(enough)
    return Race(arm, (), _rate(around, taken), scores[highest], ran[highest].error, ran[best].loss)


def _rate(around: float, power: int) -> float:
    # To three digits: the same rate, read back from a record, is the same number.
    return float(f"{around * RATE_STEP**power:.3g}")


def center_of(races: Sequence[tuple[Family, Race]]) -> int:
    """The power that other races begin about: that of the first family whose race is over.

    What small backbones and large ones want differs by orders of magnitude, and alike for all methods.

    Returns:
        The power; 0 where no race is over.
    """
    for family, known in races:
        if known.rate is not None:
            return round(math.log(known.rate / family.around, RATE_STEP))
    return 0


def heats_of(known: Race, steps: int) -> list[Trial]:
    """The heats that are missing, as trials.

    Args:
        known: how the race stands.
        steps: of a whole run.

    Returns:
        A trial a rate.
    """
    return [Trial(known.arm, rate, heat_steps(steps), 0, racing=True) for rate in known.missing]


def heat_steps(steps: int) -> int:
    """Steps of a heat, from those of a whole run."""
    return max(1, steps // SHARE)


def without_unstable(
    measured: Sequence[Measurement], steps: int
) -> tuple[list[Measurement], dict[Arm, tuple[float, ...]]]:
    """What was measured, but for whole runs at learning rates that some of an arm's runs did not survive.

    A rate at the edge of stability brings one seed to the end and loses another, or wins a heat and loses the whole
    run. Such a run ends with less than `COLLAPSED` of the way of another at the same rate, heats among them, and no
    luck of the items explains it. All whole runs at the rate count as diverged then: the arm is trained with a smaller
    one, and no mean is taken over what works and what does not.

    Args:
        measured: in the order in which it was made.
        steps: of a whole run.

    Returns:
        The same in the same order, without the scores of such runs; and by arm the rates that were given up.
    """
    groups: dict[tuple[Arm, float], list[Measurement]] = {}
    for m in measured:
        if m.trial.racing or m.trial.steps == steps:
            groups.setdefault((m.trial.arm, m.trial.learning_rate), []).append(m)
    given_up: dict[Arm, list[float]] = {}
    for arm, rate in sorted(groups, key=lambda key: -key[1]):
        if _collapsed(groups[arm, rate]) and len(given_up.get(arm, ())) < MOST_GIVEN_UP:
            given_up.setdefault(arm, []).append(rate)
    steady = [
        replace(m, score=None) if not m.trial.racing and m.trial.learning_rate in given_up.get(m.trial.arm, ()) else m
        for m in measured
    ]
    return steady, {arm: tuple(rates) for arm, rates in given_up.items()}


def _collapsed(runs: Sequence[Measurement]) -> bool:
    """Whether one of the whole runs among these lost what another had."""
    whole = [m for m in runs if not m.trial.racing]
    if len(whole) > 1 and any(m.score is None for m in whole):
        return True
    scored = [m for m in runs if m.score is not None]
    best = max(scored, key=lambda m: m.score or 0.0, default=None)
    for m in whole:
        if best is None or best.score is None or m.score is None:
            continue
        base = max(m.untrained, m.constant)
        sure = best.score - m.score > SURE_ERRORS * math.hypot(best.error, m.error)
        if sure and m.score - base < COLLAPSED * (best.score - base):
            return True
    return False


def dominated(races: Sequence[Race]) -> dict[str, str]:
    """Families that another one beats in its race by more than the noise, with no more parameters.

    Args:
        races: that are over, one a family.

    Returns:
        Name of a dropped family -> name of the one that beats it.
    """
    beaten: dict[str, str] = {}
    for a in races:
        if a.rate is None:
            beaten[a.arm.family] = ""
            continue
        for b in races:
            ahead = b.rate is not None and b.arm.num_trainable <= a.arm.num_trainable
            if ahead and b.score - a.score > math.hypot(a.error, b.error) and b.arm.family not in beaten:
                beaten[a.arm.family] = b.arm.family
                break
    return beaten
