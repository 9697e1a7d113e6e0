"""E3: the validation score over steps, one variant of APET against another (figure 6 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np

from apet.analysis.convergence import ConvergenceComparison
from apet.analysis.structure import distribution
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.reporting.captions import (
    CONVERGENCE_RULE,
    plural,
    run_summary,
)
from apet.reporting.experiments.experiment import Experiment
from apet.reporting.figures import marks
from apet.reporting.figures.figure import ROWS, Choice, Figure, Row, number
from apet.reporting.figures.mean_curves import MeanCurves, mean_curves
from apet.reporting.formatting import (
    MEAN_OVER_TASKS,
    display_name,
    join_words,
    significant,
)
from apet.reporting.table import (
    BACKBONE,
    Column,
    Table,
    Value,
    integer_column,
)
from apet.reporting.variants import convergence_pairs, convergence_variants

TITLE = "E3: convergence"
ALL_BACKBONES = "all"
DEFAULT_SIZES = "default sizes"
PANELS_PER_PAIR, MAX_COLUMNS = 3, 4
MAX_POINTS = 40
"""Of a curve: more are not seen."""
CUT_BANDS = " A band that would squash the axis is cut."


def figure(a: Analysis) -> Figure:
    """A panel for each of up to three counts of each pair, all in one scale; choices: backbone, task."""
    rows = _rows(a)
    cut = marks.cut_wide_intervals([r for r in rows if r["kind"] == "curve"], lambda r: (r["backbone"], r["task"]))
    panels = list(dict.fromkeys(str(r["panel"]) for r in rows))
    tasks = tuple(t for t in (MEAN_OVER_TASKS, *a.data.categories) if any(r["task"] == t for r in rows))
    backbones = tuple(dict.fromkeys(str(r["backbone"]) for r in rows))[::-1]
    backbone = (
        Choice("backbone", backbones)
        if len(backbones) == 1
        else Choice("backbone", (*backbones, ALL_BACKBONES), ALL_BACKBONES)
    )
    columns = min(MAX_COLUMNS, max(len({r["panel"] for r in rows if r["backbone"] == b}) for b in backbones))
    chart = alt.layer(*_layers(a)).facet(
        facet=alt.Facet("panel:N", title=None, sort=panels), data=alt.NamedData(ROWS), columns=columns
    )
    return Figure(
        "convergence",
        TITLE,
        caption(a) + CUT_BANDS * cut,
        marks.described("Curves of the score over training steps", [r for r in rows if r["kind"] == "curve"]),
        chart,
        rows,
        a.data.methods,
        (backbone, Choice("task", tasks)),
        columns=columns,
        panel_height=190,
        views={"convergence": {"backbone": backbone.options[-1]}},
    )


def _layers(a: Analysis) -> list[alt.Chart]:
    color, shape = marks.method_color(a.data.methods), marks.method_shape(a.data.methods)
    y_title, scale = "validation score (%)", alt.Scale(zero=False)
    x = alt.X("step:Q", title="steps", axis=alt.Axis(tickCount=4))
    y = alt.Y("score:Q", title=y_title, scale=scale)
    curve = alt.Chart().transform_filter("datum.kind == 'curve'")
    return [
        curve.transform_filter("isValid(datum.low)")
        .mark_area(style="band")
        .encode(x=x, y=alt.Y("low:Q", title=y_title, scale=scale), y2="high:Q", color=color),
        alt.Chart().transform_filter("datum.kind == 'steps'").mark_rule(style="item-interval").encode(x=x, color=color),
        curve.mark_line(style="curve").encode(x=x, y=y, color=color),
        curve.transform_filter("datum.marked")
        .mark_point(style="solid")
        .encode(
            x=x,
            y=y,
            color=color,
            shape=shape,
            tooltip=[
                marks.tooltip("method", "method"),
                marks.tooltip("panel", "panel"),
                marks.tooltip("task", "task"),
                marks.tooltip("step", "step", ","),
                marks.tooltip("score", "score %", ".1f"),
                marks.tooltip("behind", "mean of"),
            ],
        ),
    ]


def _rows(a: Analysis) -> list[Row]:
    rows: list[Row] = []
    for scale in dict.fromkeys(c.scale for c in a.convergence_comparisons):
        for c in _shown_comparisons(a, scale):
            panel = f"{scale.name}, N = {c.num_trainable or 0:,}"
            counts = dict.fromkeys((c.first, c.second), c.num_trainable or 0)
            steps: list[Row] = [
                {"kind": "steps", "method": display_name(m), "step": number(n)}
                for m, n in c.steps.items()
                if m in counts and math.isfinite(n)
            ]
            rows += _panel(a, scale, panel, counts, steps)
        default_sizes = {m: n for (backbone, m), n in a.data.own_sizes.items() if backbone == scale.name}
        if default_sizes:
            # the bands of so many methods would hide each other
            curves = _panel(a, scale, f"{scale.name}, {DEFAULT_SIZES}", default_sizes, ())
            rows += [row | {"low": None, "high": None} for row in curves]
    return rows


def _panel(a: Analysis, scale: Scale, panel: str, counts: Mapping[str, int], steps: Sequence[Row]) -> list[Row]:
    """Mean curves over all tasks and of each."""
    rows: list[Row] = []
    tasks = a.data.tasks(scale.family)
    for task in (None, *tasks) if len(tasks) > 1 else tasks:
        curves = mean_curves(a, scale, counts, None if task is None else [task])
        if curves is None:
            continue
        place: Row = {"backbone": scale.name, "panel": panel, "task": task or MEAN_OVER_TASKS}
        rows += [_EMPTY | place | row for row in _curve_rows(curves)]
        # steps to convergence are of all tasks together
        rows += [_EMPTY | place | row for row in steps if task is None or len(tasks) == 1]
    return rows


_EMPTY: Row = dict.fromkeys(
    ("kind", "backbone", "panel", "task", "method", "step", "score", "low", "high", "marked", "behind")
)


def _curve_rows(curves: MeanCurves) -> list[Row]:
    every = max(1, math.ceil(len(curves.steps) / MAX_POINTS))
    shown = list(range(0, len(curves.steps), every))
    marked = set(shown[:: max(1, math.ceil(len(shown) / 6))])
    behind = f"{plural(curves.num_tasks, 'task')}, {plural(curves.num_seeds, 'seed')}"
    return [
        {
            "kind": "curve",
            "method": display_name(method),
            "step": number(float(curves.steps[i])),
            "score": number(100 * float(mean[i])),
            "low": number(100 * float(low[i])),
            "high": number(100 * float(high[i])),
            "marked": i in marked,
            "behind": behind,
        }
        for method, (mean, low, high) in curves.by_method.items()
        for i in shown
    ]


def _shown_comparisons(a: Analysis, scale: Scale) -> list[ConvergenceComparison]:
    """Of each pair of variants on one backbone up to three single counts: the smallest, the middle and the largest."""
    of_scale = [c for c in a.convergence_comparisons if c.scale == scale and c.num_trainable is not None]
    return [
        c
        for pair in convergence_pairs(of_scale)
        for c in _spread([c for c in of_scale if (c.first, c.second) == pair], PANELS_PER_PAIR)
    ]


def _spread(comparisons: list[ConvergenceComparison], most: int) -> list[ConvergenceComparison]:
    if len(comparisons) <= most:
        return comparisons
    return [comparisons[round(i)] for i in np.linspace(0, len(comparisons) - 1, most)]


def table(a: Analysis) -> Table:
    """The table of E3; which two variants a row compares stands in it where there is more than one pair."""
    variants, pairs = convergence_variants(a.convergence_comparisons), convergence_pairs(a.convergence_comparisons)
    rows: list[list[Value]] = []
    for c in a.convergence_comparisons:
        ratio, first, second = c.log2_ratio, distribution(c.first), distribution(c.second)
        words = {"lower": f"{first} sooner", "higher": f"{second} sooner"}
        ends = None if math.isnan(ratio.ci_low) else f"{2**ratio.ci_low:.2f} to {2**ratio.ci_high:.2f}"
        pair = [f"{first} / {second}"] if len(pairs) > 1 else []
        rows.append(
            [
                c.scale.name,
                *pair,
                c.num_trainable,
                *(c.steps.get(m) for m in variants),
                2**ratio.score,
                ratio.num_seeds,
                ends,
                c.pairs,
                c.left_out,
                words.get(ratio.verdict, ratio.verdict),
            ]
        )
    columns = (
        BACKBONE,
        *([Column("compared", name="pair")] if len(pairs) > 1 else []),
        integer_column("num_trainable", "N", unknown="all"),
        *(Column(f"{distribution(m)}: steps", _four_digits, f"{m.replace('-', '_')}_steps") for m in variants),
        Column("ratio", significant),
        integer_column("num_seeds", "seeds"),
        Column("95 % over seeds", name="ci_seeds"),
        integer_column("num_pairs", "pairs of curves"),
        integer_column("num_not_converged", "without convergence"),
        Column("verdict"),
    )
    return Table("convergence", "E3: steps to convergence", caption(a), columns, rows)


def _four_digits(steps: float) -> str:
    return significant(steps, 4)


def caption(a: Analysis) -> str:
    """Caption of E3."""
    pairs = [" against ".join(map(display_name, p)) for p in convergence_pairs(a.convergence_comparisons)]
    compared = {
        (c.scale.name, m, c.num_trainable)
        for c in a.convergence_comparisons
        if c.num_trainable is not None
        for m in (c.first, c.second)
    }
    return (
        f"{join_words(pairs)}: validation score over steps, averaged over tasks, then over seeds; bands: 95 %"
        " t-interval over seeds. A curve is the mean of these tasks and seeds, converged or not; a dotted line the mean"
        f" steps of the pairs in which both converged (how many: in the table). {CONVERGENCE_RULE} The interval of a"
        " ratio takes in the seeds and the distance between evaluations."
        f" {run_summary(a, compared)}"
    )


EXPERIMENT = Experiment(
    number="E3",
    name="convergence",
    title="Convergence",
    figure=figure,
    tables=lambda a: [table(a)],
)
