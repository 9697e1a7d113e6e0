"""From what was learned to the answer: the arms in their order, what became of each family, the curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from apet.recommendation.answer import CurvePointOfFamily, Fate, State, Tried
from apet.recommendation.arms import Arm, Measurement
from apet.recommendation.decision import SURE, Choice
from apet.recommendation.evidence import Evidence
from apet.recommendation.policy import Knowledge
from apet.recommendation.wording import method_name, number

LEAST_FAMILIES = 3
"""Families with whole runs from which something is said about what none of them can."""


@dataclass(frozen=True)
class Costs:
    """What a step of an arm takes, relative to full fine-tuning; None = not known.

    Attributes:
        time: of its time.
        memory: of its memory.
    """

    time: float | None = None
    memory: float | None = None


def state_of(known: Knowledge, choice: Choice | None) -> State:
    """Whether there is an answer."""
    if known.evidence is None or choice is None:
        return "nothing measured"
    if not known.evidence.levels.full:
        return "not decided"
    full = next(iter(known.evidence.families.values())).full
    # A level that is most likely no better than a constant answer, and no arm that is either.
    best = max(float(np.mean(_scores(known, a))) for a in known.evidence.measured)
    if np.mean(full > known.evidence.levels.base) < 0.5 and best <= known.evidence.levels.base:
        return "nothing to reach"
    if not choice.is_decided:
        return "not decided"
    # That nothing smaller will do is not known from one family.
    untried = any(not known.races[f.name].is_over for f in known.question.families)
    only_full = choice.arm == known.question.reference_arm
    return "not decided" if only_full and untried else "decided"


def tried(known: Knowledge, run_folder: Callable[[Measurement], str], costs: Mapping[Arm, Costs]) -> list[Tried]:
    """Every arm that has a score, by N.

    Args:
        known: all that was learned.
        run_folder: where a run lies.
        costs: of arms, as far as they are known.

    Returns:
        The points of the picture.
    """
    evidence = known.evidence
    if evidence is None:
        return []
    points: list[Tried] = []
    for arm in sorted(evidence.measured, key=lambda a: (a.num_trainable, a.family)):
        runs = [m for m in whole_runs(known, arm) if m.score is not None]
        family = known.question.family(arm.family)
        cost = costs.get(arm, Costs())
        mean = float(np.mean([float(m.score) for m in runs if m.score is not None]))
        points.append(
            Tried(
                arm.family,
                family.method,
                arm.num_trainable,
                runs[0].trial.learning_rate,
                mean,
                len(runs),
                evidence.families[arm.family].reaches(arm.num_trainable),
                cost.time,
                cost.memory,
                run_folder(_kept(runs, family.method)),
                is_best_for_size=all(p.score < mean for p in points),
            )
        )
    return points


def _kept(runs: Sequence[Measurement], method: str) -> Measurement:
    """The run that is used: the best on validation; of full fine-tuning, whose weights are written once, the first."""
    if method == "fine-tuning":
        return runs[0]
    return max(runs, key=lambda m: (float(m.score or 0.0), -m.trial.seed))


def whole_runs(known: Knowledge, arm: Arm) -> list[Measurement]:
    """Whole runs of an arm, by seed."""
    return sorted((m for m in known.measured if m.trial.arm == arm and known.is_whole(m)), key=lambda m: m.trial.seed)


def _scores(known: Knowledge, arm: Arm) -> list[float]:
    return [m.score for m in whole_runs(known, arm) if m.score is not None]


def fates(known: Knowledge, chosen: str, left_out: Mapping[str, str], metric: str) -> list[Fate]:
    """What became of each family, and when."""
    out = []
    for family in known.question.families:
        own = [m for m in known.measured if m.trial.arm.family == family.name]
        whole = [m for m in own if known.is_whole(m)]
        race = known.races[family.name]
        when = own[-1].at if own else None
        won = number(metric, race.score)
        raced = f"race won by learning rate {race.rate:g} with {won}" if race.rate is not None else ""
        raced += _given_up(known, family.name)
        if family.name == chosen:
            out.append(Fate(family.name, "recommended", f"{raced}; {_counts(whole)}", when))
        elif whole:
            out.append(Fate(family.name, "tried", f"{raced}; {_counts(whole)}", when))
        elif family.name in known.dropped:
            better = known.dropped[family.name]
            why = (
                f"{raced}; beaten there by {method_name(better)} with no more parameters"
                if better
                else ("every learning rate diverged")
            )
            out.append(Fate(family.name, "dropped", why, when))
        elif race.is_over:
            out.append(Fate(family.name, "dropped", f"{raced}; no time for a whole run", when))
        else:
            out.append(Fate(family.name, "not tried", "no time for its race", when))
    return out + [Fate(name, "left out", why, None) for name, why in left_out.items()]


def _given_up(known: Knowledge, family: str) -> str:
    """Learning rates that proved unstable, in words; empty where none did."""
    rates = {rate for arm, own in known.unstable.items() if arm.family == family for rate in own}
    if not rates:
        return ""
    return f", {', '.join(f'{r:g}' for r in sorted(rates))} given up as unstable: some runs lost what others had"


def _counts(whole: Sequence[Measurement]) -> str:
    counts = sorted({m.trial.arm.num_trainable for m in whole})
    return f"{len(whole)} run{'s' if len(whole) > 1 else ''} at {', '.join(f'{n:,}' for n in counts)} parameters"


def nothing_below(evidence: Evidence, rival: Arm | None) -> int | None:
    """The smallest N that may well reach the level, over the families that have runs.

    Args:
        evidence: so far.
        rival: the arm that the answer is not decided against; None = it is decided, or there is none.

    Returns:
        The N; None where all may, or none, or where the rival lies below it: a reader cannot hold both for true.
    """
    candidates = []
    for name, f in evidence.families.items():
        likely = [int(n) for n in f.counts if f.reaches(int(n)) >= 1 - SURE]
        if likely and name != evidence.question.reference.name:
            candidates.append(min(likely))
    asked = [int(n) for f in evidence.families.values() for n in f.counts]
    if len(candidates) < LEAST_FAMILIES or min(candidates) <= min(asked):
        return None
    smallest = min(candidates)
    return None if rival is not None and rival.num_trainable < smallest else smallest


def curve_of(evidence: Evidence, family: str) -> list[CurvePointOfFamily]:
    """The budget curve of a family with its band; empty for full fine-tuning."""
    f = evidence.families[family]
    if f.curve is None or len(f.counts) < 2:
        return []
    low, middle, high = np.quantile(f.scores, [0.025, 0.5, 0.975], axis=1)
    return [
        CurvePointOfFamily(int(n), float(m), float(a), float(b))
        for n, m, a, b in zip(f.counts, middle, low, high, strict=True)
    ]
