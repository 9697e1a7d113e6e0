"""E4: the measure over the number of trained parameters (figure 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from apet.analysis.blocks import Block, average, block, difference
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
    """Every backbone, task, method and N; curves need not share their seeds or counts.

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
    found = [
        _level(board, scales[at[0]], at, b, full.get((at[0], at[1])), chance, ratio)
        for at, (b, chance, ratio) in cells.items()
    ]
    return [*_means(board, found, full), *found]


def _level(
    board: Board, scale: Scale, at: tuple[str, str, str, int], b: Block, full: Block | None, chance: float, ratio: float
) -> Level:
    _, task, method, n = at
    level = average(b, board.scores)
    assert level is not None
    behind = None if full is None or method == FULL else _behind(board, full, b)
    return Level(scale, task, method, n, ratio, chance, level, behind, tuple(b.keys[0]))


def _behind(board: Board, full: Block, b: Block) -> Estimate | None:
    """Paired by seed, over those that both have."""
    common = [s for s in b.seeds if s in full.seeds]
    if not common:
        return None
    gap = difference(_seeds(full, common), _seeds(b, common), board.scores)
    return None if gap is None else replace(gap, holes=len(b.seeds) - len(common))


def _seeds(b: Block, seeds: list[int]) -> Block:
    i = [b.seeds.index(s) for s in seeds]
    return Block(b.name, b.tasks, tuple(seeds), b.value[:, i], b.low[:, i], b.high[:, i], b.items[:, i], b.keys[:, i])


def _means(board: Board, found: list[Level], full: dict[tuple[str, str], Block]) -> list[Level]:
    """The mean over tasks, by the seeds that all tasks share."""
    by_cell: dict[tuple[str, str, int], list[Level]] = {}
    for x in found:
        by_cell.setdefault((x.scale.name, x.method, x.n), []).append(x)
    means = []
    for (backbone, method, n), xs in by_cell.items():
        tasks = board.tasks(xs[0].scale.family)
        if len(tasks) < 2 or len(xs) < len(tasks):
            continue
        b = _stack(board, xs[0].scale, method, n)
        level = None if b is None else average(b, board.scores)
        if b is None or level is None:
            continue
        fulls = [full[backbone, t] for t in b.tasks if (backbone, t) in full]
        common = [s for s in b.seeds if fulls and all(s in f.seeds for f in fulls)]
        behind = None
        if common and len(fulls) == len(b.tasks) and method != FULL:
            whole = _joined([_seeds(f, common) for f in fulls])
            behind = difference(whole, _seeds(b, common), board.scores)
        chance = float(np.mean([x.chance for x in xs]))
        keys = tuple(k for x in xs for k in x.keys)
        means.append(Level(xs[0].scale, None, method, n, xs[0].ratio_percent, chance, level, behind, keys))
    return means


def _stack(board: Board, scale: Scale, method: str, n: int) -> Block | None:
    runs = board.cells[scale.name, method, n]
    tasks = board.tasks(scale.family)
    per_task = [set(runs.loc[runs["task"] == t, "seed"].astype(int)) for t in tasks]
    common = sorted(set.intersection(*per_task))
    return block(runs, f"{method} at {n:,} parameters on {scale.name}", tasks, common) if common else None


def _joined(blocks: list[Block]) -> Block:
    value, low, high, items, keys = (
        np.concatenate([getattr(b, f) for b in blocks]) for f in ("value", "low", "high", "items", "keys")
    )
    tasks = tuple(b.tasks[0] for b in blocks)
    return Block(blocks[0].name, tasks, blocks[0].seeds, value, low, high, items, keys)


def _cells(runs: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str, int], Block, float, float]]:
    """Each cell as a block of one task, its chance and ratio; cut from arrays, for there are thousands."""
    done = complete(runs).sort_values([*CELL, "seed"], kind="stable")
    columns = {c: done[c].to_numpy() for c in (*CELL, "seed", "value", "low", "high", "n", "key", "chance")}
    ratio = done["ratio_percent"].to_numpy(dtype=float)
    changed = np.zeros(len(done), dtype=bool)
    changed[:1] = True
    for c in CELL:
        changed[1:] |= columns[c][1:] != columns[c][:-1]
    starts = np.flatnonzero(changed)
    for a, b in zip(starts, [*starts[1:], len(done)], strict=True):
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
