"""E1: full fine-tuning and the methods over scale, and the gap between them (figures 1 and 3 of the paper)."""

from __future__ import annotations

from matplotlib.figure import Figure

from apet.analysis.gap_by_scale import Gap
from apet.analysis.intervals import Estimate
from apet.analysis.study import Analysis
from apet.reporting import captions
from apet.reporting.figures import log_axis, marks, plotly_data, sheet
from apet.reporting.figures.plotly_data import InteractiveFigure, PlotlyData
from apet.reporting.figures.point_details import PointDetails
from apet.reporting.formatting import MEAN_OVER_TASKS, display_name
from apet.reporting.style import GRAY

TITLE = "E1: methods and their gap to full fine-tuning over scale"


def draw(a: Analysis, partial: bool) -> dict[str, Figure]:
    """For print: a column for each family, the score above, the gap below."""
    families = list(a.data.families)
    figure, axes = sheet.panels(2, len(families), width=4.2)
    for i, family in enumerate(families):
        score_axis, gap_axis = axes[0][i], axes[1][i]
        for nth, method in enumerate(a.data.methods):
            points = _points(a, family, method, None)
            with_gap = [g for g in points if g.gap is not None]
            for axis, shown, estimates in (
                (score_axis, points, [g.score for g in points]),
                (gap_axis, with_gap, [g.gap for g in with_gap]),
            ):
                x = log_axis.side_by_side([g.scale.num_parameters for g in shown], nth, len(a.data.methods))
                marks.curve(axis, x, [e for e in estimates if e is not None], method)
        num_tasks = len(a.data.tasks(family))
        score_axis.set_title(f"{family}: mean of {captions.plural(num_tasks, 'task')}")
        score_axis.set_ylabel("validation score (%)")
        gap_axis.set_ylabel("gap to full fine-tuning (points)")
        gap_axis.axhline(0, color=GRAY, linewidth=0.8)
        for axis in (score_axis, gap_axis):
            log_axis.log_count_axis(axis, "parameters of the backbone")
    legend = marks.line_legend(a.data.methods)
    needed_marks = marks.mark_legend(e for g in a.gaps if g.task is None for e in (g.score, g.gap))
    caption = captions.gap_by_scale(a)
    return {"gap_by_scale": sheet.finish(figure, TITLE, caption, legend, partial, marks=needed_marks)}


def interactive_figure(a: Analysis) -> InteractiveFigure:
    """For the page. Choices: what is shown, family, task."""
    plots: dict[str, PlotlyData] = {}
    tasks: dict[str, None] = {}
    details = PointDetails.of(a)
    for family in a.data.families:
        for task in (None, *a.data.tasks(family)):
            name = task or MEAN_OVER_TASKS
            tasks[name] = None
            plots[f"score|{family}|{name}"] = _plot(a, details, family, task, gap=False)
            plots[f"gap|{family}|{name}"] = _plot(a, details, family, task, gap=True)
    choices = {"shown": ["score", "gap"], "family": list(a.data.families), "task": list(tasks)}
    caption = f"{plotly_data.POINT_MARKS} {captions.gap_by_scale(a)}"
    return InteractiveFigure("gap_by_scale", TITLE, caption, choices, plots)


def _plot(a: Analysis, details: PointDetails, family: str, task: str | None, gap: bool) -> PlotlyData:
    traces: list[PlotlyData] = []
    for method in a.data.methods:
        points = [g for g in _points(a, family, method, task) if not gap or g.gap is not None]
        if not points:
            continue
        estimates = [g.gap if gap and g.gap is not None else g.score for g in points]
        texts = [_hover_text(details, g, e, gap) for g, e in zip(points, estimates, strict=True)]
        traces += plotly_data.mean_traces(method, [g.scale.num_parameters for g in points], estimates, texts)
    label = "gap to full fine-tuning (points)" if gap else "validation score (%)"
    return {"data": traces, "layout": plotly_data.axes_layout("parameters of the backbone", label)}


def _hover_text(details: PointDetails, g: Gap, e: Estimate, gap: bool) -> str:
    head = f"{display_name(g.method)} on {g.scale.name}\nN = {g.num_trainable:,}"
    return details.text(head, g.scale, g.method, g.num_trainable, g.task, e, "points" if gap else "%")


def _points(a: Analysis, family: str, method: str, task: str | None) -> list[Gap]:
    return [g for g in a.gaps if g.scale.family == family and g.method == method and g.task == task]
