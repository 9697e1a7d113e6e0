"""Paraphrase tasks. Both kinds of pairs have as many words in common: what tells them apart is what the others mean."""

from __future__ import annotations

from apet_microworld.grammar import Event, clause, pair, retold
from apet_microworld.logic import unlike
from apet_microworld.questions import paraphrase_pair
from apet_microworld.rng import Rng
from apet_microworld.tasks.row import Row
from apet_microworld.world import Cast


def mrpc(rng: Rng, cast: Cast, label: int) -> Row:
    """MRPC: two sentences of two events each; equivalent (1) or not (0)."""
    stated = pair(rng, cast)
    restated = tuple(retold(rng, event) for event in stated) if label else unlike(rng, cast, stated)
    return {"sentence1": _joined(rng, stated), "sentence2": _joined(rng, restated), "label": label}


def qqp(rng: Rng, cast: Cast, label: int) -> Row:
    """QQP: two questions; the same (1) or not (0)."""
    one, two = paraphrase_pair(rng, cast, bool(label))
    return {"question1": one, "question2": two, "label": label}


def _joined(rng: Rng, stated: tuple[Event, ...]) -> str:
    first, second = rng.sample(stated, 2)
    return f"{clause(first, rng)} {rng.pick(('and', 'while'))} {clause(second, rng)} ."
