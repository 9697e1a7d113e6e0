"""Views of a number over scale: in points and in log odds, of cells at each method's own N or at equal N."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apet.analysis.claims.complete_cells import Mask, largest_rectangle
from apet.analysis.claims.verdict import View, slope_view, unknown_view
from apet.analysis.intervals import Floats

OWN, EQUAL = "own N", "equal N"
NO_EQUAL_COUNTS = "no runs at equal N, so that what scale does cannot be told from what N does"


@dataclass(frozen=True)
class Unit:
    """How a number is told.

    Attributes:
        scale: name of the view: points or log odds.
        slope: unit of its slope over scale, in words.
        smallest: slope below which there is no effect worth naming, > 0.
    """

    scale: str
    slope: str
    smallest: float


def log_odds(scores: Floats, num_items: Floats) -> Floats:
    """Log odds of scores in [0, 1]; half an item is added to both sides, so that 0 and 1 have some, too (Haldane).

    Args:
        scores: any shape.
        num_items: behind each, of that shape.

    Returns:
        In the shape of the scores.
    """
    # a correlation may lie below 0
    p = (np.clip(scores, 0, 1) * num_items + 0.5) / (num_items + 1)
    return np.log(p / (1 - p))


def views_over_scale(
    at: str, log10_sizes: Floats, usable: Mask, numbers: tuple[tuple[Unit, Floats], ...], cells: str
) -> list[View]:
    """A view for each unit: the slope, over scale, of the mean over the cells that are usable at the same scales.

    Args:
        at: which N the cells are at.
        log10_sizes: log10 of the backbones' parameters, (scales,).
        usable: (scales, columns).
        numbers: units, and the number in each, (scales, columns).
        cells: what is averaged at a scale, with a place for how many, such as ``{} cells``.

    Returns:
        The views; not decidable where no column is usable at enough scales.
    """
    scales, columns = largest_rectangle(usable)
    if not len(columns):
        basis = "no cell is usable at enough scales"
        return [unknown_view(f"{unit.scale}, {at}", unit.slope, basis) for unit, _ in numbers]
    basis = f"{len(scales)} means of a scale over {cells.format(len(columns))}, t-interval"
    x, rows = log10_sizes[scales], np.ix_(scales, columns)
    return [
        slope_view(f"{unit.scale}, {at}", unit.slope, x, values[rows].mean(axis=1), unit.smallest, basis)
        for unit, values in numbers
    ]


def without_equal_counts(unit: Unit) -> View:
    """The view that a study without equal N lacks: what N does and what scale does cannot be told apart there."""
    return unknown_view(f"{unit.scale}, {EQUAL}", unit.slope, "no runs")
