"""Reports from Python: figures, tables and a page of one study or several, of an export, or of one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from apet.errors import ApetError
from apet.reporting.folder import Report
from apet.studies.export import is_export, read_export
from apet.studies.store_schema import FILE
from apet.studies.tables import StudyTables, merged
from apet.training.output_folder import RESULT

SHOWN = 10
"""Damaged runs that are named."""


def report(
    folders: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    require_complete: bool = False,
    width: Literal["column", "page"] = "page",
    log: Callable[[str], None] | None = None,
) -> Report:
    """Write figures, tables and a page of a study, which may still run, of its export, or of one run.

    Args:
        folders: of the study, of what ``apet study export`` wrote of it, or of the run. Several studies or exports are
            parts of one, as when its scales ran on different days or machines: they get one report.
        output: folder for the report; None = ``report`` in the one folder.
        require_complete: fail if a planned run of the study is missing.
        width: of the printed figures: a column of a paper, or its page.
        log: is told which runs are left out as damaged; None = nobody.

    Returns:
        The report: its page, figures, tables, headline and findings.

    Raises:
        ApetError: nothing there that can be reported, several folders and no ``output``, or it cannot be written.

    Examples:
        >>> import apet
        >>> run = apet.tune("microworld-bert-small", "microworld-sst2", method="bitfit", max_steps=2, quiet=True,
        ...                 max_train_samples=64, max_eval_samples=16)
        >>> apet.report(run.folder).page.name
        'report.html'
    """
    from apet.reporting.run import write_run_report
    from apet.reporting.study import write_report

    paths = [Path(folders)] if isinstance(folders, str | Path) else [Path(f) for f in folders]
    if len(paths) == 1 and not _holds_study(paths[0]) and (paths[0] / RESULT).is_file():
        return write_run_report(paths[0], None if output is None else Path(output), width)
    if len(paths) > 1 and output is None:
        raise ApetError(
            f"one report of {len(paths)} folders belongs into none of them; give an output folder (--output)"
        )
    tables = report_tables(paths, log)
    return write_report(
        paths[0] / "report" if output is None else Path(output),
        tables.runs,
        tables.curves,
        tables.facts,
        items=tables.items,
        transfer=tables.transfers,
        planned=tables.planned,
        allow_holes=not require_complete,
        partial=bool(tables.facts["running"]),
        width=width,
    )


def report_tables(folders: Sequence[Path], log: Callable[[str], None] | None = None) -> StudyTables:
    """The current runs of studies and exports, as parts of one study.

    Args:
        folders: of studies or exports.
        log: is told which runs are left out as damaged; None = nobody.

    Returns:
        All that a report is made of.

    Raises:
        ApetError: neither a study nor an export at one of them.
    """
    return merged({name: _tables(path, log) for name, path in zip(_names(folders), folders, strict=True)})


def _holds_study(folder: Path) -> bool:
    return (folder / FILE).is_file() or is_export(folder)


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' last names where those tell them apart."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _tables(folder: Path, log: Callable[[str], None] | None) -> StudyTables:
    """The current tables of a study or of an export."""
    from apet.studies.results import Study

    if is_export(folder) and not (folder / FILE).is_file():
        return read_export(folder).current()
    if not (folder / FILE).is_file():
        if (folder / RESULT).is_file():
            raise ApetError(f"{str(folder)!r} is one run and no study; apet report shows it alone")
        parts = [p for p in sorted(folder.iterdir()) if _holds_study(p)] if folder.is_dir() else []
        if parts:
            raise ApetError(f"{str(folder)!r} holds studies and is none; give them: {folder}/*, or {parts[0]}")
        raise ApetError(
            f"neither a study nor a finished run at {str(folder)!r}; give a folder of apet study run, study export,"
            " compare or tune"
        )
    study = Study(folder)
    tables = StudyTables.of(study)
    if log is not None:
        for run_id, why in list(study.damaged.items())[:SHOWN]:
            log(f"left out: run {run_id}: {why}")
        if len(study.damaged) > SHOWN:
            log(f"{len(study.damaged)} runs are not what was recorded")
    return tables.current()
