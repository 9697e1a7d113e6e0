"""What follows from an event, what cannot be, what stays open; and what is nearly the same but is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from apet.microworld.dice import Dice
from apet.microworld.grammar import Event, denied
from apet.microworld.lexicon import ABOVE, ACTIONS, COLOURS, DAYS, MOST, STATES, TOWNS, TRANSFERS
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


def judge_all(told: Sequence[Event], claim: Event) -> Verdict | None:
    """The strongest of what several events say; None where one of them cannot decide."""
    verdicts = [judge(event, claim) for event in told]
    if None in verdicts or claim.agent == claim.other:
        return None
    return next((v for v in ("follows", "impossible") if v in verdicts), "open")


def _count_fits(n: int, claim: Event) -> bool:
    if claim.bound == "some":
        return True
    return n >= claim.count if claim.bound == "at least" else n == claim.count


def claim_about(dice: Dice, cast: Cast, told: Event, verdict: Verdict, plain: int = 1) -> Event:
    """A claim with this verdict: the told event in fewer or wider words, kept, turned round or changed in one slot.

    Of the claims that stay open, ``plain`` are changed altogether for one that is changed in one slot: what is plainly
    different is learned first.
    """
    while True:
        claim = _weakened(dice, cast, told)
        if verdict == "impossible":
            clash = _clashing(dice, claim, told)
            claim = clash if clash and dice.chance(80 // (plain + 1)) else _turned_round(dice, claim)
        elif verdict == "open":
            if dice.chance(30):
                claim = _turned_round(dice, claim)
            slots = dice.some(("agent", "sense", "noun"), dice.pick((1, *[3] * plain)))
            other = another(dice, cast, told)
            claim = replace(claim, **{slot: getattr(other, slot) for slot in slots})
            if claim.agent == claim.other:
                continue
        if judge(told, claim) == verdict:
            return claim


def _weakened(dice: Dice, cast: Cast, told: Event) -> Event:
    """What follows from an event: fewer details and a wider kind, or, where it is denied, a narrower one."""
    if told.negated:
        narrower = [noun for noun in cast.nouns if is_a(noun, told.noun)]
        noun = dice.pick(narrower)
        return replace(told, noun=noun, colour=told.colour or (dice.pick(COLOURS) if dice.chance(20) else ""))
    kept: dict[str, Any] = {slot: "" if dice.chance(40) else getattr(told, slot) for slot in ("colour", "place", "day")}
    claim = replace(told, **kept, noun=ABOVE.get(told.noun, told.noun) if dice.chance(40) else told.noun)
    match dice.uniform(1, 4):
        case 1:
            return replace(claim, bound="some")
        case 2 if told.count > 1:
            return replace(claim, bound="at least", count=dice.uniform(2, told.count))
    return claim


def _turned_round(dice: Dice, claim: Event) -> Event:
    return replace(claim, negated=False, bound="", count=dice.uniform(1, MOST)) if claim.negated else denied(claim)


def _clashing(dice: Dice, claim: Event, told: Event) -> Event | None:
    """Another number, colour, place or day than was told."""
    if told.negated:
        return None
    values = {"colour": COLOURS, "place": TOWNS, "day": DAYS}
    slots = ["count", *(slot for slot in values if getattr(told, slot))]
    slot = dice.pick(slots)
    if slot == "count":
        return replace(claim, bound="", count=dice.pick([n for n in range(1, MOST + 1) if n != told.count]))
    elsewhere: dict[str, Any] = {slot: dice.pick([v for v in values[slot] if v != getattr(told, slot)])}
    return replace(claim, **elsewhere)


def another(dice: Dice, cast: Cast, event: Event) -> Event:
    """A different event of the same sort: somebody else does something else with other things."""
    senses = [sense for sense in _family(event) if sense != event.sense]
    agent = dice.pick([p for p in cast.people if p not in (event.agent, event.other)])
    other = dice.pick([p for p in cast.people if p not in (agent, event.other)]) if event.other else ""
    noun = dice.pick([noun for noun in cast.nouns if not is_a(noun, event.noun) and not is_a(event.noun, noun)])
    return replace(event, agent=agent, sense=dice.pick(senses), noun=noun, other=other, count=dice.uniform(1, MOST))


def _family(event: Event) -> tuple[str, ...]:
    return tuple(next(senses for senses in (ACTIONS, TRANSFERS, STATES) if event.sense in senses))


def unlike(dice: Dice, cast: Cast, told: tuple[Event, ...], plain: int = 1) -> tuple[Event, ...]:
    """Something else than was told: the persons exchanged, one slot altered, or ``plain`` times as often another."""
    ways = (*[another] * (plain + 1), exchanged, altered, *[another] * (plain - 1))
    while True:
        way = dice.pick(ways)
        again: tuple[Event, ...]
        if way is exchanged and len(told) == 2:
            again = exchanged((told[0], told[1]))
        else:
            again = ((another if way is another else altered)(dice, cast, told[0]), *told[1:])
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
    match dice.uniform(1, 6):
        case 1 if not event.negated:
            return replace(event, count=dice.uniform(1, MOST))
        case 2:
            return replace(event, colour=dice.pick(COLOURS))
        case 3:
            return replace(event, noun=dice.pick(cast.nouns))
        case 4 if event.place:
            return replace(event, place=dice.pick(TOWNS))
        case 5 if event.other:
            return _turned(event)
        case _:
            return replace(event, sense=dice.pick(_family(event)))
