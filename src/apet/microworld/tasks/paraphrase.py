"""Do both mean the same? The unlike pairs differ in one slot, often with the very same words."""

from __future__ import annotations

from apet.microworld.asking import twins
from apet.microworld.dice import Dice
from apet.microworld.grammar import Event, clause, pair
from apet.microworld.logic import unlike
from apet.microworld.tasks.row import PLAIN, Row
from apet.microworld.world import Cast


def mrpc(dice: Dice, cast: Cast, label: int) -> Row:
    """Two sentences of two events each; equivalent (1) or not (0)."""
    told = pair(dice, cast)
    again = told if label else unlike(dice, cast, told, PLAIN)
    return {"sentence1": _joined(dice, told), "sentence2": _joined(dice, again), "label": label}


def qqp(dice: Dice, cast: Cast, label: int) -> Row:
    """Two questions; the same (1) or not (0)."""
    one, two = twins(dice, cast, bool(label), PLAIN)
    return {"question1": one, "question2": two, "label": label}


def _joined(dice: Dice, told: tuple[Event, ...]) -> str:
    first, second = told if dice.chance(50) else (told[1], told[0])
    return f"{clause(first, dice)} {dice.pick(('and', 'while'))} {clause(second, dice)} ."
