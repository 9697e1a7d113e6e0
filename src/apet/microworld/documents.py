"""What the backbones read before any task: a seeded library of short documents about the world."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from apet.microworld import news, opinion, talk
from apet.microworld.asking import answer, askable, question
from apet.microworld.dice import Dice
from apet.microworld.grammar import clause, pair
from apet.microworld.lexicon import ABOVE, ACTIONS, KINDS, PEOPLE, TRANSFERS
from apet.microworld.logic import Verdict, claim_about, judge, unlike
from apet.microworld.world import ATTRIBUTES, cast, facts


def biography(dice: Dice) -> str:
    """Some of what is true of one person, in any order and wording."""
    person = dice.pick(PEOPLE)
    return _text(_fact(dice, person, name) for name in dice.some(tuple(ATTRIBUTES), dice.between(1, 3)))


def gazette(dice: Dice) -> str:
    """What is true of two people."""
    return _text(_fact(dice, p, dice.pick(tuple(ATTRIBUTES))) for p in dice.some(PEOPLE, 2))


def primer(dice: Dice) -> str:
    """What kind of thing things are, and what they are not."""
    lines = []
    for _ in range(dice.between(1, 3)):
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


_CONSEQUENCES: dict[Verdict, tuple[str, ...]] = {
    "follows": ("so {}", "is it true that {} ? yes"),
    "impossible": ("it is not true that {}", "is it true that {} ? no"),
    "open": ("nobody knows whether {}", "is it true that {} ? maybe"),
}


def scene(dice: Dice) -> str:
    """What happened, with what follows, what is open and what cannot be."""
    told = pair(dice, cast())[: dice.between(1, 2)]
    lines = [f" {dice.pick(('and', 'but', 'while'))} ".join(clause(event, dice) for event in told)]
    for _ in range(dice.between(1, 2)):
        event = dice.pick(told)
        claim = claim_about(dice, cast(), event)
        if verdict := judge(event, claim):
            lines.append(dice.pick(_CONSEQUENCES[verdict]).format(clause(claim, dice)))
    return _text(lines)


def restatement(dice: Dice) -> str:
    """The same in other words, or what would not be the same."""
    told = pair(dice, cast())
    event, another = told[0], unlike(dice, cast(), told)[0]
    once = again = clause(event, dice)
    while again == once:
        again = clause(event, dice)
    if another != event and dice.chance(40):
        return f"{once} . this does not mean that {clause(another, dice)} ."
    return f"{once} . in other words , {again} ."


def quiz(dice: Dice) -> str:
    """One or two events, a question about one and its answer, if it has one."""
    told = pair(dice, cast(), tuple(ACTIONS) + tuple(TRANSFERS))[: dice.between(1, 2)]
    event = dice.pick(told)
    known = replace(event, negated=False)
    slot = dice.pick(askable(known))
    said = answer(event, known, slot) or ("nobody" if slot == "who" else "nothing")
    return f"{_text(clause(event, dice) for event in told)} {question(known, slot, dice)} {said} ."


def review(dice: Dice) -> str:
    """Somebody's opinion of a work, and what they did."""
    good, person = dice.chance(50), dice.pick(PEOPLE)
    everyone = cast()
    match dice.between(1, 4):
        case 1:
            lines = [opinion.snippet(dice, everyone, good)]
        case 2:
            lines = [opinion.statement(dice, everyone, good) for _ in range(dice.between(1, 2))]
        case 3:
            lines = [opinion.contrast(dice, everyone, good)]
        case _:
            words = everyone.praise if good else everyone.blame
            lines = ["it is " + " and ".join(dice.some(words, 3)), f"it is {dice.pick(words)}"]
    return _text([*lines, *(opinion.reaction(dice, person, good) for _ in range(2))])


def conversation(dice: Dice) -> str:
    """A dialogue and what came of it."""
    turns, summary = talk.dialogue(dice, cast())
    return f"{talk.script(turns)}\nin short , {summary}"


def newspaper(dice: Dice) -> str:
    """Two reports of one event, and their sum."""
    sources, summary = news.reports(dice, cast())
    return f"{' ||||| '.join(sources)} in short , {summary}"


_SHELVES: tuple[tuple[int, Callable[[Dice], str]], ...] = (
    (24, biography),
    (4, gazette),
    (4, primer),
    (20, scene),
    (12, restatement),
    (10, quiz),
    (14, review),
    (6, conversation),
    (6, newspaper),
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
