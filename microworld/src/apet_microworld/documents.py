"""The pre-training corpus: seeded short documents about the world.

What they never hold: a question with its verdict or answer, a text with its summary, or anything else in the form of a
task. What a task asks of the people, things and opinion words of its held-out texts is nowhere said, only how these are
used: both names of a thing never stand in one document, and a held-out opinion word stands only among others of its
leaning, never in a sentence whose grammar could turn it round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from apet_microworld import dialogue, news_stories, sentiment
from apet_microworld.grammar import Event, clause, pair, random_event, reworded
from apet_microworld.lexicon import ABOVE, ACTIONS, OTHER_NAME, PEOPLE, THINGS, TRANSFERS
from apet_microworld.questions import askable, question
from apet_microworld.rng import Rng
from apet_microworld.world import ATTRIBUTES, cast, facts, usages


def biography(rng: Rng) -> str:
    """Biography: some of what is true of one person, in any order and wording."""
    person = rng.pick(PEOPLE)
    return _text(_fact(rng, person, name) for name in rng.sample(tuple(ATTRIBUTES), rng.uniform(1, 3)))


def primer(rng: Rng) -> str:
    """Primer: what kind of thing things of the training split are."""
    lines = []
    for _ in range(rng.uniform(1, 3)):
        noun = rng.pick(cast("train").nouns)
        kind = ABOVE[noun]
        another = rng.pick([n for n in cast("train").nouns if ABOVE[n] == kind])
        lines.append(
            rng.pick(
                (
                    f"every {noun} is a {kind}",
                    f"{noun}s and {another}s are {kind}s",
                    f"a {kind} may be a {noun} or a {another}",
                    f"{kind}s are {ABOVE[kind]}" if kind in ABOVE else f"{noun}s are {kind}s",
                )
            )
        )
    return _text(lines)


def inventory(rng: Rng) -> str:
    """Inventory: how one thing or two, each by one of its names, are used, what they are like, where they are found."""
    lines = []
    for noun in rng.sample(
        tuple(n for things in THINGS.values() for names in things for n in names), rng.uniform(1, 3)
    ):
        usage, who = usages()[noun], rng.pick(PEOPLE)
        told = (
            (f"{who} {usage.care} the {noun}", f"{who} {usage.care} all {noun}s"),
            (f"the {noun} is {usage.quality}", f"the {noun}s are {usage.quality}"),
            (f"the {noun} stands in the {usage.place}", f"in the {usage.place} there are {noun}s"),
        )
        lines += [rng.pick(one_or_many) for one_or_many in rng.sample(told, rng.uniform(1, 3))]
    return _text(lines)


def chronicle(rng: Rng) -> str:
    """Chronicle: two or three events that have nothing to do with each other, each thing by one of its names."""
    return _text(clause(random_event(rng, cast(), agent), rng) for agent in rng.sample(PEOPLE, rng.uniform(2, 3)))


def retelling(rng: Rng) -> str:
    """Retelling: an event or two of the training split, told again with other verbs, in another voice or order."""
    told: tuple[Event, ...] = pair(rng, cast("train"))[: rng.pick((1, 2, 2))]
    again = [replace(reworded(event), noun=event.noun) for event in told]
    again = [replace(event, place="", day="") if rng.chance(30) else event for event in again]
    if rng.chance(25):
        again = [replace(e, noun=ABOVE[e.noun]) if not e.negated and e.noun in ABOVE else e for e in again]
    way = rng.pick(("in other words ,", "to say it again ,", "{p} tells it so :", "{p} heard of it :")).format(
        p=rng.pick(cast("train").people)
    )
    return f"{_and(told, rng)} . {way} {_and(again, rng)} ."


def curiosity(rng: Rng) -> str:
    """Curiosity: a question that somebody asks, in one wording and in another; nobody answers it."""
    a, b = rng.sample(cast("train").people, 2)
    if rng.chance(30):
        one, two = rng.sample(ATTRIBUTES[rng.pick(tuple(ATTRIBUTES))].asks, 2)
        about = rng.pick(cast("train").people)
        one, two = one.format(p=about), two.format(p=about)
    else:
        event = random_event(rng, cast("train"), a, senses=tuple(ACTIONS) + tuple(TRANSFERS))
        slot = rng.pick(askable(event))
        one, two = question(event, slot, rng), question(replace(reworded(event), noun=event.noun), slot, rng)
    return f"{b} asks : {one} {b} asks again : {two}"


def review(rng: Rng) -> str:
    """Review: chatter of one mind with all opinion words, or turned praise and blame of training's words."""
    if rng.chance(70):
        good = rng.chance(50)
        return _text(sentiment.chatter(rng, cast(), good) for _ in range(rng.uniform(1, 2)))
    writers = (sentiment.snippet, sentiment.phrase, sentiment.phrase)
    return _text(rng.pick(writers)(rng, cast("train"), rng.chance(50)) for _ in range(rng.uniform(1, 2)))


def conversation(rng: Rng) -> str:
    """Conversation: a dialogue of people of the training split."""
    return dialogue.script(dialogue.write_dialogue(rng, cast("train"))[0])


def newspaper(rng: Rng) -> str:
    """Newspaper: two reports of one event."""
    return " ||||| ".join(news_stories.reports(rng, cast("train"))[0])


DOCUMENT_MIX: tuple[tuple[int, Callable[[Rng], str]], ...] = (
    (12, biography),
    (5, primer),
    (40, inventory),
    (4, chronicle),
    (17, retelling),
    (5, curiosity),
    (10, review),
    (4, conversation),
    (3, newspaper),
)
"""Percent of the documents -> what writes one."""


def corpus(seed: int = 0, size: int = 40_000) -> list[str]:
    """Documents for pre-training; a shorter corpus is the start of a longer one of the same seed.

    Args:
        seed: decides what is said.
        size: number of documents.

    Returns:
        The documents, of a few sentences each.
    """
    rng = Rng(seed, "corpus")
    writers = [write for percent, write in DOCUMENT_MIX for _ in range(percent)]
    documents: list[str] = []
    while len(documents) < size:
        document = rng.pick(writers)(rng)
        if not _gives_away(document):
            documents.append(document)
    return documents


_BOTH_FORMS = {form: name for name in OTHER_NAME for form in (name, f"{name}s")}


def _gives_away(document: str) -> bool:
    """Whether both names of a thing stand in a document, in singular or plural."""
    named = {_BOTH_FORMS[word] for word in document.split() if word in _BOTH_FORMS}
    return any(OTHER_NAME[name] in named for name in named)


def _fact(rng: Rng, person: str, attribute: str) -> str:
    return rng.pick(ATTRIBUTES[attribute].says).format(p=person, v=facts()[person][attribute])


def _text(lines: Iterable[str]) -> str:
    return " . ".join(lines) + " ."


def _and(told: Iterable[Event], rng: Rng) -> str:
    """One sentence that tells the events in any order."""
    events = list(told)
    return f" {rng.pick(('and', 'but', 'while'))} ".join(
        clause(event, rng) for event in rng.sample(events, len(events))
    )
