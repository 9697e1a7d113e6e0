"""Questions about events: their wordings, their answers, and pairs of them that mean the same or nearly so."""

from __future__ import annotations

from typing import Literal

from apet_microworld.grammar import Event, random_event
from apet_microworld.lexicon import ACTIONS, NUMBERS, RECEIVING, SENSES, TRANSFERS
from apet_microworld.logic import altered, another, is_a
from apet_microworld.rng import Rng
from apet_microworld.world import ATTRIBUTES, Cast

Slot = Literal["who", "what", "count", "color", "place", "day", "other"]
SLOTS: tuple[Slot, ...] = ("who", "what", "count", "color", "place", "day", "other")


def question(event: Event, slot: Slot, rng: Rng) -> str:
    """Question that asks for one slot of a past event and names the others that matter.

    Args:
        event: that it is about; whether it was denied plays no part.
        slot: that it asks for.
        rng: picks synonyms and voice.

    Returns:
        The question, ending in ``?``.

    Examples:
        ``who bought the apples ?`` · ``by whom were the apples purchased ?`` · ``where did mibin find
        the pears ?`` · ``who received the saws from lotor ?``
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
                f"what colour are the {noun} that {agent} {verb.finite}{to} ?",  # codespell:ignore colour
                f"what colour are the {noun} {verb.participle}{to} by {agent} ?",  # codespell:ignore colour
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


def meaning(event: Event, slot: Slot) -> tuple[str, ...]:
    """Meaning of a question, in whatever words: two questions with one meaning ask the same.

    Args:
        event: that it is about.
        slot: that it asks for.

    Returns:
        The slot that it asks for, and the values of those that it names.
    """
    agent = "" if slot == "who" else event.agent
    noun = "" if slot == "what" else event.noun
    return slot, event.sense, agent, noun, "" if slot == "other" else event.other


def answer(stated: Event, asked: Event, slot: Slot) -> str:
    """Answer that a statement gives to a question.

    Args:
        stated: the event that a text tells of.
        asked: the event that the question is about.
        slot: that it asks for.

    Returns:
        The value of the slot; empty where the statement does not say.
    """
    same_event = (
        stated.sense == asked.sense
        and (slot == "what" or is_a(stated.noun, asked.noun))
        and (slot == "who" or stated.agent == asked.agent)
        and (slot == "other" or stated.other == asked.other)
    )
    if stated.negated or not same_event:
        return ""
    values = {"who": stated.agent, "what": stated.noun, "count": "one" if stated.count == 1 else NUMBERS[stated.count]}
    return values.get(slot) or getattr(stated, slot)


def askable(event: Event) -> list[Slot]:
    """Slots of an event that a question can ask for: those that it fills."""
    return [slot for slot in SLOTS if answer(event, event, slot)]


def paraphrase_pair(rng: Rng, cast: Cast, same: bool, plain: int = 1) -> tuple[str, str]:
    """A pair of questions that are paraphrases, or nearly.

    Args:
        rng: source of the choices.
        cast: who and what they may speak of.
        same: whether they mean the same.
        plain: of the pairs that do not, so many differ altogether for one that differs in one slot.

    Returns:
        Two questions in different words.
    """
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
    while True:  # some changes change nothing that the question names
        other_event, other_slot = event, slot
        if not same and rng.chance(25):
            other_slot = rng.pick(askable(event))
        elif not same:
            other_event = (
                another(rng, cast, event) if rng.chance(100 * plain // (plain + 1)) else altered(rng, cast, event)
            )
        one, two = question(event, slot, rng), question(other_event, other_slot, rng)
        if one != two and (meaning(event, slot) == meaning(other_event, other_slot)) == same:
            return one, two
