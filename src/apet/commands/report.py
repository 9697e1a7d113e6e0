"""Reports from Python: figures, tables and a page of a study or of one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from apet.errors import ApetError
from apet.reporting.folder import Report
from apet.studies.store_schema import FILE
from apet.training.cautions import study_cautions
from apet.training.output_folder import RESULT

SHOWN = 10
"""Damaged runs that are named."""


def report(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    require_complete: bool = False,
    width: Literal["column", "page"] = "page",
    log: Callable[[str], None] | None = None,
) -> Report:
    """Write figures, tables and a page of a study, which may still run, or of one run.

    Args:
        folder: of the study, or of the run.
        output: folder for the report; None = ``report`` in the folder.
        require_complete: fail if a planned run of the study is missing.
        width: of the printed figures: a column of a paper, or its page.
        log: is told which runs are left out as damaged; None = nobody.

    Returns:
        The report: its page, figures, tables, headline and findings.

    Raises:
        ApetError: neither a study nor a finished run there, or the folder cannot be written.

    Examples:
        >>> import apet
        >>> run = apet.tune("microworld-bert-small", "microworld-sst2", method="bitfit", max_steps=2, quiet=True,
        ...                 max_train_samples=64, max_eval_samples=16)
        >>> apet.report(run.folder).page.name
        'report.html'
    """
    from apet.reporting.run import write_run_report

    folder, output = Path(folder), None if output is None else Path(output)
    if (folder / FILE).is_file():
        return _study_report(folder, output or folder / "report", require_complete, width, log)
    if (folder / RESULT).is_file():
        return write_run_report(folder, output, width)
    raise ApetError(
        f"neither a study nor a finished run at {str(folder)!r}; give a folder of apet study run, compare or tune"
    )


def _study_report(
    folder: Path,
    output: Path,
    require_complete: bool,
    width: Literal["column", "page"],
    log: Callable[[str], None] | None,
) -> Report:
    """Report of a study's current runs."""
    from apet.reporting.study import write_report
    from apet.studies.results import Study, provenance

    study = Study(folder)
    facts, outdated, items = provenance(study), study.outdated, study.items()
    if log is not None:
        for run_id, why in list(study.damaged.items())[:SHOWN]:
            log(f"left out: run {run_id}: {why}")
        if len(study.damaged) > SHOWN:
            log(f"{len(study.damaged)} runs are not what was recorded")
    # Runs of earlier settings stay in the record, and would be averaged with those of the present ones.
    runs, curves, transfers = (
        table[~table["run_id"].isin(outdated)] for table in (study.runs(), study.curves(), study.transfers())
    )
    current = [result for run_id, result in study.results().items() if run_id not in outdated]
    return write_report(
        output,
        runs,
        curves,
        facts | {"outdated": len(outdated), "cautions": study_cautions(current)},
        items=items,
        transfer=transfers,
        planned=study.planned(),
        allow_holes=not require_complete,
        partial=bool(facts["running"]),
        width=width,
    )
