"""Inference over events: what follows, what is impossible, what stays open; and events that are nearly the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal

from apet_microworld.grammar import BY_KIND, Event, denied, retold, reworded, sense_of
from apet_microworld.lexicon import ABOVE, ACTIONS, COLORS, DAYS, MOST, STATES, THINGS, TOWNS, TRANSFERS
from apet_microworld.rng import Rng
from apet_microworld.world import Cast, meaning


@cache
def is_a(noun: str, kind: str) -> bool:
    """Whether every ``noun`` is a ``kind``; each is its own kind."""
    while meaning(noun) != meaning(kind) and noun in ABOVE:
        noun = ABOVE[noun]
    return meaning(noun) == meaning(kind)


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


def claim_about(rng: Rng, cast: Cast, stated: Event, verdict: Verdict) -> Event:
    """A claim that has a given verdict, in other words than what was stated, so that words in common tell nothing.

    Args:
        rng: source of the choices.
        cast: who and what it may speak of.
        stated: the event that is told.
        verdict: that `judge` gives to the claim.

    Returns:
        The claimed event: what was stated in fewer or wider words; denied, or contradicted in a detail; or about
        another deed or another thing.
    """
    while True:
        claim = _weakened(rng, cast, stated)
        if verdict == "impossible":
            clash = _clashing(rng, claim, stated)
            claim = clash if clash and rng.chance(33) else _opposite(rng, claim)
        elif verdict == "open":
            claim = another(rng, cast, claim, rng.pick(CHANGES))
            if rng.chance(25):
                claim = _opposite(rng, claim)
        if judge(stated, claim) == verdict:
            return claim


Change = Literal["deed and thing", "deed", "thing"]
CHANGES: tuple[Change, ...] = ("deed and thing",) * 4 + ("deed", "thing", "thing")
"""What makes another event of one: mostly both, since what is plainly different is learned first."""


def _weakened(rng: Rng, cast: Cast, stated: Event) -> Event:
    """An event that follows, in other words: fewer details and a wider kind, or, where it is denied, a narrower one."""
    claim = reworded(stated)
    if stated.negated:
        noun = claim.noun
        while stated.noun in THINGS and (noun in THINGS or not is_a(noun, stated.noun)):
            noun = rng.pick(cast.nouns)
        return replace(claim, noun=noun, color=stated.color or (rng.pick(COLORS) if rng.chance(20) else ""))
    kept: dict[str, Any] = {slot: "" if rng.chance(40) else getattr(stated, slot) for slot in ("color", "place", "day")}
    claim = replace(
        claim, **kept, noun=ABOVE[stated.noun] if stated.noun in ABOVE and rng.chance(BY_KIND) else claim.noun
    )
    match rng.uniform(1, 4):
        case 1:
            return replace(claim, bound="some")
        case 2 if stated.count > 1:
            return replace(claim, bound="at least", count=rng.uniform(2, stated.count))
    return claim


def _opposite(rng: Rng, claim: Event) -> Event:
    if not claim.negated:
        return denied(claim)
    return replace(claim, negated=False, bound=rng.pick(("", "", "some", "at least")), count=rng.uniform(1, MOST))


def _clashing(rng: Rng, claim: Event, stated: Event) -> Event | None:
    """The claim with another number, color, place or day than was stated; None for a denied event."""
    if stated.negated:
        return None
    values = {"color": COLORS, "place": TOWNS, "day": DAYS}
    slots = ["count", *(slot for slot in values if getattr(stated, slot))]
    slot = rng.pick(slots)
    if slot == "count" and stated.count < MOST and rng.chance(40):
        return replace(claim, bound="at least", count=rng.uniform(stated.count + 1, MOST))
    if slot == "count":
        return replace(claim, bound="", count=rng.pick([n for n in range(1, MOST + 1) if n != stated.count]))
    contradicted: dict[str, Any] = {slot: rng.pick([v for v in values[slot] if v != getattr(stated, slot)])}
    return replace(claim, **contradicted)


def another(rng: Rng, cast: Cast, event: Event, change: Change) -> Event:
    """An event of another deed, another thing, or both; who does it, how many, where and when stay.

    Args:
        rng: source of the choices.
        cast: what it may speak of.
        event: that it differs from.
        change: in what.

    Returns:
        The event.
    """
    if "deed" in change:
        senses = [sense for sense in _family(event) if sense != event.sense]
        event = replace(event, sense=rng.pick(senses), verb=rng.uniform(0, 1))
    if "thing" in change:
        noun = event.noun
        while is_a(noun, event.noun) or is_a(event.noun, noun):
            noun = rng.pick(cast.nouns)
        event = replace(event, noun=ABOVE[noun] if event.noun in THINGS else noun)
    return event


def _family(event: Event) -> tuple[str, ...]:
    return tuple(next(senses for senses in (ACTIONS, TRANSFERS, STATES) if event.sense in senses))


def unlike(rng: Rng, cast: Cast, stated: tuple[Event, ...]) -> tuple[Event, ...]:
    """Events in other words that do not mean the same as those that were stated.

    Args:
        rng: source of the choices.
        cast: who and what they may speak of.
        stated: one event or two.

    Returns:
        As many events, of which the first or both differ.
    """
    while True:
        changed = tuple(retold(rng, event) for event in stated)
        if len(stated) == 2 and rng.chance(20):
            changed = exchanged((changed[0], changed[1]))
        elif len(stated) == 2 and rng.chance(50):
            changed = tuple(another(rng, cast, event, rng.pick(CHANGES)) for event in changed)
        else:
            which = rng.uniform(0, len(stated) - 1)
            changed = tuple(
                another(rng, cast, event, rng.pick(CHANGES)) if i == which else event for i, event in enumerate(changed)
            )
        if not all(tells_of(new, old) for new, old in zip(changed, stated, strict=True)):
            return changed


def tells_of(event: Event, stated: Event) -> bool:
    """Whether an event is another in other words, of which those for its things may be wider."""
    kind = is_a(stated.noun, event.noun)
    return kind and sense_of(replace(event, noun=stated.noun)) == sense_of(stated)


def exchanged(stated: tuple[Event, Event]) -> tuple[Event, Event]:
    """The events with their persons exchanged: each does what the other did."""
    one, two = stated
    if two.agent == one.other:
        return swapped(one), two
    if one.agent == two.other:
        return one, swapped(two)
    return replace(one, agent=two.agent), replace(two, agent=one.agent)


def swapped(event: Event) -> Event:
    """The event with giver and receiver exchanged."""
    return replace(event, agent=event.other, other=event.agent)
