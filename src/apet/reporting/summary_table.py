"""The measured methods of a study as one table for the terminal, printed when its command ends."""

from __future__ import annotations

from collections.abc import Sequence

from apet.analysis.intervals import Estimate
from apet.analysis.study import analyze
from apet.reporting import captions
from apet.reporting.experiments import tasks
from apet.reporting.formatting import interval, mean_and_spread, percent
from apet.studies.results import Study


def study_summary(study: Study, run_ids: Sequence[str]) -> tuple[str, list[str], list[list[str]]] | None:
    """Each backbone with each method at its default size, and APET at these counts, over tasks.

    Args:
        study: whose runs they are.
        run_ids: the runs to take in; of them, only the complete ones count.

    Returns:
        Caption, header and rows; a header's '#' marks numbers. None where no run is complete.

    Raises:
        ApetError: runs of one cell differ in more than the seed.
    """
    runs, curves = study.runs(), study.curves()
    complete_runs = runs[runs["run_id"].isin(run_ids) & (runs["state"] == "complete")]
    if complete_runs.empty:
        return None
    a = analyze(complete_runs, curves[curves["run_id"].isin(complete_runs["run_id"])], allow_holes=True)
    table = tasks.task_table(a)
    header = [c.heading + "#" * c.numeric for c in table.columns]
    rows = [
        [_score(v) if isinstance(v, Estimate) else c.text(v) for c, v in zip(table.columns, row, strict=True)]
        for row in table.rows
    ]
    how = "Percent; in brackets the 95 % interval over the items, of one seed; after ± half the one over seeds."
    return f"{captions.run_summary(a)} {how}", header, rows


def _score(e: Estimate) -> str:
    """``81.2 ± 1.3`` over seeds, ``81.2 [78.0 to 84.1]`` of one seed."""
    if e.num_seeds > 1:
        return mean_and_spread(e)
    return f"{percent(e.score)} [{interval(e.item_ci_low, e.item_ci_high)}]"
