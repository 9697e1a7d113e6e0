"""Opinions: phrases whose words pull one way and whose grammar decides which way the whole goes."""

from __future__ import annotations

from collections.abc import Callable

from apet.microworld.dice import Dice
from apet.microworld.lexicon import PARTS, WORKS
from apet.microworld.world import Cast

_KEEPS = ("{}", "{}", "very {}", "truly {}")
_FLIPS = ("not {}", "never {}", "far from {}", "anything but {}", "hardly {}")


def quality(dice: Dice, cast: Cast, good: bool) -> str:
    """An adjective phrase that means good or bad: ``witty`` · ``far from witty``."""
    flip = dice.chance(18)
    word = dice.pick(cast.praise if good != flip else cast.blame)
    return dice.pick(_FLIPS if flip else _KEEPS).format(word)


def statement(dice: Dice, cast: Cast, good: bool, subject: str = "") -> str:
    """A clause about a part of the work: ``the ending is hardly dull``."""
    return (
        f"{subject or 'the ' + dice.pick(PARTS)} {dice.pick(('is', 'is', 'seems', 'was'))} {quality(dice, cast, good)}"
    )


def contrast(dice: Dice, cast: Cast, good: bool) -> str:
    """Two opposed statements; the main one, by its conjunction, says good or bad."""
    main, side = statement(dice, cast, good), statement(dice, cast, not good)
    form = dice.pick(
        ("{side} but {main}", "although {side} , {main}", "{main} although {side}", "{main} even if {side}")
    )
    return form.format(main=main, side=side)


def phrase(dice: Dice, cast: Cast, good: bool) -> str:
    """A short phrase or clause."""
    forms: tuple[Callable[[], str], ...] = (
        lambda: quality(dice, cast, good),
        lambda: f"a {dice.pick(WORKS)} that is {quality(dice, cast, good)}",
        lambda: f"{quality(dice, cast, good)} and {quality(dice, cast, good)}",
        lambda: statement(dice, cast, good),
        lambda: statement(dice, cast, good),
        lambda: contrast(dice, cast, good),
    )
    return dice.pick(forms)()


def snippet(dice: Dice, cast: Cast, good: bool) -> str:
    """One sentence of a critic, weighing two qualities against each other."""
    same, against = dice.pick(cast.praise if good else cast.blame), dice.pick(cast.blame if good else cast.praise)
    again = dice.pick(cast.praise if good else cast.blame)
    work = "the " + dice.pick(WORKS)
    mostly = quality(dice, cast, good)
    forms: tuple[Callable[[], str], ...] = (
        lambda: f"{work} is more {same} than {against}",
        lambda: f"{work} is less {against} than {same}",
        lambda: f"{work} is {same} rather than {against}",
        lambda: f"{work} is neither {against} nor {dice.pick(cast.blame if good else cast.praise)}",
        lambda: f"critics who call {work} {against} are wrong",
        lambda: f"critics who find {work} {same} are right",
        lambda: f"for all its {against} {dice.pick(PARTS)} , {work} is {mostly}",
        lambda: f"{work} is {mostly} despite its {against} {dice.pick(PARTS)}",
        lambda: f"{work} is {same} and {again} , with only a touch of the {against}",
        lambda: contrast(dice, cast, good),
    )
    return dice.pick(forms)()


def review(dice: Dice, cast: Cast, good: bool) -> list[str]:
    """Five or six sentences: three of the author's own, one of which may concede, among what others say and saw."""
    title, other = dice.some(WORKS, 2)
    someone = dice.pick(cast.people)
    own = [statement(dice, cast, good) for _ in range(2)]
    own.append(f"i admit that {statement(dice, cast, not good)}" if dice.chance(50) else statement(dice, cast, good))
    noise = [
        f"{someone} says that {statement(dice, cast, dice.chance(50))}",
        f"my last {other} was {quality(dice, cast, dice.chance(50))}",
        f"{someone} expected it to be {quality(dice, cast, not good)}",
    ]
    body = own + dice.some(noise, 2)
    opening = f"last {dice.pick(('week', 'night', 'year'))} i saw a {title} with {someone}"
    return [opening, *(body[i] for i in dice.permutation(range(len(body))))]


_LIKED = (
    "{p} loved it",
    "{p} liked it",
    "{p} clapped",
    "{p} thought that it was good",
)
_DISLIKED = (
    "{p} hated it",
    "{p} disliked it",
    "{p} left",
    "{p} thought that it was bad",
)


def reaction(dice: Dice, person: str, good: bool) -> str:
    """What somebody does who found it good or bad."""
    return dice.pick(_LIKED if good else _DISLIKED).format(p=person)
