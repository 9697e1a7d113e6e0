"""Inference over events: what follows, what is impossible, what stays open; and events that are nearly the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from apet_microworld.grammar import Event, denied
from apet_microworld.lexicon import ABOVE, ACTIONS, COLORS, DAYS, MOST, STATES, TOWNS, TRANSFERS
from apet_microworld.rng import Rng
from apet_microworld.world import Cast


def is_a(noun: str, kind: str) -> bool:
    """Whether every ``noun`` is a ``kind``; each is its own kind."""
    while noun != kind and noun in ABOVE:
        noun = ABOVE[noun]
    return noun == kind


Verdict = Literal["follows", "open", "impossible"]


def judge(stated: Event, claim: Event) -> Verdict | None:
    """Whether a claim follows from a statement, is impossible by it, or is left open.

    Args:
        stated: the event that is told; one told with a color, count, place or day has no other.
        claim: the event that is claimed.

    Returns:
        The verdict; None where even that rule does not decide.
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
    """Verdict on a claim by several events together: the strongest of theirs.

    Args:
        stated: the events that are told.
        claim: the event that is claimed.

    Returns:
        The verdict; None where one of them does not decide.
    """
    verdicts = [judge(event, claim) for event in stated]
    if None in verdicts or claim.agent == claim.other:
        return None
    return next((v for v in ("follows", "impossible") if v in verdicts), "open")


def _count_fits(n: int, claim: Event) -> bool:
    if claim.bound == "some":
        return True
    return n >= claim.count if claim.bound == "at least" else n == claim.count


def claim_about(rng: Rng, cast: Cast, stated: Event, verdict: Verdict, plain: int = 1) -> Event:
    """A claim that has a given verdict: the stated event in fewer or wider words, denied, or changed in some slots.

    Args:
        rng: source of the choices.
        cast: who and what it may speak of.
        stated: the event that is told.
        verdict: that `judge` gives to the claim.
        plain: of the claims that stay open, so many are changed altogether for one that is changed in one slot: what is
            plainly different is learned first.

    Returns:
        The claimed event.
    """
    while True:
        claim = _weakened(rng, cast, stated)
        if verdict == "impossible":
            clash = _clashing(rng, claim, stated)
            claim = clash if clash and rng.chance(80 // (plain + 1)) else _opposite(rng, claim)
        elif verdict == "open":
            if rng.chance(30):
                claim = _opposite(rng, claim)
            slots = rng.sample(("agent", "sense", "noun"), rng.pick((1, *[3] * plain)))
            other = another(rng, cast, stated)
            claim = replace(claim, **{slot: getattr(other, slot) for slot in slots})
            if claim.agent == claim.other:
                continue
        if judge(stated, claim) == verdict:
            return claim


def _weakened(rng: Rng, cast: Cast, stated: Event) -> Event:
    """An event that follows: fewer details and a wider kind, or, where it is denied, a narrower one."""
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


def _opposite(rng: Rng, claim: Event) -> Event:
    return replace(claim, negated=False, bound="", count=rng.uniform(1, MOST)) if claim.negated else denied(claim)


def _clashing(rng: Rng, claim: Event, stated: Event) -> Event | None:
    """The claim with another number, color, place or day than was stated; None for a denied event."""
    if stated.negated:
        return None
    values = {"color": COLORS, "place": TOWNS, "day": DAYS}
    slots = ["count", *(slot for slot in values if getattr(stated, slot))]
    slot = rng.pick(slots)
    if slot == "count":
        return replace(claim, bound="", count=rng.pick([n for n in range(1, MOST + 1) if n != stated.count]))
    contradicted: dict[str, Any] = {slot: rng.pick([v for v in values[slot] if v != getattr(stated, slot)])}
    return replace(claim, **contradicted)


def another(rng: Rng, cast: Cast, event: Event) -> Event:
    """A different event of the same family of senses: somebody else does something else with other things.

    Args:
        rng: source of the choices.
        cast: who and what it may speak of.
        event: that it differs from.

    Returns:
        The event.
    """
    senses = [sense for sense in _family(event) if sense != event.sense]
    agent = rng.pick([p for p in cast.people if p not in (event.agent, event.other)])
    other = rng.pick([p for p in cast.people if p not in (agent, event.other)]) if event.other else ""
    noun = rng.pick([noun for noun in cast.nouns if not is_a(noun, event.noun) and not is_a(event.noun, noun)])
    return replace(event, agent=agent, sense=rng.pick(senses), noun=noun, other=other, count=rng.uniform(1, MOST))


def _family(event: Event) -> tuple[str, ...]:
    return tuple(next(senses for senses in (ACTIONS, TRANSFERS, STATES) if event.sense in senses))


def unlike(rng: Rng, cast: Cast, stated: tuple[Event, ...], plain: int = 1) -> tuple[Event, ...]:
    """Events that do not mean the same as those that were stated.

    Args:
        rng: source of the choices.
        cast: who and what they may speak of.
        stated: one event or two.
        plain: so many times as often as the persons exchanged, or one slot altered, is a wholly different event.

    Returns:
        As many events, of which the first or both differ.
    """
    changes = (*[another] * (plain + 1), exchanged, altered, *[another] * (plain - 1))
    while True:
        change = rng.pick(changes)
        changed: tuple[Event, ...]
        if change is exchanged and len(stated) == 2:
            changed = exchanged((stated[0], stated[1]))
        else:
            changed = ((another if change is another else altered)(rng, cast, stated[0]), *stated[1:])
        if changed != stated:
            return changed


def exchanged(stated: tuple[Event, Event]) -> tuple[Event, Event]:
    """The events with their persons exchanged: each does what the other did."""
    one, two = stated
    if two.agent == one.other:
        return _swapped(one), two
    if one.agent == two.other:
        return one, _swapped(two)
    return replace(one, agent=two.agent), replace(two, agent=one.agent)


def _swapped(event: Event) -> Event:
    """The event with giver and receiver exchanged."""
    return replace(event, agent=event.other, other=event.agent)


def altered(rng: Rng, cast: Cast, event: Event) -> Event:
    """The event with one slot drawn anew."""
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
            return _swapped(event)
        case _:
            return replace(event, sense=rng.pick(_family(event)))
