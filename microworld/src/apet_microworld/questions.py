"""Questions about an event, and whether an event answers them."""

from __future__ import annotations

from typing import Literal

from apet_microworld.rng import Rng
from apet_microworld.grammar import Event, random_event
from apet_microworld.lexicon import ACTIONS, NUMBERS, RECEIVING, SENSES, TRANSFERS
from apet_microworld.logic import altered, another, is_a
from apet_microworld.world import ATTRIBUTES, Cast

Slot = Literal["who", "what", "count", "color", "place", "day", "other"]
SLOTS: tuple[Slot, ...] = ("who", "what", "count", "color", "place", "day", "other")


def question(event: Event, slot: Slot, rng: Rng) -> str:
    """Ask for one slot of a past event, naming the others that matter.

    Examples:
        ``who bought the apples ?`` · ``by whom were the apples purchased ?`` · ``what colour are the pears that
        mibin found ?`` · ``who received the saws from lotor ?``
    """
    verb, agent, noun = rng.pick(SENSES[event.sense]), event.agent, event.noun + "s"
    to = f" to {event.other}" if event.other else ""
    forms: tuple[str, ...]
    match slot:
        case "who":
            forms = (f"who {verb.finite} the {noun}{to} ?", f"by whom were the {noun} {verb.participle}{to} ?")
        case "what":
            forms = (f"what did {agent} {verb.base}{to} ?", f"what was {verb.participle}{to} by {agent} ?")
        case "count":
            forms = (
                f"how many {noun} did {agent} {verb.base}{to} ?",
                f"how many {noun} were {verb.participle}{to} by {agent} ?",
            )
        case "color":
            forms = (
                f"what colour are the {noun} that {agent} {verb.finite}{to} ?",
                f"what colour are the {noun} {verb.participle}{to} by {agent} ?",
            )
        case "place":
            forms = (
                f"where did {agent} {verb.base} the {noun}{to} ?",
                f"in which town were the {noun} {verb.participle}{to} by {agent} ?",
            )
        case "day":
            forms = (
                f"when did {agent} {verb.base} the {noun}{to} ?",
                f"on which day were the {noun} {verb.participle}{to} by {agent} ?",
            )
        case "other":
            received = RECEIVING[event.sense].finite
            forms = (f"to whom did {agent} {verb.base} the {noun} ?", f"who {received} the {noun} from {agent} ?")
    return rng.pick(forms)


def named(event: Event, slot: Slot) -> tuple[str, ...]:
    """What a question says, in whatever words: the slot that it asks for, and those that it names."""
    agent = "" if slot == "who" else event.agent
    noun = "" if slot == "what" else event.noun
    return slot, event.sense, agent, noun, "" if slot == "other" else event.other


def answer(stated: Event, asked: Event, slot: Slot) -> str:
    """What was stated says about the slot of the asked event; empty where it says nothing."""
    same = stated.sense == asked.sense and (slot == "what" or is_a(stated.noun, asked.noun))
    same = same and (slot == "who" or stated.agent == asked.agent) and (slot == "other" or stated.other == asked.other)
    if stated.negated or not same:
        return ""
    values = {"who": stated.agent, "what": stated.noun, "count": "one" if stated.count == 1 else NUMBERS[stated.count]}
    return values.get(slot) or getattr(stated, slot)


def askable(event: Event) -> list[Slot]:
    """The slots that this event fills."""
    return [slot for slot in SLOTS if answer(event, event, slot)]


def paraphrase_pair(rng: Rng, cast: Cast, same: bool, plain: int = 1) -> tuple[str, str]:
    """Two wordings of one question, or two questions that are nearly one."""
    return _about_facts(rng, cast, same) if rng.chance(40) else _about_events(rng, cast, same, plain)


def _about_facts(rng: Rng, cast: Cast, same: bool) -> tuple[str, str]:
    person, name = rng.pick(cast.people), rng.pick(tuple(ATTRIBUTES))
    one, two = rng.sample(ATTRIBUTES[name].asks, 2)
    if not same:
        if rng.chance(50):
            other = rng.pick([n for n in ATTRIBUTES if n != name])
            return one.format(p=person), rng.pick(ATTRIBUTES[other].asks).format(p=person)
        return one.format(p=person), two.format(p=rng.pick([p for p in cast.people if p != person]))
    return one.format(p=person), two.format(p=person)


def _about_events(rng: Rng, cast: Cast, same: bool, plain: int) -> tuple[str, str]:
    event = random_event(rng, cast, rng.pick(cast.people), senses=tuple(ACTIONS) + tuple(TRANSFERS) * 3)
    slot = rng.pick(askable(event))
    while True:
        twin, twin_slot = event, slot
        if not same and rng.chance(25):
            twin_slot = rng.pick(askable(event))
        elif not same:
            twin = another(rng, cast, event) if rng.chance(100 * plain // (plain + 1)) else altered(rng, cast, event)
        one, two = question(event, slot, rng), question(twin, twin_slot, rng)
        if one != two and (named(event, slot) == named(twin, twin_slot)) == same:
            return one, two
