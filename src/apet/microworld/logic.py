"""What follows from an event, what cannot be, what stays open; and what is nearly the same but is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from apet.microworld.dice import Dice
from apet.microworld.grammar import Event, denied
from apet.microworld.lexicon import ABOVE, ACTIONS, COLOURS, DAYS, STATES, TOWNS, TRANSFERS
from apet.microworld.world import Cast


def is_a(noun: str, kind: str) -> bool:
    """Whether every ``noun`` is a ``kind``; each is its own kind."""
    while noun != kind and noun in ABOVE:
        noun = ABOVE[noun]
    return noun == kind


Verdict = Literal["follows", "open", "impossible"]


def judge(told: Event, claim: Event) -> Verdict | None:
    """Whether a claim follows from what was told, is impossible by it, or is left open.

    An event told with one colour, count, place or day has no other. None where even that would not decide.
    """
    if (told.agent, told.sense, told.other) != (claim.agent, claim.sense, claim.other):
        return "open"
    pairs = [(getattr(told, slot), getattr(claim, slot)) for slot in ("colour", "place", "day")]
    up, down = is_a(told.noun, claim.noun), is_a(claim.noun, told.noun)
    if told.negated:
        narrower = down and all(t in ("", c) for t, c in pairs)
        if claim.negated:
            return "follows" if narrower else "open"
        return "impossible" if narrower else "open"
    wider = up and all(c in ("", t) for t, c in pairs)
    clash = [t and c and t != c for t, c in pairs]
    if claim.negated:
        return "impossible" if wider else None if up and any(clash) else "open"
    if not up or any(c and not t for t, c in pairs):
        return "open"
    if any(clash) or not _count_fits(told.count, claim):
        return "impossible"
    return "follows"


def _count_fits(n: int, claim: Event) -> bool:
    if claim.bound == "some":
        return True
    if claim.bound == "at least":
        return n >= claim.count
    return n > claim.count if claim.bound == "more than" else n == claim.count


def claim_about(dice: Dice, cast: Cast, told: Event) -> Event:
    """A random claim near what was told: wider or narrower, another number, colour or sign."""
    claim = replace(told, negated=False, bound="", count=told.count if not told.negated else dice.between(2, 6))
    if dice.chance(50) and claim.noun in ABOVE:
        claim = replace(claim, noun=ABOVE[claim.noun])
    elif dice.chance(30):
        narrower = [n for n in cast.nouns if is_a(n, told.noun) and n != told.noun]
        claim = replace(claim, noun=dice.pick(narrower or cast.nouns))
    changes: dict[str, Any] = {}
    for slot, values in (("colour", COLOURS), ("place", TOWNS), ("day", DAYS)):
        if dice.chance(50):
            changes[slot] = ""
        elif dice.chance(25) and told.sense not in STATES:
            changes[slot] = dice.pick(values)
    claim = replace(claim, **changes)
    if dice.chance(60 if told.negated else 40):
        return denied(claim)
    match dice.between(1, 5):
        case 1:
            return replace(claim, count=dice.between(1, 6))
        case 2:
            return replace(claim, bound="some")
        case 3:
            return replace(claim, bound="at least", count=dice.between(2, 6))
        case 4:
            return replace(claim, bound="more than", count=dice.between(1, 6))
    return claim


def unlike(dice: Dice, cast: Cast, told: tuple[Event, Event]) -> tuple[Event, Event]:
    """Two events that are nearly the told ones: the persons exchanged, or one slot altered."""
    while True:
        again = exchanged(told) if dice.chance(50) else (altered(dice, cast, told[0]), told[1])
        if again != told:
            return again


def exchanged(told: tuple[Event, Event]) -> tuple[Event, Event]:
    """Each does what the other did."""
    one, two = told
    if two.agent == one.other:
        return _turned(one), two
    if one.agent == two.other:
        return one, _turned(two)
    return replace(one, agent=two.agent), replace(two, agent=one.agent)


def _turned(event: Event) -> Event:
    """Giver and receiver have changed places."""
    return replace(event, agent=event.other, other=event.agent)


def altered(dice: Dice, cast: Cast, event: Event) -> Event:
    """Another in one slot."""
    match dice.between(1, 6):
        case 1 if not event.negated:
            return replace(event, count=dice.between(1, 6))
        case 2:
            return replace(event, colour=dice.pick(COLOURS))
        case 3:
            return replace(event, noun=dice.pick(cast.nouns))
        case 4 if event.place:
            return replace(event, place=dice.pick(TOWNS))
        case 5 if event.other:
            return _turned(event)
        case _:
            family = next(senses for senses in (ACTIONS, TRANSFERS, STATES) if event.sense in senses)
            return replace(event, sense=dice.pick(tuple(family)))
