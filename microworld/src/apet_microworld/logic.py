"""What follows from an event, what cannot be, what stays open; and what is nearly the same but is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from apet_microworld.rng import Rng
from apet_microworld.grammar import Event, denied
from apet_microworld.lexicon import ABOVE, ACTIONS, COLORS, DAYS, MOST, STATES, TOWNS, TRANSFERS
from apet_microworld.world import Cast


def is_a(noun: str, kind: str) -> bool:
    """Whether every ``noun`` is a ``kind``; each is its own kind."""
    while noun != kind and noun in ABOVE:
        noun = ABOVE[noun]
    return noun == kind


Verdict = Literal["follows", "open", "impossible"]


def judge(stated: Event, claim: Event) -> Verdict | None:
    """Whether a claim follows from what was stated, is impossible by it, or is left open.

    An event stated with one colour, count, place or day has no other. None where even that would not decide.
    """
    if (stated.agent, stated.sense, stated.other) != (claim.agent, claim.sense, claim.other):
        return "open"
    pairs = [(getattr(stated, slot), getattr(claim, slot)) for slot in ("color", "place", "day")]
    up, down = is_a(stated.noun, claim.noun), is_a(claim.noun, stated.noun)
    if stated.negated:
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
    if any(clash) or not _count_fits(stated.count, claim):
        return "impossible"
    return "follows"


def judge_all(stated: Sequence[Event], claim: Event) -> Verdict | None:
    """The strongest of what several events say; None where one of them cannot decide."""
    verdicts = [judge(event, claim) for event in stated]
    if None in verdicts or claim.agent == claim.other:
        return None
    return next((v for v in ("follows", "impossible") if v in verdicts), "open")


def _count_fits(n: int, claim: Event) -> bool:
    if claim.bound == "some":
        return True
    return n >= claim.count if claim.bound == "at least" else n == claim.count


def claim_about(rng: Rng, cast: Cast, stated: Event, verdict: Verdict, plain: int = 1) -> Event:
    """A claim with this verdict: the stated event in fewer or wider words, kept, turned round or changed in one slot.

    Of the claims that stay open, ``plain`` are changed altogether for one that is changed in one slot: what is plainly
    different is learned first.
    """
    while True:
        claim = _weakened(rng, cast, stated)
        if verdict == "impossible":
            clash = _clashing(rng, claim, stated)
            claim = clash if clash and rng.chance(80 // (plain + 1)) else _turned_round(rng, claim)
        elif verdict == "open":
            if rng.chance(30):
                claim = _turned_round(rng, claim)
            slots = rng.sample(("agent", "sense", "noun"), rng.pick((1, *[3] * plain)))
            other = another(rng, cast, stated)
            claim = replace(claim, **{slot: getattr(other, slot) for slot in slots})
            if claim.agent == claim.other:
                continue
        if judge(stated, claim) == verdict:
            return claim


def _weakened(rng: Rng, cast: Cast, stated: Event) -> Event:
    """What follows from an event: fewer details and a wider kind, or, where it is denied, a narrower one."""
    if stated.negated:
        narrower = [noun for noun in cast.nouns if is_a(noun, stated.noun)]
        noun = rng.pick(narrower)
        return replace(stated, noun=noun, color=stated.color or (rng.pick(COLORS) if rng.chance(20) else ""))
    kept: dict[str, Any] = {slot: "" if rng.chance(40) else getattr(stated, slot) for slot in ("color", "place", "day")}
    claim = replace(stated, **kept, noun=ABOVE.get(stated.noun, stated.noun) if rng.chance(40) else stated.noun)
    match rng.uniform(1, 4):
        case 1:
            return replace(claim, bound="some")
        case 2 if stated.count > 1:
            return replace(claim, bound="at least", count=rng.uniform(2, stated.count))
    return claim


def _turned_round(rng: Rng, claim: Event) -> Event:
    return replace(claim, negated=False, bound="", count=rng.uniform(1, MOST)) if claim.negated else denied(claim)


def _clashing(rng: Rng, claim: Event, stated: Event) -> Event | None:
    """Another number, colour, place or day than was stated."""
    if stated.negated:
        return None
    values = {"color": COLORS, "place": TOWNS, "day": DAYS}
    slots = ["count", *(slot for slot in values if getattr(stated, slot))]
    slot = rng.pick(slots)
    if slot == "count":
        return replace(claim, bound="", count=rng.pick([n for n in range(1, MOST + 1) if n != stated.count]))
    elsewhere: dict[str, Any] = {slot: rng.pick([v for v in values[slot] if v != getattr(stated, slot)])}
    return replace(claim, **elsewhere)


def another(rng: Rng, cast: Cast, event: Event) -> Event:
    """A different event of the same sort: somebody else does something else with other things."""
    senses = [sense for sense in _family(event) if sense != event.sense]
    agent = rng.pick([p for p in cast.people if p not in (event.agent, event.other)])
    other = rng.pick([p for p in cast.people if p not in (agent, event.other)]) if event.other else ""
    noun = rng.pick([noun for noun in cast.nouns if not is_a(noun, event.noun) and not is_a(event.noun, noun)])
    return replace(event, agent=agent, sense=rng.pick(senses), noun=noun, other=other, count=rng.uniform(1, MOST))


def _family(event: Event) -> tuple[str, ...]:
    return tuple(next(senses for senses in (ACTIONS, TRANSFERS, STATES) if event.sense in senses))


def unlike(rng: Rng, cast: Cast, stated: tuple[Event, ...], plain: int = 1) -> tuple[Event, ...]:
    """Something else than was stated: the persons exchanged, one slot altered, or ``plain`` times as often another."""
    ways = (*[another] * (plain + 1), exchanged, altered, *[another] * (plain - 1))
    while True:
        way = rng.pick(ways)
        again: tuple[Event, ...]
        if way is exchanged and len(stated) == 2:
            again = exchanged((stated[0], stated[1]))
        else:
            again = ((another if way is another else altered)(rng, cast, stated[0]), *stated[1:])
        if again != stated:
            return again


def exchanged(stated: tuple[Event, Event]) -> tuple[Event, Event]:
    """Each does what the other did."""
    one, two = stated
    if two.agent == one.other:
        return _turned(one), two
    if one.agent == two.other:
        return one, _turned(two)
    return replace(one, agent=two.agent), replace(two, agent=one.agent)


def _turned(event: Event) -> Event:
    """Giver and receiver have changed places."""
    return replace(event, agent=event.other, other=event.agent)


def altered(rng: Rng, cast: Cast, event: Event) -> Event:
    """Another in one slot."""
    match rng.uniform(1, 6):
        case 1 if not event.negated:
            return replace(event, count=rng.uniform(1, MOST))
        case 2:
            return replace(event, color=rng.pick(COLORS))
        case 3:
            return replace(event, noun=rng.pick(cast.nouns))
        case 4 if event.place:
            return replace(event, place=rng.pick(TOWNS))
        case 5 if event.other:
            return _turned(event)
        case _:
            return replace(event, sense=rng.pick(_family(event)))
