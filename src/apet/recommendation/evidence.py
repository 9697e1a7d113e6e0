"""What is known: the posterior of every family's budget curve, as draws of score and utility at each of its counts.

*Utility*, in points: minus what the mean score falls short of the level to reach, minus `POINTS_PER_OCTAVE` for each
doubling of the parameters. The arm of the highest expected utility is recommended; so, where several reach the level,
the one with the fewest parameters, and where none is known to, the one that is not given up for a fraction of a point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from apet.analysis.curve_values import Levels, Reach, RunScore
from apet.analysis.curves import BudgetCurve, fit_curve
from apet.analysis.intervals import Floats
from apet.recommendation.arms import Arm, Family, Measurement, Question

POINTS_PER_OCTAVE = 0.2
"""Points of score that halving the parameters is worth, below the level to reach."""


@dataclass(frozen=True)
class FamilyEvidence:
    """Draws for one family.

    Attributes:
        family: that they are of.
        counts: N, (counts,).
        scores: mean score over seeds, (counts, draws).
        utilities: in points, (counts, draws).
        full: level of full fine-tuning, (draws,).
        level: the score to reach, (draws,).
        noise: standard deviation over seeds, (draws,).
        num_runs: N -> runs made.
        curve: that they were drawn from; None for full fine-tuning itself.
        unit: of the metric, which counts as 100 points; see `apet.analysis.curve_values.Scale`.
    """

    family: Family
    counts: Floats
    scores: Floats
    utilities: Floats
    full: Floats
    level: Floats
    noise: Floats
    num_runs: dict[int, int]
    curve: BudgetCurve | None
    unit: float = 1.0

    def index(self, num_trainable: int) -> int:
        """Place of a count among them."""
        return int(np.flatnonzero(self.counts == num_trainable)[0])

    def reaches(self, num_trainable: int) -> float:
        """Probability that the mean score of an arm reaches the level."""
        return float(np.mean(self.scores[self.index(num_trainable)] >= self.level))


@dataclass(frozen=True)
class Evidence:
    """Draws for all families that have runs.

    Attributes:
        question: what is chosen from.
        reach: what counts as reaching full fine-tuning.
        levels: untrained, constant and full fine-tuning's scores.
        families: name -> draws; the reference among them where it has runs.
    """

    question: Question
    reach: Reach
    levels: Levels
    families: dict[str, FamilyEvidence]

    @property
    def measured(self) -> list[Arm]:
        """Arms that have a score: only what was trained can be recommended."""
        return [Arm(name, n) for name, f in self.families.items() for n, k in sorted(f.num_runs.items()) if k]

    def utility(self, arm: Arm) -> Floats:
        """Draws of an arm's utility, in points, (draws,)."""
        f = self.families[arm.family]
        draws: Floats = f.utilities[f.index(arm.num_trainable)]
        return draws


def gather(question: Question, measured: Sequence[Measurement], reach: Reach) -> Evidence | None:
    """The posteriors from what was measured on validation with whole runs.

    Args:
        question: what is chosen from.
        measured: everything, heats too.
        reach: what counts as reaching full fine-tuning.

    Returns:
        Draws of every family that has a score; None where nothing has.
    """
    whole = [m for m in measured if not m.trial.racing and m.trial.steps == question.steps]
    scored = [m for m in whole if m.score is not None]
    if not scored:
        return None
    reference = question.reference_arm
    levels = Levels(
        untrained=round(sum(m.untrained for m in scored) / len(scored), 6),
        constant=max(m.constant for m in scored),
        full=tuple(float(m.score) for m in scored if m.trial.arm == reference and m.score is not None),
    )
    families = {}
    for family in question.families:
        runs = [m for m in whole if m.trial.arm.family == family.name]
        if any(m.score is not None for m in runs):
            families[family.name] = _of_family(family, tuple(_ordered(runs)), levels, reach)
    if levels.full and reference.family not in families:
        families[reference.family] = _of_full(question.reference, levels, reach, families)
    return Evidence(question, reach, levels, families)


@lru_cache(maxsize=64)
def _of_family(family: Family, runs: tuple[Measurement, ...], levels: Levels, reach: Reach) -> FamilyEvidence:
    # Kept: each run changes one family, and all others are asked again.
    scores = [RunScore(m.trial.arm.num_trainable, math.nan if m.score is None else m.score) for m in runs]
    smallest, largest = family.smallest, max(family.largest, family.smallest + 1)
    curve = fit_curve(scores, levels, smallest, largest)
    d = curve.draws
    counts = np.array(family.counts, dtype=float)
    at = np.array([curve.scores_at(n) for n in counts])
    level = reach.level(d.base, d.full)
    num_runs = {n: sum(m.trial.arm.num_trainable == n and m.score is not None for m in runs) for n in family.counts}
    utilities = _utilities(at, level, counts, curve.scale.unit)
    return FamilyEvidence(family, counts, at, utilities, d.full, level, d.noise, num_runs, curve, curve.scale.unit)


def _of_full(family: Family, levels: Levels, reach: Reach, others: dict[str, FamilyEvidence]) -> FamilyEvidence:
    """Full fine-tuning itself: its level is known from any family's posterior, else from its own runs alone."""
    counts = np.array([family.anchor], dtype=float)
    if others:
        any_family = next(iter(others.values()))
        full, noise, unit = any_family.full, any_family.noise, any_family.unit
    else:
        curve = fit_curve([], levels, 1, 2)
        full, noise, unit = curve.draws.full, curve.draws.noise, curve.scale.unit
    level = reach.level(levels.base, full)
    at = full[None]
    num_runs = {family.anchor: len(levels.full)}
    utilities = _utilities(at, level, counts, unit)
    return FamilyEvidence(family, counts, at, utilities, full, level, noise, num_runs, None, unit)


def _utilities(scores: Floats, level: Floats, counts: Floats, unit: float) -> Floats:
    short: Floats = 100 * np.maximum(level - scores, 0) / unit
    return -short - POINTS_PER_OCTAVE * np.log2(counts)[:, None]


def _ordered(runs: Sequence[Measurement]) -> list[Measurement]:
    return sorted(runs, key=lambda m: (m.trial.arm, m.trial.seed))
