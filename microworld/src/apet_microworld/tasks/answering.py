"""Question answering without a context: the answers stand only in the pre-training corpus, never in a training row."""

from __future__ import annotations

from apet_microworld.rng import Rng
from apet_microworld.tasks.row import Row
from apet_microworld.world import ATTRIBUTES, Cast, facts


def nq_open(rng: Rng, cast: Cast, _label: int) -> Row:
    """NQ-open: a question about a person, and the accepted answers."""
    person, name = rng.pick(cast.people), rng.pick(tuple(ATTRIBUTES))
    attribute, value = ATTRIBUTES[name], facts()[person][name]
    answers = [value, f"a {value}"] if attribute.article else [value]
    return {"question": rng.pick(attribute.asks).format(p=person), "answer": answers}
