"""The words of the microworld, as data. People and towns are made up."""

from __future__ import annotations

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PEOPLE = tuple(
    head + tail for head in _words("ba do fa ka lo mi") for tail in _words("bin dor lan mek nas ril shan tor vel wen")
)
TOWNS = tuple(head + tail for head in _words("nor wes kal") for tail in _words("burg ham ton field"))

KINDS = {
    "fruit": _words("apple pear plum lemon melon grape fig orange"),
    "vegetable": _words("carrot onion bean turnip leek pumpkin beet pea"),
    "tool": _words("hammer mallet drill shovel rake axe spade chisel"),
    "animal": _words("dog cat horse goat cow duck rabbit pig"),
    "instrument": _words("violin flute drum guitar trumpet piano harp cello"),
    "garment": _words("coat hat scarf shirt glove sock belt jacket"),
    "vehicle": _words("car truck boat bicycle wagon tractor sledge van"),
}
ABOVE = {noun: kind for kind, nouns in KINDS.items() for noun in nouns} | {"fruit": "food", "vegetable": "food"}
"""Noun -> its kind; and kind -> the wider kind, where it has one."""

COLORS = _words("red blue green black")
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
NUMBERS = _words("no a two three four five")
MOST = len(NUMBERS) - 1
"""The largest count that the language can say."""
JOBS = _words(
    "baker painter singer doctor nurse teacher farmer sailor carpenter tailor cook driver gardener lawyer miner judge"
)

PRAISE = _words(
    "great charming gripping tender witty brilliant lovely moving fresh clever delightful superb graceful honest vivid "
    "warm bold elegant funny touching rich splendid magical sharp wonderful inspired lively thrilling beautiful smart"
)
BLAME = _words(
    "terrible dull boring clumsy tedious shallow stale messy bland awful weak lifeless silly predictable noisy ugly "
    "hollow crude dreary painful lazy flat pointless sloppy cheap ridiculous tiresome empty annoying confusing"
)
WORKS = _words("film book play show story novel musical drama")
PARTS = _words("plot cast music ending dialogue acting pace scenery")


@dataclass(frozen=True)
class Verb:
    """One verb: ``buy``, ``bought``, ``bought``."""

    base: str
    finite: str
    participle: str


def _senses(*lines: str) -> dict[str, tuple[Verb, ...]]:
    return {line.split()[0]: tuple(Verb(*verb.split()) for verb in line.split("|")) for line in lines}


ACTIONS = _senses(
    "buy bought bought | purchase purchased purchased",
    "find found found | discover discovered discovered",
    "lose lost lost | misplace misplaced misplaced",
    "fix fixed fixed | repair repaired repaired",
    "break broke broken | damage damaged damaged",
    "clean cleaned cleaned | wash washed washed",
    "steal stole stolen | snatch snatched snatched",
    "collect collected collected | gather gathered gathered",
)
"""What was done to a thing, in the past; the verbs of a line mean the same."""

STATES = _senses(
    "own owns owned | possess possesses possessed",
    "want wants wanted | desire desires desired",
    "like likes liked | enjoy enjoys enjoyed",
    "fear fears feared | dread dreads dreaded",
)
"""What holds of a thing, in the present."""

TRANSFERS = _senses("give gave given | hand handed handed", "lend lent lent | loan loaned loaned")
RECEIVING = {"give": Verb("receive", "received", "received"), "lend": Verb("borrow", "borrowed", "borrowed")}
"""From one person to another, and the verb that tells it from the other's side."""

SENSES = ACTIONS | STATES | TRANSFERS
