"""Low and high threshold of N from the runs of a study, by the budget curve (E5; section 5.3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from apet.analysis.curve_values import Levels, Reach, RunScore, ThresholdAnswer, ThresholdKind
from apet.analysis.curves import fit_curve
from apet.analysis.frames import FULL
from apet.analysis.intervals import Floats
from apet.analysis.score_by_budget import BudgetPoint
from apet.analysis.study_data import Scale


@dataclass(frozen=True)
class Threshold:
    """Low or high threshold of one method.

    Attributes:
        scale: the backbone.
        task: None = of the mean over the tasks.
        method: display name.
        kind: low or high.
        answer: where it lies.
        tried: the counts, ascending.
        seeds: fewest behind any count.
        crossings: draws of it in log2 N; −inf = below the smallest count, inf = above the largest, (draws,).
    """

    scale: Scale
    task: str | None
    method: str
    kind: ThresholdKind
    answer: ThresholdAnswer
    tried: tuple[int, ...]
    seeds: int
    crossings: Floats = field(repr=False, compare=False)


def thresholds(points: Sequence[BudgetPoint], reach: Reach | None = None) -> list[Threshold]:
    """Low and high thresholds of every backbone, task and method that was run at two counts or more.

    Args:
        points: as `budget_points` returns them.
        reach: what counts as reaching full fine-tuning; None = 95 % of the way.

    Returns:
        By family, scale, task (the mean over tasks first) and method; of each the low one, then the high one, where
        full fine-tuning was run.
    """

    def curve(p: BudgetPoint) -> tuple[str, int, str, bool, str, str]:
        return p.scale.family, p.scale.num_parameters, p.scale.name, p.task is not None, p.task or "", p.method

    full = {(p.scale, p.task): p.scores for p in points if p.method == FULL}
    all_thresholds = []
    for _, group in groupby(sorted(points, key=lambda p: (*curve(p), p.num_trainable)), key=curve):
        budget_curve = list(group)
        first = budget_curve[0]
        # One count has no range; and a single default size would otherwise be called a threshold.
        if first.method == FULL or len(budget_curve) < 2:
            continue
        levels = Levels(
            untrained=sum(p.untrained for p in budget_curve) / len(budget_curve),
            constant=max(p.constant for p in budget_curve),
            full=full.get((first.scale, first.task), ()),
        )
        posterior = fit_curve([RunScore(p.num_trainable, s) for p in budget_curve for s in p.scores], levels)
        counts = tuple(p.num_trainable for p in budget_curve)
        kinds: tuple[ThresholdKind, ...] = ("low", "high") if levels.full else ("low",)
        for kind in kinds:
            answer = posterior.threshold(kind, reach)
            seeds = min(len(p.scores) for p in budget_curve)
            crossings = posterior.crossings(kind, reach)
            all_thresholds.append(
                Threshold(first.scale, first.task, first.method, kind, answer, counts, seeds, crossings)
            )
    return all_thresholds
