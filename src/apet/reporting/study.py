"""The report of a study: figures, tables and one page, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from apet.analysis.frames import FULL, complete
from apet.analysis.score_matrix import Items
from apet.analysis.study import Analysis, analyze
from apet.reporting import captions, page
from apet.reporting.claims_table import claims
from apet.reporting.experiments import score_by_budget
from apet.reporting.experiments.experiment import Experiment
from apet.reporting.experiments.registry import experiments_of
from apet.reporting.figures import printing
from apet.reporting.figures.figure import Figure
from apet.reporting.figures.printing import Width
from apet.reporting.folder import FIGURES, PAGE, TABLES, Report, new_report
from apet.reporting.formatting import page_kind
from apet.reporting.headline import findings, headline
from apet.reporting.run_tables import all_runs, failed_runs
from apet.reporting.table import Table
from apet.reporting.table_files import write_table


def write_report(
    folder: Path,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    provenance: Mapping[str, object],
    *,
    items: Items | None = None,
    transfer: pd.DataFrame | None = None,
    planned: pd.DataFrame | None = None,
    allow_holes: bool = True,
    partial: bool = False,
    width: Width = "page",
) -> Report:
    """Write ``figures/``, ``tables/`` and ``report.html``; an earlier report there is replaced.

    Args:
        folder: where to.
        runs: table as `apet.analysis.frames` describes it, like those below.
        curves: one row a measurement.
        provenance: shown as it comes; known keys: ``name`` of the study, ``settings`` (its YAML text), ``version``,
            ``planned``, ``complete``, ``failed`` (counts), ``running`` (bool), ``hosts``,
            ``outdated`` (runs of earlier settings, which are not among ``runs``), ``cautions`` (lines that a reader
            must not miss), ``data`` (what was done to them;
            synthetic ones are marked at the top of the page).
        items: scores of items of the split that is reported, as a table or by run_id; None = unknown.
        transfer: zero-shot scores; None = none were measured.
        planned: the runs that were to be made; None = unknown.
        allow_holes: go on where planned runs are missing, and mark what misses some.
        partial: the study is not finished: everything says so.
        width: of the printed figures: of a column, or of a page with two.

    Returns:
        The report, with all its files.

    Raises:
        ApetError: a table does not fit its schema, planned runs are missing and must not, or a folder that cannot be
            written.
    """
    a = analyze(runs, curves, items=items, transfer=transfer, planned=planned, allow_holes=allow_holes)
    partial = partial or bool(provenance.get("running"))
    tables = study_tables(a)
    with new_report(folder) as unfinished:
        figures = study_figures(a)
        figure_files = _print_figures(a, figures, unfinished / FIGURES, partial, width)
        printed = {"runs": all_runs(a, page=True)}
        table_files = [p for t in tables for p in write_table(t, unfinished / TABLES, printed.get(t.name))]
        (unfinished / PAGE).write_text(_page(a, figures, tables, provenance, partial), "utf-8")
    return Report(
        folder,
        folder / PAGE,
        tuple(folder / FIGURES / p.name for p in figure_files),
        tuple(folder / TABLES / p.name for p in table_files),
        headline(a),
        tuple(findings(a)),
        a.missing,
    )


def study_page(a: Analysis, provenance: Mapping[str, object], partial: bool = False) -> str:
    """The page alone, as `write_report` writes it.

    Args:
        a: the numbers.
        provenance: as for `write_report`.
        partial: the study is not finished.

    Returns:
        HTML.
    """
    return _page(a, study_figures(a), study_tables(a), provenance, partial)


def study_figures(a: Analysis) -> dict[str, Figure]:
    """The figure of each experiment that the runs hold, by its number."""
    shown = [e for e in experiments_of(a) if e.number not in a.missing]
    return {e.number: e.figure(a) for e in shown if e.figure is not None}


def _print_figures(a: Analysis, figures: Mapping[str, Figure], folder: Path, partial: bool, width: Width) -> list[Path]:
    printed = [f for e in experiments_of(a) if e.number in figures for f in (figures[e.number], *e.printed(a))]
    return [path for figure in printed for path in printing.save(figure, folder, partial, width)]


def _page(
    a: Analysis,
    figures: Mapping[str, Figure],
    tables: list[Table],
    provenance: Mapping[str, object],
    partial: bool,
) -> str:
    by_name = {t.name: t for t in tables}
    claimed = [by_name[n] for n in ("claims",) if n in by_name]
    sections = [page.Section("findings", "What the runs say", tables=claimed, body=page.finding_list(findings(a)))]
    sections += [x for e in experiments_of(a) if (x := _section(a, e, figures, by_name)) is not None]
    sections.append(_failures(by_name))
    if "runs" in by_name:
        body = page.note("All columns: tables/runs.csv.")
        sections.append(page.Section("runs", "Every run", body=body, tables=[all_runs(a, page=True)]))
    sections.append(_provenance(provenance))
    return page.html_page(
        page_kind("study report", str(provenance.get("data", ""))),
        str(provenance.get("name", "Study")),
        headline(a),
        captions.run_summary(a),
        sections,
        f"Written by apet {provenance.get('version', '')}. {captions.INTERVALS}",
        _banner(a, provenance, partial),
        _answer(a, by_name),
    )


def _answer(a: Analysis, by_name: Mapping[str, Table]) -> page.Section | None:
    """The picture of the headline; None where nothing is measured that it could show."""
    if all(p.method == FULL for p in a.budget_points):
        return None
    table = [by_name[n] for n in ("score_by_budget",) if n in by_name]
    return page.Section("answer", "The answer", score_by_budget.answer_figure(a), table)


def _banner(a: Analysis, provenance: Mapping[str, object], partial: bool) -> str:
    """What a reader must know before any number: what is missing, left out or failed; empty where nothing is."""
    parts = []
    if partial:
        planned = provenance.get("planned")
        of = f" of {planned:,}" if isinstance(planned, int) else ""
        done = provenance.get("complete")
        done = done if isinstance(done, int) else len(complete(a.data.runs))
        parts.append(f"Partial: the study is not finished, {done:,}{of} runs are complete.")
    beside = provenance.get("beside the plan")
    if isinstance(beside, int) and beside:
        parts.append(f"{captions.plural(beside, 'run')} in the folder are not of this plan.")
    outdated = provenance.get("outdated")
    if isinstance(outdated, int) and outdated:
        parts.append(f"Left out: {captions.plural(outdated, 'run')} of earlier settings of this study.")
    if len(a.failed):
        parts.append(f"{captions.plural(len(a.failed), 'run')} failed: listed below, without a number.")
    cautions = provenance.get("cautions")
    parts += [f"Caution: {line}." for line in cautions] if isinstance(cautions, list) else []
    incomplete = sum(e is not None and e.num_missing > 0 for g in a.gaps for e in (g.score, g.gap))
    if incomplete:
        parts.append(f"Numbers of E1 that miss planned runs are marked †: {incomplete}.")
    return " ".join(parts)


def _section(
    a: Analysis, e: Experiment, figures: Mapping[str, Figure], by_name: Mapping[str, Table]
) -> page.Section | None:
    """An experiment's section: its figure and tables, or what it lacks; None of tables alone where there are none."""
    tables = [by_name[n] for n in (e.name, *sorted(e.reference_tables)) if n in by_name]
    figure, title = figures.get(e.number), f"{e.number} · {e.title}"
    if figure is None and e.figure is not None:
        return page.Section(e.name, title, body=page.note(f"Not in these runs: {a.missing[e.number]}."))
    if figure is None and not tables:
        return None
    return page.Section(e.name, title, figure, tables, reference_tables=e.reference_tables)


def study_tables(a: Analysis) -> list[Table]:
    """Every table that has rows."""
    of_experiments = [t for e in experiments_of(a) for t in e.tables(a)]
    return [t for t in (claims(a), *of_experiments, failed_runs(a), all_runs(a)) if t.rows]


def _failures(by_name: Mapping[str, Table]) -> page.Section:
    if "failed" not in by_name:
        return page.Section("failed", "What failed", body=page.note("No run failed."))
    return page.Section("failed", "What failed", tables=[by_name["failed"]])


def _provenance(provenance: Mapping[str, object]) -> page.Section:
    settings = provenance.get("settings")
    body = page.definition_list({k: v for k, v in provenance.items() if k not in ("settings", "cautions")}) + (
        page.source_text(str(settings)) if settings else ""
    )
    return page.Section("settings", "Settings and provenance", body=body)
