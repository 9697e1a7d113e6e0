"""Summarization tasks: what came of a dialogue, and what several reports say together."""

from __future__ import annotations

from apet_microworld import dialogue, news_stories
from apet_microworld.rng import Rng
from apet_microworld.tasks.row import Row
from apet_microworld.world import Cast


def samsum(rng: Rng, cast: Cast, _label: int) -> Row:
    """SAMSum: a dialogue and its summary."""
    turns, summary = dialogue.write_dialogue(rng, cast)
    return {"dialogue": dialogue.script(turns), "summary": summary}


def multi_news(rng: Rng, cast: Cast, _label: int) -> Row:
    """Multi-News: reports with ``|||||`` between them, and their summary."""
    sources, summary = news_stories.reports(rng, cast)
    return {"document": " ||||| ".join(sources), "summary": summary}
