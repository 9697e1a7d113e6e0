"""E7: relative transfer as heat maps, tasks grouped by category (figure 9 of the paper)."""

from __future__ import annotations

import re

import altair as alt

from apet.analysis.study import Analysis
from apet.analysis.transfer import TransferScore
from apet.reporting.captions import (
    count_range,
)
from apet.reporting.experiments.experiment import Experiment
from apet.reporting.figures import marks
from apet.reporting.figures.figure import ROWS, Choice, Figure, Row, number
from apet.reporting.figures.heat import numbers
from apet.reporting.formatting import (
    both_intervals,
    display_name,
    percent,
)
from apet.reporting.table import (
    BACKBONE,
    METHOD,
    Column,
    Table,
    Value,
    estimate_column,
)

TITLE = "E7: relative transfer"


def figure(a: Analysis) -> Figure:
    """Sources down, targets across; choices: backbone, trained method. In print a file for each."""
    rows = [_row(a, t) for t in a.transfer_scores]
    tasks = _ordered_tasks(a)
    rows += _edges(a, tasks)
    pairs = list(dict.fromkeys((t.backbone, t.method) for t in a.transfer_scores))
    # the field is not called method: a heat map has nothing left when its method is switched off
    choices = (
        Choice("backbone", tuple(dict.fromkeys(b for b, _ in reversed(pairs)))),
        Choice("tuned", tuple(dict.fromkeys(display_name(m) for _, m in pairs))),
    )
    return Figure(
        "transfer",
        TITLE,
        caption(a),
        marks.described("Heat map of the relative score of each source on each target", rows),
        _chart(tasks, rows),
        rows,
        a.data.methods,
        choices,
        panel_height=60 + 26 * len(tasks),
        views={
            re.sub(r"[^\w.-]+", "-", f"transfer_{b}_{m}"): {"backbone": b, "tuned": display_name(m)} for b, m in pairs
        },
    )


def _ordered_tasks(a: Analysis) -> list[str]:
    """By category; tasks of unknown category last, by name."""
    tasks = {t for s in a.transfer_scores for t in (s.source, s.target)}
    ordered = [t for t in a.data.categories if t in tasks]
    return ordered + sorted(tasks - set(ordered))


def _chart(tasks: list[str], rows: list[Row]) -> alt.LayerChart:
    highest = max([100.0, *(float(r["score"]) for r in rows if isinstance(r["score"], int | float))])
    x = alt.X("target:N", sort=tasks, title="target (zero-shot)", axis=alt.Axis(labelAngle=-40, grid=False))
    y = alt.Y("source:N", sort=tasks, title="source (trained on)", axis=alt.Axis(grid=False))
    scale = alt.Scale(domain=[0, highest], scheme="cividis")
    color = alt.Color("score:Q", title="%", scale=scale, legend=alt.Legend(orient="right", gradientLength=120))
    tooltip = [
        marks.tooltip("source", "trained on"),
        marks.tooltip("target", "zero-shot on"),
        marks.tooltip("score", "relative %", ".1f"),
        marks.tooltip("zero_shot", "zero-shot %", ".1f"),
        marks.tooltip("own", "the target's own score %", ".1f"),
        marks.tooltip("interval", "95 %"),
    ]
    cells = alt.Chart().transform_filter("datum.kind == 'cell'").encode(x=x, y=y)
    edges = alt.Chart().transform_filter("datum.kind == 'edge'")
    return alt.layer(
        cells.mark_rect().encode(color=color, tooltip=tooltip),
        numbers(cells, alt.Text("score:Q", format=".0f"), highest),
        edges.mark_rule(style="edge").encode(x=alt.X("target:N", sort=tasks, bandPosition=0)),
        edges.mark_rule(style="edge").encode(y=alt.Y("source:N", sort=tasks, bandPosition=0)),
    ).properties(data=alt.NamedData(ROWS))


def _row(a: Analysis, t: TransferScore) -> Row:
    return {
        "kind": "cell",
        "method": None,
        "backbone": t.backbone,
        "tuned": display_name(t.method),
        "source": t.source,
        "target": t.target,
        "score": number(100 * t.relative.score),
        "zero_shot": number(100 * t.zero_shot),
        "own": number(100 * t.own_score),
        "interval": both_intervals(t.relative),
    }


def _edges(a: Analysis, tasks: list[str]) -> list[Row]:
    """The first task of each category but the first: a line stands before it."""
    categories = [a.data.categories.get(t, "") for t in tasks]
    none: Row = dict.fromkeys(("backbone", "tuned", "method", "score", "zero_shot", "own", "interval"))
    return [
        none | {"kind": "edge", "source": task, "target": task}
        for task, category, before in zip(tasks[1:], categories[1:], categories[:-1], strict=True)
        if category != before
    ]


def table(a: Analysis) -> Table:
    """The table of E7."""
    rows: list[list[Value]] = [
        [
            t.backbone,
            display_name(t.method),
            t.source,
            t.target,
            t.zero_shot,
            t.own_score,
            t.relative,
        ]
        for t in a.transfer_scores
    ]
    columns = (
        BACKBONE,
        METHOD,
        Column("source"),
        Column("target"),
        Column("zero-shot %", percent, "zero_shot"),
        Column("target's score %", percent, "target_score"),
        estimate_column("relative", "relative %"),
    )
    return Table("transfer", "E7: relative transfer", caption(a), columns, rows)


def caption(a: Analysis) -> str:
    """Caption of E7."""
    seeds = count_range((t.relative.num_seeds for t in a.transfer_scores), "seed")
    items = count_range((t.relative.num_examples for t in a.transfer_scores), "item")
    return (
        "Relative transfer: zero-shot score of the delta trained on the source (row) over the score of the one"
        f" trained on the target itself (column), in percent; tasks grouped by category. {seeds}, {items} a target;"
        " intervals over seeds and over items stand in the table."
    )


EXPERIMENT = Experiment(
    number="E7",
    name="transfer",
    title="Transfer",
    figure=figure,
    tables=lambda a: [table(a)],
)
