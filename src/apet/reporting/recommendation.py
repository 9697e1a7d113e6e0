"""The page and the picture of a recommendation."""

from __future__ import annotations

import io
import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from apet.errors import CannotWriteError
from apet.recommendation.answer import Recommendation, Tried
from apet.recommendation.wording import clock, method_name
from apet.reporting import page
from apet.reporting.figures import sheet
from apet.reporting.formatting import page_kind, significant
from apet.reporting.style import GRAY, method_style
from apet.reporting.table import Column, Table, Value, integer_column
from apet.training.output_folder import partial_path

_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""Nothing of it: neither a date, by which equal answers would differ, nor addresses of vocabularies."""
PAGE, RECORD, FIGURE = "recommendation.html", "recommendation.json", "recommendation.png"


def write_recommendation(r: Recommendation, folder: Path) -> Path:
    """Write page, picture and record into the folder of the runs; those of an earlier answer are replaced.

    Args:
        r: the answer.
        folder: of its runs.

    Returns:
        The page.

    Raises:
        CannotWriteError: the folder takes no files.
    """
    try:
        _write(folder / RECORD, (json.dumps(r.as_dict(), indent=1, allow_nan=False) + "\n").encode())
        picture = b""
        if r.tried:
            with sheet.drawing_style():
                figure = _draw(r)
                _write(folder / FIGURE, _bytes(figure, "png"))
                picture = _bytes(figure, "svg")
        _write(folder / PAGE, _page(r, picture.decode("utf-8")).encode())
    except OSError as e:
        raise CannotWriteError(f"cannot write to {str(folder)!r}: {e.strerror}; the same command goes on") from e
    return folder / PAGE


def _write(path: Path, content: bytes) -> None:
    unfinished = partial_path(path)
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _bytes(figure: Figure, form: str) -> bytes:
    out = io.BytesIO()
    # Without a date: the same answer gives the same bytes.
    figure.savefig(out, format=form, dpi=150, metadata=_NO_METADATA if form == "svg" else None)
    return out.getvalue()


def _draw(r: Recommendation) -> Figure:
    figure, axes = sheet.panels(1, 2, width=4.4, height=3.0)
    by_count, by_time = axes[0]
    names = list(dict.fromkeys(p.family for p in r.tried))
    for name in names:
        points = [p for p in r.tried if p.family == name]
        _points(by_count, points, [float(p.num_trainable) for p in points], name)
        timed = [p for p in points if p.relative_time is not None]
        _points(by_time, timed, [p.relative_time or 0.0 for p in timed], name)
    if r.curve and r.use is not None:
        color = method_style(r.use.method).color
        x = [p.num_trainable for p in r.curve]
        ends = [100 * p.ci_low for p in r.curve], [100 * p.ci_high for p in r.curve]
        by_count.fill_between(x, *ends, color=color, alpha=0.15, linewidth=0)
        by_count.plot(x, [100 * p.score for p in r.curve], color=color, linewidth=1)
    scores = [100 * p.score for p in r.tried]
    for axis in (by_count, by_time):
        axis.axhline(100 * max(r.constant, r.untrained), color=GRAY, linestyle=":", linewidth=1)
        if r.reference_score is not None:
            axis.axhline(100 * r.reference_score, color="black", linestyle="--", linewidth=1)
        if r.use is not None:
            at = float(r.use.num_trainable) if axis is by_count else r.use.relative_time
            if at is not None:
                axis.plot([at], [100 * r.use.score], "o", markersize=15, fillstyle="none", color="#D00000")
        low = min([*scores, 100 * max(r.constant, r.untrained)])
        axis.set_ylim(max(0, low - 3), min(100, max([*scores, 100 * (r.reference_score or 0)]) + 3))
        axis.set_ylabel(f"validation {r.metric} (%)")
    by_count.set_xscale("log")
    by_count.set_xlabel("trained parameters")
    by_time.set_xlabel("time of a step, of full fine-tuning's")
    by_time.set_title("what a step costs")
    by_count.set_title("how few parameters")
    entries = [*by_count.get_legend_handles_labels()[0]]
    return sheet.finish(figure, f"{r.backbone} on {r.task}", _caption(r), entries, plain=False)


def _points(axis: Axes, points: list[Tried], x: list[float], name: str) -> None:
    if not points:
        return
    style = method_style(points[0].method)
    filled = "(" not in name  # of one method, other structures are hollow
    axis.plot(
        x,
        [100 * p.score for p in points],
        linestyle="",
        marker=style.marker,
        color=style.color,
        fillstyle="full" if filled else "none",
        markersize=6,
        label=method_name(name),
    )


def _caption(r: Recommendation) -> str:
    return (
        f"Every way that had a whole run of {r.steps} steps: mean over its seeds, on {r.num_validation:,} validation"
        f" rows. Ringed: the answer; dashed: {method_name(r.reference)}; dotted: without training. Band: 95 % for the"
        " mean over seeds of the answer's method, by its budget curve."
    )


def _page(r: Recommendation, picture: str) -> str:
    svg = picture[picture.index("<svg") :] if picture else ""
    svg = svg.replace(
        "<svg ", '<svg role="img" aria-label="score over parameters" style="max-width:100%;height:auto" ', 1
    )
    commands = "".join(f"<p>{name}</p>{page.source_text(command)}" for name, command in r.commands.items())
    facts: dict[str, object] = {
        "reached means": r.reach,
        "validation rows": r.num_validation,
        "test rows": r.test.num_examples if r.test else "not used",
        "without training": f"{r.untrained:.3f}; best constant answer {r.constant:.3f}",
        "expected to be lost by this answer": "" if r.regret is None else f"{r.regret:.2f} points",
        "runs": f"{r.num_runs}, in {clock(r.seconds)} minutes of {clock(r.within)}; {r.ended}",
        "folder": r.folder,
        "data": list(r.notes),
    }
    if r.stand_in:
        facts["full fine-tuning"] = f"not run: {r.stand_in}; {r.reference} stands in for it"
    sections = [
        page.Section("picture", "Picture", body=svg + page.note(_caption(r)) if svg else page.note("no run yet")),
        page.Section("commands", "Commands", body=commands or page.note("none yet")),
        *(
            page.Section(table.name, title, tables=[table])
            for title, table in (("What was tried", _tried(r)), ("What became of each way", _fates(r)))
            if table.rows
        ),
        page.Section("settings", "Settings", body=page.definition_list(facts)),
    ]
    ran = f"{r.num_runs} runs; whole runs have {r.steps} steps; chosen on validation, scored once on test rows."
    kind = page_kind("recommendation", " ".join(r.notes))
    return page.html_page(
        kind, f"{r.backbone} on {r.task}", r.headline, ran, sections, [], "Written by apet recommend."
    )


def _tried(r: Recommendation) -> Table:
    def verdict(p: Tried) -> str:
        return "recommended" if p == r.use else "best for its size" if p.is_best_for_size else ""

    rows: list[list[Value]] = [
        [
            method_name(p.family),
            p.num_trainable,
            p.learning_rate,
            p.score,
            p.num_seeds,
            p.reaches,
            p.relative_time,
            p.relative_memory,
            verdict(p),
        ]
        for p in r.tried
    ]
    columns = (
        Column("method"),
        integer_column("num_trainable", "trained parameters"),
        Column("learning rate", significant, "learning_rate"),
        Column(f"validation {r.metric}", lambda x: f"{x:.3f}", "score"),
        integer_column("num_seeds", "seeds"),
        Column("probability to reach", lambda x: f"{x:.2f}", "reaches"),
        Column("step time ×", lambda x: f"{x:.2f}", "relative_time"),
        Column("memory ×", lambda x: f"{x:.2f}", "relative_memory"),
        Column(""),
    )
    caption = (
        "Step time as measured, of runs that were made alone; memory by the model of costs; of full fine-tuning's."
    )
    return Table("tried", "Every way with a whole run", caption, columns, rows)


def _fates(r: Recommendation) -> Table:
    rows: list[list[Value]] = [
        [method_name(f.family), f.what, "" if f.seconds is None else clock(f.seconds), f.why] for f in r.fates
    ]
    columns = (Column("method"), Column("what"), Column("at, minutes"), Column("why"))
    return Table("fates", "Every way to tune", "Times are of computing, over all calls.", columns, rows)
