"""What the backbones read before any task: a seeded library of short documents about the world."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from apet.microworld import asking, news, opinion, talk
from apet.microworld.asking import answer, askable, question
from apet.microworld.dice import Dice
from apet.microworld.grammar import Event, clause, pair
from apet.microworld.lexicon import ABOVE, ACTIONS, KINDS, PEOPLE, TRANSFERS
from apet.microworld.logic import Verdict, claim_about, judge_all, unlike
from apet.microworld.world import ATTRIBUTES, cast, facts


def biography(dice: Dice) -> str:
    """Some of what is true of one person, in any order and wording."""
    person = dice.pick(PEOPLE)
    return _text(_fact(dice, person, name) for name in dice.some(tuple(ATTRIBUTES), dice.uniform(1, 3)))


def gazette(dice: Dice) -> str:
    """What is true of two people."""
    return _text(_fact(dice, p, dice.pick(tuple(ATTRIBUTES))) for p in dice.some(PEOPLE, 2))


def primer(dice: Dice) -> str:
    """What kind of thing things are, and what they are not."""
    lines = []
    for _ in range(dice.uniform(1, 3)):
        noun = dice.pick(cast().nouns)
        kind, other = ABOVE[noun], dice.pick(tuple(KINDS))
        another = dice.pick(KINDS[kind])
        lines.append(
            dice.pick(
                (
                    f"every {noun} is a {kind}",
                    f"{noun}s and {another}s are {kind}s",
                    f"a {kind} may be a {noun} or a {another}",
                    f"no {noun} is a {other}" if other != kind else f"{noun}s are {kind}s",
                    f"the {kind}s are the {noun}s and the {another}s",
                    f"{kind}s are {ABOVE[kind]}" if kind in ABOVE else f"{noun}s are {kind}s",
                )
            )
        )
    return _text(lines)


_SAID: dict[Verdict, str] = {"follows": "true", "impossible": "false", "open": "unknown"}


def scene(dice: Dice) -> str:
    """What happened, with what follows, what is open and what cannot be."""
    told = pair(dice, cast())[: dice.pick((1, 1, 1, 2))]
    lines = [_and(told, dice, ("and", "but", "while"))]
    for _ in range(dice.pick((1, 1, 2))):
        verdict = dice.pick(tuple(_SAID))
        claim = claim_about(dice, cast(), dice.pick(told), verdict, plain=_plain(dice))
        if judge_all(told, claim) == verdict:
            lines.append(f"is it true that {clause(claim, dice)} ? {_SAID[verdict]}")
    return _text(lines)


def restatement(dice: Dice) -> str:
    """Whether other sentences say the same as the first."""
    told = pair(dice, cast())[: dice.pick((1, 1, 2))]
    lines = [_and(told, dice, ("and", "while"))]
    for _ in range(1 if len(told) == 2 else dice.uniform(1, 2)):
        again = told if dice.chance(50) else unlike(dice, cast(), told, plain=_plain(dice))
        lines.append(f"does this mean that {_and(again, dice, ('and', 'while'))} ? {_true(told == again)}")
    return _text(lines)


def wordings(dice: Dice) -> str:
    """Whether two questions ask the same."""
    lines = []
    for _ in range(dice.pick((1, 1, 2))):
        same = dice.chance(50)
        lines.append(
            " ".join(asking.twins(dice, cast(), same, plain=_plain(dice))) + f" is that the same ? {_true(same)}"
        )
    return _text(lines)


def quiz(dice: Dice) -> str:
    """One or two events, questions about them and the answers that they have."""
    told = pair(dice, cast(), tuple(ACTIONS) + tuple(TRANSFERS))[: dice.pick((1, 1, 2))]
    lines = [clause(event, dice) for event in told]
    for _ in range(dice.uniform(1, 2)):
        asked, other = replace(dice.pick(told), negated=False), dice.pick(told)
        if dice.chance(25):  # something near that may have no answer
            agent, noun = (
                dice.pick((other.agent, dice.pick(cast().people))),
                dice.pick((other.noun, dice.pick(cast().nouns))),
            )
            asked = dice.pick((replace(asked, agent=agent), replace(asked, noun=noun)))
        slot = dice.pick(askable(asked))
        said = next(filter(None, (answer(event, asked, slot) for event in told)), "unknown")
        lines.append(f"{question(asked, slot, dice)} {said}")
    return _text(lines)


def lesson(dice: Dice) -> str:
    """A question about a person of the training texts, and its answer: how one asks, not what the task asks."""
    person, name = dice.pick(cast("train").people), dice.pick(tuple(ATTRIBUTES))
    return f"{dice.pick(ATTRIBUTES[name].asks).format(p=person)} {facts()[person][name]} ."


def review(dice: Dice) -> str:
    """A long review or several opinions, and what people who share them did."""
    everyone, lines = cast(), []
    if dice.chance(15):
        good = dice.chance(50)
        return _text([*opinion.review(dice, everyone, good), opinion.reaction(dice, dice.pick(PEOPLE), good)])
    for _ in range(dice.pick((1, 1, 2))):
        good = dice.chance(50)
        lines.append(dice.pick((opinion.snippet, opinion.phrase, opinion.phrase))(dice, everyone, good))
        lines.append(opinion.reaction(dice, dice.pick(PEOPLE), good))
    return _text(lines)


def conversation(dice: Dice) -> str:
    """A dialogue and what came of it."""
    turns, summary = talk.dialogue(dice, cast())
    return f"{talk.script(turns)}\nin short , {summary}"


def newspaper(dice: Dice) -> str:
    """Two reports of one event, and their sum."""
    sources, summary = news.reports(dice, cast())
    return f"{' ||||| '.join(sources)} in short , {summary}"


_SHELVES: tuple[tuple[int, Callable[[Dice], str]], ...] = (
    (12, biography),
    (2, gazette),
    (3, lesson),
    (4, primer),
    (26, scene),
    (15, restatement),
    (8, wordings),
    (8, quiz),
    (12, review),
    (5, conversation),
    (5, newspaper),
)
"""How many of a hundred documents are of each sort."""


def corpus(seed: int = 0, size: int = 40_000) -> list[str]:
    """So many documents; the same seed gives the same bytes, and a shorter corpus is the start of a longer one."""
    dice = Dice(seed, "corpus")
    shelf = [write for share, write in _SHELVES for _ in range(share)]
    return [dice.pick(shelf)(dice) for _ in range(size)]


def _fact(dice: Dice, person: str, attribute: str) -> str:
    return dice.pick(ATTRIBUTES[attribute].says).format(p=person, v=facts()[person][attribute])


def _text(lines: Iterable[str]) -> str:
    return " . ".join(lines) + " ."


def _and(told: Sequence[Event], dice: Dice, words: tuple[str, ...]) -> str:
    """The events in any order, in one sentence."""
    return f" {dice.pick(words)} ".join(clause(event, dice) for event in dice.some(told, len(told)))


def _plain(dice: Dice) -> int:
    """For one subtle difference, so many plain ones."""
    return 3 if dice.chance(60) else 1


def _true(it: bool) -> str:
    return _SAID["follows" if it else "impossible"]
