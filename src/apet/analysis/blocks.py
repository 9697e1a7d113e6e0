"""Runs of one cell laid out as tasks × seeds, and what can be said about one block or about two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from apet.analysis.intervals import Estimate, Floats, apart, bootstrap, t_interval
from apet.errors import ApetError

Scores = Mapping[str, Floats]
"""Run key -> its item scores, (items,)."""

RUN_INTERVALS = "items, from the runs' own intervals"
UNPAIRED = "items, unpaired"
PAIRED = "items, paired bootstrap"
BOOTSTRAP = "items, bootstrap"


@dataclass(frozen=True)
class Block:
    """Numbers of one method at one size on one backbone; NaN where a run is missing.

    Attributes:
        name: what it is, for messages.
        tasks, seeds: of the rows and columns.
        value, low, high: measure and its item-level interval, (tasks, seeds).
        items: validation items, (tasks, seeds).
        keys: of the runs, (tasks, seeds); empty where missing.
    """

    name: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    value: Floats
    low: Floats
    high: Floats
    items: Floats
    keys: npt.NDArray[np.object_]


def block(runs: pd.DataFrame, name: str, tasks: Sequence[str], seeds: Sequence[int]) -> Block:
    """Lay out complete runs of one cell.

    Args:
        runs: complete runs of one backbone, method and size.
        name: what it is.
        tasks, seeds: what was planned; runs of others are left aside.
    """
    shape = (len(tasks), len(seeds))
    row, column = ({x: i for i, x in enumerate(xs)} for xs in (tasks, seeds))
    kept = runs[runs["task"].isin(list(tasks)) & runs["seed"].isin(list(seeds))]
    at = (kept["task"].map(row).to_numpy(dtype=int), kept["seed"].map(column).to_numpy(dtype=int))
    parts = np.full((4, *shape), np.nan)
    for part, field in zip(parts, ("value", "low", "high", "n"), strict=True):
        part[at] = kept[field]
    keys = np.full(shape, "", dtype=object)
    keys[at] = kept["key"]
    value, low, high, items = parts
    return Block(name, tuple(tasks), tuple(int(s) for s in seeds), value, low, high, items, keys)


def average(b: Block, scores: Scores, allow_holes: bool = False) -> Estimate | None:
    """Mean over tasks, then over seeds; None where nothing is left. Intervals end at 0 and 1, as the measures do.

    Raises:
        ApetError: a run is missing and holes are not allowed.
    """
    rows, columns, holes = _whole(np.isnan(b.value), (b,), allow_holes)
    if not len(rows) or not len(columns):
        return None
    cut = np.ix_(rows, columns)
    value, keys = b.value[cut], b.keys[cut].astype(str)
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
            below.append((value[t] - b.low[cut][t]).mean())
            above.append((b.high[cut][t] - value[t]).mean())
    item_low, item_high = apart(mean, np.square(below).sum() / len(rows) ** 2, np.square(above).sum() / len(rows) ** 2)
    low, high, item_low, item_high = np.clip([low, high, item_low, item_high], 0, 1).tolist()
    n = int(b.items[cut][:, 0].sum())
    basis = BOOTSTRAP if known else RUN_INTERVALS
    return Estimate(mean, len(columns), sd, low, high, n, item_low, item_high, basis, len(rows), holes)


def difference(a: Block, b: Block, scores: Scores, allow_holes: bool = False) -> Estimate | None:
    """Mean of a − b over tasks, paired by seed; None where no seed has both.

    The item-level interval is a paired bootstrap where the item scores of both are at hand, and otherwise treats the
    two as measured on different items, which is too wide rather than too narrow.

    Raises:
        ApetError: a run of either is missing and holes are not allowed.
    """
    rows, columns, holes = _whole(np.isnan(a.value) | np.isnan(b.value), (a, b), allow_holes)
    if not len(rows) or not len(columns):
        return None
    cut = np.ix_(rows, columns)
    va, vb, ka, kb = a.value[cut], b.value[cut], a.keys[cut].astype(str), b.keys[cut].astype(str)
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
            down_a, up_a = (va[t] - a.low[cut][t]).mean(), (a.high[cut][t] - va[t]).mean()
            down_b, up_b = (vb[t] - b.low[cut][t]).mean(), (b.high[cut][t] - vb[t]).mean()
            below.append(down_a**2 + up_b**2)
            above.append(up_a**2 + down_b**2)
    item_low, item_high = apart(mean, sum(below) / len(rows) ** 2, sum(above) / len(rows) ** 2)
    n = int(a.items[cut][:, 0].sum())
    basis = PAIRED if known else UNPAIRED
    return Estimate(mean, len(columns), sd, low, high, n, item_low, item_high, basis, len(rows), holes)


def per_seed(a: Block, b: Block, allow_holes: bool = False) -> Floats:
    """a − b, averaged over the tasks: one number a seed, (seeds,).

    Raises:
        ApetError: a run of either is missing and holes are not allowed.
    """
    rows, columns, _ = _whole(np.isnan(a.value) | np.isnan(b.value), (a, b), allow_holes)
    if not len(rows) or not len(columns):
        return np.empty(0)
    cut = np.ix_(rows, columns)
    return (a.value[cut] - b.value[cut]).mean(axis=0)


def one_task(b: Block, task: str) -> Block:
    """Its row of that task."""
    i = [b.tasks.index(task)]
    return Block(b.name, (task,), b.seeds, b.value[i], b.low[i], b.high[i], b.items[i], b.keys[i])


def scores_of(items: pd.DataFrame | None) -> dict[str, Floats]:
    """Item scores by run, in the order of the items."""
    if items is None:
        return {}
    return {str(k): g["score"].to_numpy(dtype=float) for k, g in items.groupby("key", sort=False)}


def _whole(
    missing: npt.NDArray[np.bool_], blocks: Sequence[Block], allow_holes: bool
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], int]:
    """Tasks and seeds that form a block without holes, and how many planned numbers that leaves out.

    Means over different tasks do not compare: a task or a seed is used for all or not at all. Tasks and seeds without
    any run go first; then the seeds that lack a task, as long as two whole ones stay; else, one by one, the line (task
    or seed) with the largest share of holes.
    """
    first = blocks[0]
    if missing.any() and not allow_holes:
        t, s = np.argwhere(missing)[0]
        names = " or ".join(b.name for b in blocks if np.isnan(b.value[t, s]))
        raise ApetError(
            f"{int(missing.sum())} of {missing.size} runs are missing, first {names} on {first.tasks[t]} with seed"
            f" {first.seeds[s]}; finish the study, or allow holes"
        )
    rows, columns = np.flatnonzero(~missing.all(axis=1)), np.flatnonzero(~missing.all(axis=0))
    left = missing[np.ix_(rows, columns)]
    whole = columns[~left.any(axis=0)]
    if len(whole) > 1:
        return rows, whole, int(missing.size - len(rows) * len(whole))
    while left.any():
        by_row, by_column = left.mean(axis=1), left.mean(axis=0)
        if by_row.max() > by_column.max():
            rows = np.delete(rows, by_row.argmax())
        else:
            columns = np.delete(columns, by_column.argmax())
        left = missing[np.ix_(rows, columns)]
    return rows, columns, int(missing.size - len(rows) * len(columns))
