"""What all printed figures share."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from apet.analysis.intervals import Estimate
from apet.report.colours import look
from apet.report.wording import named

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "apet",
}
GREY = "#666666"


def sheet(rows: int, columns: int, width: float = 3.2, height: float = 2.6, **more: Any) -> tuple[Figure, Any]:
    """A figure of panels, axes as an array (rows, columns); nothing global is touched."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(5.0, width * columns), height * rows + 1.3))
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, **more)
    return figure, axes


def finish(figure: Figure, title: str, caption: str, methods: Sequence[str], partial: bool = False) -> Figure:
    """Title above, legend and caption below; a partial study says so across the top."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, int(width * 17.5))
    foot = 0.14 * len(lines) + 0.1
    entries = [_entry(m) for m in methods]
    per_row = max(1, int(width // 1.35))
    legend = 0.2 * math.ceil(len(entries) / per_row) + 0.08 if entries else 0.0
    figure.set_size_inches(width, height + foot + legend)
    height += foot + legend
    figure.tight_layout(rect=(0, (foot + legend) / height, 1, 1 - 0.3 / height), h_pad=1.2, w_pad=1.2)
    note = "  (partial: the study is still running)" if partial else ""
    figure.text(0.01, 1 - 0.08 / height, title + note, ha="left", va="top", fontsize=10.5, weight="bold")
    figure.text(
        0.01, foot / height, "\n".join(lines), ha="left", va="top", fontsize=7, color="#444444", linespacing=1.2
    )
    if entries:
        at = (0.5, foot / height)
        figure.legend(handles=entries, loc="lower center", bbox_to_anchor=at, ncols=per_row, fontsize=8, frameon=False)
    return figure


def _entry(method: str) -> Line2D:
    k = look(method)
    return Line2D([], [], color=k.colour, marker=k.marker, markersize=5, linewidth=1.4, label=named(method))


def curve(axis: Any, x: Sequence[float], estimates: Sequence[Estimate], method: str) -> None:
    """Points joined by a line, with the seeds' intervals in percent; hollow where planned runs are missing."""
    k = look(method)
    y = np.array([100 * e.value for e in estimates])
    axis.plot(x, y, color=k.colour, linewidth=1.3, zorder=3)
    for xi, yi, e in zip(x, y, estimates, strict=True):
        if not math.isnan(e.low):
            axis.plot([xi, xi], [100 * e.low, 100 * e.high], color=k.colour, linewidth=1, alpha=0.8, zorder=2)
        axis.plot(
            [xi],
            [yi],
            marker=k.marker,
            color=k.colour,
            markerfacecolor="white" if e.holes else k.colour,
            markersize=5,
            zorder=4,
        )


def log_counts(axis: Any, label: str) -> None:
    """A logarithmic x-axis with 1k, 10k, 1M."""
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
    axis.xaxis.set_minor_formatter(FuncFormatter(lambda v, _: ""))
    axis.set_xlabel(label)


def short(n: float) -> str:
    """``4.1k``, ``1M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:.3g}"


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """PDF and PNG; the same study gives the same bytes."""
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    with mpl.rc_context(STYLE):
        figure.savefig(paths[0], metadata={"CreationDate": None})
        figure.savefig(paths[1], dpi=150)
    return paths
