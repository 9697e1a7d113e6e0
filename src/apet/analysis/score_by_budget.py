"""Score over the number of trained parameters N, for every method and task (E4; figure 7 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from apet.analysis.frames import CELL, FULL, complete, failed
from apet.analysis.intervals import Estimate
from apet.analysis.score_matrix import ScoreMatrix, average, difference, select
from apet.analysis.study_data import Scale, StudyData
from apet.errors import ApetError


@dataclass(frozen=True)
class BudgetPoint:
    """One point of a curve of score over N.

    Attributes:
        scale: the backbone.
        task: None = the mean over the family's tasks, given only where every one of them was run at this N.
        method: display name.
        num_trainable: number of trained parameters, N.
        trainable_percent: N in percent of the backbone.
        untrained_baseline: score of the majority class, averaged over the tasks; 0 for free text.
        untrained: score before training.
        constant: score of the best constant answer, averaged over the tasks; 0 for free text.
        score: over all seeds there are.
        scores: of each seed, averaged over the tasks.
        gap: full fine-tuning − method, over the seeds that both have; None without any.
        run_ids: the runs behind it.
    """

    scale: Scale
    task: str | None
    method: str
    num_trainable: int
    trainable_percent: float
    untrained_baseline: float
    untrained: float
    constant: float
    score: Estimate
    scores: tuple[float, ...]
    gap: Estimate | None
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class _Cell:
    """Runs of one method at one N, on one task or on several joined.

    Attributes:
        method: display name.
        num_trainable: N.
        matrix: their scores, (tasks, seeds), none missing.
        untrained_baseline: score of the majority class.
        trainable_percent: N in percent of the backbone.
        untrained: score before training.
        constant: score of the best constant answer.
    """

    method: str
    num_trainable: int
    matrix: ScoreMatrix
    untrained_baseline: float
    trainable_percent: float
    untrained: float
    constant: float


def budget_points(data: StudyData, allow_holes: bool = False) -> list[BudgetPoint]:
    """Points of the curves of score over N; curves need not share their seeds or counts.

    Args:
        data: the runs.
        allow_holes: go on where runs failed, and count them in every estimate.

    Returns:
        The means over tasks first, then each backbone, task, method and N.

    Raises:
        ApetError: a run failed, and missing runs are not allowed.
    """
    failures = failed(data.runs)
    if len(failures) and not allow_holes:
        first = failures.iloc[0]
        raise ApetError(
            f"{len(failures)} runs failed, first {first['run_id']!r} ({first['error']}); retry them, or allow holes"
            " (in Python allow_holes=True)"
        )
    cells = {(backbone, task, c.method, c.num_trainable): c for backbone, task, c in _cells(data.runs)}
    full = {(backbone, task): c.matrix for (backbone, task, method, _), c in cells.items() if method == FULL}
    scales = {s.name: s for s in data.scales}
    points = []
    by_task: dict[tuple[str, str, int], dict[str, _Cell]] = {}
    # A curve may have more seeds at one N than at the next: a threshold search adds them where they decide.
    for (backbone, task, method, n), cell in cells.items():
        by_task.setdefault((backbone, method, n), {})[task] = cell
        points.append(_point(data, scales[backbone], task, cell, full.get((backbone, task))))
    means = []
    for (backbone, method, n), task_cells in by_task.items():
        tasks = data.tasks(scales[backbone].family)
        # A mean over some of the tasks would put a step into the curve where a task joins or leaves it.
        if len(tasks) < 2 or len(task_cells) < len(tasks):
            continue
        matrix = _joined([task_cells[t].matrix for t in tasks])
        full_known = all((backbone, t) in full for t in tasks)
        full_matrix = _joined([full[backbone, t] for t in tasks]) if full_known else None
        if matrix is not None:
            baseline = float(np.mean([task_cells[t].untrained_baseline for t in tasks]))
            untrained, constant = (
                float(np.mean([getattr(task_cells[t], name) for t in tasks])) for name in ("untrained", "constant")
            )
            percent = task_cells[tasks[0]].trainable_percent
            mean_cell = _Cell(method, n, matrix, baseline, percent, untrained, constant)
            means.append(_point(data, scales[backbone], None, mean_cell, full_matrix))
    return [*means, *points]


def _point(data: StudyData, scale: Scale, task: str | None, cell: _Cell, full: ScoreMatrix | None) -> BudgetPoint:
    """Point of one cell, with its gap to full fine-tuning where that was run."""
    score = average(cell.matrix, data.scores)
    assert score is not None  # a cell is made of complete runs
    planned = _planned(data, scale, cell.method, cell.num_trainable, cell.matrix)
    score = replace(score, num_missing=len(planned - _present(cell.matrix)))
    gap = None
    if full is not None and cell.method != FULL:
        full_size = data.own_sizes[scale.name, FULL]
        both_planned = planned & _planned(data, scale, FULL, full_size, cell.matrix)
        gap = _gap(data, full, cell.matrix, both_planned)
    return BudgetPoint(
        scale=scale,
        task=task,
        method=cell.method,
        num_trainable=cell.num_trainable,
        trainable_percent=cell.trainable_percent,
        untrained_baseline=cell.untrained_baseline,
        untrained=cell.untrained,
        constant=cell.constant,
        score=score,
        scores=tuple(cell.matrix.scores.mean(axis=0).tolist()),
        gap=gap,
        run_ids=tuple(cell.matrix.run_ids.ravel().tolist()),
    )


def _present(matrix: ScoreMatrix) -> set[tuple[str, int]]:
    """(task, seed) of a matrix without missing runs."""
    return {(task, seed) for task in matrix.tasks for seed in matrix.seeds}


def _planned(data: StudyData, scale: Scale, method: str, n: int, matrix: ScoreMatrix) -> set[tuple[str, int]]:
    """Planned (task, seed) of a method at one N, on the tasks of the matrix."""
    return {(task, seed) for task, seed in data.plan.get((scale.name, method, n), ()) if task in matrix.tasks}


def _gap(data: StudyData, full: ScoreMatrix, matrix: ScoreMatrix, planned: set[tuple[str, int]]) -> Estimate | None:
    """Full fine-tuning − method over the seeds that both have; None without any.

    Args:
        data: the runs.
        full: of full fine-tuning.
        matrix: of the method.
        planned: (task, seed) planned for both.

    Returns:
        The gap with its intervals, and how many planned runs it lacks; None where the two share no seed.
    """
    shared_seeds = [s for s in matrix.seeds if s in full.seeds]
    if not shared_seeds:
        return None
    gap = difference(full, matrix, data.scores)
    # Without a plan, a seed that full fine-tuning lacks counts as missing: nothing says that it was left out by intent.
    if data.planned is None:
        num_missing = len(matrix.seeds) - len(shared_seeds)
    else:
        num_missing = len(planned - (_present(matrix) & _present(full)))
    return None if gap is None else replace(gap, num_missing=num_missing)


def _joined(matrices: list[ScoreMatrix]) -> ScoreMatrix | None:
    """Matrices of one task each as one of all tasks, over the seeds that all have; None without any."""
    # The mean of a seed that one task lacks would be over other tasks than the next seed's.
    seeds = [s for s in matrices[0].seeds if all(s in m.seeds for m in matrices)]
    if not seeds:
        return None
    shared = [select(m, seeds=seeds) for m in matrices]
    return ScoreMatrix(
        name=matrices[0].name,
        tasks=tuple(m.tasks[0] for m in matrices),
        seeds=tuple(seeds),
        scores=np.concatenate([m.scores for m in shared]),
        ci_low=np.concatenate([m.ci_low for m in shared]),
        ci_high=np.concatenate([m.ci_high for m in shared]),
        num_examples=np.concatenate([m.num_examples for m in shared]),
        run_ids=np.concatenate([m.run_ids for m in shared]),
    )


def _cells(runs: pd.DataFrame) -> Iterator[tuple[str, str, _Cell]]:
    """Backbone, task and runs of every cell with a complete run."""
    # Cut from sorted arrays: a study of a threshold has thousands of cells, and a groupby builds a table for each.
    done = complete(runs).sort_values([*CELL, "seed"], kind="stable")
    names = (
        *CELL,
        "seed",
        "score",
        "ci_low",
        "ci_high",
        "num_examples",
        "run_id",
        "untrained_baseline",
        "constant",
        "untrained",
    )
    # What a table of before does not hold counts as a guess.
    done = done.assign(
        constant=done["majority_baseline"].fillna(done["untrained_baseline"]),
        untrained=done["score_untrained"].fillna(done["untrained_baseline"]),
    )
    columns = {name: done[name].to_numpy() for name in names}
    percent = done["trainable_percent"].to_numpy(dtype=float)
    is_start = np.zeros(len(done), dtype=bool)
    is_start[:1] = True
    for name in CELL:
        is_start[1:] |= columns[name][1:] != columns[name][:-1]
    for start, end in pairwise([*np.flatnonzero(is_start).tolist(), len(done)]):
        backbone, task, method = (str(columns[name][start]) for name in ("backbone", "task", "method"))
        n = int(columns["num_trainable"][start])
        scores, ci_low, ci_high, num_examples = (
            columns[name][start:end][None].astype(float) for name in ("score", "ci_low", "ci_high", "num_examples")
        )
        matrix = ScoreMatrix(
            name=f"{method} at {n:,} parameters on {backbone}",
            tasks=(task,),
            seeds=tuple(int(s) for s in columns["seed"][start:end]),
            scores=scores,
            ci_low=ci_low,
            ci_high=ci_high,
            num_examples=num_examples,
            run_ids=columns["run_id"][start:end][None].astype(object),
        )
        baseline = float(columns["untrained_baseline"][start:end].mean())
        untrained, constant = (float(columns[name][start:end].mean()) for name in ("untrained", "constant"))
        yield backbone, task, _Cell(method, n, matrix, baseline, float(percent[start]), untrained, constant)
