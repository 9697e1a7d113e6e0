"""What two studies differ in, as people read it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from apet.analysis.study_difference import OWN_SIZE, CellDifference, CellKey, StudyDifference
from apet.tasks.score_text import score_text, shown_as

MOST_NAMED = 5
"""Cells that only one study has, and settings, that a line names; ``--json`` has all."""


def table(found: StudyDifference) -> tuple[list[str], list[list[str]]]:
    """Header and a row a cell: where it is, both scores, the difference with its interval, the verdict."""
    header = [
        "backbone",
        "task",
        "method",
        "trained#",
        "first#",
        "second#",
        "difference#",
        "95 % interval",
        "second is",
    ]
    return header, [_row(cell) for cell in found.cells]


def _row(cell: CellDifference) -> list[str]:
    d, factor = cell.difference, shown_as(cell.metric).factor
    over_seeds = not math.isnan(d.ci_low)
    ends = (d.ci_low, d.ci_high) if over_seeds else (d.item_ci_low, d.item_ci_high)
    low, high = sorted(factor * end for end in ends)
    digits = 1 if factor > 1 else 3
    first, second = cell.num_trainable
    return [
        *cell.cell[:3],
        f"{first:,}" if first == second else f"{first:,} → {second:,}",
        *(score_text(cell.metric, score) for score in cell.scores),
        f"{factor * d.score:+.{digits}f}",
        "unknown"
        if math.isnan(low)
        else f"{low:+.{digits}f} to {high:+.{digits}f} (over {'seeds' if over_seeds else 'items'})",
        cell.verdict,
    ]


def caption(found: StudyDifference) -> list[str]:
    """Lines below the table: how many cells differ, what was set otherwise, what only one study has."""
    lines = []
    if found.cells:
        told = [sum(c.verdict == word for c in found.cells) for word in ("higher", "lower", "not decidable")]
        lines.append(
            f"{len(found.cells):,} cells in both: {told[0]:,} higher, {told[1]:,} lower in the second, {told[2]:,} not"
            " decidable (fewer than two seeds in common); at 5 %, after Holm's correction over the cells"
        )
    else:
        lines.append("no cell has finished runs in both")
    settings = dict.fromkeys(line for cell in found.cells for line in cell.settings)
    lines += [f"set otherwise: {_some(list(settings))}"] if settings else []
    for name, keys in (("first", found.only_first), ("second", found.only_second)):
        lines += [f"only in the {name}: {_some([_cell(key) for key in keys])}"] if keys else []
    lines += [f"not compared: {_cell(key)} ({why})" for key, why in found.apart.items()]
    return lines


def _cell(key: CellKey) -> str:
    backbone, task, method, budget = key
    size = "" if budget == OWN_SIZE else f" at {budget}"
    return f"{method}{size} on {backbone}, {task}"


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return "; ".join(names[:MOST_NAMED]) + more
