"""Command report: figures, tables and a page of a study or of one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apet.cli.options import Json
from apet.cli.output import print_json
from apet.errors import ApetError

if TYPE_CHECKING:
    from apet.reporting.folder import Report


SHOWN = 10
"""Damaged runs that are named."""


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a study, or of one run.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report; without it, report/ in the study's folder.")
    ] = None,
    require_complete: Annotated[
        bool, typer.Option("--require-complete", help="Fail if a planned run of the study is missing.")
    ] = False,
    json: Json = False,
) -> None:
    """Write figures, tables and a page.

    The page opens with the answer. It may be written while a study runs, and of one run.
    """
    from apet.reporting.run import write_run_report
    from apet.studies.store_schema import FILE
    from apet.training.output_folder import RESULT

    if (folder / FILE).is_file():
        written = _write_study_report(folder, output or folder / "report", require_complete)
    elif (folder / RESULT).is_file():
        written = write_run_report(folder, output)
    else:
        raise ApetError(
            f"neither a study nor a finished run at {str(folder)!r}; give a folder of apet study run, compare or tune"
        )
    if json:
        print_json(
            {
                "page": str(written.page),
                "headline": written.headline,
                "findings": [finding.text for finding in written.findings],
            }
        )
        return
    print(written.headline)
    print(written.page)


def _write_study_report(folder: Path, output: Path, require_complete: bool) -> Report:
    """Report of a study's current runs."""
    from apet.reporting.study import write_report
    from apet.studies.results import Study, provenance

    study = Study(folder)
    facts, outdated, items = provenance(study), study.outdated, study.items()
    for run_id, why in list(study.damaged.items())[:SHOWN]:
        print(f"apet: left out: run {run_id}: {why}", file=sys.stderr)
    if len(study.damaged) > SHOWN:
        print(f"apet: {len(study.damaged)} runs are not what was recorded", file=sys.stderr)
    # Runs of earlier settings stay in the record, and would be averaged with those of the present ones.
    runs, curves, transfers = (
        table[~table["run_id"].isin(outdated)] for table in (study.runs(), study.curves(), study.transfers())
    )
    return write_report(
        output,
        runs,
        curves,
        facts | {"outdated": len(outdated)},
        items=items,
        transfer=transfers,
        planned=study.planned(),
        allow_holes=not require_complete,
        partial=bool(facts["running"]),
    )
