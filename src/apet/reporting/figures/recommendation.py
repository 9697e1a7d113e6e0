"""The picture of a recommendation: how few parameters, and what a step costs."""

from __future__ import annotations

import math

import altair as alt

from apet.recommendation.answer import Recommendation, Tried
from apet.recommendation.wording import method_name
from apet.reporting.figures import log_axis, marks
from apet.reporting.figures.figure import ROWS, Figure, Row, number
from apet.reporting.formatting import display_name
from apet.reporting.style import method_style
from apet.tasks.score_text import shown_as


def figure(r: Recommendation) -> Figure:
    """The score over parameters left, over the time of a step right, in one scale."""
    methods = {p.family: p.method for p in r.tried}
    names = [method_name(f) for f in methods]
    rows, y_title = _rows(r), f"validation {r.metric}{shown_as(r.metric).unit}"
    counts = [float(r_["n"] or math.nan) for r_ in rows if r_["n"]]
    times = [float(p.relative_time) for p in r.tried if p.relative_time]
    panels = [_panel(log_axis.count_axis("n", "trained parameters", counts), y_title, names, r)]
    if times:
        time = alt.X(
            "time:Q",
            title="time of a step, of full fine-tuning's",
            scale=alt.Scale(zero=False, padding=12),
            axis=alt.Axis(tickCount=5),
        )
        panels.append(_panel(time, y_title, names, r))
    chart = alt.concat(*panels, columns=len(panels), data=alt.NamedData(ROWS)).resolve_scale(y="shared")
    return Figure(
        "recommendation",
        f"{r.backbone} on {r.task}",
        _caption(r),
        marks.described("Score over trained parameters", [row for row in rows if row["kind"] == "point"], ""),
        chart,
        rows,
        names,
        # other structures of a method, such as LoRA on every linear layer, have a look of their own
        styles=[method_style(f if "(" in f else m) for f, m in methods.items()],
        columns=len(panels),
        panel_height=280,
    )


def _panel(x: alt.X, y_title: str, names: list[str], r: Recommendation) -> alt.LayerChart:
    scale = alt.Scale(zero=False, reverse=shown_as(r.metric).factor < 0)
    y = alt.Y("score:Q", title=y_title, scale=scale)
    color = marks.method_color(names)
    chart = alt.Chart()
    tooltip = [
        marks.tooltip("method", "method"),
        marks.tooltip("n", "trained parameters", ","),
        marks.tooltip("score", r.metric, ".4~g"),
        marks.tooltip("seeds", "seeds"),
        marks.tooltip("time", "step time ×", ".2f"),
    ]
    layers = [
        chart.transform_filter("datum.kind == 'untrained'").mark_rule(style="baseline").encode(y=y),
        chart.transform_filter("datum.kind == 'reference'").mark_rule(style="mark").encode(y=y),
    ]
    if x.shorthand == "n:Q" and r.curve:
        band = chart.transform_filter("datum.kind == 'band'")
        ends = {"y": alt.Y("low:Q", title=y_title, scale=scale), "y2": "high:Q"}
        layers += [
            band.mark_area(style="band").encode(x=x, color=color, **ends),
            band.mark_line(style="curve").encode(x=x, y=y, color=color),
        ]
    field = x.shorthand.removesuffix(":Q")
    known = chart.transform_filter(f"datum.kind == 'point' && isValid(datum.{field})")
    layers += [known.transform_filter("datum.use").mark_point(style="ring").encode(x=x, y=y)]
    points = known.mark_point(style="solid")
    layers.append(points.encode(x=x, y=y, color=color, shape=marks.method_shape(names), tooltip=tooltip))
    return alt.layer(*layers)


def _rows(r: Recommendation) -> list[Row]:
    factor, untrained = shown_as(r.metric).factor, max(r.constant, r.untrained)
    rows = [_EMPTY | _point(p, factor, p == r.use) for p in r.tried]
    rows.append(_EMPTY | {"kind": "untrained", "score": number(factor * untrained)})
    if r.reference_score is not None:
        rows.append(_EMPTY | {"kind": "reference", "score": number(factor * r.reference_score)})
    if r.use is None:
        return rows
    # the axis shows what was tried: the curve's band beyond it would squash that
    scores = [untrained, *(p.score for p in r.tried)]
    room = 0.1 * ((max(scores) - min(scores)) or 0.1)
    bottom, top = min(scores) - room, max(scores) + room
    for c in r.curve:
        score, low, high = (factor * min(max(v, bottom), top) for v in (c.score, c.ci_low, c.ci_high))
        ends: Row = {"low": number(min(low, high)), "high": number(max(low, high))}
        at: Row = {"kind": "band", "method": display_name(method_name(r.use.family)), "n": c.num_trainable}
        rows.append(_EMPTY | at | ends | {"score": number(score)})
    return rows


_EMPTY: Row = dict.fromkeys(("kind", "method", "n", "time", "score", "low", "high", "use", "seeds"))


def _point(p: Tried, factor: float, use: bool) -> Row:
    return {
        "kind": "point",
        "method": display_name(method_name(p.family)),
        "n": p.num_trainable,
        "time": None if p.relative_time is None else number(p.relative_time),
        "score": number(factor * p.score),
        "use": use,
        "seeds": p.num_seeds,
    }


def _caption(r: Recommendation) -> str:
    band = " Band: 95 % for the mean over seeds of the answer's method, by its budget curve." if r.curve else ""
    return (
        f"Every way that had a whole run of {r.steps} steps: mean over its seeds, on {r.num_validation:,} validation"
        f" rows. Ringed: the answer; dashed: {method_name(r.reference)}; dotted: without training.{band}"
    )
