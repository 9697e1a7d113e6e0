"""Events as data, and the sentences that tell them: voice, synonyms, quantity, negation, where and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from apet_microworld.lexicon import (
    ABOVE,
    ACTIONS,
    COLORS,
    DAYS,
    MOST,
    NUMBERS,
    RECEIVING,
    SENSES,
    STATES,
    TOWNS,
    TRANSFERS,
)
from apet_microworld.rng import Rng
from apet_microworld.world import Cast

Bound = Literal["", "some", "at least", "any"]


@dataclass(frozen=True)
class Event:
    """An event: somebody does something to things; or, negated, to none of them."""

    agent: str
    sense: str
    noun: str
    count: int = 1
    bound: Bound = ""
    """How the count is meant: exactly, ``some``, ``at least``; ``any`` under negation."""
    color: str = ""
    place: str = ""
    day: str = ""
    other: str = ""
    """Who receives, where the sense is a transfer."""
    negated: bool = False


def random_event(rng: Rng, cast: Cast, agent: str, *, senses: tuple[str, ...] = tuple(ACTIONS)) -> Event:
    """A random event; color, place and day are given or left open.

    Args:
        rng: source of the choices.
        cast: who and what it may speak of.
        agent: who does it.
        senses: what may be done.

    Returns:
        The event.
    """
    sense, noun = rng.pick(senses), rng.pick(cast.nouns)
    return Event(
        agent,
        sense,
        ABOVE[noun] if rng.chance(15) else noun,
        rng.uniform(1, MOST),
        color=rng.pick(COLORS) if rng.chance(30) else "",
        place=rng.pick(TOWNS) if rng.chance(25) and sense not in STATES else "",
        day=rng.pick(DAYS) if rng.chance(15) and sense not in STATES else "",
        other=rng.pick([p for p in cast.people if p != agent]) if sense in TRANSFERS else "",
    )


def pair(rng: Rng, cast: Cast, senses: tuple[str, ...] = tuple(SENSES)) -> tuple[Event, Event]:
    """Two events of two people, mostly of one sense; either may be denied.

    Args:
        rng: source of the choices.
        cast: who and what they may speak of.
        senses: what may be done.

    Returns:
        Both events; the agent of the first may be the receiver of the second.
    """
    a, b = rng.sample(cast.people, 2)
    first = random_event(rng, cast, a, senses=senses)
    second = random_event(rng, cast, b, senses=(first.sense,) if rng.chance(60) else senses)
    if second.other and rng.chance(50):
        second = replace(second, other=a)
    return (
        denied(first) if rng.chance(25) else first,
        denied(second) if rng.chance(25) else second,
    )


def denied(event: Event) -> Event:
    """The denial of an event: the agent did it to none of these things."""
    return replace(event, negated=True, bound="any", count=2)


def things(event: Event) -> str:
    """Noun phrase of an event's things: ``at least three red apples``."""
    plural = event.bound == "some" or event.count > 1
    words = [event.color, event.noun + "s" if plural else event.noun]
    phrase = " ".join(w for w in words if w)
    if event.bound in ("some", "any"):
        return f"{event.bound} {phrase}"
    number = NUMBERS[event.count]
    if number == "a" and event.bound:
        number = "one"
    if number == "a" and phrase[0] in "aeiou":
        number = "an"
    return f"{event.bound} {number} {phrase}".strip()


def clause(event: Event, rng: Rng | None = None) -> str:
    """Clause that tells an event, without a full stop.

    Args:
        event: that it tells.
        rng: picks voice and synonyms; None = active voice, first synonym.

    Returns:
        The words, separated by spaces.

    Examples:
        ``mibin bought three red apples in norburg`` · ``on monday three pears were purchased by mibin`` ·
        ``mibin did not buy any fruits`` · ``lotor received a saw from mibin``
    """
    verbs = SENSES[event.sense]
    verb = rng.pick(verbs) if rng else verbs[0]
    voice = rng.pick(("active", "active", "passive", "received")) if rng else "active"
    to = f" to {event.other}" if event.other else ""
    if voice == "received" and event.other:
        verb, subject, to = RECEIVING[event.sense], event.other, f" from {event.agent}"
    else:
        subject = event.agent
    if voice == "passive":
        present = event.sense in STATES
        many = event.bound in ("some", "any") or event.count > 1
        be = ("are" if many else "is") if present else ("were" if many else "was")
        phrase = things(event)
        if event.negated:
            phrase = "no" + phrase.removeprefix("any")
        core = f"{phrase} {be} {verb.participle}{to} by {event.agent}"
    elif event.negated:
        does = "does" if event.sense in STATES else "did"
        core = f"{subject} {does} not {verb.base} {things(event)}{to}"
    else:
        core = f"{subject} {verb.finite} {things(event)}{to}"
    place = f"in {event.place}" if event.place else ""
    day = f"on {event.day}" if event.day else ""
    front = day if rng and day and rng.chance(40) else ""
    return " ".join(w for w in (front, core, place, "" if front else day) if w)
