"""What all figures of the page share: plain plotly data, written without building its objects."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apet.analysis.intervals import Estimate
from apet.report.colours import look
from apet.report.wording import both, named, points

MEAN = "mean over tasks"


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


def bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Error bars over seeds, in percent; none where there is one seed."""
    up = [0 if math.isnan(e.high) else number(100 * (e.high - e.value)) for e in estimates]
    down = [0 if math.isnan(e.low) else number(100 * (e.value - e.low)) for e in estimates]
    return {"type": "data", "array": up, "arrayminus": down, "thickness": 1.2, "width": 3}


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
    holes = f"\n† {e.holes} planned numbers missing" if e.holes else ""
    return f"{head}\n{points(e.value)} {unit}\n" + both(e).replace("; ", "\n") + holes


def safe(s: str) -> str:
    """Plotly reads a little HTML in its texts."""
    return html.escape(s, quote=False).replace("\n", "<br>")


def number(v: float | str) -> Any:
    """Five digits are enough to draw."""
    if isinstance(v, str):
        return v
    return None if math.isnan(v) or math.isinf(v) else float(f"{v:.5g}") if not float(v).is_integer() else int(v)
