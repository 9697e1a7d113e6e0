"""E4: the measure over the number of trained parameters (figure 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from apet.analysis.blocks import Block, average, cut, difference
from apet.analysis.board import Board, Scale
from apet.analysis.frames import CELL, FULL, complete, failed
from apet.analysis.intervals import Estimate
from apet.errors import ApetError


@dataclass(frozen=True)
class Level:
    """One point of a curve over N.

    Attributes:
        scale: the backbone.
        task: None = the mean over the family's tasks, given only where every one of them was run at this N.
        method: display name.
        n: trained parameters.
        ratio_percent: n in percent of the backbone.
        chance: measure of the majority class, averaged over the tasks; 0 for free text.
        level: the measure, over all seeds there are.
        behind: full fine-tuning − method, over the seeds that both have; None without any.
        keys: the runs.
    """

    scale: Scale
    task: str | None
    method: str
    n: int
    ratio_percent: float
    chance: float
    level: Estimate
    behind: Estimate | None
    keys: tuple[str, ...]


def levels(board: Board, allow_holes: bool = False) -> list[Level]:
    """Every backbone, task, method and N, the means over tasks first; curves need not share their seeds or counts.

    Raises:
        ApetError: a run failed and holes are not allowed.
    """
    bad = failed(board.runs)
    if len(bad) and not allow_holes:
        r = bad.iloc[0]
        raise ApetError(f"{len(bad)} runs failed, first {r['key']!r} ({r['reason']}); retry them, or allow holes")
    scales = {s.name: s for s in board.scales}
    cells = {at: (b, chance, ratio) for at, b, chance, ratio in _cells(board.runs)}
    full = {(backbone, task): b for (backbone, task, m, _), (b, _, _) in cells.items() if m == FULL}
    found: list[Level] = []
    by_task: dict[tuple[str, str, int], dict[str, tuple[Block, float, float]]] = {}
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
    board: Board,
    scale: Scale,
    task: str | None,
    method: str,
    n: int,
    b: Block,
    full: Block | None,
    chance: float,
    ratio: float,
) -> Level:
    level = average(b, board.scores)
    assert level is not None
    level = replace(level, holes=len(_wanted(board, scale, method, n, b) - _there(b)))
    behind = None
    if full is not None and method != FULL:
        wanted = _wanted(board, scale, method, n, b) & _wanted(board, scale, FULL, board.own_sizes[scale.name, FULL], b)
        behind = _behind(board, full, b, wanted)
    return Level(scale, task, method, n, ratio, chance, level, behind, tuple(b.keys.ravel().tolist()))


def _there(b: Block) -> set[tuple[str, int]]:
    return {(t, s) for t in b.tasks for s in b.seeds}


def _wanted(board: Board, scale: Scale, method: str, n: int, b: Block) -> set[tuple[str, int]]:
    """What was to run of a cell on the block's tasks."""
    return {(t, s) for t, s in board.plan.get((scale.name, method, n), ()) if t in b.tasks}


def _behind(board: Board, full: Block, b: Block, wanted: set[tuple[str, int]]) -> Estimate | None:
    """Paired by seed, over those that both have; a seed that full fine-tuning lacks is a hole unless a plan says no."""
    common = [s for s in b.seeds if s in full.seeds]
    if not common:
        return None
    gap = difference(full, b, board.scores)
    holes = len(b.seeds) - len(common) if board.planned is None else len(wanted - (_there(b) & _there(full)))
    return None if gap is None else replace(gap, holes=holes)


def _joined(blocks: list[Block]) -> Block | None:
    """Blocks of one task each as one, over the seeds that all have; None without any."""
    common = [s for s in blocks[0].seeds if all(s in b.seeds for b in blocks)]
    if not common:
        return None
    same = [cut(b, seeds=common) for b in blocks]
    value, low, high, items, keys = (
        np.concatenate([getattr(b, f) for b in same]) for f in ("value", "low", "high", "items", "keys")
    )
    return Block(blocks[0].name, tuple(b.tasks[0] for b in blocks), tuple(common), value, low, high, items, keys)


def _cells(runs: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str, int], Block, float, float]]:
    """Each cell as a block of one task, its chance and ratio; cut from arrays, for there are thousands."""
    done = complete(runs).sort_values([*CELL, "seed"], kind="stable")
    columns = {c: done[c].to_numpy() for c in (*CELL, "seed", "value", "low", "high", "n", "key", "chance")}
    ratio = done["ratio_percent"].to_numpy(dtype=float)
    changed = np.zeros(len(done), dtype=bool)
    changed[:1] = True
    for c in CELL:
        changed[1:] |= columns[c][1:] != columns[c][:-1]
    for a, b in pairwise([*np.flatnonzero(changed).tolist(), len(done)]):
        backbone, task, method, n = (columns[c][a] for c in CELL)
        at = (str(backbone), str(task), str(method), int(n))
        value, low, high, items = (columns[c][a:b][None].astype(float) for c in ("value", "low", "high", "n"))
        seeds = tuple(int(s) for s in columns["seed"][a:b])
        name = f"{method} at {int(n):,} parameters on {backbone}"
        keys = columns["key"][a:b][None].astype(object)
        yield (
            at,
            Block(name, (at[1],), seeds, value, low, high, items, keys),
            float(columns["chance"][a:b].mean()),
            float(ratio[a]),
        )
