"""Methods side by side: the score over the number of trained parameters, and over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt

from apet.analysis.frames import FULL
from apet.reporting.comparison import MethodRuns, caption
from apet.reporting.figures import log_axis, marks
from apet.reporting.figures.figure import ROWS, Figure, Row, number
from apet.reporting.formatting import display_name
from apet.tasks.score_text import PERCENT, score_range, shown_as

BESIDE = 1.12
"""Methods of one count stand side by side: each is so much further to the right."""


def figure(methods: Sequence[MethodRuns]) -> Figure:
    """Means with their intervals left, a curve of each seed right, in one scale."""
    measured = [m for m in methods if len(m.runs)]
    first = measured[0].runs.iloc[0]
    metric = str(first["metric"])
    shown = shown_as(metric)
    rows, reverse = _rows(measured, metric), shown.factor < 0
    if shown.factor == PERCENT:
        marks.cut_wide_intervals([r for r in rows if r["kind"] == "point"], lambda _: None)
    names, y_title = [m.method for m in measured], f"validation {metric}{shown.unit}"
    y = alt.Y("score:Q", title=y_title, scale=alt.Scale(zero=False, reverse=reverse))
    color = marks.method_color(names)
    baseline = alt.Chart().transform_filter("datum.kind == 'baseline'").mark_rule(style="baseline").encode(y=y)
    full = alt.Chart().transform_filter("datum.kind == 'full'").mark_rule(style="mark").encode(y=y)
    x = log_axis.count_axis("place", "trained parameters", [float(r["place"] or math.nan) for r in rows if r["place"]])
    tooltip = [
        marks.tooltip("method", "method"),
        marks.tooltip("n", "trained parameters", ","),
        marks.tooltip("score", metric, ".4~g"),
        marks.tooltip("interval", "95 %"),
    ]
    curve = alt.Chart().transform_filter("datum.kind == 'curve'")
    steps = alt.X("step:Q", title="steps", axis=alt.Axis(tickCount=5))
    ends = curve.transform_filter("datum.last").mark_point(style="solid")
    chart = alt.concat(
        alt.layer(baseline, full, *marks.points(x, y_title, names, tooltip, line=False, reverse=reverse)),
        alt.layer(
            baseline,
            curve.mark_line(style="curve").encode(x=steps, y=y, color=color, detail="seed:N"),
            ends.encode(x=steps, y=y, color=color, shape=marks.method_shape(names)),
        ),
        columns=2,
        data=alt.NamedData(ROWS),
    ).resolve_scale(y="shared")
    return Figure(
        "comparison",
        "How much is trained and how well it does; how it gets there",
        f"{caption(methods)}. Dotted: the baseline; dashed: full fine-tuning.",
        marks.described("Score over the number of trained parameters, and over steps", rows, ""),
        chart,
        rows,
        names,
        columns=2,
        panel_height=300,
    )


def _rows(measured: Sequence[MethodRuns], metric: str) -> list[Row]:
    rows: list[Row] = []
    factor = shown_as(metric).factor
    with_same_count: dict[int, int] = {}
    for m in measured:
        place = with_same_count.get(m.num_trainable, 0)
        with_same_count[m.num_trainable] = place + 1
        low, high = sorted(factor * end for end in m.interval)
        rows.append(
            _EMPTY
            | {
                "kind": "point",
                "method": display_name(m.method),
                "n": m.num_trainable,
                "place": number(m.num_trainable * BESIDE**place),
                "score": number(factor * m.mean),
                "low": number(low),
                "high": number(high),
                "one_seed": len(m.runs) == 1,
                "hollow": bool(m.failed),
                "interval": f"{score_range(metric, *m.interval)} ({m.interval_over})",
            }
        )
        if m.method == FULL:
            rows.append(_EMPTY | {"kind": "full", "score": number(factor * m.mean)})
        for seed, (_, curve) in enumerate(m.curves.groupby("run_id")):
            points = list(zip(curve["step"], curve["score"], strict=True))
            rows += [
                _EMPTY
                | {"kind": "curve", "method": display_name(m.method), "seed": seed, "step": int(step)}
                | {"score": number(factor * float(score)), "last": i == len(points) - 1}
                for i, (step, score) in enumerate(points)
            ]
    baseline = float(measured[0].runs.iloc[0]["untrained_baseline"])
    return [*rows, _EMPTY | {"kind": "baseline", "score": number(factor * baseline)}]


_EMPTY: Row = dict.fromkeys(
    ("kind", "method", "n", "place", "score", "low", "high", "one_seed", "hollow", "interval", "seed", "step", "last")
)
