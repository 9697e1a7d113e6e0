"""Inference tasks. Labels are computed from events by `logic.judge` and `questions.answer`, never from the words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from apet_microworld.grammar import Event, clause, pair, retold
from apet_microworld.lexicon import ACTIONS, COLORS, DAYS, STATES, TOWNS, TRANSFERS
from apet_microworld.logic import CHANGES, Verdict, another, claim_about, judge_all
from apet_microworld.questions import SLOTS, Slot, answer, question
from apet_microworld.rng import Rng
from apet_microworld.tasks.row import Row
from apet_microworld.world import Cast

_VERDICTS: tuple[Verdict, ...] = ("follows", "open", "impossible")
_PAST = tuple(ACTIONS) + tuple(TRANSFERS)
ALONE = 40
"""In how many of a hundred examples the event that is claimed stands alone: what is easy is learned first."""
_DETAILS: dict[Slot, tuple[str, ...]] = {"color": COLORS, "place": TOWNS, "day": DAYS}


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
    senses = tuple(TRANSFERS) if slot == "other" else _PAST
    while True:
        about, other = rng.sample(pair(rng, cast, senses, denials), 2)
        if slot in _DETAILS and not getattr(about, slot):
            about = _with_detail(rng, about, slot)
        stated, about = (about, other), replace(retold(rng, about), negated=False)
        if label and rng.chance(70):
            about = another(rng, cast, about, rng.pick(CHANGES))
        elif label:
            about = (
                replace(about, agent=other.agent) if rng.chance(50) else replace(about, noun=retold(rng, other).noun)
            )
        if (slot == "other" and not about.other) or about.agent == about.other:
            continue
        if any(answer(event, about, slot) for event in stated) == (label == 0):
            return {"question": question(about, slot, rng), "sentence": _joined(rng, stated), "label": label}


def _with_detail(rng: Rng, event: Event, slot: Slot) -> Event:
    detail: dict[str, Any] = {slot: rng.pick(_DETAILS[slot])}
    return replace(event, **detail)


def _joined(rng: Rng, stated: Sequence[Event]) -> str:
    return (
        f" {rng.pick(('and', 'but', 'while'))} ".join(clause(event, rng) for event in rng.sample(stated, len(stated)))
        + " ."
    )


def _statement_and_claim(
    rng: Rng, cast: Cast, senses: tuple[str, ...], verdict: Verdict
) -> tuple[tuple[Event, ...], Event]:
    # Of two events one is denied, and as many claims of every verdict are denials, so that denials tell little.
    while True:
        stated: tuple[Event, ...] = pair(rng, cast, senses, denials=1)
        told, denial = sorted(stated, key=lambda event: event.negated)
        about = rng.pick((told,) * 3 + (denial,) if verdict == "impossible" else stated)
        if rng.chance(ALONE):
            stated = (about,)
        claim = claim_about(rng, cast, about, verdict)
        if judge_all(stated, claim) == verdict:
            return stated, claim
