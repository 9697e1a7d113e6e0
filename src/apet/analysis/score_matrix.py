"""Runs of one cell laid out as tasks × seeds, and what can be said about one block or about two."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from apet.analysis.intervals import Estimate, Floats, bootstrap, newcombe_interval, t_interval
from apet.errors import ApetError

Scores = Mapping[str, Floats]
"""Run key -> its item scores, (items,)."""

Items: TypeAlias = Scores | pd.DataFrame
"""The same, or as a table (`apet.analysis.frames.ITEMS`)."""

RUN_INTERVALS = "items, from the runs' own intervals"
UNPAIRED = "items, unpaired"
PAIRED = "items, paired bootstrap"
BOOTSTRAP = "items, bootstrap"


@dataclass(frozen=True)
class ScoreMatrix:
    """Numbers of one method at one size on one backbone; NaN where a run is missing.

    Attributes:
        name: what it is, for messages.
        tasks, seeds: of the rows and columns.
        value, low, high: measure and its item-level interval, (tasks, seeds).
        items: validation items, (tasks, seeds).
        keys: of the runs, (tasks, seeds); empty where missing.
        planned: which numbers were to be there, (tasks, seeds); None = all.
    """

    name: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    scores: Floats
    ci_low: Floats
    ci_high: Floats
    num_examples: Floats
    run_ids: npt.NDArray[np.object_]
    planned: npt.NDArray[np.bool_] | None = None

    @property
    def wanted(self) -> npt.NDArray[np.bool_]:
        """What was to be there, (tasks, seeds)."""
        return np.full(self.scores.shape, True) if self.planned is None else self.planned


def score_matrix(
    runs: pd.DataFrame,
    name: str,
    tasks: Sequence[str],
    seeds: Sequence[int],
    planned: Collection[tuple[str, int]] | None = None,
) -> ScoreMatrix:
    """Lay out complete runs of one cell.

    Args:
        runs: complete runs of one backbone, method and size.
        name: what it is.
        tasks, seeds: rows and columns; runs of others are left aside.
        planned: the (task, seed) that were to be there; None = all.
    """
    shape = (len(tasks), len(seeds))
    row, column = ({x: i for i, x in enumerate(xs)} for xs in (tasks, seeds))
    kept = runs[runs["task"].isin(list(tasks)) & runs["seed"].isin(list(seeds))]
    at = (kept["task"].map(row).to_numpy(dtype=int), kept["seed"].map(column).to_numpy(dtype=int))
    parts = np.full((4, *shape), np.nan)
    for part, field in zip(parts, ("score", "ci_low", "ci_high", "num_examples"), strict=True):
        part[at] = kept[field]
    keys = np.full(shape, "", dtype=object)
    keys[at] = kept["run_id"]
    value, low, high, items = parts
    wanted = None if planned is None else np.array([[(t, s) in planned for s in seeds] for t in tasks], dtype=bool)
    return ScoreMatrix(name, tuple(tasks), tuple(int(s) for s in seeds), value, low, high, items, keys, wanted)


def select(b: ScoreMatrix, tasks: Sequence[str] | None = None, seeds: Sequence[int] | None = None) -> ScoreMatrix:
    """Its rows of these tasks and columns of these seeds; None = all."""
    tasks, seeds = b.tasks if tasks is None else tasks, b.seeds if seeds is None else seeds
    at = np.ix_([b.tasks.index(t) for t in tasks], [b.seeds.index(s) for s in seeds])
    numbers = b.scores[at], b.ci_low[at], b.ci_high[at], b.num_examples[at]
    planned = None if b.planned is None else b.planned[at]
    return ScoreMatrix(b.name, tuple(tasks), tuple(seeds), *numbers, b.run_ids[at], planned)


def align(blocks: Sequence[ScoreMatrix], allow_holes: bool = False) -> list[ScoreMatrix]:
    """The blocks over the tasks and seeds that all of them have or plan; a number that one lacks is taken from all.

    Means over different tasks do not compare.

    Raises:
        ApetError: a planned run is missing and holes are not allowed.
    """
    first = blocks[0]
    tasks = [t for t in first.tasks if all(t in b.tasks for b in blocks)]
    seeds = [s for s in first.seeds if all(s in b.seeds for b in blocks)]
    same = [select(b, tasks, seeds) for b in blocks]
    missing = np.any([np.isnan(b.scores) for b in same], axis=0)
    planned = np.all([b.wanted for b in same], axis=0)
    holes = missing & planned
    if holes.any() and not allow_holes:
        t, s = np.argwhere(holes)[0]
        names = " or ".join(b.name for b in same if np.isnan(b.scores[t, s]))
        raise ApetError(
            f"{int(holes.sum())} of {int(planned.sum())} runs are missing, first {names} on {tasks[t]} with seed"
            f" {seeds[s]}; finish the study, or allow holes"
        )
    return [replace(b, scores=np.where(missing, np.nan, b.scores), planned=planned) for b in same]


def average(b: ScoreMatrix, scores: Scores, allow_holes: bool = False) -> Estimate | None:
    """Mean over tasks, then over seeds; None where nothing is left. Intervals end at 0 and 1, as the measures do.

    Raises:
        ApetError: a planned run is missing and holes are not allowed.
    """
    (b,) = align([b], allow_holes)
    rows, columns, holes = _whole(b)
    if not len(rows) or not len(columns):
        return None
    at = np.ix_(rows, columns)
    value, keys = b.scores[at], b.run_ids[at].astype(str)
    mean, sd, low, high = (float(x) for x in t_interval(value.mean(axis=0)))
    known = all(k in scores for k in keys.flat)
    below, above = [], []
    for t in range(len(rows)):
        if known:
            items = np.mean([scores[k] for k in keys[t]], axis=0)
            ends = bootstrap(items)
            below.append(items.mean() - ends[0])
            above.append(ends[1] - items.mean())
        else:  # the same items under every seed: their intervals shrink no further by averaging
            below.append((value[t] - b.ci_low[at][t]).mean())
            above.append((b.ci_high[at][t] - value[t]).mean())
    item_low, item_high = newcombe_interval(
        mean, np.square(below).sum() / len(rows) ** 2, np.square(above).sum() / len(rows) ** 2
    )
    low, high, item_low, item_high = np.clip([low, high, item_low, item_high], 0, 1).tolist()
    n = int(b.num_examples[at][:, 0].sum())
    basis = BOOTSTRAP if known else RUN_INTERVALS
    return Estimate(mean, len(columns), sd, low, high, n, item_low, item_high, basis, len(rows), holes)


def difference(a: ScoreMatrix, b: ScoreMatrix, scores: Scores, allow_holes: bool = False) -> Estimate | None:
    """Mean of a − b over the tasks that both have, paired by seed; None where no seed has both.

    The item-level interval is a paired bootstrap where the item scores of both are at hand, and otherwise treats the
    two as measured on different items, which is too wide rather than too narrow.

    Raises:
        ApetError: a planned run of either is missing and holes are not allowed.
    """
    a, b = align([a, b], allow_holes)
    rows, columns, holes = _whole(a)
    if not len(rows) or not len(columns):
        return None
    at = np.ix_(rows, columns)
    va, vb, ka, kb = a.scores[at], b.scores[at], a.run_ids[at].astype(str), b.run_ids[at].astype(str)
    mean, sd, low, high = (float(x) for x in t_interval((va - vb).mean(axis=0)))
    known = all(
        x in scores and y in scores and len(scores[x]) == len(scores[y]) for x, y in zip(ka.flat, kb.flat, strict=True)
    )
    below, above = [], []
    for t in range(len(rows)):
        if known:
            items = np.mean([scores[x] - scores[y] for x, y in zip(ka[t], kb[t], strict=True)], axis=0)
            ends = bootstrap(items)
            below.append((items.mean() - ends[0]) ** 2)
            above.append((ends[1] - items.mean()) ** 2)
        else:
            down_a, up_a = (va[t] - a.ci_low[at][t]).mean(), (a.ci_high[at][t] - va[t]).mean()
            down_b, up_b = (vb[t] - b.ci_low[at][t]).mean(), (b.ci_high[at][t] - vb[t]).mean()
            below.append(down_a**2 + up_b**2)
            above.append(up_a**2 + down_b**2)
    item_low, item_high = newcombe_interval(mean, sum(below) / len(rows) ** 2, sum(above) / len(rows) ** 2)
    n = int(a.num_examples[at][:, 0].sum())
    basis = PAIRED if known else UNPAIRED
    return Estimate(mean, len(columns), sd, low, high, n, item_low, item_high, basis, len(rows), holes)


def difference_by_seed(a: ScoreMatrix, b: ScoreMatrix) -> dict[int, float]:
    """Seed -> a − b, averaged over the tasks; over what both have."""
    a, b = align([a, b], allow_holes=True)
    rows, columns, _ = _whole(a)
    if not len(rows) or not len(columns):
        return {}
    at = np.ix_(rows, columns)
    return dict(zip((a.seeds[c] for c in columns), (a.scores[at] - b.scores[at]).mean(axis=0).tolist(), strict=True))


def scores_of(items: Items | None) -> Scores:
    """Item scores by run, in the order of the items."""
    if not isinstance(items, pd.DataFrame):
        return {} if items is None else items
    return {str(k): g["score"].to_numpy(dtype=float) for k, g in items.groupby("run_id", sort=False)}


def _whole(b: ScoreMatrix) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], int]:
    """Tasks and seeds that form a block without holes, and how many planned numbers that leaves out.

    Means over different tasks do not compare: a task or a seed is used for all or not at all. Tasks and seeds without
    any run go first; then the seeds that lack a task, as long as two whole ones stay; else, one by one, the line (task
    or seed) with the largest share of holes.
    """
    missing = np.isnan(b.scores)
    rows, columns = np.flatnonzero(~missing.all(axis=1)), np.flatnonzero(~missing.all(axis=0))
    left = missing[np.ix_(rows, columns)]
    whole = columns[~left.any(axis=0)]
    if len(whole) > 1:
        columns = whole
        left = missing[np.ix_(rows, columns)]
    while left.any():
        by_row, by_column = left.mean(axis=1), left.mean(axis=0)
        if by_row.max() > by_column.max():
            rows = np.delete(rows, by_row.argmax())
        else:
            columns = np.delete(columns, by_column.argmax())
        left = missing[np.ix_(rows, columns)]
    return rows, columns, int(b.wanted.sum() - b.wanted[np.ix_(rows, columns)].sum())
