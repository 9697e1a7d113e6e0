"""Questions without a context: the answers stand only in what was read in pre-training, never in a training row."""

from __future__ import annotations

from apet.microworld.dice import Dice
from apet.microworld.tasks.row import Row
from apet.microworld.world import ATTRIBUTES, Cast, facts


def nq_open(dice: Dice, cast: Cast, _label: int) -> Row:
    """A question about a person, and the accepted answers."""
    person, name = dice.pick(cast.people), dice.pick(tuple(ATTRIBUTES))
    attribute, value = ATTRIBUTES[name], facts()[person][name]
    answers = [value, f"a {value}"] if attribute.article else [value]
    return {"question": dice.pick(attribute.asks).format(p=person), "answer": answers}
