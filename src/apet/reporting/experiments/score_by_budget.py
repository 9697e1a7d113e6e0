"""E4: the score over the number of trained parameters, scales overlaid, and both thresholds (the paper's figure 7)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import altair as alt

from apet.analysis.frames import FULL
from apet.analysis.score_by_budget import BudgetPoint
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.analysis.thresholds import Threshold
from apet.reporting.captions import (
    INTERVALS,
    LEVELS,
    MISSING_RUNS,
    RANGES,
    run_summary,
)
from apet.reporting.experiments.experiment import Experiment
from apet.reporting.figures import log_axis, marks
from apet.reporting.figures.figure import ROWS, Cell, Choice, Figure, Row, number
from apet.reporting.figures.seeds import SeedsByCell
from apet.reporting.formatting import (
    MEAN_OVER_TASKS,
    display_name,
    percent,
)
from apet.reporting.table import (
    BACKBONE,
    METHOD,
    TASK,
    TRAINABLE_PERCENT,
    Column,
    N,
    Table,
    Value,
    estimate_column,
)

TITLE = "E4: score over the number of trained parameters"
NEAR = 0.15
"""Of a score, how far above the baseline the lowest one may lie for that to be drawn."""
ALL_BACKBONES = "all, overlaid"
Y_TITLE = "score (%)"


def figure(a: Analysis) -> Figure:
    """Scales overlaid in one panel; choices: backbone, task."""
    rows = _rows(a)
    backbones = _backbones(a)
    names = (ALL_BACKBONES, *backbones[::-1]) if len(backbones) > 1 else backbones
    whole = _figure(a, rows, overlaid=True, backbone=Choice("backbone", names, ALL_BACKBONES))
    told = f"{caption(a)}{marks.CUT * _is_cut(rows)}"
    return replace(whole, name="score_by_budget", title=TITLE, caption=told)


def answer_figure(a: Analysis) -> Figure:
    """One backbone at a time, the largest first that has a curve: the picture of the answer."""
    rows = _rows(a)
    largest_first = list(reversed(_backbones(a)))
    backbones = sorted(largest_first, key=lambda b: max(_curves(rows, b).values(), default=0) == 0)
    whole = _figure(a, rows, overlaid=False, backbone=Choice("backbone", tuple(backbones)))
    ranges = RANGES if any(r["kind"] == "range" for r in rows) else ""
    return replace(whole, caption=f"{LEVELS}{ranges} {INTERVALS}{marks.CUT * _is_cut(rows)}")


def _backbones(a: Analysis) -> tuple[str, ...]:
    measured = {p.scale.name for p in a.budget_points}
    return tuple(s.name for s in a.data.scales if s.name in measured)


def _is_cut(rows: Sequence[Row]) -> bool:
    return any(r.get("cut_low") or r.get("cut_high") for r in rows)


def _curves(rows: Sequence[Row], backbone: str) -> Counter[str]:
    """How many points of curves, that is of methods at several counts, each task has; on one backbone, or on all."""
    here = [r for r in rows if r["kind"] == "point" and backbone in (ALL_BACKBONES, r["backbone"])]
    points = Counter((r["task"], r["backbone"], r["method"]) for r in here)
    curves: Counter[str] = Counter()
    for (task, _, _), n in points.items():
        curves[str(task)] += n if n > 1 else 0
    return curves


def _figure(a: Analysis, rows: list[Row], overlaid: bool, backbone: Choice) -> Figure:
    measured = [r for r in rows if r["kind"] == "point"]
    marks.cut_wide_intervals(measured, lambda r: r["task"])
    # it opens where there are curves to see: the mean over all tasks may be known at single counts alone
    curves = _curves(rows, backbone.options[0])
    tasks = [t for t in (MEAN_OVER_TASKS, *a.data.categories) if any(r["task"] == t for r in rows)]
    most = max(curves.values(), default=0)
    tasks.sort(key=lambda t: curves[t] < most)
    return Figure(
        "answer",
        "Score over the number of trained parameters",
        "",
        marks.described("Score over the number of trained parameters", measured),
        _layers(a, rows, overlaid, free=not overlaid).properties(data=alt.NamedData(ROWS)),
        rows,
        a.data.methods,
        (backbone, Choice("task", tuple(tasks))),
        panel_height=300 if overlaid else 260,
    )


def by_task(a: Analysis) -> list[Figure]:
    """For print: a figure for each backbone, a panel for each task, the mean first."""
    whole = figure(a)
    figures = []
    for scale in a.data.scales:
        rows = [r for r in whole.rows if r["backbone"] == scale.name]
        tasks = list(dict.fromkeys(str(r["task"]) for r in rows))
        if len(tasks) < 2 or not any(t.scale == scale for t in a.thresholds):
            continue
        ordered = sorted(tasks, key=lambda t: t != MEAN_OVER_TASKS)
        chart = _layers(a, rows, overlaid=False, height="child_height").facet(
            facet=alt.Facet("task:N", title=None, sort=ordered), data=alt.NamedData(ROWS), columns=4
        )
        name = "score_by_budget_" + re.sub(r"[^\w.-]+", "-", scale.name)
        title = f"{TITLE}, {scale.name} ({log_axis.short_count(scale.num_parameters)} parameters)"
        told = caption(a, scale)
        figures.append(
            replace(
                whole,
                name=name,
                title=title,
                caption=told,
                chart=chart,
                rows=rows,
                choices=(),
                columns=4,
                panel_height=120,
            )
        )
    return figures


def _layers(
    a: Analysis, rows: Sequence[Row], overlaid: bool, height: str = "height", free: bool = False
) -> alt.LayerChart:
    counts = [float(r[c] or math.nan) for r in rows for c in ("n", "n2") if r[c]]
    x = log_axis.count_axis("n", "trained parameters", counts)
    if free and _has_several_counts(rows):
        x = log_axis.free_count_axis("n", "trained parameters")
    color = marks.method_color(a.data.methods)
    y = alt.Y("score:Q", title=Y_TITLE, scale=alt.Scale(zero=False))
    tooltip = marks.point_tooltip(
        ("backbone", "backbone", None),
        ("task", "task", None),
        ("n", "trained parameters", ","),
        ("percent", "% of the backbone", ".3g"),
        ("gap", "points behind full fine-tuning", ".1f"),
    )
    chart = alt.Chart()
    baseline = chart.transform_filter("datum.kind == 'baseline'").mark_rule(style="baseline").encode(y=y)
    full = chart.transform_filter("datum.kind == 'full'").mark_rule(style="full").encode(y=y, color=color)
    layers = [baseline, full, *marks.points(x, Y_TITLE, a.data.methods, tooltip)]
    backbones = _backbones(a)
    if overlaid and len(backbones) > 1:
        return alt.layer(
            *(_dashed(layer, backbones) for layer in layers)
        )  # ranges of all scales would cover the curves
    return alt.layer(*layers, *_range_layers(rows, x, color, height))


def _has_several_counts(rows: Sequence[Row]) -> bool:
    """Whether every panel has two counts or more, so that an axis can be made from what it shows."""
    counts: dict[tuple[Cell, Cell], set[Cell]] = {}
    for r in rows:
        if r["kind"] == "point":
            counts.setdefault((r["backbone"], r["task"]), set()).add(r["n"])
    return all(len(of_panel) > 1 for of_panel in counts.values())


def _range_layers(rows: Sequence[Row], x: alt.X, color: alt.Color, height: str) -> list[alt.Chart]:
    """Closed ranges on the frame: low at the bottom, high at the top, each method in a row of its own."""
    tooltip = [marks.tooltip(*f) for f in (("method", "method"), ("threshold", "threshold"), ("interval", "range"))]
    layers = []
    for kind, place in sorted({(str(r["threshold"]), int(r["place"] or 0)) for r in rows if r["kind"] == "range"}):
        from_top = {"expr": f"{height} - {3 + 6 * place}"} if kind == "low" else 3 + 6 * place
        of_row = f"datum.kind == 'range' && datum.threshold == '{kind}' && datum.place == {place}"
        drawn = alt.Chart().transform_filter(of_row).mark_rule(style="range")
        layers.append(drawn.encode(x=x, x2="n2:Q", y=alt.YValue(from_top), color=color, tooltip=tooltip))
    return layers


_DASHES = [[1, 0], [8, 3], [4, 2], [8, 2, 2, 2], [4, 2, 1, 2], [12, 4], [3, 5]]


def _dashed(layer: alt.Chart, backbones: Sequence[str]) -> alt.Chart:
    """Lines of the largest backbone are solid, those of smaller ones have ever shorter dashes."""
    if not isinstance(layer.mark, alt.MarkDef) or not (layer.mark.type == "line" or layer.mark.style == "full"):
        return layer
    scale = alt.Scale(domain=list(backbones)[::-1], range=_DASHES[: len(backbones)])
    legend = alt.Legend(symbolType="stroke", symbolSize=350)
    return layer.encode(strokeDash=alt.StrokeDash("backbone:N", title=None, scale=scale, legend=legend))


def _rows(a: Analysis) -> list[Row]:
    rows: list[Row] = []
    seeds = SeedsByCell.of(a)
    with_baseline = _near_baseline(a.budget_points)
    for p in sorted(a.budget_points, key=lambda p: (p.task is not None, p.num_trainable)):
        cell: Row = {"backbone": p.scale.name, "task": p.task or MEAN_OVER_TASKS, "method": display_name(p.method)}
        row = {**cell, **marks.estimate_row(p.score), **seeds.row(p.scale, p.method, p.num_trainable, p.task, p.score)}
        if (p.scale.name, p.task) in with_baseline:
            with_baseline.remove((p.scale.name, p.task))
            baseline = number(100 * p.untrained_baseline)
            rows.append(_EMPTY | cell | {"kind": "baseline", "method": None, "score": baseline})
        if p.method == FULL:
            # its own count lies far to the right of everything else: a line says what it scores
            rows.append(_EMPTY | row | {"kind": "full"})
        else:
            gap = None if p.gap is None else number(100 * p.gap.score)
            at: Row = {"n": p.num_trainable, "percent": number(p.trainable_percent), "gap": gap}
            rows.append(_EMPTY | {"kind": "point"} | row | at)
    return rows + _range_rows(a.thresholds)


def _near_baseline(points: Sequence[BudgetPoint]) -> set[tuple[str, str | None]]:
    """Panels with scores that come near the baseline: elsewhere it would take all room from what is compared."""
    scores: dict[tuple[str, str | None], list[float]] = {}
    for p in points:
        scores.setdefault((p.scale.name, p.task), []).append(p.score.score)
    return {
        (p.scale.name, p.task)
        for p in points
        for of_panel in [scores[p.scale.name, p.task]]
        if min(of_panel) - p.untrained_baseline <= max(NEAR, max(of_panel) - min(of_panel))
    }


_FIELDS = "kind backbone task method n n2 score low high one_seed hollow interval seeds percent gap threshold place"
_EMPTY: Row = dict.fromkeys(_FIELDS.split())


def _range_rows(thresholds: Sequence[Threshold]) -> list[Row]:
    """Ranges with an upper end, each with its place among those of its panel and kind."""
    places: dict[tuple[Scale, str | None, str], int] = {}
    rows: list[Row] = []
    for t in thresholds:
        if math.isinf(t.answer.ci_high):
            continue
        key = (t.scale, t.task, t.kind)
        places[key] = places.get(key, -1) + 1
        ends: Row = {"n": number(t.answer.ci_low or t.tried[0]), "n2": number(t.answer.ci_high)}
        cell: Row = {"backbone": t.scale.name, "task": t.task or MEAN_OVER_TASKS, "method": display_name(t.method)}
        said: Row = {"threshold": t.kind, "place": places[key], "interval": t.answer.describe()}
        rows.append(_EMPTY | cell | ends | said | {"kind": "range"})
    return rows


def table(a: Analysis) -> Table:
    """The table of E4."""
    rows: list[list[Value]] = [
        [
            p.scale.name,
            p.task or MEAN_OVER_TASKS,
            display_name(p.method),
            p.num_trainable,
            p.trainable_percent,
            p.untrained_baseline,
            p.score,
            p.gap,
        ]
        for p in a.budget_points
    ]
    columns = (
        BACKBONE,
        TASK,
        METHOD,
        N,
        TRAINABLE_PERCENT,
        Column("baseline %", percent, "untrained_baseline"),
        estimate_column("score", "score %"),
        estimate_column("full_fine_tuning_minus_method", "full fine-tuning − method, points"),
    )
    title = "E4: score over the number of trained parameters"
    return Table("score_by_budget", title, caption(a), columns, rows)


def caption(a: Analysis, scale: Scale | None = None) -> str:
    """Caption of E4.

    Args:
        a: of the study.
        scale: of one backbone; None = of all.

    Returns:
        The caption.
    """
    cells = {(p.scale.name, p.method, p.num_trainable) for p in a.budget_points if scale in (None, p.scale)}
    ranges = RANGES if scale is not None or len(a.data.scales) == 1 else ""
    return (
        f"{a.data.split.capitalize()} score over the number of trained parameters. {LEVELS}{ranges} {INTERVALS}"
        f" {MISSING_RUNS} {run_summary(a, cells)}"
    )


EXPERIMENT = Experiment(
    number="E4",
    name="score_by_budget",
    title="Number of parameters",
    figure=figure,
    tables=lambda a: [table(a)],
    printed=by_task,
)
