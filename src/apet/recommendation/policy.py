"""What to run next, from what was measured so far alone: the same record leads to the same next run.

First the first family's race and its whole run, then full fine-tuning's, whose rates begin where the first one's ended,
as the others' do. Then the others' races, and a whole run of each family that no other beats in its race with no more
parameters. Then, run by run, what is expected to better the answer most in its time; an arm far from its family's races
gets its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from apet.analysis.curve_values import Reach
from apet.recommendation.arms import RATE_STEP, Arm, Family, Measurement, Question, Trial
from apet.recommendation.decision import LEAST_GAIN, SURE, Candidate, candidates, choose
from apet.recommendation.evidence import Evidence, gather
from apet.recommendation.racing import (
    NEAR,
    Race,
    center_of,
    dominated,
    heat_steps,
    heats_of,
    race,
    without_unstable,
)

WIDE = (0, 1, 2)
"""Powers of the very first race: it begins at the default rate, and small backbones want much more."""
RACING_SHARE = 0.5
"""Of the time spent so far, that may go into races: they and whole runs take turns."""


ENOUGH = 0.2
"""Points of utility that may be expected to be lost by an answer with which the search ends before its time."""
STRIDE = 8
"""How many times fewer parameters than what may well reach the level are tried next, at most."""
AGAIN = 10
"""Runs of full fine-tuning that must fit into the time that is left, for it to get a second seed first."""


@dataclass(frozen=True)
class Step:
    """What to do next.

    Attributes:
        trials: to make, beside each other where that is faster; none = nothing is left that would matter.
        why: in words, for progress.
    """

    trials: tuple[Trial, ...]
    why: str


@dataclass(frozen=True)
class Knowledge:
    """What was measured, and what follows from it.

    Attributes:
        question: what is chosen from.
        reach: what counts as reaching full fine-tuning.
        measured: everything, in the order in which it was made; whole runs at an unstable rate without a score.
        races: of every family's anchor, as far as they were run; the reference's, too.
        dropped: family -> the one that beats it in its race.
        rates: family -> N -> learning rate, of all races that are over, those of other counts than the anchor too.
        evidence: posteriors; None before the first whole run.
        unstable: arm -> learning rates that were given up; see `apet.recommendation.racing.without_unstable`.
    """

    question: Question
    reach: Reach
    measured: tuple[Measurement, ...]
    races: dict[str, Race] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    rates: dict[str, dict[int, float]] = field(default_factory=dict)
    evidence: Evidence | None = None
    unstable: dict[Arm, tuple[float, ...]] = field(default_factory=dict)

    def has(self, arm: Arm) -> bool:
        """Whether an arm has had a whole run, failed or not, and not at a rate that was given up."""
        given_up = self.unstable.get(arm, ())
        return any(
            m.trial.arm == arm and self.is_whole(m) and m.trial.learning_rate not in given_up for m in self.measured
        )

    def is_whole(self, m: Measurement) -> bool:
        """Whether a measurement counts as an answer, not as a heat."""
        return not m.trial.racing and m.trial.steps == self.question.steps


def learn(question: Question, measured: Sequence[Measurement], reach: Reach) -> Knowledge:
    """All that follows from what was measured.

    Args:
        question: what is chosen from.
        measured: in the order in which it was made.
        reach: what counts as reaching full fine-tuning.

    Returns:
        Races, what is dropped, posteriors.
    """
    measured, unstable = without_unstable(measured, question.steps)
    heats = _heats(question, measured)
    everyone = _everyone(question)
    races: dict[str, Race] = {}
    center = 0
    for i, family in enumerate(everyone):
        arm = Arm(family.name, family.anchor)
        races[family.name] = race(arm, family.around, center, heats, WIDE if i == 0 else None)
        if i == 0:
            center = center_of([(family, races[family.name])])
    over = [races[f.name] for f in question.families if races[f.name].is_over]
    dropped = dominated(over)
    dropped.pop(question.reference.name, None)
    rates = {f.name: _raced(f, races[f.name], heats) for f in everyone}
    evidence = gather(question, measured, reach)
    return Knowledge(question, reach, tuple(measured), races, dropped, rates, evidence, unstable)


def _heats(question: Question, measured: Sequence[Measurement]) -> list[Measurement]:
    """Heats of these races; what was measured with other steps, to learn how long they take, is none."""
    return [m for m in measured if m.trial.racing and m.trial.steps == heat_steps(question.steps)]


def _everyone(question: Question) -> list[Family]:
    """Families with the reference second: the first race tells every other where to begin."""
    rest = [f for f in question.families if f.name != question.reference.name]
    return [*rest[:1], question.reference, *rest[1:]]


def next_step(known: Knowledge, seconds: Callable[[Trial], float], left: float) -> Step:
    """What to do next.

    Args:
        known: so far.
        seconds: how long a trial takes, as far as is known.
        left: seconds that are left.

    Returns:
        The trials; none where nothing that fits into the time would better the answer.
    """
    # First what gives a first answer: one family and full fine-tuning, raced and run. Then families in turn with runs.
    first, reference, *others = _everyone(known.question)
    for family in (first, reference):
        heats = heats_of(known.races[family.name], known.question.steps)
        run = Trial(Arm(family.name, family.anchor), family.around, known.question.steps)
        # Where not even this much fits in, a run at the best rate so far says more than a race without any run.
        if heats and sum(map(seconds, heats)) + seconds(run) <= left:
            return Step(tuple(heats), f"learning rate of {family.name}")
        # At once, before full fine-tuning's race, which takes longest: of a short time at least this much is left.
        step = _whole(known, Arm(family.name, family.anchor), seconds, left)
        if step is not None:
            return step
    heats = _other_races(known, others, seconds, left, RACING_SHARE)
    if heats:
        return Step(tuple(heats), _names(heats))
    for family in _by_promise(known):
        step = _whole(known, Arm(family.name, family.anchor), seconds, left)
        if step is not None:
            return step
    # Two runs of the reference: by how much seeds differ decides how far any single run is to be believed.
    again = whole_run(known, known.question.reference_arm, 1)
    num_full = len(known.evidence.levels.full) if known.evidence else 0
    if again is not None and num_full == 1 and AGAIN * seconds(again) <= left:
        return Step((again,), f"{again.arm.family}, another seed")
    step = _most_telling(known, seconds, left)
    if not step.trials:  # what no run of the families that are in it would change, another family might
        heats = _other_races(known, others, seconds, left, 1.0)
        step = Step(tuple(heats), _names(heats)) if heats else step
    return step


def _names(heats: Sequence[Trial]) -> str:
    return f"learning rates of {', '.join(dict.fromkeys(t.arm.family for t in heats))}"


def _whole(known: Knowledge, arm: Arm, seconds: Callable[[Trial], float], left: float) -> Step | None:
    """The first whole run of an arm, where it had none and the time is enough."""
    trial = whole_run(known, arm, 0)
    # The very first one is begun in any case: without it there is nothing to say.
    if known.has(arm) or trial is None or (seconds(trial) > left and known.evidence is not None):
        return None
    return Step((trial,), f"{arm.family} with {arm.num_trainable:,}")


def _other_races(
    known: Knowledge, others: Sequence[Family], seconds: Callable[[Trial], float], left: float, share: float
) -> list[Trial]:
    """Heats of the next other family, if races have not had their share, and it leaves time for a whole run."""
    raced = sum(m.seconds for m in known.measured if m.trial.racing)
    spent = sum(m.seconds for m in known.measured)
    for family in others:
        missing = heats_of(known.races[family.name], known.question.steps)
        if not missing:
            continue
        begun = any(m.trial.arm.family == family.name for m in known.measured)
        run = Trial(Arm(family.name, family.anchor), family.around, known.question.steps)
        cost = sum(map(seconds, missing))
        if begun or (raced + cost <= share * (spent + cost) and cost + seconds(run) <= left):
            return missing
    return []


def _by_promise(known: Knowledge) -> list[Family]:
    """Families that are still in it, those whose races went lowest in loss first."""
    alive = [
        f
        for f in known.question.families
        if f.name not in known.dropped
        and known.races[f.name].rate is not None
        and f.name != known.question.reference.name
    ]
    return sorted(alive, key=lambda f: (known.races[f.name].loss, f.anchor))


def _most_telling(known: Knowledge, seconds: Callable[[Trial], float], left: float) -> Step:
    """The run that is expected to better the answer most in its time, with a race before it where it needs one."""
    if known.evidence is None:
        return Step((), "no run came to an end")

    def cost(arm: Arm) -> float:
        pending = whole_run(known, arm, 0)
        heats = heats_of(own_race(known, arm), known.question.steps)
        return sum(map(seconds, heats)) + (seconds(pending) if pending else math.inf)

    fitting = [c for c in candidates(known.evidence, cost, _not_far(known.evidence)) if c.seconds <= left]
    best = fitting[0] if fitting and max(c.gain for c in fitting) >= LEAST_GAIN else _doubted(known.evidence, fitting)
    if best is None:
        return Step((), "no further run is expected to change the answer" if fitting else "no further run fits in")
    heats = heats_of(own_race(known, best.arm), known.question.steps)
    if heats:
        return Step(tuple(heats), f"learning rate of {best.arm.family} at {best.arm.num_trainable:,}")
    trial = whole_run(known, best.arm, best.seed)
    assert trial is not None
    return Step((trial,), f"{best.arm.family} with {best.arm.num_trainable:,}, seed {best.seed}")


def _doubted(evidence: Evidence, fitting: Sequence[Candidate]) -> Candidate | None:
    """The answer, its rival or the reference, whichever has the fewest runs, while much may be lost by the answer.

    No single run may be expected to change an answer that several would: then what it rests on is run again, and once
    that is used up, what would gain most, little as it is: the time was given to be used.

    Returns:
        The run; None where little is expected to be lost, or every one of the three is used up.
    """
    choice = choose(evidence)
    if choice.regret <= ENOUGH:
        return None
    asked = [choice.arm, evidence.question.reference_arm, *([choice.rival] if choice.rival else [])]
    rests_on = min((c for c in fitting if c.arm in asked), key=lambda c: (c.seed, c.seconds), default=None)
    return rests_on or next(iter(fitting), None)


def _not_far(evidence: Evidence) -> list[Arm]:
    """Arms not too far below what has been measured and may well reach the level.

    Of one run, the posterior leaves everything open below it; runs of hardly any parameters would be tried first, since
    they would save most. From what works, down in a few octaves at a time, is faster.

    Returns:
        The arms, measured ones among them.
    """
    arms = []
    for name, f in evidence.families.items():
        likely = [n for n, k in f.num_runs.items() if k and f.reaches(n) >= 1 - SURE]
        lowest = min(likely, default=f.family.anchor) / STRIDE
        arms += [Arm(name, int(n)) for n in f.counts if n >= lowest]
    return arms


def own_race(known: Knowledge, arm: Arm) -> Race:
    """The race by which an arm's rate is known: its own, or over already where a neighbor's is near enough."""
    family = known.question.family(arm.family)
    raced = known.rates[family.name]
    nearest = min(raced, key=lambda n: abs(math.log2(n / arm.num_trainable)), default=None)
    if nearest is None:
        return known.races[family.name]
    if nearest == arm.num_trainable or abs(math.log2(nearest / arm.num_trainable)) <= NEAR:
        return Race(arm, (), raced[nearest])
    center = round(math.log(raced[nearest] / family.around, RATE_STEP))
    # Fewer parameters want larger rates: the neighbor's rate is the smallest that is tried at first.
    up = nearest > arm.num_trainable
    heats = _heats(known.question, known.measured)
    return race(arm, family.around, center, heats, (center, center + 1) if up else (center - 1, center))


def _raced(family: Family, anchor: Race, heats: Sequence[Measurement]) -> dict[int, float]:
    """N -> rate, of every race of a family that is over."""
    rates = {} if anchor.rate is None else {family.anchor: anchor.rate}
    powers_of: dict[int, list[int]] = {}
    for m in heats:
        if m.trial.arm.family == family.name and m.trial.arm.num_trainable != family.anchor:
            power = round(math.log(m.trial.learning_rate / family.around, RATE_STEP))
            powers_of.setdefault(m.trial.arm.num_trainable, []).append(power)
    for n, powers in powers_of.items():
        known = race(Arm(family.name, n), family.around, min(powers), heats, sorted(powers))
        if known.rate is not None and len(powers) > 1:
            rates[n] = known.rate
    return rates


def whole_run(known: Knowledge, arm: Arm, seed: int) -> Trial | None:
    """A whole run of an arm with the rate of its race, if need be of one that is not over; less where that diverged.

    Returns:
        The trial; None where every rate diverged.
    """
    raced = known.rates[arm.family]
    if raced:
        rate = raced[min(raced, key=lambda n: abs(math.log2(n / arm.num_trainable)))]
    elif known.races[arm.family].is_over:
        return None
    else:
        heats = [m for m in _heats(known.question, known.measured) if m.trial.arm.family == arm.family]
        best = min((m for m in heats if m.score is not None), key=lambda m: m.loss, default=None)
        rate = known.question.family(arm.family).around if best is None else best.trial.learning_rate
    used = {m.trial.learning_rate for m in known.measured if m.trial.arm == arm and known.is_whole(m)}
    failed = {
        m.trial.learning_rate for m in known.measured if m.trial.arm == arm and known.is_whole(m) and m.score is None
    }
    if used - failed:  # seeds of one arm are trained alike
        rate = min(used - failed)
    while any(math.isclose(rate, r, rel_tol=0.01) for r in failed):
        rate = float(f"{rate / RATE_STEP:.3g}")
    return Trial(arm, rate, known.question.steps, seed)
