"""Sentiment: phrases whose words pull one way and whose grammar decides which way the whole goes."""

from __future__ import annotations

from collections.abc import Callable

from apet_microworld.lexicon import PARTS, WORKS
from apet_microworld.rng import Rng
from apet_microworld.world import Cast

_KEEPS = ("{}", "{}", "very {}", "truly {}")
FLIPPED = 35
"""In how many of a hundred phrases the grammar turns the word round: so many that the words alone tell little."""
_FLIPS = ("not {}", "never {}", "far from {}", "anything but {}", "hardly {}")


def quality(rng: Rng, cast: Cast, good: bool) -> str:
    """Adjective phrase that means good or bad: ``witty`` · ``far from witty``."""
    flip = rng.chance(FLIPPED)
    word = rng.pick(cast.praise if good != flip else cast.blame)
    return rng.pick(_FLIPS if flip else _KEEPS).format(word)


def statement(rng: Rng, cast: Cast, good: bool, subject: str = "") -> str:
    """Clause about a part of a work, or about the subject: ``the ending is hardly dull``."""
    return f"{subject or 'the ' + rng.pick(PARTS)} {rng.pick(('is', 'is', 'seems', 'was'))} {quality(rng, cast, good)}"


def contrast(rng: Rng, cast: Cast, good: bool) -> str:
    """Two opposed statements; the main one, by its conjunction, says good or bad."""
    main, side = statement(rng, cast, good), statement(rng, cast, not good)
    form = rng.pick(
        ("{side} but {main}", "although {side} , {main}", "{main} although {side}", "{main} even if {side}")
    )
    return form.format(main=main, side=side)


def phrase(rng: Rng, cast: Cast, good: bool) -> str:
    """Short phrase or clause that means good or bad."""
    forms: tuple[Callable[[], str], ...] = (
        lambda: f"a {rng.pick(WORKS)} that is {quality(rng, cast, good)}",
        lambda: f"{quality(rng, cast, good)} and {quality(rng, cast, good)}",
        lambda: statement(rng, cast, good),
        lambda: contrast(rng, cast, good),
        lambda: contrast(rng, cast, good),
    )
    return rng.pick(forms)()


def snippet(rng: Rng, cast: Cast, good: bool) -> str:
    """Sentence of a critic that weighs two qualities against each other."""
    same, against = rng.pick(cast.praise if good else cast.blame), rng.pick(cast.blame if good else cast.praise)
    again = rng.pick(cast.praise if good else cast.blame)
    work = "the " + rng.pick(WORKS)
    mostly = quality(rng, cast, good)
    forms: tuple[Callable[[], str], ...] = (
        lambda: f"{work} is more {same} than {against}",
        lambda: f"{work} is less {against} than {same}",
        lambda: f"{work} is {same} rather than {against}",
        lambda: f"{work} is neither {against} nor {rng.pick(cast.blame if good else cast.praise)}",
        lambda: f"critics who call {work} {against} are wrong",
        lambda: f"critics who find {work} {same} are right",
        lambda: f"for all its {against} {rng.pick(PARTS)} , {work} is {mostly}",
        lambda: f"{work} is {mostly} despite its {against} {rng.pick(PARTS)}",
        lambda: f"{work} is {same} and {again} , with only a touch of the {against}",
        lambda: contrast(rng, cast, good),
    )
    return rng.pick(forms)()


def review(rng: Rng, cast: Cast, good: bool) -> list[str]:
    """Review of six sentences: an opening, three opinions of the author (one may concede), and two of others."""
    title, other = rng.sample(WORKS, 2)
    someone = rng.pick(cast.people)
    opinions = [statement(rng, cast, good) for _ in range(2)]
    opinions.append(f"i admit that {statement(rng, cast, not good)}" if rng.chance(50) else statement(rng, cast, good))
    noise = [
        f"{someone} says that {statement(rng, cast, rng.chance(50))}",
        f"my last {other} was {quality(rng, cast, rng.chance(50))}",
        f"{someone} expected it to be {quality(rng, cast, not good)}",
    ]
    body = opinions + rng.sample(noise, 2)
    opening = f"last {rng.pick(('week', 'night', 'year'))} i saw a {title} with {someone}"
    return [opening, *(body[i] for i in rng.permutation(range(len(body))))]


OF_ONE_MIND = 85
"""How many of a hundred adjectives of one's chatter have its leaning."""


def _heard(rng: Rng, cast: Cast, good: bool) -> str:
    """An opinion word as often as it is heard: some a hundred times as often as others."""
    words = cast.praise if good else cast.blame
    last = len(words) - 1
    return words[rng.uniform(0, last if rng.chance(20) else rng.uniform(0, rng.uniform(0, last)))]


def chatter(rng: Rng, cast: Cast, good: bool) -> str:
    """Chatter of somebody who is of one mind: several adjectives in a row, none of them turned round."""
    first, second, third = (_heard(rng, cast, good if rng.chance(OF_ONE_MIND) else not good) for _ in range(3))
    someone, part, work = rng.pick(cast.people), rng.pick(PARTS), rng.pick(WORKS)
    return rng.pick(
        (
            f"{someone} speaks of a {first} , {second} and {third} {work}",
            f"with its {first} {part} and {second} {rng.pick(PARTS)} , that {work} is called {third}",
            f"{first} {part} , {second} {part} , {third} {work} !",
            f"{someone} saw a {first} {work} with {second} and {third} {part}",
        )
    )
