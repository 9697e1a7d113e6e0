"""Claim that structure matters less as the backbone grows: the variance between structures at equal N, over scale.

Of the variance of the structures' means the seeds' share is taken off: what is left is between structures, and may come
out below 0 where there is nothing. As gaps do (`apet.analysis.claims.gap`), it shrinks by itself as scores near their
end, and where N grows with the backbone; so it is measured in points and in log odds, at own N and at equal N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apet.analysis.claims.complete_cells import CEILING, LEAST_GAIN, Mask
from apet.analysis.claims.verdict import MIN_SCALES, ClaimRow, View
from apet.analysis.claims.views_over_scale import (
    EQUAL,
    NO_EQUAL_COUNTS,
    OWN,
    Unit,
    log_odds,
    views_over_scale,
    without_equal_counts,
)
from apet.analysis.frames import FULL
from apet.analysis.intervals import Floats
from apet.analysis.study_data import Scale, StudyData

CLAIM = "structure matters less as the backbone grows"
POINTS = Unit("points", "variance between structures, squared points per tenfold scale", 1.0)
LOG_ODDS = Unit("log odds", "variance between structures, squared log odds per tenfold scale", 0.01)
"""At a score of 90 %, as much as one squared point."""


@dataclass(frozen=True)
class Spreads:
    """Variance between structures, (scales, columns); a column is a task at one N. NaN = not known.

    Attributes:
        points: in squared points.
        log_odds: in squared log odds.
        top: best mean score of a structure, in [0, 1].
        base: what is had without training.
    """

    points: Floats
    log_odds: Floats
    top: Floats
    base: Floats

    @classmethod
    def of(cls, scores: Floats, num_items: float, base: Floats) -> Spreads:
        """Spreads of a complete table.

        Args:
            scores: in [0, 1], (scales, columns, structures, seeds).
            num_items: validation items of each.
            base: what is had without training, (scales, columns).

        Returns:
            Both variances and the best score of each cell.
        """
        odds = log_odds(scores, np.full(scores.shape, float(num_items)))
        top = scores.mean(axis=-1).max(axis=-1)
        return cls(variance_between(100 * scores), variance_between(odds), top, base)

    @property
    def known(self) -> Mask:
        """Which cells were run."""
        return ~np.isnan(self.points)

    @property
    def usable(self) -> Mask:
        """Which cells enter slopes: something was learnt, and there is room left."""
        return self.known & (self.top < CEILING) & (self.top - self.base >= LEAST_GAIN)


def variance_between(scores: Floats) -> Floats:
    """Variance between structures beyond what their seeds explain (analysis of variance, method of moments).

    Args:
        scores: (..., structures, seeds), two or more of both.

    Returns:
        (...); unbiased, so that it may be below 0.
    """
    num_seeds = scores.shape[-1]
    within = scores.var(axis=-1, ddof=1).mean(axis=-1)
    return np.asarray(scores.mean(axis=-1).var(axis=-1, ddof=1) - within / num_seeds)


def structure_row(where: str, what: str, log10_sizes: Floats, own: Spreads | None, equal: Spreads | None) -> ClaimRow:
    """The claim for one family.

    Args:
        where: family.
        what: how many structures.
        log10_sizes: log10 of the backbones' parameters, (scales,).
        own: at each method's own N; None = none.
        equal: at counts that are the same at all scales; None = none.

    Returns:
        The row, before Holm's correction.
    """
    views: list[View] = []
    notes = []
    for spreads, at in ((own, OWN), (equal, EQUAL)):
        if spreads is not None:
            numbers = ((POINTS, spreads.points), (LOG_ODDS, spreads.log_odds))
            views += views_over_scale(at, log10_sizes, spreads.usable, numbers, "{} cells each")
            out = int((spreads.known & ~spreads.usable).sum())
            notes += (
                [f"left out at {at}: {out} of {int(spreads.known.sum())} cells at the ceiling or floor"] if out else []
            )
    if equal is None:
        views.append(without_equal_counts(POINTS))
        notes.append(NO_EQUAL_COUNTS)
    return ClaimRow.of(CLAIM, where, what, views, "; ".join(notes))


def structure_fades(data: StudyData) -> list[ClaimRow]:
    """The claim for every family.

    Args:
        data: the runs.

    Returns:
        Rows before Holm's correction; none for a family of one scale, or where no two structures with two seeds share
        an N.
    """
    rows = []
    for family, scales in data.families.items():
        if len(scales) < 2:
            continue
        own, own_names = _spreads(data, family, scales, _own_counts(data, scales))
        equal, equal_names = _spreads(data, family, scales, _equal_counts(data, scales))
        if own is None and equal is None:
            continue
        log10_sizes = np.log10([s.num_parameters for s in scales])
        rows.append(structure_row(family, f"{len(own_names | equal_names)} structures", log10_sizes, own, equal))
    return rows


_Counts = dict[Scale, tuple[int, tuple[str, ...]]]
"""By scale, N and the structures that were run at it."""


def _own_counts(data: StudyData, scales: Sequence[Scale]) -> list[_Counts]:
    """The default size of each method, with the method and every variant of APET that was run there."""
    columns = []
    for method in data.methods:
        if method == FULL or method in data.variants:
            continue
        column: _Counts = {}
        for scale in scales:
            if (scale.name, method) in data.at_default_size:
                n = data.own_sizes[scale.name, method]
                column[scale] = n, tuple(m for m in (method, *data.variants) if (scale.name, m, n) in data.cells)
        if len({n for n, _ in column.values()}) > 1:  # one size at all scales is an equal N
            columns.append(column)
    return columns


def _equal_counts(data: StudyData, scales: Sequence[Scale]) -> list[_Counts]:
    """Every count with the structures that were run at it."""
    names = {s.name: s for s in scales}
    by_count: dict[int, dict[Scale, list[str]]] = {}
    for backbone, method, n in data.cells:
        if backbone in names and method != FULL:
            by_count.setdefault(n, {}).setdefault(names[backbone], []).append(method)
    return [{s: (n, tuple(m)) for s, m in by_scale.items()} for n, by_scale in sorted(by_count.items())]


def _spreads(
    data: StudyData, family: str, scales: Sequence[Scale], columns: Sequence[_Counts]
) -> tuple[Spreads | None, set[str]]:
    """Spreads over all counts and tasks, and the structures they are between; None without any."""
    tasks = data.tasks(family)
    parts, names = [], set()
    for column in columns:
        # Of other structures the variance would be another: only those that all scales have are compared.
        present = [s for s in scales if len(column.get(s, (0, ()))[1]) > 1]
        shared = set.intersection(*(set(column[s][1]) for s in present)) if present else set()
        if len(present) < min(MIN_SCALES, len(scales)) or len(shared) < 2:
            continue
        parts.append(_column(data, scales, tasks, {s: column[s][0] for s in present}, sorted(shared)))
        names |= shared
    if not parts:
        return None, set()
    base = np.array([[data.bases.get((s.name, t), np.nan) for t in tasks] for s in scales])
    arrays = [np.concatenate([p[k] for p in parts], axis=1) for k in range(3)]
    return Spreads(arrays[0], arrays[1], arrays[2], np.concatenate([base] * len(parts), axis=1)), names


def _column(
    data: StudyData, scales: Sequence[Scale], tasks: Sequence[str], counts: dict[Scale, int], structures: Sequence[str]
) -> tuple[Floats, Floats, Floats]:
    """Variances and best scores at one N a scale, each (scales, tasks)."""
    points, odds, top = (np.full((len(scales), len(tasks)), np.nan) for _ in range(3))
    for i, scale in enumerate(scales):
        if scale not in counts:
            continue
        matrices = [data.score_matrix(scale, m, counts[scale]) for m in structures]
        for j, task in enumerate(tasks):
            by_structure = [
                {s: x for s, x in zip(m.seeds, m.scores[m.tasks.index(task)], strict=True) if not np.isnan(x)}
                if m is not None and task in m.tasks
                else {}
                for m in matrices
            ]
            seeds = sorted(set.intersection(*(set(b) for b in by_structure)))
            if len(seeds) < 2:
                continue
            scores = np.array([[b[s] for s in seeds] for b in by_structure])[None, None]
            first = matrices[0]
            items = 0.0 if first is None else float(np.nanmax(first.num_examples))
            spread = Spreads.of(scores, items, np.zeros((1, 1)))
            points[i, j], odds[i, j], top[i, j] = spread.points.item(), spread.log_odds.item(), spread.top.item()
    return points, odds, top
