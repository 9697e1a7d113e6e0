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
    OTHER_NAME,
    RECEIVING,
    SENSES,
    STATES,
    TOWNS,
    TRANSFERS,
)
from apet_microworld.rng import Rng
from apet_microworld.world import Cast, meaning

Bound = Literal["", "some", "at least", "any"]


@dataclass(frozen=True)
class Event:
    """An event: somebody does something to things; or, negated, to none of them."""

    agent: str
    sense: str
    noun: str
    verb: int = 0
    """Which of the verbs of the sense tells it; they mean the same."""
    count: int = 1
    bound: Bound = ""
    """How the count is meant: exactly, ``some``, ``at least``; ``any`` under negation."""
    color: str = ""
    place: str = ""
    day: str = ""
    other: str = ""
    """Who receives, where the sense is a transfer."""
    negated: bool = False


def random_event(
    rng: Rng, cast: Cast, agent: str, *, senses: tuple[str, ...] = tuple(ACTIONS), kinds: int = 0
) -> Event:
    """A random event; color, place and day are given or left open.

    Args:
        rng: source of the choices.
        cast: who and what it may speak of.
        agent: who does it.
        senses: what may be done.
        kinds: in how many of a hundred events things are named by their kind.

    Returns:
        The event.
    """
    sense, noun = rng.pick(senses), rng.pick(cast.nouns)
    return Event(
        agent,
        sense,
        ABOVE[noun] if rng.chance(kinds) else noun,
        rng.uniform(0, 1),
        rng.uniform(1, MOST),
        color=rng.pick(COLORS) if rng.chance(30) else "",
        place=rng.pick(TOWNS) if rng.chance(25) and sense not in STATES else "",
        day=rng.pick(DAYS) if rng.chance(15) and sense not in STATES else "",
        other=rng.pick([p for p in cast.people if p != agent]) if sense in TRANSFERS else "",
    )


def pair(
    rng: Rng, cast: Cast, senses: tuple[str, ...] = tuple(SENSES), denials: int | None = None
) -> tuple[Event, Event]:
    """Two events of two people, mostly of one sense; either may be denied.

    Args:
        rng: source of the choices.
        cast: who and what they may speak of.
        senses: what may be done.
        denials: how many of the two are denied; None = each in a quarter of the cases.

    Returns:
        Both events; the agent of the first may be the receiver of the second.
    """
    a, b = rng.sample(cast.people, 2)
    first = random_event(rng, cast, a, senses=senses)
    second = random_event(rng, cast, b, senses=(first.sense,) if rng.chance(60) else senses)
    if second.other and rng.chance(50):
        second = replace(second, other=a)
    chosen = [rng.chance(25), rng.chance(25)] if denials is None else rng.sample((True, denials == 2), 2)
    chosen = chosen if denials != 0 else [False, False]
    return denied(first) if chosen[0] else first, denied(second) if chosen[1] else second


def reworded(event: Event) -> Event:
    """The same event in other words: the other verb of its sense, and the other name of its things."""
    return replace(event, verb=1 - event.verb, noun=OTHER_NAME.get(event.noun, event.noun))


BY_KIND = 40
"""In how many of a hundred events that are told again a thing is named by its kind, not by its other name."""


def retold(rng: Rng, event: Event) -> Event:
    """The same event in other words: the other verb of its sense, and a word for its things that says no more.

    Args:
        rng: picks the word: the kind of the things, unless the event is denied, or their other name.
        event: that is told again.

    Returns:
        The event, which follows from the first and is mostly wider.
    """
    again = reworded(event)
    by_kind = not event.negated and event.noun in OTHER_NAME and rng.chance(BY_KIND)
    return replace(again, noun=ABOVE[event.noun]) if by_kind else again


def sense_of(event: Event) -> Event:
    """What an event says, whatever its words: two that mean the same are equal."""
    return replace(event, verb=0, noun=meaning(event.noun))


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
        rng: picks voice; None = active voice.

    Returns:
        The words, separated by spaces.

    Examples:
        ``mibin bought three red apples in norburg`` · ``on monday three pears were purchased by mibin`` ·
        ``mibin did not buy any fruits`` · ``lotor received a saw from mibin``
    """
    verb = SENSES[event.sense][event.verb]
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
