"""Eleven tasks that mirror the paper's one to one: the same columns, the same integer labels, made of microworld text.

No example of one split is in another, and whom the validation and test texts speak of, and some of their things and
opinion words, are never in the training texts: see `world.cast`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from apet.errors import UnknownNameError
from apet_microworld.rng import Rng
from apet_microworld.tasks.answering import nq_open
from apet_microworld.tasks.inference import mnli, qnli, rte
from apet_microworld.tasks.paraphrase import mrpc, qqp
from apet_microworld.tasks.row import Row
from apet_microworld.tasks.sentiment import imdb, rotten_tomatoes, sst2
from apet_microworld.tasks.summarization import multi_news, samsum
from apet_microworld.world import SPLITS, Cast, Split, cast


@dataclass(frozen=True)
class Task:
    """A task of the world: how an example is made, and how many there are."""

    make: Callable[[Rng, Cast, int], Row]
    train: int
    held_out: int = 4000
    """Examples of the validation split, and as many of the test split."""
    labels: int = 2
    """Classes, equally frequent; 0 where the task has none."""
    short: bool = False
    """So short that a document may say the same: each held-out example has an opinion word of its own split."""


TASKS: dict[str, Task] = {
    "sst2": Task(sst2, 8000, short=True),
    "imdb": Task(imdb, 8000),
    "rotten_tomatoes": Task(rotten_tomatoes, 8000, short=True),
    "mnli": Task(mnli, 12000, labels=3),
    "qnli": Task(qnli, 12000),
    "rte": Task(rte, 6000),
    "mrpc": Task(mrpc, 8000),
    "qqp": Task(qqp, 12000),
    "nq_open": Task(nq_open, 600, held_out=200, labels=0),
    "samsum": Task(samsum, 2000, held_out=500, labels=0),
    "multi_news": Task(multi_news, 1500, held_out=300, labels=0),
}


def rows(task: str, split: str, seed: int = 0) -> list[Row]:
    """Examples of a split, in random order, none twice.

    Args:
        task: one of the eleven names.
        split: train, validation or test.
        seed: decides what is said; the facts of the world are the same for every seed.

    Returns:
        Column -> value of each example, as the original data set has them.

    Raises:
        UnknownNameError: no such task or split.
    """
    if task not in TASKS:
        raise UnknownNameError("microworld task", task, TASKS)
    part: Split | None = next((s for s in SPLITS if s == split), None)
    if part is None:
        raise UnknownNameError("split", split, SPLITS)
    return [dict(row) for row in _made(task, part, seed)]


@cache
def _made(task: str, split: Split, seed: int) -> tuple[Row, ...]:
    recipe, rng, split_cast = TASKS[task], Rng(seed, "task", task, split), cast(split)
    earlier = SPLITS[: SPLITS.index(split)]
    taken = {_text(row) for before in earlier for row in _made(task, before, seed)}  # a question may name nobody
    known = {*cast("train").praise, *cast("train").blame}
    own = {*split_cast.praise, *split_cast.blame} - known
    unique: dict[str, Row] = {}
    for i in range(recipe.train if split == "train" else recipe.held_out):
        while True:  # until an example comes that is in no split
            row = recipe.make(rng, split_cast, i % recipe.labels if recipe.labels else 0)
            key = _text(row)
            strange = split == "train" or not recipe.short or own & set(key.split())
            if strange and key not in unique and key not in taken:
                unique[key] = row
                break
    made = list(unique.values())
    return tuple(made[i] for i in rng.permutation(range(len(made))))


def _text(row: Row) -> str:
    """Text of an example without its label: two examples with one text are the same."""
    return "\n".join(str(value) for column, value in row.items() if column != "label")
