"""What the figures share: methods by color and shape, points with their intervals, curves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import altair as alt

from apet.analysis.intervals import Estimate
from apet.reporting.figures.figure import Row, number
from apet.reporting.formatting import both_intervals, display_name

CUT = " A small arrow ends an interval that goes on beyond the axis; its ends stand in the table."
SMALLEST_MARGIN = 8.0
"""Points above and below the scores that an axis always has room for."""

X = TypeVar("X", alt.X, alt.XValue)


def method_color(methods: Sequence[str], shown: Sequence[str] | None = None) -> alt.Color:
    """A color for each method, by the look of page or print.

    Args:
        methods: of the study, in order: the look has a color for each.
        shown: those in the legend; None = all; empty = no legend.

    Returns:
        The encoding.
    """
    scale = alt.Scale(domain=[display_name(m) for m in methods], range="category")
    return alt.Color("method:N", title=None, scale=scale, legend=_legend(shown))


def method_shape(methods: Sequence[str], shown: Sequence[str] | None = None) -> alt.Shape:
    """A shape for each method, likewise."""
    scale = alt.Scale(domain=[display_name(m) for m in methods], range="symbol")
    return alt.Shape("method:N", title=None, scale=scale, legend=_legend(shown))


def _legend(shown: Sequence[str] | None) -> alt.Legend | None:
    if shown is None:
        return alt.Legend()
    return alt.Legend(values=[display_name(m) for m in shown]) if shown else None


def estimate_row(e: Estimate) -> Row:
    """A number in percent with its interval: over seeds, or of one seed over its items."""
    one_seed = e.num_seeds < 2
    low, high = (e.item_ci_low, e.item_ci_high) if one_seed else (e.ci_low, e.ci_high)
    return {
        "score": number(100 * e.score),
        "low": number(100 * low),
        "high": number(100 * high),
        "one_seed": one_seed,
        "hollow": e.num_missing > 0,
        "interval": both_intervals(e),
    }


def cut_wide_intervals(rows: Sequence[Row], comparison: Callable[[Row], object]) -> bool:
    """Cut intervals that would squash the axis of their comparison, and mark them with an arrow.

    Two seeds that differ by a point have an interval of nine points to either side: an axis that held it would show
    nothing else. Intervals keep half as much room as the scores span, above and below, and eight points at least.

    Args:
        rows: with ``score``, ``low`` and ``high``; they are changed.
        comparison: row -> what shares an axis with it.

    Returns:
        Whether any was cut.
    """
    scores: dict[object, list[float]] = {}
    for row in rows:
        if isinstance(row.get("score"), int | float):
            scores.setdefault(comparison(row), []).append(float(row["score"] or 0))
    was_cut = False
    for row in rows:
        low, high = row.get("low"), row.get("high")
        if not isinstance(low, int | float) or not isinstance(high, int | float):
            continue
        together = scores[comparison(row)]
        margin = max(SMALLEST_MARGIN, (max(together) - min(together)) / 2)
        bottom, top = min(together) - margin, max(together) + margin
        row |= {"low": max(low, bottom), "high": min(high, top), "cut_low": low < bottom, "cut_high": high > top}
        was_cut = was_cut or low < bottom or high > top
    return was_cut


def points(
    x: X,
    title: str,
    methods: Sequence[str],
    tooltip: Sequence[alt.Tooltip],
    *,
    shown: Sequence[str] | None = None,
    line: bool = True,
    zero: bool = False,
    reverse: bool = False,
) -> list[alt.Chart]:
    """Points of ``kind`` point with their intervals, hollow where planned runs are missing, joined by lines.

    Args:
        x: where they stand.
        title: of the y-axis.
        methods: of the study.
        tooltip: what is said of a point.
        shown: methods in the legend; None = all.
        line: whether to join those of one method (and one ``backbone``).
        zero: whether the axis begins at 0.
        reverse: whether less is better, so that less is up.

    Returns:
        Layers.
    """
    color, shape, detail = method_color(methods, shown), method_shape(methods, shown), alt.Detail("backbone:N")
    scale = alt.Scale(zero=zero, reverse=reverse)
    y = alt.Y("score:Q", title=title, scale=scale)
    ends = {"y": alt.Y("low:Q", title=title, scale=scale), "y2": "high:Q"}
    chart = alt.Chart().transform_filter("datum.kind == 'point'")
    layers = [
        chart.transform_filter(f"{'' if one_seed else '!'}datum.one_seed && isValid(datum.low)")
        .mark_rule(style=style)
        .encode(x=x, color=color, **ends)
        for one_seed, style in ((False, "interval"), (True, "item-interval"))
    ]
    if line:
        layers.append(chart.mark_line(style="curve").encode(x=x, y=y, color=color, detail=detail))
    for end, arrow in (("low", "triangle-down"), ("high", "triangle-up")):
        cut = chart.transform_filter(f"datum.cut_{end}").mark_point(style="cut", shape=arrow)
        layers.append(cut.encode(x=x, y=alt.Y(f"{end}:Q", title=title, scale=scale), color=color))
    for condition, style in (("!datum.hollow", "solid"), ("datum.hollow", "hollow")):
        marked = chart.transform_filter(condition).mark_point(style=style)
        layers.append(marked.encode(x=x, y=y, color=color, shape=shape, tooltip=list(tooltip)))
    return layers


def point_tooltip(*fields: tuple[str, str, str | None], unit: str = "score %") -> list[alt.Tooltip]:
    """What a point says: its method and score, what is given here, its intervals and seeds.

    Args:
        fields: name, title and number format of what is particular to the figure.
        unit: what the score is.

    Returns:
        The encodings.
    """
    particular = [tooltip(*f) for f in fields]
    return [
        tooltip("method", "method"),
        *particular,
        tooltip("score", unit, ".1f"),
        tooltip("interval", "95 %"),
        tooltip("seeds", "seeds"),
    ]


def tooltip(name: str, title: str, number_format: str | None = None) -> alt.Tooltip:
    """A line of what the page says of a mark."""
    if number_format is None:
        return alt.Tooltip(f"{name}:N", title=title)
    return alt.Tooltip(f"{name}:Q", title=title, format=number_format)


def described(what: str, rows: Iterable[Row], unit: str = "%") -> str:
    """A text alternative: what is drawn, of which methods, between which numbers; the table has them all."""
    known = [r for r in rows if isinstance(r.get("score"), int | float)]
    if not known:
        return f"{what}. Its numbers stand in the table below."
    lowest, highest = (f(known, key=lambda r: float(r["score"] or 0)) for f in (min, max))
    ends = " to ".join(f"{r['score']:.4g} {unit}".rstrip() + _of(r) for r in (lowest, highest))
    return f"{what}: from {ends}. Its numbers stand in the table below."


def _of(row: Row) -> str:
    return f" ({row['method']})" if row.get("method") else ""
