"""Does it follow? Labels are computed from events by `logic.judge` and `asking.answer`, never from the words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from apet.microworld.asking import SLOTS, answer, question
from apet.microworld.dice import Dice
from apet.microworld.grammar import Event, clause, pair
from apet.microworld.lexicon import ACTIONS, STATES, TRANSFERS
from apet.microworld.logic import Verdict, another, claim_about, judge_all
from apet.microworld.tasks.row import PLAIN, Row
from apet.microworld.world import Cast

_VERDICTS: tuple[Verdict, ...] = ("follows", "open", "impossible")
_PAST = tuple(ACTIONS) + tuple(TRANSFERS)


def mnli(dice: Dice, cast: Cast, label: int) -> Row:
    """One event or two; a claim that follows (0), is open (1) or impossible (2)."""
    told, claim = _told_and_claim(dice, cast, _PAST, _VERDICTS[label])
    return {"premise": _joined(dice, told), "hypothesis": clause(claim, dice) + " .", "label": label}


def rte(dice: Dice, cast: Cast, label: int) -> Row:
    """What two people have or want; a claim that follows (0) or does not (1)."""
    told, claim = _told_and_claim(dice, cast, tuple(STATES), dice.pick(_VERDICTS[1:]) if label else "follows")
    return {"sentence1": _joined(dice, told), "sentence2": clause(claim, dice) + " .", "label": label}


def qnli(dice: Dice, cast: Cast, label: int) -> Row:
    """A question, and a sentence of two events that answers it (0) or does not (1).

    What is asked and whether something is denied are drawn before, so that neither tells the label; a question without
    an answer often mixes both events.
    """
    slot, denials = dice.pick(SLOTS), dice.uniform(0, 1)
    while True:
        told = pair(dice, cast, _PAST)
        asked, other = dice.some(told, 2)
        asked = replace(asked, negated=False)
        if label and dice.chance(85):
            asked = another(dice, cast, asked)
        elif label:
            asked = replace(asked, agent=other.agent) if dice.chance(50) else replace(asked, noun=other.noun)
        if (slot == "other" and not asked.other) or sum(event.negated for event in told) != denials:
            continue
        if any(answer(event, asked, slot) for event in told) == (label == 0):
            return {"question": question(asked, slot, dice), "sentence": _joined(dice, told), "label": label}


def _joined(dice: Dice, told: Sequence[Event]) -> str:
    return (
        f" {dice.pick(('and', 'but', 'while'))} ".join(clause(event, dice) for event in dice.some(told, len(told)))
        + " ."
    )


def _told_and_claim(
    dice: Dice, cast: Cast, senses: tuple[str, ...], wanted: Verdict
) -> tuple[tuple[Event, ...], Event]:
    """One event or two, and a claim with the wanted verdict."""
    while True:
        told = pair(dice, cast, senses)[: dice.pick((1, 1, 1, 2))]
        claim = claim_about(dice, cast, dice.pick(told), wanted, PLAIN)
        if judge_all(told, claim) == wanted:
            return told, claim
