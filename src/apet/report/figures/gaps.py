"""E1: full fine-tuning and the methods over scale, and the gap between them (figures 1 and 3)."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from apet.analysis.gap_by_scale import Gap
from apet.analysis.intervals import Estimate
from apet.analysis.study import Analysis
from apet.report import captions
from apet.report.figures import canvas, plot
from apet.report.figures.behind import Behind
from apet.report.formatting import named

TITLE = "E1: methods and their gap to full fine-tuning over scale"


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """A column for each family: measure above, gap below."""
    families = list(a.data.families)
    figure, axes = canvas.sheet(2, len(families), width=4.2)
    for i, family in enumerate(families):
        above, below = axes[0][i], axes[1][i]
        for nth, method in enumerate(a.data.methods):
            mine = _of(a, family, method, None)
            behind = [g for g in mine if g.gap is not None]
            for axis, found, shown in (
                (above, mine, [g.score for g in mine]),
                (below, behind, [g.gap for g in behind]),
            ):
                x = canvas.beside([g.scale.num_parameters for g in found], nth, len(a.data.methods))
                canvas.curve(axis, x, [e for e in shown if e is not None], method)
        tasks = len(a.data.tasks(family))
        above.set_title(f"{family}: mean of {captions.plural(tasks, 'task')}")
        above.set_ylabel("validation measure (%)")
        below.set_ylabel("gap to full fine-tuning (points)")
        below.axhline(0, color=canvas.GREY, linewidth=0.8)
        for axis in (above, below):
            canvas.log_counts(axis, "parameters of the backbone")
    marks = canvas.marks(e for g in a.gaps if g.task is None for e in (g.score, g.gap))
    return {
        "e1_gaps": canvas.finish(figure, TITLE, captions.gap(a), canvas.lines(a.data.methods), partial, marks=marks)
    }


def view(a: Analysis) -> plot.View:
    """Choices: family, what is shown, task."""
    plots: dict[str, dict[str, Any]] = {}
    tasks: dict[str, None] = {}
    behind = Behind.of(a)
    for family in a.data.families:
        for task in (None, *a.data.tasks(family)):
            name = task or plot.MEAN
            tasks[name] = None
            plots[f"measure|{family}|{name}"] = _plot(a, behind, family, task, gap=False)
            plots[f"gap|{family}|{name}"] = _plot(a, behind, family, task, gap=True)
    choices = {"shown": ["metric", "gap"], "family": list(a.data.families), "task": list(tasks)}
    return plot.View("e1", TITLE, f"{plot.MARKS} {captions.gap(a)}", choices, plots)


def _plot(a: Analysis, behind: Behind, family: str, task: str | None, gap: bool) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    for method in a.data.methods:
        mine = [g for g in _of(a, family, method, task) if not gap or g.gap is not None]
        if not mine:
            continue
        shown = [g.gap if gap and g.gap is not None else g.score for g in mine]
        texts = [_text(behind, g, e, gap) for g, e in zip(mine, shown, strict=True)]
        data += plot.points_of(method, [g.scale.num_parameters for g in mine], shown, texts)
    label = "gap to full fine-tuning (points)" if gap else "validation measure (%)"
    return {"data": data, "layout": plot.layout("parameters of the backbone", label)}


def _text(behind: Behind, g: Gap, e: Estimate, gap: bool) -> str:
    head = f"{named(g.method)} on {g.scale.name}\nN = {g.num_trainable:,}"
    return behind.text(head, g.scale, g.method, g.num_trainable, g.task, e, "points" if gap else "%")


def _of(a: Analysis, family: str, method: str, task: str | None) -> list[Gap]:
    return [g for g in a.gaps if g.scale.family == family and g.method == method and g.task == task]
