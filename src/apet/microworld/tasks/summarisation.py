"""What came of a dialogue, and what several reports say together."""

from __future__ import annotations

from apet.microworld import news, talk
from apet.microworld.dice import Dice
from apet.microworld.tasks.row import Row
from apet.microworld.world import Cast


def samsum(dice: Dice, cast: Cast, _label: int) -> Row:
    """A dialogue and its summary."""
    turns, summary = talk.dialogue(dice, cast)
    return {"dialogue": talk.script(turns), "summary": summary}


def multi_news(dice: Dice, cast: Cast, _label: int) -> Row:
    """Sources with ``|||||`` between them, and their summary."""
    sources, summary = news.reports(dice, cast)
    return {"document": " ||||| ".join(sources), "summary": summary}
