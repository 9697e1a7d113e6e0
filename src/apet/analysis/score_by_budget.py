"""E4: the measure over the number of trained parameters (figure 7)."""

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
    """One point of a curve over N.

    Attributes:
        scale: the backbone.
        task: None = the mean over the family's tasks, given only where every one of them was run at this N.
        method: display name.
        n: trained parameters.
        trainable_percent: n in percent of the backbone.
        chance: measure of the majority class, averaged over the tasks; 0 for free text.
        level: the measure, over all seeds there are.
        behind: full fine-tuning − method, over the seeds that both have; None without any.
        keys: the runs.
    """

    scale: Scale
    task: str | None
    method: str
    num_trainable: int
    trainable_percent: float
    untrained_baseline: float
    score: Estimate
    gap: Estimate | None
    run_ids: tuple[str, ...]


def budget_points(board: StudyData, allow_holes: bool = False) -> list[BudgetPoint]:
    """Every backbone, task, method and N, the means over tasks first; curves need not share their seeds or counts.

    Raises:
        ApetError: a run failed and holes are not allowed.
    """
    bad = failed(board.runs)
    if len(bad) and not allow_holes:
        r = bad.iloc[0]
        raise ApetError(f"{len(bad)} runs failed, first {r['run_id']!r} ({r['error']}); retry them, or allow holes")
    scales = {s.name: s for s in board.scales}
    cells = {at: (b, chance, ratio) for at, b, chance, ratio in _cells(board.runs)}
    full = {(backbone, task): b for (backbone, task, m, _), (b, _, _) in cells.items() if m == FULL}
    found: list[BudgetPoint] = []
    by_task: dict[tuple[str, str, int], dict[str, tuple[ScoreMatrix, float, float]]] = {}
    for (backbone, task, method, n), (b, chance, ratio) in cells.items():
        by_task.setdefault((backbone, method, n), {})[task] = (b, chance, ratio)
        x = _level(board, scales[backbone], task, method, n, b, full.get((backbone, task)), chance, ratio)
        found.append(x)
    means = []
    for (backbone, method, n), parts in by_task.items():
        tasks = board.tasks(scales[backbone].family)
        if len(tasks) < 2 or len(parts) < len(tasks):
            continue
        joined = _joined([parts[t][0] for t in tasks])
        fulls = _joined([full[backbone, t] for t in tasks]) if all((backbone, t) in full for t in tasks) else None
        if joined is not None:
            chance, ratio = float(np.mean([parts[t][1] for t in tasks])), parts[tasks[0]][2]
            means.append(_level(board, scales[backbone], None, method, n, joined, fulls, chance, ratio))
    return [*means, *found]


def _level(
    board: StudyData,
    scale: Scale,
    task: str | None,
    method: str,
    n: int,
    b: ScoreMatrix,
    full: ScoreMatrix | None,
    chance: float,
    ratio: float,
) -> BudgetPoint:
    level = average(b, board.scores)
    assert level is not None
    level = replace(level, num_missing=len(_wanted(board, scale, method, n, b) - _there(b)))
    behind = None
    if full is not None and method != FULL:
        wanted = _wanted(board, scale, method, n, b) & _wanted(board, scale, FULL, board.own_sizes[scale.name, FULL], b)
        behind = _behind(board, full, b, wanted)
    return BudgetPoint(scale, task, method, n, ratio, chance, level, behind, tuple(b.run_ids.ravel().tolist()))


def _there(b: ScoreMatrix) -> set[tuple[str, int]]:
    return {(t, s) for t in b.tasks for s in b.seeds}


def _wanted(board: StudyData, scale: Scale, method: str, n: int, b: ScoreMatrix) -> set[tuple[str, int]]:
    """What was to run of a cell on the block's tasks."""
    return {(t, s) for t, s in board.plan.get((scale.name, method, n), ()) if t in b.tasks}


def _behind(board: StudyData, full: ScoreMatrix, b: ScoreMatrix, wanted: set[tuple[str, int]]) -> Estimate | None:
    """Paired by seed, over those that both have; a seed that full fine-tuning lacks is a hole unless a plan says no."""
    common = [s for s in b.seeds if s in full.seeds]
    if not common:
        return None
    gap = difference(full, b, board.scores)
    holes = len(b.seeds) - len(common) if board.planned is None else len(wanted - (_there(b) & _there(full)))
    return None if gap is None else replace(gap, num_missing=holes)


def _joined(blocks: list[ScoreMatrix]) -> ScoreMatrix | None:
    """Blocks of one task each as one, over the seeds that all have; None without any."""
    common = [s for s in blocks[0].seeds if all(s in b.seeds for b in blocks)]
    if not common:
        return None
    same = [select(b, seeds=common) for b in blocks]
    value, low, high, items, keys = (
        np.concatenate([getattr(b, f) for b in same])
        for f in ("scores", "ci_low", "ci_high", "num_examples", "run_ids")
    )
    return ScoreMatrix(blocks[0].name, tuple(b.tasks[0] for b in blocks), tuple(common), value, low, high, items, keys)


def _cells(runs: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str, int], ScoreMatrix, float, float]]:
    """Each cell as a block of one task, its chance and ratio; cut from arrays, for there are thousands."""
    done = complete(runs).sort_values([*CELL, "seed"], kind="stable")
    columns = {
        c: done[c].to_numpy()
        for c in (*CELL, "seed", "score", "ci_low", "ci_high", "num_examples", "run_id", "untrained_baseline")
    }
    ratio = done["trainable_percent"].to_numpy(dtype=float)
    changed = np.zeros(len(done), dtype=bool)
    changed[:1] = True
    for c in CELL:
        changed[1:] |= columns[c][1:] != columns[c][:-1]
    for a, b in pairwise([*np.flatnonzero(changed).tolist(), len(done)]):
        backbone, task, method, n = (columns[c][a] for c in CELL)
        at = (str(backbone), str(task), str(method), int(n))
        value, low, high, items = (
            columns[c][a:b][None].astype(float) for c in ("score", "ci_low", "ci_high", "num_examples")
        )
        seeds = tuple(int(s) for s in columns["seed"][a:b])
        name = f"{method} at {int(n):,} parameters on {backbone}"
        keys = columns["run_id"][a:b][None].astype(object)
        yield (
            at,
            ScoreMatrix(name, (at[1],), seeds, value, low, high, items, keys),
            float(columns["untrained_baseline"][a:b].mean()),
            float(ratio[a]),
        )
