"""Dialogues and their summaries: who asked, who agreed, who refused and why."""

from __future__ import annotations

from dataclasses import replace

from apet_microworld.grammar import Event, clause, random_event, things
from apet_microworld.lexicon import DAYS, TOWNS
from apet_microworld.rng import Rng
from apet_microworld.world import Cast

Turns = list[tuple[str, str]]
"""Turns of a dialogue: speaker and words."""

_GREETINGS = (
    "hello {}",
    "good morning {}",
    "good evening {}",
    "{} , how are you ?",
    "{} , the weather is good today",
    "{} , the weather is bad today",
)
_PARTINGS = ("thank you", "see you", "very well", "goodbye")


def write_dialogue(rng: Rng, cast: Cast) -> tuple[Turns, str]:
    """Dialogue of two people about one matter, with its summary.

    Args:
        rng: source of the choices.
        cast: who and what it may speak of.

    Returns:
        The turns, and the summary in the third person.
    """
    a, b, c = rng.sample(cast.people, 3)
    write = rng.pick((_request, _meeting, _news))
    turns, summary = write(rng, cast, (a, b, c))
    if rng.chance(60):
        turns = [(a, rng.pick(_GREETINGS).format(b)), *turns]
    if rng.chance(60):
        turns = [*turns, (a, rng.pick(_PARTINGS))]
    return turns, summary


def script(turns: Turns) -> str:
    """Text of a dialogue, a line for each turn: ``speaker : words``."""
    return "\n".join(f"{who} : {words}" for who, words in turns)


def _request(rng: Rng, cast: Cast, people: tuple[str, str, str]) -> tuple[Turns, str]:
    a, b, c = people
    wish = Event("i", "want", rng.pick(cast.nouns), 1)
    it = things(wish)
    turns = [(a, rng.pick((f"can you lend me {it} ?", f"i need {it} . do you have one ?")))]
    asks = f"{a} asks {b} for {it}"
    if rng.chance(50):
        day, other = rng.sample(DAYS, 2)
        if rng.chance(50):
            turns += [(b, f"yes , i will bring it on {day}")]
        else:
            turns += [(b, f"yes , i will bring it on {other}"), (a, f"not on {other} , please"), (b, f"on {day} then")]
        return turns, f"{asks} . {b} will bring it on {day} ."
    reason = rng.pick(
        (f"lent it to {c}", f"lost it in {rng.pick(TOWNS)}", f"gave it to {c}", "broke it", f"sold it to {c}")
    )
    turns += [(b, f"sorry , i {reason}")]
    return turns, f"{asks} . {b} {reason} ."


def _meeting(rng: Rng, cast: Cast, people: tuple[str, str, str]) -> tuple[Turns, str]:
    a, b, c = people
    (place, other_place), (day, another) = rng.sample(TOWNS, 2), rng.sample(DAYS, 2)
    turns = [(a, rng.pick((f"let us meet in {place} on {day}", f"shall we meet on {day} in {place} ?")))]
    match rng.uniform(1, 3):
        case 1:
            turns += [
                (b, f"not {place} , it is too far . what about {other_place} ?"),
                (a, f"yes , {other_place} is fine"),
            ]
            place = other_place
        case 2:
            turns += [(b, f"on {day} i work . {another} ?"), (a, f"yes , {another} is fine")]
            day = another
        case _:
            turns += [(b, "yes , that is fine")]
    who = f"{a} and {b}"
    if rng.chance(40):
        turns += [(a, f"can {c} come ?"), (b, "yes" if (comes := rng.chance(50)) else f"no , {c} is ill")]
        who = f"{a} , {b} and {c}" if comes else who
    return turns, f"{who} will meet in {place} on {day} ."


def _news(rng: Rng, cast: Cast, people: tuple[str, str, str]) -> tuple[Turns, str]:
    a, b, c = people
    event = random_event(rng, cast, rng.pick((a, c)))
    stated = replace(event, agent="i" if event.agent == a else c, color="", place="")
    turns = [(a, clause(stated))]
    if event.color:
        turns += [(b, "what colour ?"), (a, event.color)]  # codespell:ignore colour
    if event.place:
        turns += [(b, "where ?"), (a, f"in {event.place}")]
    turns += [(b, rng.pick(("i know", "oh no", "that is nice", "really ?", "maybe")))]
    return turns, f"{clause(event)} ."
