"""E5: low and high thresholds as ranges of N."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt

from apet.analysis.curve_values import ThresholdKind
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.analysis.thresholds import Threshold
from apet.reporting.captions import (
    run_summary,
)
from apet.reporting.experiments.experiment import Experiment, Finding
from apet.reporting.figures import log_axis, marks
from apet.reporting.figures.figure import ROWS, Choice, Figure, Row, number
from apet.reporting.formatting import (
    MEAN_OVER_TASKS,
    count,
    display_name,
    join_words,
    significant,
)
from apet.reporting.table import (
    BACKBONE,
    METHOD,
    TASK,
    Column,
    Table,
    Value,
    integer_column,
)

TITLE = "E5: low and high thresholds"
KINDS: tuple[ThresholdKind, ...] = ("low", "high")
ARROW_FACTOR = 1.5
"""How far beyond the counts tried an arrow ends, as a factor."""


def figure(a: Analysis) -> Figure:
    """Low left, high right, a panel for each backbone; choice: task."""
    rows = [_row(t) for t in a.thresholds]
    tasks = tuple(t for t in (MEAN_OVER_TASKS, *a.data.categories) if any(r["task"] == t for r in rows))
    panels = [_panel(s.name, kind) for s in dict.fromkeys(t.scale for t in a.thresholds) for kind in KINDS]
    chart = alt.layer(*_layers(a, rows)).facet(
        facet=alt.Facet("panel:N", title=None, sort=panels), data=alt.NamedData(ROWS), columns=2
    )
    methods = [m for m in a.data.methods if any(t.method == m for t in a.thresholds)]
    return Figure(
        "thresholds",
        TITLE,
        caption(a),
        f"Ranges of the number of trained parameters for {len(rows)} thresholds. All ranges stand in the table below.",
        chart,
        rows,
        a.data.methods,
        (Choice("task", tasks),),
        columns=2,
        panel_height=24 + 22 * len(methods),
    )


def _panel(backbone: str, kind: ThresholdKind) -> str:
    return f"{kind} threshold, {backbone}"


def _layers(a: Analysis, rows: list[Row]) -> list[alt.Chart]:
    ends = [float(r[c] or math.nan) for r in rows for c in ("start", "end", "arrow_low", "arrow_high") if r[c]]
    x = log_axis.count_axis("start", "trained parameters", ends)
    y = alt.Y("method:N", title=None, sort=[display_name(m) for m in a.data.methods], axis=alt.Axis(grid=False))
    # no legend: the axis names them
    color, shape = marks.method_color(a.data.methods, ()), marks.method_shape(a.data.methods, ())
    tooltip = [
        marks.tooltip("method", "method"),
        marks.tooltip("panel", "threshold"),
        marks.tooltip("task", "task"),
        marks.tooltip("range", "range of N"),
        marks.tooltip("tried", "counts tried"),
    ]
    chart = alt.Chart()

    def at(field: str) -> alt.X:
        other: alt.X = x.copy()
        other.shorthand = f"{field}:Q"
        return other

    def line(condition: str, style: str, start: str, end: str) -> alt.Chart:
        drawn = chart.transform_filter(condition).mark_rule(style=style)
        return drawn.encode(x=at(start), x2=f"{end}:Q", y=y, color=color, tooltip=tooltip)

    def mark(condition: str, style: str, field: str, **fixed: str) -> alt.Chart:
        drawn = chart.transform_filter(condition).mark_point(style=style, **fixed)
        return drawn.encode(x=at(field), y=y, color=color, tooltip=tooltip)

    return [
        line("!datum.open_low && !datum.open_high", "range", "start", "end"),
        line("datum.open_low || datum.open_high", "open", "start", "end"),
        line("datum.open_high", "open", "end", "arrow_high"),
        line("datum.open_low", "open", "arrow_low", "start"),
        mark("datum.open_high", "hollow", "arrow_high", shape="triangle-right"),
        mark("datum.open_low", "hollow", "arrow_low", shape="triangle-left"),
        mark("isValid(datum.median)", "solid", "median").encode(shape=shape),
    ]


def _row(t: Threshold) -> Row:
    """A range; what is open ends in an arrow beyond the counts that were tried."""
    low, high = t.answer.ci_low, t.answer.ci_high
    open_low, open_high = not low, math.isinf(high)
    start, end = low or t.tried[0], min(high, t.tried[-1])
    # below all counts, or above them: a point would say that it is this one
    inside = 0 < t.answer.median < math.inf
    return {
        "backbone": t.scale.name,
        "panel": _panel(t.scale.name, t.kind),
        "task": t.task or MEAN_OVER_TASKS,
        "method": display_name(t.method),
        "start": number(start),
        "end": number(end),
        "median": number(t.answer.median) if inside else None,
        "open_low": open_low,
        "open_high": open_high,
        "arrow_low": number(t.tried[0] / ARROW_FACTOR) if open_low else None,
        "arrow_high": number(t.tried[-1] * ARROW_FACTOR) if open_high else None,
        "range": t.answer.describe(),
        "tried": f"{len(t.tried)}, {t.tried[0]:,} to {t.tried[-1]:,}; {t.seeds} seeds or more",
    }


def table(a: Analysis) -> Table:
    """The table of E5."""
    rows: list[list[Value]] = [
        [
            t.scale.name,
            t.task or MEAN_OVER_TASKS,
            display_name(t.method),
            t.kind,
            t.answer.describe(),
            None if math.isinf(t.answer.median) or t.answer.median == 0 else round(t.answer.median),
            t.answer.ci_low,
            None if math.isinf(t.answer.ci_high) else t.answer.ci_high,
            t.answer.state,
            len(t.tried),
            t.seeds,
        ]
        for t in a.thresholds
    ]
    columns = (
        BACKBONE,
        TASK,
        METHOD,
        Column("threshold"),
        Column("range of N", name="num_trainable_range"),
        integer_column("num_trainable_median", "median", unknown="beyond"),
        integer_column("lower", "above"),
        integer_column("upper", "at most", unknown="not shown"),
        Column("state"),
        integer_column("num_counts", "counts tried"),
        integer_column("min_seeds", "fewest seeds"),
    )
    return Table("thresholds", "E5: low and high thresholds", caption(a), columns, rows)


def caption(a: Analysis) -> str:
    """Caption of E5."""
    cells = {(t.scale.name, t.method, n) for t in a.thresholds for n in t.tried}
    return (
        "Thick: the range that holds the threshold, its median marked; thin, dashed, with a hollow arrow: open, the"
        " counts tried do not settle that end. Low threshold: the smallest N a tenth of the way from what is had"
        " without training (the better of untrained score and best constant answer) to full fine-tuning. High"
        f" threshold: the smallest N at {a.reach.describe()}."
        " Median and 95 % interval of the posterior of the score over log N, fitted to all runs of a method; on these"
        " items."
        f" {run_summary(a, cells, {t.task for t in a.thresholds})}"
    )


def _thresholds_on(a: Analysis, scale: Scale, kind: ThresholdKind) -> list[Threshold]:
    """Thresholds of the mean over tasks; of a family with one task, of that."""
    of_scale = [t for t in a.thresholds if t.scale == scale and t.kind == kind]
    of_mean = [t for t in of_scale if t.task is None]
    return of_mean if of_mean or len(a.data.tasks(scale.family)) > 1 else of_scale


def _reached(thresholds: Sequence[Threshold]) -> list[Threshold]:
    """Those with an upper end, the smallest first."""
    return sorted((t for t in thresholds if math.isfinite(t.answer.ci_high)), key=lambda t: t.answer.ci_high)


def _place(a: Analysis, scale: Scale, task: str | None) -> str:
    tasks = a.data.tasks(scale.family)
    return f"On {scale.name} (mean over {len(tasks)} tasks)" if task is None else f"On {scale.name}, {task}"


def _high_thresholds(a: Analysis) -> list[Finding]:
    texts = []
    reach = a.reach.describe()
    for scale in a.data.scales[::-1]:
        thresholds = _thresholds_on(a, scale, "high")
        if not thresholds:
            continue
        open_ended = [t for t in thresholds if math.isinf(t.answer.ci_high)]
        never = join_words([f"{display_name(t.method)} up to {count(t.tried[-1])}" for t in open_ended])
        place = _place(a, scale, thresholds[0].task)
        reached = _reached(thresholds)
        if not reached:
            texts.append(f"{place}, nothing tried is shown to reach full fine-tuning, that is {reach}: {never}.")
            continue
        first, *others = reached
        text = (
            f"{place}, {display_name(first.method)} reaches full fine-tuning from {_upper_end(first)}, that is {reach}"
        )
        if others:
            text += "; " + join_words([f"{display_name(t.method)} from {_upper_end(t)}" for t in others])
        texts.append(text + (f"; not shown: {never}." if never else "."))
    return [Finding("E5", text) for text in texts] or _high_thresholds_by_task(a)


def _upper_end(t: Threshold) -> str:
    share = 100 * t.answer.ci_high / t.scale.num_parameters
    return f"{count(t.answer.ci_high)} parameters ({significant(share, 2)} %)"


def _high_thresholds_by_task(a: Analysis) -> list[Finding]:
    """Where no count was run on all tasks: how often each method gets there."""
    texts = []
    for method in a.data.methods:
        thresholds = [t for t in a.thresholds if t.kind == "high" and t.method == method]
        if not thresholds:
            continue
        reached = _reached(thresholds)
        pairs = f"{len(reached)} of {len(thresholds)} pairs of backbone and task"
        text = f"{display_name(method)} reaches full fine-tuning on {pairs}"
        if reached:
            first = reached[0]
            text += f", first from {_upper_end(first)} on {first.task} with {first.scale.name}"
        texts.append(text + ".")
    return [Finding("E5", text) for text in texts]


def _low_thresholds(a: Analysis) -> list[Finding]:
    texts = []
    for scale in a.data.scales[::-1]:
        reached = _reached(_thresholds_on(a, scale, "low"))
        if reached:
            each = join_words([f"{display_name(t.method)} from {count(t.answer.ci_high)}" for t in reached])
            texts.append(f"{_place(a, scale, reached[0].task)}, above the baseline: {each} parameters.")
    return [Finding("E5", text) for text in texts]


def findings(a: Analysis) -> list[Finding]:
    """From where on full fine-tuning is reached, and from where on anything is learnt."""
    return [*_high_thresholds(a), *_low_thresholds(a)]


EXPERIMENT = Experiment(
    number="E5",
    name="thresholds",
    title="Thresholds",
    figure=figure,
    tables=lambda a: [table(a)],
    findings=findings,
)
