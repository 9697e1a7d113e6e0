"""What a study's command ends with: its measured methods as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from apet.analysis.intervals import Estimate
from apet.analysis.study import analyze
from apet.report import captions, tables
from apet.report.formatting import brief, points, span
from apet.report.table import text
from apet.studies.results import Study


def ending(study: Study, keys: Sequence[str]) -> tuple[str, list[str], list[list[str]]] | None:
    """Caption, header and rows: each backbone with each method at its own size, and APET at these counts, over tasks.

    Only complete runs among the given keys. A header's '#' marks numbers. None where none of them is complete.

    Raises:
        ApetError: runs of one cell differ in more than the seed.
    """
    runs, curves = study.runs(), study.curves()
    mine = runs[runs["run_id"].isin(keys) & (runs["state"] == "complete")]
    if mine.empty:
        return None
    a = analyze(mine, curves[curves["run_id"].isin(mine["run_id"])], allow_holes=True)
    table = tables.tasks(a)
    header = [c.title + "#" * c.number for c in table.columns]
    rows = [
        [_measured(v) if isinstance(v, Estimate) else text(c, v) for c, v in zip(table.columns, row, strict=True)]
        for row in table.rows
    ]
    how = "Percent; in brackets the 95 % interval over the items, of one seed; after ± half the one over seeds."
    return f"{captions.ran(a)} {how}", header, rows


def _measured(e: Estimate) -> str:
    """``81.2 ± 1.3`` over seeds, ``81.2 [78.0 to 84.1]`` of one seed."""
    return brief(e) if e.num_seeds > 1 else f"{points(e.score)} [{span(e.item_ci_low, e.item_ci_high)}]"
