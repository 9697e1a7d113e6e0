"""Gap between full fine-tuning and each method at its default size, over scale (E1; figures 1 and 3 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass

from apet.analysis.frames import FULL
from apet.analysis.intervals import Estimate
from apet.analysis.score_matrix import ScoreMatrix, average, difference, difference_by_seed, select
from apet.analysis.study_data import Scale, StudyData


@dataclass(frozen=True)
class Gap:
    """Score of one method on one backbone, and how far it lies behind full fine-tuning.

    Attributes:
        scale: the backbone.
        method: display name.
        num_trainable: number of trained parameters.
        is_default_size: whether N is the method's default; else it is the largest N tried.
        task: None = the mean over the family's tasks, given only for a method that was to run on all of them.
        score: of the method.
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


def gaps(data: StudyData, allow_holes: bool = False, by_task: bool = True) -> list[Gap]:
    """Gaps to full fine-tuning of every method on every backbone.

    Args:
        data: the runs.
        allow_holes: go on where planned runs are missing, and count them in every estimate.
        by_task: also those of single tasks.

    Returns:
        By backbone and method; of each the mean over tasks first, then each task.

    Raises:
        ApetError: a run is missing, and missing runs are not allowed.
    """
    all_gaps = []
    for scale in data.scales:
        full = _scores_at_default_size(data, scale, FULL)
        for method in data.methods:
            scores = _scores_at_default_size(data, scale, method)
            if scores is None:
                continue
            # The mean of a method that ran on the easy tasks only would stand beside means over all of them.
            mean = (None,) if set(data.tasks(scale.family)) <= set(scores.tasks) else ()
            for task in (*mean, *scores.tasks) if by_task else mean:
                gap = _gap(data, scale, method, task, scores, full, allow_holes)
                if gap is not None:
                    all_gaps.append(gap)
    return all_gaps


def _scores_at_default_size(data: StudyData, scale: Scale, method: str) -> ScoreMatrix | None:
    n = data.own_sizes.get((scale.name, method))
    return None if n is None else data.score_matrix(scale, method, n)


def _gap(
    data: StudyData,
    scale: Scale,
    method: str,
    task: str | None,
    scores: ScoreMatrix,
    full: ScoreMatrix | None,
    allow_holes: bool,
) -> Gap | None:
    """Gap on one task, or on their mean for None; None without a score."""
    if task is not None:
        scores = select(scores, [task])
        full = None if full is None or task not in full.tasks else select(full, [task])
    # The score is over all runs of the method, the gap over those that full fine-tuning shares: their seeds may differ.
    score = average(scores, data.scores, allow_holes)
    if score is None:
        return None
    # Single seeds stay beside the estimate: the trend over scale averages the gaps of one seed over methods and tasks.
    gap: Estimate | None = None
    by_seed: dict[int, float] = {}
    if full is not None and method != FULL:
        gap = difference(full, scores, data.scores, allow_holes)
        by_seed = difference_by_seed(full, scores)
    return Gap(
        scale=scale,
        method=method,
        num_trainable=data.own_sizes[scale.name, method],
        is_default_size=(scale.name, method) in data.at_default_size,
        task=task,
        score=score,
        gap=gap,
        by_seed=by_seed,
    )
