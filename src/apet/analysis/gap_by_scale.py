"""E1: how far each method stays behind full fine-tuning, at every scale (figures 1 and 3)."""

from __future__ import annotations

from dataclasses import dataclass

from apet.analysis.frames import FULL
from apet.analysis.intervals import Estimate
from apet.analysis.score_matrix import ScoreMatrix, average, difference, difference_by_seed, select
from apet.analysis.study_data import Scale, StudyData


@dataclass(frozen=True)
class Gap:
    """One method at its own size on one backbone.

    Attributes:
        scale: the backbone.
        method: display name.
        n: trained parameters.
        own_size: whether the method chose N itself; else the largest N tried.
        task: None = the mean over the family's tasks, given only for a method that was to run on all of them.
        level: the measure.
        gap: full fine-tuning − method; None for full fine-tuning itself, or where that was not run.
        by_seed: seed -> its gap.
    """

    scale: Scale
    method: str
    num_trainable: int
    is_default_size: bool
    task: str | None
    score: Estimate
    gap: Estimate | None
    by_seed: dict[int, float]


def gaps(board: StudyData, allow_holes: bool = False, by_task: bool = True) -> list[Gap]:
    """Every method on every backbone: the mean over tasks first, then each task.

    Raises:
        ApetError: a run is missing and holes are not allowed.
    """
    found = []
    for scale in board.scales:
        full = _block(board, scale, FULL)
        for method in board.methods:
            mine = _block(board, scale, method)
            if mine is None:
                continue
            mean = (None,) if set(board.tasks(scale.family)) <= set(mine.tasks) else ()
            for task in (*mean, *mine.tasks) if by_task else mean:
                gap = _gap(board, scale, method, task, mine, full, allow_holes)
                if gap is not None:
                    found.append(gap)
    return found


def _block(board: StudyData, scale: Scale, method: str) -> ScoreMatrix | None:
    n = board.own_sizes.get((scale.name, method))
    return None if n is None else board.block(scale, method, n)


def _gap(
    board: StudyData,
    scale: Scale,
    method: str,
    task: str | None,
    mine: ScoreMatrix,
    full: ScoreMatrix | None,
    allow_holes: bool,
) -> Gap | None:
    if task is not None:
        mine = select(mine, [task])
        full = None if full is None or task not in full.tasks else select(full, [task])
    level = average(mine, board.scores, allow_holes)
    if level is None:
        return None
    behind: Estimate | None = None
    by_seed: dict[int, float] = {}
    if full is not None and method != FULL:
        behind = difference(full, mine, board.scores, allow_holes)
        by_seed = difference_by_seed(full, mine)
    n = board.own_sizes[scale.name, method]
    own = (scale.name, method) in board.chose_own_size
    return Gap(scale, method, n, own, task, level, behind, by_seed)
