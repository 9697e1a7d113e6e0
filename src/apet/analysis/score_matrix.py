"""Score matrices (tasks × seeds) of one method at one N, their means, and paired differences of two of them."""

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
"""run_id -> its item scores, (items,)."""

Items: TypeAlias = Scores | pd.DataFrame
"""Item scores by run_id, or as a table (`apet.analysis.frames.ITEMS`)."""

RUN_INTERVALS = "items, from the runs' own intervals"
UNPAIRED = "items, unpaired"
PAIRED = "items, paired bootstrap"
BOOTSTRAP = "items, bootstrap"

FINISH_OR_ALLOW = "finish the study, or allow holes (in Python allow_holes=True)"
"""What a user can do about missing runs."""


@dataclass(frozen=True)
class ScoreMatrix:
    """Scores of one method at one N on one backbone as a matrix of tasks × seeds; NaN where a run is missing.

    Attributes:
        name: method, N and backbone, for messages.
        tasks: of the rows.
        seeds: of the columns.
        scores: validation scores, (tasks, seeds).
        ci_low: lower ends of their item-level intervals, (tasks, seeds).
        ci_high: upper ends of them, (tasks, seeds).
        num_examples: validation items, (tasks, seeds).
        run_ids: (tasks, seeds); empty where the run is missing.
        planned: which runs were planned, (tasks, seeds); None = all.
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
    def planned_mask(self) -> npt.NDArray[np.bool_]:
        """Which runs were planned, (tasks, seeds); all of them where the plan is unknown."""
        return np.full(self.scores.shape, True) if self.planned is None else self.planned


def score_matrix(
    runs: pd.DataFrame,
    name: str,
    tasks: Sequence[str],
    seeds: Sequence[int],
    planned: Collection[tuple[str, int]] | None = None,
) -> ScoreMatrix:
    """Score matrix (tasks × seeds) of the runs of one cell.

    Args:
        runs: complete runs of one backbone, method and N.
        name: method, N and backbone, for messages.
        tasks: of the rows; runs on others are ignored.
        seeds: of the columns; runs with others are ignored.
        planned: the (task, seed) that were to run; None = all.

    Returns:
        Scores with the ends of their intervals, (tasks, seeds); NaN where a run is missing.
    """
    shape = (len(tasks), len(seeds))
    row_of, column_of = ({x: i for i, x in enumerate(xs)} for xs in (tasks, seeds))
    kept = runs[runs["task"].isin(list(tasks)) & runs["seed"].isin(list(seeds))]
    index = (kept["task"].map(row_of).to_numpy(dtype=int), kept["seed"].map(column_of).to_numpy(dtype=int))
    numbers = np.full((4, *shape), np.nan)  # a missing run is NaN, never 0: it must not enter a mean
    for number, column in zip(numbers, ("score", "ci_low", "ci_high", "num_examples"), strict=True):
        number[index] = kept[column]
    scores, ci_low, ci_high, num_examples = numbers
    run_ids = np.full(shape, "", dtype=object)
    run_ids[index] = kept["run_id"]
    mask = None if planned is None else np.array([[(t, s) in planned for s in seeds] for t in tasks], dtype=bool)
    return ScoreMatrix(
        name, tuple(tasks), tuple(int(s) for s in seeds), scores, ci_low, ci_high, num_examples, run_ids, mask
    )


def select(matrix: ScoreMatrix, tasks: Sequence[str] | None = None, seeds: Sequence[int] | None = None) -> ScoreMatrix:
    """Submatrix of the given tasks and seeds, in the given order; None = all of them."""
    tasks, seeds = matrix.tasks if tasks is None else tasks, matrix.seeds if seeds is None else seeds
    index = np.ix_([matrix.tasks.index(t) for t in tasks], [matrix.seeds.index(s) for s in seeds])
    numbers = (matrix.scores[index], matrix.ci_low[index], matrix.ci_high[index], matrix.num_examples[index])
    planned = None if matrix.planned is None else matrix.planned[index]
    return ScoreMatrix(matrix.name, tuple(tasks), tuple(seeds), *numbers, matrix.run_ids[index], planned)


def align(matrices: Sequence[ScoreMatrix], allow_holes: bool = False) -> list[ScoreMatrix]:
    """Score matrices over the tasks and seeds that all of them have; a run that one lacks is removed from all.

    Args:
        matrices: at least one.
        allow_holes: go on where a planned run is missing.

    Returns:
        The matrices in their order, with equal tasks and seeds and NaN at equal places.

    Raises:
        ApetError: a planned run is missing, and missing runs are not allowed.
    """
    # Means over different tasks do not compare: an easy task that only one side has would look like an effect.
    tasks = [t for t in matrices[0].tasks if all(t in m.tasks for m in matrices)]
    seeds = [s for s in matrices[0].seeds if all(s in m.seeds for m in matrices)]
    shared = [select(m, tasks, seeds) for m in matrices]
    missing = np.any([np.isnan(m.scores) for m in shared], axis=0)
    planned = np.all([m.planned_mask for m in shared], axis=0)
    holes = missing & planned
    if holes.any() and not allow_holes:
        row, column = np.argwhere(holes)[0]
        names = " or ".join(m.name for m in shared if np.isnan(m.scores[row, column]))
        raise ApetError(
            f"{int(holes.sum())} of {int(planned.sum())} runs are missing, first {names} on {tasks[row]} with seed"
            f" {seeds[column]}; {FINISH_OR_ALLOW}"
        )
    return [replace(m, scores=np.where(missing, np.nan, m.scores), planned=planned) for m in shared]


def average(matrix: ScoreMatrix, item_scores: Scores, allow_holes: bool = False) -> Estimate | None:
    """Mean score over tasks, then over seeds, with its intervals over seeds and over items.

    Args:
        matrix: of one method at one N.
        item_scores: by run_id; where those of every run are known, the item-level interval is a bootstrap, else it is
            combined from the runs' own intervals.
        allow_holes: go on where a planned run is missing.

    Returns:
        The estimate over the tasks and seeds that form a matrix without missing runs; None where there are none.

    Raises:
        ApetError: a planned run is missing, and missing runs are not allowed.
    """
    (matrix,) = align([matrix], allow_holes)
    rows, columns, num_missing = _without_holes(matrix)
    if not len(rows) or not len(columns):
        return None
    index = np.ix_(rows, columns)
    scores, run_ids = matrix.scores[index], matrix.run_ids[index].astype(str)
    # Seeds are the units of the t-interval, each with its mean over tasks: tasks are the same ones for every seed and
    # no sample of anything.
    mean, sd, low, high = (float(x) for x in t_interval(scores.mean(axis=0)))
    items_known = all(run_id in item_scores for run_id in run_ids.flat)
    below, above = [], []
    for row in range(len(rows)):
        if items_known:
            items = np.mean([item_scores[run_id] for run_id in run_ids[row]], axis=0)
            task_low, task_high = bootstrap(items)
            below.append(items.mean() - task_low)
            above.append(task_high - items.mean())
        else:
            # Every seed is evaluated on the same items: averaging over seeds does not shrink their intervals.
            below.append((scores[row] - matrix.ci_low[index][row]).mean())
            above.append((matrix.ci_high[index][row] - scores[row]).mean())
    # Tasks have different items, so their errors are independent; the mean over T tasks divides each by T.
    item_low, item_high = newcombe_interval(
        mean, np.square(below).sum() / len(rows) ** 2, np.square(above).sum() / len(rows) ** 2
    )
    # A score cannot leave [0, 1], but a t-interval of few seeds can: its end there says nothing.
    # Correlations may be below 0, shares may not.
    floor = 0.0 if (scores >= 0).all() else -np.inf
    low, high, item_low, item_high = np.clip([low, high, item_low, item_high], floor, 1).tolist()
    num_examples = int(matrix.num_examples[index][:, 0].sum())
    method = BOOTSTRAP if items_known else RUN_INTERVALS
    return Estimate(
        mean, len(columns), sd, low, high, num_examples, item_low, item_high, method, len(rows), num_missing
    )


def difference(
    first: ScoreMatrix, second: ScoreMatrix, item_scores: Scores, allow_holes: bool = False
) -> Estimate | None:
    """Mean difference first − second, paired by task and seed, with its intervals over seeds and over items.

    Args:
        first: minuend.
        second: subtrahend.
        item_scores: by run_id; where those of every run of both are known, the item-level interval is a paired
            bootstrap, else it is Newcombe's of two independent samples.
        allow_holes: go on where a planned run is missing.

    Returns:
        The estimate over the tasks that both have; None where they share no seed.

    Raises:
        ApetError: a planned run of either is missing, and missing runs are not allowed.
    """
    first, second = align([first, second], allow_holes)
    rows, columns, num_missing = _without_holes(first)
    if not len(rows) or not len(columns):
        return None
    index = np.ix_(rows, columns)
    a, b = first.scores[index], second.scores[index]
    ids_a, ids_b = first.run_ids[index].astype(str), second.run_ids[index].astype(str)
    # Paired: runs with one seed see the same data in the same order, and what they share cancels in the difference.
    mean, sd, low, high = (float(x) for x in t_interval((a - b).mean(axis=0)))
    # Scores of different lengths come of different validation items, which cannot be paired.
    paired = all(
        x in item_scores and y in item_scores and len(item_scores[x]) == len(item_scores[y])
        for x, y in zip(ids_a.flat, ids_b.flat, strict=True)
    )
    squared_below, squared_above = [], []
    for row in range(len(rows)):
        if paired:
            items = np.mean([item_scores[x] - item_scores[y] for x, y in zip(ids_a[row], ids_b[row], strict=True)], 0)
            task_low, task_high = bootstrap(items)
            squared_below.append((items.mean() - task_low) ** 2)
            squared_above.append((task_high - items.mean()) ** 2)
        else:
            # The difference is smallest where the first is low and the second high. Taken as measured on different
            # items, the interval is too wide rather than too narrow: on the same items errors would partly cancel.
            below_a, above_a = (a[row] - first.ci_low[index][row]).mean(), (first.ci_high[index][row] - a[row]).mean()
            below_b, above_b = (b[row] - second.ci_low[index][row]).mean(), (second.ci_high[index][row] - b[row]).mean()
            squared_below.append(below_a**2 + above_b**2)
            squared_above.append(above_a**2 + below_b**2)
    item_low, item_high = newcombe_interval(
        mean, sum(squared_below) / len(rows) ** 2, sum(squared_above) / len(rows) ** 2
    )
    num_examples = int(first.num_examples[index][:, 0].sum())
    method = PAIRED if paired else UNPAIRED
    return Estimate(
        mean, len(columns), sd, low, high, num_examples, item_low, item_high, method, len(rows), num_missing
    )


def difference_by_seed(first: ScoreMatrix, second: ScoreMatrix) -> dict[int, float]:
    """Paired differences first − second of single seeds, averaged over the tasks that both have.

    Returns:
        seed -> difference; empty where they share no seed.
    """
    first, second = align([first, second], allow_holes=True)
    rows, columns, _ = _without_holes(first)
    if not len(rows) or not len(columns):
        return {}
    index = np.ix_(rows, columns)
    differences = (first.scores[index] - second.scores[index]).mean(axis=0)
    return dict(zip((first.seeds[c] for c in columns), differences.tolist(), strict=True))


def scores_of(items: Items | None) -> Scores:
    """Item scores by run_id, in the order of the items.

    Args:
        items: a table as `checked_items` returns it, or already by run_id; None = unknown.

    Returns:
        run_id -> scores, (items,); empty where the items are unknown.
    """
    if not isinstance(items, pd.DataFrame):
        return {} if items is None else items
    return {str(run_id): g["score"].to_numpy(dtype=float) for run_id, g in items.groupby("run_id", sort=False)}


def _without_holes(matrix: ScoreMatrix) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], int]:
    """Largest submatrix without missing runs that a greedy choice finds.

    Returns:
        Indices of its rows and of its columns, and how many planned runs lie outside of it.
    """
    missing = np.isnan(matrix.scores)
    # A task or a seed is used for all or not at all: the mean of a seed that lacks a hard task would be too high.
    rows, columns = np.flatnonzero(~missing.all(axis=1)), np.flatnonzero(~missing.all(axis=0))
    remaining = missing[np.ix_(rows, columns)]
    # Seeds go before tasks, for what a mean runs over should stay; but two seeds must be left, or there is no interval.
    complete_columns = columns[~remaining.any(axis=0)]
    if len(complete_columns) > 1:
        columns = complete_columns
        remaining = missing[np.ix_(rows, columns)]
    while remaining.any():
        holes_by_row, holes_by_column = remaining.mean(axis=1), remaining.mean(axis=0)
        if holes_by_row.max() > holes_by_column.max():
            rows = np.delete(rows, holes_by_row.argmax())
        else:
            columns = np.delete(columns, holes_by_column.argmax())
        remaining = missing[np.ix_(rows, columns)]
    planned = matrix.planned_mask
    return rows, columns, int(planned.sum() - planned[np.ix_(rows, columns)].sum())
