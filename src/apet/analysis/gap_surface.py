"""The gap to full fine-tuning over both N and scale, at the same counts on every scale (E9).

The paper follows the gap over scale at a method's own N, which grows with the backbone, and the score over N on one
backbone; what a larger backbone gives at the same N, and what more parameters give on the same backbone, stand beside
each other only where one method ran at equal counts on several scales.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apet.analysis.frames import FULL
from apet.analysis.intervals import Estimate
from apet.analysis.score_by_budget import BudgetPoint
from apet.analysis.study_data import Scale


@dataclass(frozen=True)
class SurfaceCell:
    """The gap of one method at one N on one backbone.

    Attributes:
        scale: the backbone.
        method: display name.
        num_trainable: N, at which the method ran on several scales of the family.
        task: None = the mean over tasks.
        score: of the method.
        gap: full fine-tuning − method, over the seeds that both have.
    """

    scale: Scale
    method: str
    num_trainable: int
    task: str | None
    score: Estimate
    gap: Estimate


def gap_surfaces(points: Sequence[BudgetPoint]) -> list[SurfaceCell]:
    """The cells of each method that ran at two counts or more on two scales or more of a family.

    Args:
        points: of the curves of score over N.

    Returns:
        By family, task (the mean first), method, N and size of the backbone; empty where there is no such method.
    """
    groups: dict[tuple[str, str | None, str], list[SurfaceCell]] = {}
    for p in points:
        if p.method != FULL and p.gap is not None:
            cell = SurfaceCell(p.scale, p.method, p.num_trainable, p.task, p.score, p.gap)
            groups.setdefault((p.scale.family, p.task, p.method), []).append(cell)
    cells = []
    for _, group in sorted(groups.items(), key=lambda g: (g[0][0], g[0][1] is not None, str(g[0][1]))):
        shared = _at_shared_counts(group)
        if len({c.num_trainable for c in shared}) > 1:
            cells += sorted(shared, key=lambda c: (c.num_trainable, c.scale.num_parameters))
    return cells


def _at_shared_counts(cells: Iterable[SurfaceCell]) -> list[SurfaceCell]:
    """Those at a count that two backbones have: counts of a method's own differ by scale and compare nothing."""
    by_count: dict[int, list[SurfaceCell]] = {}
    for c in cells:
        by_count.setdefault(c.num_trainable, []).append(c)
    return [c for group in by_count.values() if len({c.scale.name for c in group}) > 1 for c in group]
