"""The report of a study: figures, tables and one page, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from apet.analysis.frames import complete
from apet.analysis.score_matrix import Items
from apet.analysis.study import Analysis, analyze
from apet.report import captions, page, tables
from apet.report.figures import canvas, convergence, gaps, levels, structure, thresholds, transfer
from apet.report.figures.plot import View
from apet.report.folder import FIGURES, PAGE, TABLES, Report, new_report
from apet.report.formatting import kind
from apet.report.headline import findings, headline
from apet.report.table import Table, write

EXPERIMENTS: dict[str, tuple[str, Callable[..., dict[str, Figure]], Callable[[Analysis], View], str]] = {
    "E1": ("Gap to full fine-tuning", gaps.draw, gaps.view, "e1_gaps"),
    "E2": ("Structure at equal counts", structure.draw, structure.view, "e2_structure"),
    "E3": ("Convergence", convergence.draw, convergence.view, "e3_convergence"),
    "E4": ("Number of parameters", levels.draw, levels.view, "e4_levels"),
    "E5": ("Thresholds", thresholds.draw, thresholds.view, "e5_thresholds"),
    "E7": ("Transfer", transfer.draw, transfer.view, "e7_transfer"),
}


def write_report(
    folder: Path,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    provenance: Mapping[str, Any],
    *,
    items: Items | None = None,
    transfer: pd.DataFrame | None = None,
    planned: pd.DataFrame | None = None,
    allow_holes: bool = True,
    partial: bool = False,
) -> Report:
    """Write ``figures/``, ``tables/`` and ``report.html``; an earlier report there is replaced.

    Args:
        folder: where to.
        runs, curves, items, transfer, planned: tables as `apet.analysis.frames` describes them; items also by run key.
        provenance: shown as it comes; known keys: ``name`` of the study, ``settings`` (its YAML text), ``version``,
            ``planned``, ``complete``, ``failed`` (counts), ``running`` (bool), ``hosts``,
            ``outdated`` (runs of earlier settings, which are not among ``runs``), ``data`` (what was done to them;
            synthetic ones are marked at the top of the page).
        allow_holes: go on where planned runs are missing, and mark what misses some.
        partial: the study is not finished: everything says so.

    Raises:
        ApetError: a table does not fit its schema, holes that are not allowed, or a folder that cannot be written.
    """
    a = analyze(runs, curves, items=items, transfer=transfer, planned=planned, allow_holes=allow_holes)
    partial = partial or bool(provenance.get("running"))
    made = tables.every_table(a)
    with new_report(folder) as part:
        with canvas.style():
            drawn = [p for name, f in _drawn(a, partial).items() for p in canvas.save(f, part / FIGURES, name)]
        written = [p for t in made for p in write(t, part / TABLES)]
        (part / PAGE).write_text(_page(a, made, provenance, partial), "utf-8")
    return Report(
        folder,
        folder / PAGE,
        tuple(folder / FIGURES / p.name for p in drawn),
        tuple(folder / TABLES / p.name for p in written),
        headline(a),
        tuple(findings(a)),
        a.missing,
    )


def _drawn(a: Analysis, partial: bool) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for name, (_, draw, _, _) in EXPERIMENTS.items():
        if name not in a.missing:
            figures |= draw(a, partial)
    return figures


def _page(a: Analysis, made: list[Table], provenance: Mapping[str, Any], partial: bool) -> str:
    by_name = {t.name: t for t in made}
    found = findings(a)
    kept = [by_name[n] for n in ("claims",) if n in by_name]
    sections = [page.Section("findings", "What the runs say", tables=kept, body=page.findings(found))]
    for name, (title, _, view, table) in EXPERIMENTS.items():
        if name == "E7" and "e6_tasks" in by_name:
            sections.append(_all_tasks(by_name))
        if name in a.missing:
            body = page.note(f"Not in these runs: {a.missing[name]}.")
            sections.append(page.Section(name.lower(), f"{name} · {title}", body=body))
        else:
            shown = [by_name[table]] if table in by_name else []
            sections.append(page.Section(name.lower(), f"{name} · {title}", view(a), shown))
    sections.append(_failures(by_name))
    if "runs" in by_name:
        sections.append(
            page.Section(
                "runs",
                "Every run",
                body=page.note("All columns: tables/runs.csv."),
                tables=[tables.runs(a, narrow=True)],
            )
        )
    sections.append(_provenance(provenance))
    name = str(provenance.get("name", "Study"))
    return page.page(
        kind("study report", str(provenance.get("data", ""))),
        name,
        headline(a),
        captions.ran(a),
        sections,
        a.data.methods,
        f"Written by apet {provenance.get('version', '')}. {captions.INTERVALS}",
        _banner(a, provenance, partial),
    )


def _banner(a: Analysis, provenance: Mapping[str, Any], partial: bool) -> str:
    parts = []
    if partial:
        planned = provenance.get("planned")
        of = f" of {planned:,}" if isinstance(planned, int) else ""
        parts.append(f"Partial: the study is not finished, {len(complete(a.data.runs)):,}{of} runs are complete.")
    if provenance.get("outdated"):
        parts.append(
            f"Left out: {captions.plural(int(provenance['outdated']), 'run')} of earlier settings of this study."
        )
    if len(a.failed):
        parts.append(f"{captions.plural(len(a.failed), 'run')} failed: listed below, without a number.")
    holes = sum(e is not None and e.num_missing > 0 for g in a.gaps for e in (g.score, g.gap))
    if holes:
        parts.append(f"Numbers of E1 that miss planned runs are marked †: {holes}.")
    return " ".join(parts)


def _all_tasks(by_name: Mapping[str, Table]) -> page.Section:
    shown = [by_name[n] for n in ("e6_tasks", "e6_paper") if n in by_name]
    return page.Section("e6", "E6 · All tasks", tables=shown, theirs=frozenset({"e6_paper"}))


def _failures(by_name: Mapping[str, Table]) -> page.Section:
    if "failed" not in by_name:
        return page.Section("failed", "What failed", body=page.note("No run failed."))
    return page.Section("failed", "What failed", tables=[by_name["failed"]])


def _provenance(provenance: Mapping[str, Any]) -> page.Section:
    settings = provenance.get("settings")
    body = page.facts({k: v for k, v in provenance.items() if k != "settings"}) + (
        page.source(str(settings)) if settings else ""
    )
    return page.Section("settings", "Settings and provenance", body=body)
