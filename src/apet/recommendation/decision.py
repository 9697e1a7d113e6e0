"""From evidence to an answer: which arm, how sure, which run would change it most, and how long until it is decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from apet.analysis.intervals import Floats
from apet.recommendation.arms import Arm
from apet.recommendation.evidence import Evidence, FamilyEvidence

SURE = 0.8
"""Probability from which something counts as decided."""
MAX_REGRET = 0.5
"""Points of utility that may be expected to be lost by an answer that counts as decided."""
LEAST_RIVAL = 0.1
"""Points of utility that must be expected to be gained by another arm for it to be named."""
LEAST_GAIN = 0.004
"""Points of utility that a run must be expected to gain for the search to go on."""
NUM_OUTCOMES = 24
"""Scores that are imagined for each run."""
THINNING = 2
"""Every so many draws are used to compare runs."""
MAX_SEEDS = 8
"""Runs of one arm, at most."""


@dataclass(frozen=True)
class Choice:
    """The best answer so far.

    Attributes:
        arm: to use.
        reaches: probability that it reaches the level.
        regret: points of utility that are expected to be lost by it, against knowing everything asked about.
        rival: the other arm by which most is expected to be gained; None = hardly anything is by any.
        rival_wins: probability that the rival is better.
    """

    arm: Arm
    reaches: float
    regret: float
    rival: Arm | None
    rival_wins: float

    @property
    def is_decided(self) -> bool:
        """Whether more runs are not expected to change much."""
        return self.regret <= MAX_REGRET


@dataclass(frozen=True)
class Candidate:
    """A run that could be made next.

    Attributes:
        arm: of the run.
        seed: the first that is not used.
        gain: points of utility that the answer is expected to gain by it.
        seconds: that it takes.
    """

    arm: Arm
    seed: int
    gain: float
    seconds: float


def choose(evidence: Evidence) -> Choice:
    """The measured arm of the highest expected utility.

    Args:
        evidence: with at least one measured arm.

    Returns:
        The arm, how sure it is, and what speaks against it.
    """
    means = {arm: float(evidence.utility(arm).mean()) for arm in evidence.measured}
    best = max(means, key=lambda arm: (means[arm], -arm.num_trainable, arm.family))
    own = evidence.utility(best)
    # Against everything asked about in the families that have runs, also what is not measured itself.
    arms = [Arm(name, int(n)) for name, f in evidence.families.items() for n in f.counts]
    ahead = np.array([evidence.utility(arm) for arm in arms]) - own
    regret = float(np.mean(np.maximum(ahead.max(axis=0), 0)))
    # Not the likeliest winner, which may win by next to nothing: the one by which most is expected to be gained.
    gains = np.maximum(ahead, 0).mean(axis=1)
    first = int(gains.argmax())
    wins = float(np.mean(ahead[first] > 0))
    rival, rival_wins = (arms[first], wins) if gains[first] >= LEAST_RIVAL and arms[first] != best else (None, 0.0)
    return Choice(best, evidence.families[best.family].reaches(best.num_trainable), regret, rival, rival_wins)


def candidates(
    evidence: Evidence, seconds: Callable[[Arm], float], allowed: Iterable[Arm] | None = None
) -> list[Candidate]:
    """Runs that could be made next, the one that gains most in its time first (the knowledge gradient).

    A run is worth what the expected utility of the answer grows by, once its score is known: it may confirm or
    dethrone the present answer, or make an arm available that has not been trained.

    Args:
        evidence: so far.
        seconds: how long a run of an arm takes.
        allowed: arms to choose from; None = all of the families that have runs.

    Returns:
        The candidates by gain a second.
    """
    now = max(float(evidence.utility(arm).mean()) for arm in evidence.measured)
    only = None if allowed is None else set(allowed)
    out = []
    for name, f in evidence.families.items():
        others = max(
            (float(evidence.utility(a).mean()) for a in evidence.measured if a.family != name), default=-math.inf
        )
        for place, n in enumerate(f.counts):
            arm = Arm(name, int(n))
            used = f.num_runs.get(arm.num_trainable, 0)
            if used >= MAX_SEEDS or (only is not None and arm not in only):
                continue
            is_reference = arm == evidence.question.reference_arm
            gain = _gain_of_full(evidence, f, now) if is_reference else _gain(f, place, others, now)
            out.append(Candidate(arm, used, max(gain, 0.0), max(seconds(arm), 1e-3)))
    return sorted(out, key=lambda c: (-c.gain / c.seconds, c.arm))


def _gain(f: FamilyEvidence, place: int, others: float, now: float) -> float:
    """Expected growth of the best expected utility by one more score of one arm."""
    weights = _weights(f.scores[place], f.noise)
    available = [i for i, n in enumerate(f.counts) if f.num_runs.get(int(n), 0) or i == place]
    expected = weights @ f.utilities[available][:, ::THINNING].T
    return float(np.maximum(expected.max(axis=1), others).mean()) - now


def _gain_of_full(evidence: Evidence, f: FamilyEvidence, now: float) -> float:
    """The same for full fine-tuning, by which every arm is measured."""
    own = f.full[::THINNING]
    outcomes = _outcomes(own, f.noise[::THINNING])
    best = np.full(len(outcomes), -np.inf)
    for name, other in evidence.families.items():
        measured = [i for i, n in enumerate(other.counts) if other.num_runs.get(int(n), 0)]
        if measured:
            weights = _weights(other.full, other.noise, outcomes)
            expected = weights @ other.utilities[measured][:, ::THINNING].T
            best = np.maximum(best, expected.max(axis=1))
        assert name
    return float(best.mean()) - now


def _outcomes(means: Floats, noise: Floats) -> Floats:
    """Scores that are imagined, evenly over what the posterior foretells, (outcomes,)."""
    chosen = np.linspace(0, len(means) - 1, NUM_OUTCOMES).round().astype(int)
    # The same imagined luck for every candidate: then their difference is not that of the luck.
    luck = np.random.default_rng(0).standard_normal(NUM_OUTCOMES)
    outcomes: Floats = means[chosen] + noise[chosen] * luck
    return outcomes


def _weights(means: Floats, noise: Floats, outcomes: Floats | None = None) -> Floats:
    """Weight of every draw once an outcome is known, each row sums to 1, (outcomes, draws)."""
    means, noise = means[::THINNING], noise[::THINNING]
    outcomes = _outcomes(means, noise) if outcomes is None else outcomes
    log_weights = -0.5 * ((outcomes[:, None] - means) / noise) ** 2 - np.log(noise)
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    normalized: Floats = weights / weights.sum(axis=1, keepdims=True)
    return normalized


def seconds_to_decide(
    evidence: Evidence, choice: Choice, seconds: Callable[[Arm], float], sure: float = SURE
) -> float | None:
    """How much longer until the answer and its rival are told apart, with a probability.

    The difference of two utilities is taken as normal, and pairs of further runs as measurements of it.

    Args:
        evidence: so far.
        choice: that is not decided.
        seconds: how long a run of an arm takes.
        sure: how likely it shall be that the time is enough.

    Returns:
        Seconds; None where there is no rival, or no reasonable number of runs decides it.
    """
    if choice.rival is None:
        return None
    difference = evidence.utility(choice.rival) - evidence.utility(choice.arm)
    mean, sd = float(difference.mean()), float(difference.std())
    own = evidence.families[choice.arm.family]
    noise = 100 * float(np.median(own.noise)) / own.unit
    cost = seconds(choice.arm) + seconds(choice.rival)
    for pairs in range(1, 4 * MAX_SEEDS + 1):
        if _decided(mean, sd, 2 * noise**2 / pairs) >= sure:
            return pairs * cost
    return None


def _decided(mean: float, sd: float, variance: float) -> float:
    """Probability that a normal quantity's sign is known with `SURE`, once it is measured with a variance."""
    left = math.sqrt(1 / (1 / max(sd, 1e-9) ** 2 + 1 / variance))
    moves = math.sqrt(max(sd**2 - left**2, 1e-12))
    bound = float(stats.norm.ppf(SURE)) * left
    return float(stats.norm.sf((bound - mean) / moves) + stats.norm.cdf((-bound - mean) / moves))
