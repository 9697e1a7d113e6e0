"""Does it follow? Labels are computed from events by `logic.judge` and `asking.answer`, never from the words."""

from __future__ import annotations

from dataclasses import replace

from apet.microworld.asking import SLOTS, answer, question
from apet.microworld.dice import Dice
from apet.microworld.grammar import Event, clause, denied, pair
from apet.microworld.lexicon import ACTIONS, STATES, TRANSFERS
from apet.microworld.logic import Verdict, claim_about, judge
from apet.microworld.tasks.row import Row
from apet.microworld.world import Cast

_VERDICTS: tuple[Verdict, ...] = ("follows", "open", "impossible")
_PAST = tuple(ACTIONS) + tuple(TRANSFERS)


def mnli(dice: Dice, cast: Cast, label: int) -> Row:
    """Two events; a claim that follows (0), is open (1) or impossible (2)."""
    told, claim = _told_and_claim(dice, cast, _PAST, (_VERDICTS[label],))
    return {"premise": _joined(dice, told), "hypothesis": clause(claim, dice) + " .", "label": label}


def rte(dice: Dice, cast: Cast, label: int) -> Row:
    """What two people have or want; a claim that follows (0) or does not (1)."""
    told, claim = _told_and_claim(dice, cast, tuple(STATES), _VERDICTS[1:] if label else _VERDICTS[:1])
    return {"sentence1": _joined(dice, told), "sentence2": clause(claim, dice) + " .", "label": label}


def qnli(dice: Dice, cast: Cast, label: int) -> Row:
    """A question, and a sentence of two events that answers it (0) or does not (1).

    What is asked and whether something is denied are drawn before, so that neither tells the label; a question without
    an answer often mixes both events.
    """
    slot, denials = dice.pick(SLOTS), dice.between(0, 1)
    while True:
        told = pair(dice, cast, _PAST)
        asked, other = dice.some(told, 2)
        asked = replace(asked, negated=False)
        if label and dice.chance(60):
            asked = replace(asked, agent=other.agent) if dice.chance(50) else replace(asked, noun=other.noun)
        if (slot == "other" and not asked.other) or sum(event.negated for event in told) != denials:
            continue
        if any(answer(event, asked, slot) for event in told) == (label == 0):
            return {"question": question(asked, slot, dice), "sentence": _joined(dice, told), "label": label}


def _joined(dice: Dice, told: tuple[Event, Event]) -> str:
    first, second = told if dice.chance(50) else (told[1], told[0])
    return f"{clause(first, dice)} {dice.pick(('and', 'but', 'while'))} {clause(second, dice)} ."


def _told_and_claim(
    dice: Dice, cast: Cast, senses: tuple[str, ...], wanted: tuple[Verdict, ...]
) -> tuple[tuple[Event, Event], Event]:
    """Events and a claim with a wanted verdict; as often denied as not, so that the sign does not tell the verdict."""
    negated = dice.chance(50)
    while True:
        told = pair(dice, cast, senses)
        for _ in range(4):
            claim = _claim(dice, cast, told)
            if claim.negated == negated and _verdict(told, claim) in wanted:
                return told, claim


def _claim(dice: Dice, cast: Cast, told: tuple[Event, Event]) -> Event:
    """About either event; at times about the other one's person, or about nobody who was spoken of."""
    one, two = told if dice.chance(50) else (told[1], told[0])
    claim = claim_about(dice, cast, one)
    if dice.chance(25):
        claim = replace(claim, agent=dice.pick((two.agent, dice.pick(cast.people))))
    return denied(claim) if claim.negated else claim


def _verdict(told: tuple[Event, Event], claim: Event) -> Verdict | None:
    """The strongest of what either event says; None where one of them cannot decide."""
    verdicts = [judge(event, claim) for event in told]
    if None in verdicts or claim.agent == claim.other:
        return None
    return next((v for v in ("follows", "impossible") if v in verdicts), "open")
