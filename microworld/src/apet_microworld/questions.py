"""Questions about events: their wordings, their answers, and pairs of them that mean the same or nearly so."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from apet_microworld.grammar import Event, random_event, retold
from apet_microworld.lexicon import ACTIONS, NUMBERS, RECEIVING, SENSES, TRANSFERS
from apet_microworld.logic import CHANGES, another, is_a, swapped
from apet_microworld.rng import Rng
from apet_microworld.world import Cast, meaning

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
    verb, agent, noun = SENSES[event.sense][event.verb], event.agent, event.noun + "s"
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


def asked(event: Event, slot: Slot) -> tuple[str, ...]:
    """Meaning of a question, in whatever words: two questions with one meaning ask the same.

    Args:
        event: that it is about.
        slot: that it asks for.

    Returns:
        The slot that it asks for, and the values of those that it names.
    """
    agent = "" if slot == "who" else event.agent
    noun = "" if slot == "what" else meaning(event.noun)
    return slot, event.sense, agent, noun, "" if slot == "other" else event.other


def asks_the_same(event: Event, slot: Slot, other: Event, other_slot: Slot) -> bool:
    """Whether a second question asks what a first does, of which the words for things may be wider in the second."""
    if is_a(event.noun, other.noun):
        other = replace(other, noun=event.noun)
    return asked(event, slot) == asked(other, other_slot)


def answer(stated: Event, about: Event, slot: Slot) -> str:
    """Answer that a statement gives to a question.

    Args:
        stated: the event that a text tells of.
        about: the event that the question is about.
        slot: that it asks for.

    Returns:
        The value of the slot; empty where the statement does not say.
    """
    same_event = (
        stated.sense == about.sense
        and (slot == "what" or is_a(stated.noun, about.noun))
        and (slot == "who" or stated.agent == about.agent)
        and (slot == "other" or stated.other == about.other)
    )
    if stated.negated or not same_event:
        return ""
    values = {"who": stated.agent, "what": stated.noun, "count": "one" if stated.count == 1 else NUMBERS[stated.count]}
    return values.get(slot) or getattr(stated, slot)


def askable(event: Event) -> list[Slot]:
    """Slots of an event that a question can ask for: those that it fills."""
    return [slot for slot in SLOTS if answer(event, event, slot)]


def paraphrase_pair(rng: Rng, cast: Cast, same: bool) -> tuple[str, str]:
    """A pair of questions in different words that ask the same, or do not.

    Args:
        rng: source of the choices.
        cast: who and what they may speak of.
        same: whether they mean the same.

    Returns:
        Two questions.
    """
    while True:  # some changes change nothing that the question names
        event = random_event(rng, cast, rng.pick(cast.people), senses=tuple(ACTIONS) + tuple(TRANSFERS) * 2)
        slot = other_slot = rng.pick(askable(event))
        other = retold(rng, event)
        if not same and event.other and rng.chance(30):
            other = swapped(other)
        elif not same and rng.chance(15):
            other_slot = rng.pick(askable(event))
        elif not same:
            other = another(rng, cast, other, rng.pick(CHANGES))
        if asks_the_same(event, slot, other, other_slot) == same:
            return question(event, slot, rng), question(other, other_slot, rng)
