"""E2: does it matter where the parameters sit? A method against APET at the method's exact count (figure 5)."""

from __future__ import annotations

from dataclasses import dataclass

from apet.analysis.frames import ADJACENT, DISCRETE, FULL
from apet.analysis.intervals import Estimate
from apet.analysis.score_matrix import ScoreMatrix, align, average, difference, select
from apet.analysis.study_data import Scale, StudyData

PAIRS = ("method-adjacent", "method-discrete", "adjacent-discrete")


@dataclass(frozen=True)
class Structure:
    """One count on one backbone.

    Attributes:
        scale: the backbone.
        method: whose count it is.
        n: the count.
        task: None = the mean over the tasks that all sides have.
        levels: method, apet-adjacent, apet-discrete -> measure, those that were run; over the same tasks and seeds.
        differences: one of ``PAIRS`` -> first − second, those that were run.
    """

    scale: Scale
    method: str
    num_trainable: int
    task: str | None
    scores: dict[str, Estimate]
    differences: dict[str, Estimate]


def structures(board: StudyData, allow_holes: bool = False, by_task: bool = True) -> list[Structure]:
    """Every method's own count at which APET was run, too.

    Raises:
        ApetError: a run is missing and holes are not allowed.
    """
    found = []
    for scale in board.scales:
        for method in board.methods:
            if method in (FULL, ADJACENT, DISCRETE) or (scale.name, method) not in board.chose_own_size:
                continue
            n = board.own_sizes[scale.name, method]
            blocks = {m: b for m in (method, ADJACENT, DISCRETE) if (b := board.block(scale, m, n)) is not None}
            if len(blocks) < 2:
                continue
            blocks = dict(zip(blocks, align(list(blocks.values()), allow_holes), strict=True))
            tasks = next(iter(blocks.values())).tasks
            for task in (None, *tasks) if by_task else (None,):
                s = _structure(board, scale, method, n, task, blocks)
                if len(s.scores) > 1:
                    found.append(s)
    return found


def _structure(
    board: StudyData, scale: Scale, method: str, n: int, task: str | None, blocks: dict[str, ScoreMatrix]
) -> Structure:
    mine = {m: b if task is None else select(b, [task]) for m, b in blocks.items()}
    levels = {m: e for m, b in mine.items() if (e := average(b, board.scores, allow_holes=True)) is not None}
    differences = {}
    for pair, (a, b) in zip(PAIRS, ((method, ADJACENT), (method, DISCRETE), (ADJACENT, DISCRETE)), strict=True):
        if a in mine and b in mine:
            d = difference(mine[a], mine[b], board.scores, allow_holes=True)
            if d is not None:
                differences[pair] = d
    return Structure(scale, method, n, task, levels, differences)
