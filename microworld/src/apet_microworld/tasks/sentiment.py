"""Sentiment tasks. People, and some opinion words, of the validation texts are never in the training texts."""

from __future__ import annotations

from apet_microworld import sentiment
from apet_microworld.rng import Rng
from apet_microworld.tasks.row import Row
from apet_microworld.world import Cast


def sst2(rng: Rng, cast: Cast, label: int) -> Row:
    """SST-2: a phrase; bad (0) or good (1)."""
    return {"sentence": sentiment.phrase(rng, cast, bool(label)), "label": label}


def imdb(rng: Rng, cast: Cast, label: int) -> Row:
    """IMDb: a long review; bad (0) or good (1)."""
    return {"text": " . ".join(sentiment.review(rng, cast, bool(label))) + " .", "label": label}


def rotten_tomatoes(rng: Rng, cast: Cast, label: int) -> Row:
    """Rotten Tomatoes: a critic's sentence; bad (0) or good (1)."""
    return {"text": sentiment.snippet(rng, cast, bool(label)) + " .", "label": label}
