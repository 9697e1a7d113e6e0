"""Inference tasks. Labels are computed from events by `logic.judge` and `questions.answer`, never from the words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from apet_microworld.grammar import Event, clause, pair
from apet_microworld.lexicon import ACTIONS, STATES, TRANSFERS
from apet_microworld.logic import Verdict, another, claim_about, judge_all
from apet_microworld.questions import SLOTS, answer, question
from apet_microworld.rng import Rng
from apet_microworld.tasks.row import PLAIN, Row
from apet_microworld.world import Cast

_VERDICTS: tuple[Verdict, ...] = ("follows", "open", "impossible")
_PAST = tuple(ACTIONS) + tuple(TRANSFERS)


def mnli(rng: Rng, cast: Cast, label: int) -> Row:
    """MNLI: one event or two; a claim that follows (0), is open (1) or impossible (2)."""
    stated, claim = _statement_and_claim(rng, cast, _PAST, _VERDICTS[label])
    return {"premise": _joined(rng, stated), "hypothesis": clause(claim, rng) + " .", "label": label}


def rte(rng: Rng, cast: Cast, label: int) -> Row:
    """RTE: what two people have or want; a claim that follows (0) or does not (1)."""
    stated, claim = _statement_and_claim(rng, cast, tuple(STATES), rng.pick(_VERDICTS[1:]) if label else "follows")
    return {"sentence1": _joined(rng, stated), "sentence2": clause(claim, rng) + " .", "label": label}


def qnli(rng: Rng, cast: Cast, label: int) -> Row:
    """QNLI: a question, and a sentence of two events that answers it (0) or does not (1).

    What is asked and whether something is denied are drawn before, so that neither tells the label; a question without
    an answer often mixes both events.

    Args:
        rng: source of the choices.
        cast: who and what it may speak of.
        label: 0 or 1.

    Returns:
        The example.
    """
    slot, denials = rng.pick(SLOTS), rng.uniform(0, 1)
    while True:
        stated = pair(rng, cast, _PAST)
        asked, other = rng.sample(stated, 2)
        asked = replace(asked, negated=False)
        if label and rng.chance(85):
            asked = another(rng, cast, asked)
        elif label:
            asked = replace(asked, agent=other.agent) if rng.chance(50) else replace(asked, noun=other.noun)
        if (slot == "other" and not asked.other) or sum(event.negated for event in stated) != denials:
            continue
        if any(answer(event, asked, slot) for event in stated) == (label == 0):
            return {"question": question(asked, slot, rng), "sentence": _joined(rng, stated), "label": label}


def _joined(rng: Rng, stated: Sequence[Event]) -> str:
    return (
        f" {rng.pick(('and', 'but', 'while'))} ".join(clause(event, rng) for event in rng.sample(stated, len(stated)))
        + " ."
    )


def _statement_and_claim(
    rng: Rng, cast: Cast, senses: tuple[str, ...], verdict: Verdict
) -> tuple[tuple[Event, ...], Event]:
    """One event or two, and a claim with the verdict."""
    while True:
        stated = pair(rng, cast, senses)[: rng.pick((1, 1, 1, 2))]
        claim = claim_about(rng, cast, rng.pick(stated), verdict, PLAIN)
        if judge_all(stated, claim) == verdict:
            return stated, claim
