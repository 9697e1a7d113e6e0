"""Interactive figures of the page as plain plotly data, written without building plotly's objects, which take long."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apet.analysis.intervals import Estimate
from apet.reporting.formatting import both_intervals, display_name, percent
from apet.reporting.style import GRAY, method_style

PlotlyData = dict[str, Any]
"""A part of a figure in the form that plotly's script reads: a trace, an axis, a layout."""

POINT_MARKS = "Thin, dotted: one seed; interval over the items. Hollow: planned runs are missing (†)."
"""How points with little behind them are drawn, as a caption says it."""
BAR_MARKS = "Thin, gray, without ends: one seed; interval over the items. Hollow: planned runs are missing (†)."
"""How bars with little behind them are drawn."""


@dataclass(frozen=True)
class InteractiveFigure:
    """A figure of the page: one plot for each combination of choices.

    Attributes:
        id: of the section, such as thresholds.
        title, caption: as in print.
        choices: name -> options; every combination that has data has a plot.
        plots: options joined by ``|`` -> plotly's data and layout.
        log: whether the x-axis can be switched between log and linear.
    """

    id: str
    title: str
    caption: str
    choices: Mapping[str, Sequence[str]]
    plots: Mapping[str, PlotlyData]
    log: bool = True


def trace(
    method: str, x: Sequence[float | str], y: Sequence[float | str], text: Sequence[str] | str, **overrides: object
) -> PlotlyData:
    """A line of one method.

    Args:
        method: its name travels along, so that the page can switch it off.
        x: of the points.
        y: of the points.
        text: hover text of each point, or of all of them.
        overrides: of plotly, in place of what a method's line has by default.

    Returns:
        The trace as plotly's script reads it.
    """
    style = method_style(method)
    defaults: PlotlyData = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": display_name(method),
        "meta": method,
        "x": [json_number(v) for v in x],
        "y": [json_number(v) for v in y],
        "text": plotly_text(text) if isinstance(text, str) else [plotly_text(t) for t in text],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": style.color, "width": 2},
        "marker": {"color": style.color, "symbol": style.symbol, "size": 8},
    }
    return defaults | overrides


def mean_traces(
    method: str, x: Sequence[float], estimates: Sequence[Estimate], texts: Sequence[str]
) -> list[PlotlyData]:
    """A line of means: the whiskers of single seeds, thin and dotted, and points, hollow where runs are missing."""
    style = method_style(method)
    symbols = [style.symbol + "-open" * (e.num_missing > 0) for e in estimates]
    y = [100 * e.score for e in estimates]
    marker = {"color": style.color, "symbol": symbols, "size": 8}
    line = trace(method, x, y, texts, error_y=seed_error_bars(estimates), marker=marker)
    return [*_item_whiskers(method, x, estimates), line]


def _item_whiskers(method: str, x: Sequence[float], estimates: Sequence[Estimate]) -> list[PlotlyData]:
    """A line of their own, because plotly's error bars cannot be dotted; NaN parts one whisker from the next."""
    whiskers = [(v, e) for v, e in zip(x, estimates, strict=True) if has_one_seed(e)]
    if not whiskers:
        return []
    xs = [v for place, _ in whiskers for v in (place, place, math.nan)]
    ys = [v for _, e in whiskers for v in (100 * e.item_ci_low, 100 * e.item_ci_high, math.nan)]
    line = {"color": method_style(method).color, "width": 1, "dash": "dot"}
    return [trace(method, xs, ys, "", mode="lines", line=line, hoverinfo="skip", hovertemplate=None)]


def has_one_seed(e: Estimate) -> bool:
    """Whether one seed stands behind it, so that its interval is over the items."""
    return e.num_seeds < 2 and not math.isnan(e.item_ci_low)


def seed_error_bars(estimates: Sequence[Estimate]) -> PlotlyData:
    """Error bars over seeds, in percent; none where there is one seed."""
    return _error_bars([(e.ci_low, e.score, e.ci_high) for e in estimates]) | {"thickness": 1.2, "width": 3}


def item_error_bars(estimates: Sequence[Estimate]) -> PlotlyData:
    """Error bars over the items, in percent, of what one seed stands behind."""
    ends = [(e.item_ci_low, e.score, e.item_ci_high) for e in estimates]
    return _error_bars(ends) | {"thickness": 0.8, "width": 0, "color": GRAY}


def _error_bars(ends: Sequence[tuple[float, float, float]]) -> PlotlyData:
    up = [0 if math.isnan(high) else json_number(100 * (high - score)) for _, score, high in ends]
    down = [0 if math.isnan(low) else json_number(100 * (score - low)) for low, score, _ in ends]
    return {"type": "data", "array": up, "arrayminus": down}


def axes_layout(x: str, y: str, log: bool = True, **more: object) -> PlotlyData:
    """Axes with titles; the rest of the look is the page's."""
    axis: PlotlyData = {"title": {"text": x}, "type": "log" if log else "linear"}
    if log:
        axis["tickformat"] = "~s"
    return {"xaxis": axis, "yaxis": {"title": {"text": y}}, "hovermode": "closest"} | more


def horizontal_line(y: float, text: str, dash: str) -> tuple[PlotlyData, PlotlyData]:
    """A line over the whole width, and its label."""
    color = "#000000" if dash == "dash" else GRAY
    line = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": y,
        "y1": y,
        "line": {"dash": dash, "color": color, "width": 1},
    }
    label = {
        "xref": "paper",
        "x": 1,
        "y": y,
        "text": plotly_text(text),
        "showarrow": False,
        "xanchor": "right",
        "yanchor": "bottom",
        "font": {"size": 11, "color": color},
    }
    return line, label


def hover_text(head: str, e: Estimate, unit: str = "%") -> str:
    """Head, number, both intervals, and how many planned numbers are missing."""
    missing = f"\n† {e.num_missing} planned numbers missing" if e.num_missing else ""
    return f"{head}\n{percent(e.score)} {unit}\n" + both_intervals(e).replace("; ", "\n") + missing


def plotly_text(text: str) -> str:
    """Text with what plotly would read as HTML escaped, and its line breaks."""
    return html.escape(text, quote=False).replace("\n", "<br>")


def json_number(v: float | str) -> float | str | None:
    """A number as JSON has it, to five digits, which are enough to draw; texts stay as they are."""
    if isinstance(v, str):
        return v
    return None if math.isnan(v) or math.isinf(v) else float(f"{v:.5g}") if not float(v).is_integer() else int(v)
