"""Is it good or bad? Opinion words, people and things of the validation texts are never in the training texts."""

from __future__ import annotations

from apet.microworld import opinion
from apet.microworld.dice import Dice
from apet.microworld.tasks.row import Row
from apet.microworld.world import Cast


def sst2(dice: Dice, cast: Cast, label: int) -> Row:
    """A phrase."""
    return {"sentence": opinion.phrase(dice, cast, bool(label)), "label": label}


def imdb(dice: Dice, cast: Cast, label: int) -> Row:
    """A long review."""
    return {"text": " . ".join(opinion.review(dice, cast, bool(label))) + " .", "label": label}


def rotten_tomatoes(dice: Dice, cast: Cast, label: int) -> Row:
    """A critic's sentence."""
    return {"text": opinion.snippet(dice, cast, bool(label)) + " .", "label": label}
