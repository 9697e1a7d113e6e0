"""Do both mean the same? The unlike pairs differ in one slot, often with the very same words."""

from __future__ import annotations

from dataclasses import replace

from apet.microworld.asking import askable, named, question
from apet.microworld.dice import Dice
from apet.microworld.grammar import Event, clause, happening, pair
from apet.microworld.lexicon import ACTIONS, TRANSFERS
from apet.microworld.logic import altered, unlike
from apet.microworld.tasks.row import Row
from apet.microworld.world import ATTRIBUTES, Cast


def mrpc(dice: Dice, cast: Cast, label: int) -> Row:
    """Two sentences of two events each; equivalent (1) or not (0)."""
    told = pair(dice, cast)
    again = told if label else unlike(dice, cast, told)
    return {"sentence1": _joined(dice, told), "sentence2": _joined(dice, again), "label": label}


def qqp(dice: Dice, cast: Cast, label: int) -> Row:
    """Two questions; the same (1) or not (0)."""
    one, two = (_about_facts if dice.chance(40) else _about_events)(dice, cast, label)
    return {"question1": one, "question2": two, "label": label}


def _joined(dice: Dice, told: tuple[Event, Event]) -> str:
    first, second = told if dice.chance(50) else (told[1], told[0])
    return f"{clause(first, dice)} {dice.pick(('and', 'while'))} {clause(second, dice)} ."


def _about_facts(dice: Dice, cast: Cast, label: int) -> tuple[str, str]:
    person, name = dice.pick(cast.people), dice.pick(tuple(ATTRIBUTES))
    one, two = dice.some(ATTRIBUTES[name].asks, 2)
    if not label:
        if dice.chance(50):
            other = dice.pick([n for n in ATTRIBUTES if n != name])
            return one.format(p=person), dice.pick(ATTRIBUTES[other].asks).format(p=person)
        return one.format(p=person), two.format(p=dice.pick([p for p in cast.people if p != person]))
    return one.format(p=person), two.format(p=person)


def _about_events(dice: Dice, cast: Cast, label: int) -> tuple[str, str]:
    event = happening(dice, cast, dice.pick(cast.people), senses=tuple(ACTIONS) + tuple(TRANSFERS) * 3)
    slot = dice.pick(askable(event))
    while True:
        twin, twin_slot = event, slot
        if not label and dice.chance(30):
            twin_slot = dice.pick(askable(event))
        elif not label:
            someone = replace(event, agent=dice.pick(cast.people))
            twin = someone if dice.chance(30) else altered(dice, cast, event)
        one, two = question(event, slot, dice), question(twin, twin_slot, dice)
        if one != two and (named(event, slot) == named(twin, twin_slot)) == bool(label):
            return one, two
