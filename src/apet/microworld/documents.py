"""What the backbones read before any task: a seeded library of short documents about the world."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from apet.microworld import news, opinion, talk
from apet.microworld.asking import answer, askable, question
from apet.microworld.dice import Dice
from apet.microworld.grammar import clause, pair
from apet.microworld.lexicon import ABOVE, KINDS, PEOPLE, STATES
from apet.microworld.logic import Verdict, claim_about, judge, unlike
from apet.microworld.world import ATTRIBUTES, cast, facts


def biography(dice: Dice) -> str:
    """What is true of one person, in any order and wording."""
    person = dice.pick(PEOPLE)
    return _text(_fact(dice, person, name) for name in dice.some(tuple(ATTRIBUTES), len(ATTRIBUTES)))


def gazette(dice: Dice) -> str:
    """What is true of several people."""
    return _text(_fact(dice, p, dice.pick(tuple(ATTRIBUTES))) for p in dice.some(PEOPLE, 6))


def primer(dice: Dice) -> str:
    """What kind of thing things are, and what they are not."""
    lines = []
    for _ in range(5):
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
    """Two things that happened, with what follows, what is open and what cannot be."""
    told = pair(dice, cast())
    lines = [f"{clause(told[0], dice)} {dice.pick(('and', 'but'))} {clause(told[1], dice)}"]
    for event in told:
        claim = claim_about(dice, cast(), event)
        if verdict := judge(event, claim):
            lines.append(dice.pick(_CONSEQUENCES[verdict]).format(clause(claim, dice)))
    return _text(lines)


def restatement(dice: Dice) -> str:
    """The same in other words, and what would not be the same."""
    told = pair(dice, cast())
    lines = []
    for event, another in zip(told, unlike(dice, cast(), told), strict=True):
        once = again = clause(event, dice)
        while again == once:
            again = clause(event, dice)
        lines.append(f"{once} . in other words , {again}")
        if another != event:
            lines.append(f"this does not mean that {clause(another, dice)}")
    return _text(lines)


def quiz(dice: Dice) -> str:
    """An event with questions about it and their answers; some have none."""
    told = pair(dice, cast())
    lines = [clause(event, dice) for event in told]
    for event in told:
        known = replace(event, negated=False)
        if event.sense not in STATES and (slots := askable(known)):
            slot = dice.pick(slots)
            said = answer(event, known, slot) or ("nobody" if slot == "who" else "nothing")
            lines.append(f"{question(known, slot, dice)} {said}")
    return _text(lines)


def review(dice: Dice) -> str:
    """Somebody's opinion of a work, and what they did."""
    good, person = dice.chance(50), dice.pick(PEOPLE)
    everyone = cast()
    match dice.between(1, 4):
        case 1:
            lines = [opinion.snippet(dice, everyone, good)]
        case 2:
            lines = [opinion.statement(dice, everyone, good), opinion.statement(dice, everyone, good)]
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
    (30, biography),
    (10, gazette),
    (4, primer),
    (14, scene),
    (8, restatement),
    (8, quiz),
    (12, review),
    (7, conversation),
    (7, newspaper),
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
