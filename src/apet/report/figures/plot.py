"""What all figures of the page share: plain plotly data, written without building its objects."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apet.analysis.intervals import Estimate
from apet.report.formatting import both, named, points
from apet.report.style import look

MEAN = "mean over tasks"
MARKS = "Thin, dotted: one seed; interval over the items. Hollow: planned runs are missing (†)."
"""How points with little behind them are drawn."""
BAR_MARKS = "Thin, grey, without ends: one seed; interval over the items. Hollow: planned runs are missing (†)."
"""The same, of bars."""


@dataclass(frozen=True)
class View:
    """An interactive figure.

    Attributes:
        id: of the section, such as e4.
        title, caption: as in print.
        choices: name -> options; every combination that has data has a plot.
        plots: options joined by ``|`` -> plotly's data and layout.
        log: whether the x-axis can be switched between log and linear.
    """

    id: str
    title: str
    caption: str
    choices: Mapping[str, Sequence[str]]
    plots: Mapping[str, dict[str, Any]]
    log: bool = True


def trace(
    method: str, x: Sequence[float | str], y: Sequence[float | str], text: Sequence[str] | str, **more: Any
) -> dict[str, Any]:
    """A line of one method; its name travels along so that the page can switch it off."""
    k = look(method)
    base: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": named(method),
        "meta": method,
        "x": [number(v) for v in x],
        "y": [number(v) for v in y],
        "text": safe(text) if isinstance(text, str) else [safe(t) for t in text],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": k.colour, "width": 2},
        "marker": {"color": k.colour, "symbol": k.symbol, "size": 8},
    }
    return base | more


def points_of(method: str, x: Sequence[float], estimates: Sequence[Estimate], texts: Sequence[str]) -> list[Any]:
    """A line of means: its whiskers of single seeds, thin and dotted, and its points, hollow where runs are missing."""
    k = look(method)
    symbols = [k.symbol + "-open" * (e.num_missing > 0) for e in estimates]
    y = [100 * e.score for e in estimates]
    marker = {"color": k.colour, "symbol": symbols, "size": 8}
    line = trace(method, x, y, texts, error_y=bars(estimates), marker=marker)
    return [*_whiskers(method, x, estimates), line]


def _whiskers(method: str, x: Sequence[float], estimates: Sequence[Estimate]) -> list[dict[str, Any]]:
    ends = [(v, e) for v, e in zip(x, estimates, strict=True) if single(e)]
    if not ends:
        return []
    at = [v for place, _ in ends for v in (place, place, math.nan)]
    y = [v for _, e in ends for v in (100 * e.item_ci_low, 100 * e.item_ci_high, math.nan)]
    line = {"color": look(method).colour, "width": 1, "dash": "dot"}
    return [trace(method, at, y, "", mode="lines", line=line, hoverinfo="skip", hovertemplate=None)]


def single(e: Estimate) -> bool:
    """Whether one seed stands behind it, so that its interval is over the items."""
    return e.num_seeds < 2 and not math.isnan(e.item_ci_low)


def bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Error bars over seeds, in percent; none where there is one seed."""
    return _bars([(e.ci_low, e.score, e.ci_high) for e in estimates]) | {"thickness": 1.2, "width": 3}


def thin_bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Error bars over the items, in percent, of what one seed stands behind."""
    ends = [(e.item_ci_low, e.score, e.item_ci_high) for e in estimates]
    return _bars(ends) | {"thickness": 0.8, "width": 0, "color": "#666666"}


def _bars(ends: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    up = [0 if math.isnan(high) else number(100 * (high - value)) for _, value, high in ends]
    down = [0 if math.isnan(low) else number(100 * (value - low)) for low, value, _ in ends]
    return {"type": "data", "array": up, "arrayminus": down}


def layout(x: str, y: str, log: bool = True, **more: Any) -> dict[str, Any]:
    """Axes with titles; the rest of the look is the page's."""
    axis: dict[str, Any] = {"title": {"text": x}, "type": "log" if log else "linear"}
    if log:
        axis["tickformat"] = "~s"
    return {"xaxis": axis, "yaxis": {"title": {"text": y}}, "hovermode": "closest"} | more


def level_line(y: float, text: str, dash: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A horizontal line over the whole width, and its label."""
    ink = "#000000" if dash == "dash" else "#666666"
    line = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": y,
        "y1": y,
        "line": {"dash": dash, "color": ink, "width": 1},
    }
    label = {
        "xref": "paper",
        "x": 1,
        "y": y,
        "text": safe(text),
        "showarrow": False,
        "xanchor": "right",
        "yanchor": "bottom",
        "font": {"size": 11, "color": ink},
    }
    return line, label


def hover(head: str, e: Estimate, unit: str = "%") -> str:
    """Head, number, both intervals."""
    holes = f"\n† {e.num_missing} planned numbers missing" if e.num_missing else ""
    return f"{head}\n{points(e.score)} {unit}\n" + both(e).replace("; ", "\n") + holes


def safe(s: str) -> str:
    """Plotly reads a little HTML in its texts."""
    return html.escape(s, quote=False).replace("\n", "<br>")


def number(v: float | str) -> Any:
    """Five digits are enough to draw."""
    if isinstance(v, str):
        return v
    return None if math.isnan(v) or math.isinf(v) else float(f"{v:.5g}") if not float(v).is_integer() else int(v)
