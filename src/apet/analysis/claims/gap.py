"""Claim that the gap to full fine-tuning shrinks with scale: in points and in log odds, at own N and at equal N.

Each of the four views is fooled by something else. Gaps in points close as scores near 100 %; gaps in log odds close as
scores near the middle. A method's own N grows with the backbone, and a gap that depends on N alone closes with it. So
the claim is supported where all four say so. Each view is the slope of one mean a scale on the logarithm of the
backbone's size: backbones scatter about any line by more than their seeds do, and of a scale there is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apet.analysis.claims.complete_cells import Mask, at_ceiling, at_floor
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
from apet.analysis.score_matrix import ScoreMatrix
from apet.analysis.study_data import Scale, StudyData

CLAIM = "the gap to full fine-tuning shrinks with scale"
POINTS = Unit("points", "points of gap per tenfold scale", 0.5)
LOG_ODDS = Unit("log odds", "log odds of gap per tenfold scale", 0.05)
"""At a score of 90 %, as much as half a point."""


@dataclass(frozen=True)
class GapCells:
    """Scores of full fine-tuning and of a method, (scales, columns); a column is a task, at one N, of one method.

    Attributes:
        full: mean over the seeds that both have, in [0, 1]; NaN = not run.
        method: the same.
        base: what is had without training: the better of the untrained score and the best constant answer.
        num_items: validation items.
        names: of the columns.
        counts: number of trained parameters, (scales, columns).
    """

    full: Floats
    method: Floats
    base: Floats
    num_items: Floats
    names: tuple[str, ...]
    counts: Floats

    @classmethod
    def joined(cls, parts: Sequence[GapCells]) -> GapCells:
        """The columns of all parts, which have the same scales."""
        return cls(
            full=np.concatenate([p.full for p in parts], axis=1),
            method=np.concatenate([p.method for p in parts], axis=1),
            base=np.concatenate([p.base for p in parts], axis=1),
            num_items=np.concatenate([p.num_items for p in parts], axis=1),
            names=tuple(n for p in parts for n in p.names),
            counts=np.concatenate([p.counts for p in parts], axis=1),
        )

    @property
    def known(self) -> Mask:
        """Which cells were run."""
        return ~np.isnan(self.full + self.method)

    @property
    def usable(self) -> Mask:
        """Which cells enter slopes."""
        return self.known & ~self.at_ceiling & ~self.at_floor

    @property
    def at_ceiling(self) -> Mask:
        """Which cells have little room left."""
        return at_ceiling(self.full, self.method)

    @property
    def at_floor(self) -> Mask:
        """In which cells nothing was learnt."""
        return at_floor(self.full, self.method, self.base)

    @property
    def has_equal_counts(self) -> bool:
        """Whether each column has one N at all scales."""
        return bool((self.counts == self.counts[:1]).all())


def gap_row(where: str, what: str, log10_sizes: Floats, own: GapCells | None, equal: GapCells | None) -> ClaimRow:
    """The claim for one method, or for the mean of several.

    Args:
        where: family.
        what: method, or how many.
        log10_sizes: log10 of the backbones' parameters, (scales,).
        own: cells at the method's own N; None = it has none, as APET's variants.
        equal: cells at counts that are the same at all scales; None = there are none.

    Returns:
        The row, before Holm's correction.
    """
    if own is not None and own.has_equal_counts:
        own, equal = None, own if equal is None else equal  # one size at all scales is an equal count
    views, notes = [], []
    for cells, at in ((own, OWN), (equal, EQUAL)):
        if cells is not None:
            views += _views(cells, at, log10_sizes)
            notes += _left_out(cells, at)
    if equal is None:
        views.append(without_equal_counts(POINTS))
        notes.append(NO_EQUAL_COUNTS)
    return ClaimRow.of(CLAIM, where, what, views, "; ".join(dict.fromkeys(notes)))


def _views(cells: GapCells, at: str, log10_sizes: Floats) -> list[View]:
    """Gap in points and in log odds, over the same cells."""
    odds = log_odds(cells.full, cells.num_items) - log_odds(cells.method, cells.num_items)
    numbers = ((POINTS, 100 * (cells.full - cells.method)), (LOG_ODDS, odds))
    return views_over_scale(at, log10_sizes, cells.usable, numbers, f"{{}} of {len(cells.names)} cells each")


def _left_out(cells: GapCells, at: str) -> list[str]:
    """How many cells are at the ceiling or at the floor."""
    ceiling, floor = int((cells.at_ceiling & cells.known).sum()), int((cells.at_floor & cells.known).sum())
    of = int(cells.known.sum())
    notes = [f"{ceiling} of {of} cells at the ceiling"] if ceiling else []
    notes += [f"{floor} of {of} at the floor"] if floor else []
    return [f"left out at {at}: {', '.join(notes)}"] if notes else []


def gap_shrinks(data: StudyData) -> list[ClaimRow]:
    """The claim for every family: all methods together, then each.

    Args:
        data: the runs.

    Returns:
        Rows before Holm's correction; none for a family of one scale, or without full fine-tuning.
    """
    rows = []
    for family, scales in data.families.items():
        if len(scales) < 2:
            continue
        log10_sizes = np.log10([s.num_parameters for s in scales])
        table = _Cells(data, family, scales)
        methods = [m for m in data.methods if m != FULL]
        own = {m: cells for m in methods if (cells := table.at_own_size(m)) is not None}
        equal = {m: cells for m in methods if (cells := table.at_equal_counts(m)) is not None}
        tested = [m for m in methods if m in own or m in equal]
        if len(tested) > 1:
            both = [GapCells.joined(list(c.values())) if c else None for c in (own, equal)]
            rows.append(gap_row(family, f"mean of {len(tested)} methods", log10_sizes, both[0], both[1]))
        rows += [gap_row(family, m, log10_sizes, own.get(m), equal.get(m)) for m in tested]
    return rows


class _Cells:
    """Cells of one family's runs."""

    def __init__(self, data: StudyData, family: str, scales: Sequence[Scale]) -> None:
        self.data, self.scales, self.tasks = data, scales, data.tasks(family)
        self.base = data.bases
        self.full = {s: self._matrix(s, FULL, data.own_sizes.get((s.name, FULL))) for s in scales}

    def _matrix(self, scale: Scale, method: str, n: int | None) -> ScoreMatrix | None:
        return None if n is None else self.data.score_matrix(scale, method, n)

    def at_own_size(self, method: str) -> GapCells | None:
        """Cells at the method's default size; None where it was not run there at two scales."""
        sizes = [
            self.data.own_sizes[s.name, method] if (s.name, method) in self.data.at_default_size else None
            for s in self.scales
        ]
        return self._column(method, sizes) if sum(n is not None for n in sizes) > 1 else None

    def at_equal_counts(self, method: str) -> GapCells | None:
        """Cells at every count that three scales have, or all of two; None without one."""
        names = {s.name for s in self.scales}
        runs = [(backbone, n) for backbone, m, n in self.data.cells if m == method and backbone in names]
        counts = sorted({n for _, n in runs})
        shared = [n for n in counts if sum(c == n for _, c in runs) >= min(MIN_SCALES, len(self.scales))]
        if not shared:
            return None
        present = set(runs)
        parts = [self._column(method, [n if (s.name, n) in present else None for s in self.scales]) for n in shared]
        return GapCells.joined(parts)

    def _column(self, method: str, sizes: Sequence[int | None]) -> GapCells:
        """Cells of one method at one N a scale, (scales, tasks)."""
        shape = (len(self.scales), len(self.tasks))
        full, scores, items = (np.full(shape, np.nan) for _ in range(3))
        base = np.array([[self.base.get((s.name, t), np.nan) for t in self.tasks] for s in self.scales])
        for i, (scale, n) in enumerate(zip(self.scales, sizes, strict=True)):
            ours, reference = self._matrix(scale, method, n), self.full[scale]
            if ours is None or reference is None:
                continue
            for j, task in enumerate(self.tasks):
                full[i, j], scores[i, j], items[i, j] = _paired_means(reference, ours, task)
        known = [float(n) for n in sizes if n is not None]
        # a scale without runs has no count of its own, and must not make counts unequal
        counts = np.repeat([[float(n) if n is not None else known[0]] for n in sizes], shape[1], axis=1)
        return GapCells(full, scores, base, items, self.tasks, counts)


def _paired_means(full: ScoreMatrix, method: ScoreMatrix, task: str) -> tuple[float, float, float]:
    """Mean scores over the seeds that both have, and items; NaN without any."""
    if task not in full.tasks or task not in method.tasks:
        return math.nan, math.nan, math.nan
    i, j = full.tasks.index(task), method.tasks.index(task)
    by_seed = {s: k for k, s in enumerate(method.seeds)}
    pairs = [(full.scores[i, k], method.scores[j, by_seed[s]]) for k, s in enumerate(full.seeds) if s in by_seed]
    both = np.array([p for p in pairs if not np.isnan(p).any()]).reshape(-1, 2)
    if not len(both):
        return math.nan, math.nan, math.nan
    return float(both[:, 0].mean()), float(both[:, 1].mean()), float(np.nanmax(method.num_examples[j]))
