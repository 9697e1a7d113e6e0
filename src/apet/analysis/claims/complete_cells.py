"""Which cells of a study enter a trend: neither at the ceiling nor at the floor, and the same ones at every scale."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from apet.analysis.claims.verdict import MIN_SCALES
from apet.analysis.curve_values import LOW_SHARE
from apet.analysis.intervals import Floats

Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

CEILING = 0.97
"""A score from which on little room is left: what closes a gap there is the end of the scale."""
LEAST_GAIN = 0.05
"""Of full fine-tuning, above what is had without training; less, and there is no gap worth the name."""


def at_ceiling(full: Floats, method: Floats) -> Mask:
    """Cells whose scores have little room left, in the shape of both.

    Args:
        full: scores of full fine-tuning in [0, 1].
        method: of what is compared with it.

    Returns:
        Whether the better of the two is at the ceiling; false where either is missing.
    """
    # NaN compares as false
    return (np.maximum(full, method) >= CEILING) & ~np.isnan(full + method)


def at_floor(full: Floats, method: Floats, base: Floats) -> Mask:
    """Cells in which nothing was learnt, in the shape of the scores: a gap there is all that full fine-tuning gains.

    Args:
        full: scores of full fine-tuning in [0, 1].
        method: of what is compared with it.
        base: what is had without training.

    Returns:
        Whether full fine-tuning gains less than 5 points, or the method makes less than a tenth of the way.
    """
    way = full - base
    return (way < LEAST_GAIN) | (method - base < LOW_SHARE * way)


def largest_rectangle(usable: Mask, least_scales: int = MIN_SCALES) -> tuple[Indices, Indices]:
    """The most cells that form a complete table of scales × columns (tasks, or tasks × methods).

    A column that joins or leaves along the scales would make a trend by itself, so that all means of a trend must run
    over the same ones. A choice by what is usable alone, never by how large the numbers are.

    Args:
        usable: (scales, columns).
        least_scales: fewest scales of a trend.

    Returns:
        Indices of the scales and of the columns; empty where no column is usable at so many scales.
    """
    every = frozenset(range(len(usable)))
    patterns = {frozenset(np.flatnonzero(column).tolist()) for column in usable.T}
    # The scales of the largest table are those that some columns share; sharing of two finds it in all but odd cases.
    candidates = {every, *patterns, *(a & b for a, b in combinations(patterns, 2))}
    best: tuple[Indices, Indices] = np.array([], dtype=np.intp), np.array([], dtype=np.intp)
    best_size = (0, 0)
    for chosen in sorted(sorted(c) for c in candidates):
        if len(chosen) < min(least_scales, len(usable)):
            continue
        scales = np.array(chosen, dtype=np.intp)
        columns = np.flatnonzero(usable[scales].all(axis=0))
        size = (len(scales) * len(columns), len(scales))
        if len(columns) and size > best_size:
            best, best_size = (scales, columns), size
    return best
