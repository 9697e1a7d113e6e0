"""One run: its validation score and its loss over steps."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from apet.reporting.figures import marks
from apet.reporting.figures.figure import ROWS, Figure, Row, number
from apet.reporting.formatting import display_name
from apet.tasks.score_text import score_range, shown_as
from apet.training.result import CurvePoint, RunResult

SCORE, LOSS = "validation", "training loss since the point before"


def figure(result: RunResult, curve: Sequence[CurvePoint], caption: str) -> Figure:
    """Score with its interval over the items left, loss right."""
    rows, shown = _rows(result, curve), shown_as(result.metric)
    methods = [result.method]
    color, shape = marks.method_color(methods, ()), marks.method_shape(methods, ())
    x = alt.X("step:Q", title="steps", axis=alt.Axis(tickCount=5))
    tooltip = [
        marks.tooltip("step", "step", ","),
        marks.tooltip("score", "value", ".4~g"),
        marks.tooltip("interval", "95 % over the items"),
        marks.tooltip("seconds", "seconds", ",.1f"),
    ]

    def panel(kind: str, title: str, reverse: bool) -> alt.LayerChart:
        scale = alt.Scale(zero=False, reverse=reverse)
        y = alt.Y("score:Q", title=title, scale=scale)
        of_kind = alt.Chart().transform_filter(f"datum.kind == '{kind}'")
        band = of_kind.transform_filter("isValid(datum.low)").mark_area(style="band")
        return alt.layer(
            band.encode(x=x, y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q", color=color),
            alt.Chart().transform_filter(f"datum.kind == 'best {kind}'").mark_rule(style="mark").encode(x=x),
            alt.Chart().transform_filter(f"datum.kind == 'chance {kind}'").mark_rule(style="baseline").encode(y=y),
            of_kind.mark_line(style="curve").encode(x=x, y=y, color=color),
            of_kind.mark_point(style="solid").encode(x=x, y=y, color=color, shape=shape, tooltip=tooltip),
        )

    chart = alt.concat(
        panel(SCORE, f"validation {result.metric}{shown.unit}", shown.factor < 0), panel(LOSS, "training loss", False),
        columns=2,
        data=alt.NamedData(ROWS),
    )  # fmt: skip
    return Figure(
        "curve",
        f"{display_name(result.method)} on {result.backbone}, {result.task}",
        caption,
        marks.described(f"Validation {result.metric} over steps", [r for r in rows if r["kind"] == SCORE], ""),
        chart,
        rows,
        methods,
        columns=2,
        panel_height=230,
    )


def _rows(result: RunResult, curve: Sequence[CurvePoint]) -> list[Row]:
    rows: list[Row] = []
    factor = shown_as(result.metric).factor
    for p in curve:
        low, high = sorted((factor * p.ci_low, factor * p.ci_high))
        ends: Row = {"low": number(low), "high": number(high)}
        at: Row = {"step": p.step, "seconds": number(p.seconds), "method": display_name(result.method)}
        over_items = score_range(result.metric, p.ci_low, p.ci_high)
        rows.append({"kind": SCORE, **at, "score": number(factor * p.score), **ends, "interval": over_items})
        if p.loss is not None and number(p.loss) is not None:
            none: Row = {"low": None, "high": None, "interval": ""}
            rows.append({"kind": LOSS, **at, "score": number(p.loss), **none})
    empty: Row = dict.fromkeys(rows[0]) if rows else {}
    rows.append(empty | {"kind": f"best {SCORE}", "step": result.best_step})
    rows.append(empty | {"kind": f"chance {SCORE}", "score": number(factor * result.untrained_baseline)})
    return rows
