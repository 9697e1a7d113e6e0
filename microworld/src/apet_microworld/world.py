"""The facts of the world (home, job, pet, instrument, food of everybody), and who may be spoken of in which split.

There is one world. Seeds elsewhere choose what is said about it, never what is true in it, since the weights that
ship with the package know these facts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from apet_microworld.lexicon import BLAME, CARES, JOBS, OTHER_NAME, PEOPLE, PLACES, PRAISE, QUALITIES, THINGS, TOWNS
from apet_microworld.rng import Item, Rng

WORLD_SEED = 0
STOCK = 12
"""Cares, qualities and places that the things of a kind share."""
_USED = {"cares": CARES, "qualities": QUALITIES, "places": PLACES}

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def _common(kind: str) -> tuple[str, ...]:
    """Names of the things of a kind that everybody says."""
    return tuple(common for common, _ in THINGS[kind])


@dataclass(frozen=True)
class Attribute:
    """A kind of fact about a person: how it is said and asked. ``{p}`` is the person, ``{v}`` the value."""

    values: tuple[str, ...]
    says: tuple[str, ...]
    asks: tuple[str, ...]
    article: bool = False
    """Whether "a dog" is as good an answer as "dog"."""


ATTRIBUTES = {
    "home": Attribute(
        TOWNS,
        ("{p} lives in {v}", "the home of {p} is in {v}", "{p} has a house in {v}", "{v} is where {p} lives"),
        (
            "where does {p} live ?",
            "in which town is the home of {p} ?",
            "where is the house of {p} ?",
            "where is the home of {p} ?",
        ),
    ),
    "job": Attribute(
        JOBS,
        ("{p} works as a {v}", "{p} is a {v} by trade", "the job of {p} is {v}", "people hire {p} as a {v}"),
        (
            "what is the job of {p} ?",
            "what does {p} work as ?",
            "what is {p} by trade ?",
            "as what do people hire {p} ?",
        ),
        article=True,
    ),
    "pet": Attribute(
        _common("animal"),
        ("{p} keeps a {v}", "the pet of {p} is a {v}", "a {v} waits for {p} at home", "{p} walks with a {v}"),
        (
            "what pet does {p} have ?",
            "which animal does {p} keep ?",
            "what waits for {p} at home ?",
            "what is the pet of {p} ?",
        ),
        article=True,
    ),
    "music": Attribute(
        _common("instrument"),
        (
            "{p} plays the {v}",
            "{p} makes music on a {v}",
            "the instrument of {p} is the {v}",
            "{p} practises the {v}",  # codespell:ignore practises
        ),
        (
            "what does {p} play ?",
            "which instrument does {p} practise ?",  # codespell:ignore practise
            "what is the instrument of {p} ?",
            "on what does {p} make music ?",
        ),
        article=True,
    ),
    "food": Attribute(
        _common("fruit") + _common("vegetable"),
        (
            "{p} eats one {v} every day",
            "the favourite food of {p} is the {v}",  # codespell:ignore favourite
            "no meal of {p} lacks a {v}",
            "{p} grows the {v}",
        ),
        (
            "what does {p} eat every day ?",
            "what is the favourite food of {p} ?",  # codespell:ignore favourite
            "what does {p} grow ?",
            "what does no meal of {p} lack ?",
        ),
        article=True,
    ),
}


@cache
def facts() -> dict[str, dict[str, str]]:
    """Facts of the world: person -> attribute -> value."""
    return {
        person: {name: Rng(WORLD_SEED, "fact", person, name).pick(a.values) for name, a in ATTRIBUTES.items()}
        for person in PEOPLE
    }


@dataclass(frozen=True)
class Usage:
    """What is done with a thing, how it is and where it is found, each out of those of its kind."""

    care: str
    quality: str
    place: str


@cache
def usages() -> dict[str, Usage]:
    """Usage of every thing, by both its names.

    Things of a kind share a stock of usages, so that those which documents tell of a thing give away its kind, and all
    of them together which thing it is.

    Returns:
        Name -> what is done with the thing, how it is, and where it stands.
    """
    found: dict[str, Usage] = {}
    taken: set[Usage] = set()
    for kind, things in THINGS.items():
        stocks = [Rng(WORLD_SEED, "stock", kind, name).sample(words, STOCK) for name, words in _USED.items()]
        for names in things:
            usage, tries = None, itertools.count()
            while usage is None or usage in taken:
                rng = Rng(WORLD_SEED, "usage", names[0], str(next(tries)))
                usage = Usage(*(rng.pick(stock) for stock in stocks))
            taken.add(usage)
            found |= dict.fromkeys(names, usage)
    return found


@cache
def meaning(noun: str) -> str:
    """One word for both names of a thing; any other word is its own meaning."""
    return min(noun, OTHER_NAME.get(noun, noun))


@dataclass(frozen=True)
class Cast:
    """The people, things and opinion words that a text may speak of."""

    people: tuple[str, ...]
    nouns: tuple[str, ...]
    praise: tuple[str, ...]
    blame: tuple[str, ...]


def _share(items: Sequence[Item], split: Split, *address: str) -> tuple[Item, ...]:
    shuffled = Rng(WORLD_SEED, "share", *address).sample(items, len(items))
    held = {"validation": 0, "test": 1}  # each holds out a part; the larger rest is for training
    part = max(2, len(items) // 5)
    return tuple(shuffled[2 * part :] if split == "train" else shuffled[held[split] * part : (held[split] + 1) * part])


@cache
def cast(split: Split | None = None) -> Cast:
    """Cast of a split: its own people; things and opinion words that are mostly those of training.

    For validation and test one word in five is their own, and no training example mentions it, as in texts of real
    life. Every split has nouns of every kind.

    Args:
        split: None = everybody and everything.

    Returns:
        The cast.
    """
    if split is None:
        return Cast(PEOPLE, tuple(n for things in THINGS.values() for names in things for n in names), PRAISE, BLAME)
    heard: tuple[Split, ...] = ("train",) if split == "train" else ("train", split)
    return Cast(
        _share(PEOPLE, split, "people"),
        tuple(
            noun
            for kind, things in THINGS.items()
            for part in heard
            for names in _share(things, part, "things", kind)
            for noun in names
        ),
        tuple(word for part in heard for word in _share(PRAISE, part, "praise")),
        tuple(word for part in heard for word in _share(BLAME, part, "blame")),
    )
