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
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

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
    figure = Figure(figsize=(max(5.0, width * columns), height * rows + 1.0))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def style() -> Any:
    """A context in which figures are drawn and saved."""
    return mpl.rc_context(STYLE)


def finish(
    figure: Figure, title: str, caption: str, methods: Sequence[str], partial: bool = False, plain: bool = True
) -> Figure:
    """Title above, legend and caption below; a partial study says so across the top.

    Args:
        figure: with its panels drawn.
        title, caption: of the figure.
        methods: of the legend.
        partial: whether the study still runs.
        plain: tick labels are short numbers, so that fixed margins do; else they are measured, which takes long.
    """
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, int(width * 18.5) - 2)
    foot = 0.14 * len(lines) + 0.1
    entries = [_entry(m) for m in methods]
    per_row = max(1, int(width // 1.35))
    legend = 0.2 * math.ceil(len(entries) / per_row) + 0.08 if entries else 0.0
    figure.set_size_inches(width, height + foot + legend)
    height += foot + legend
    if plain:
        place = figure.axes[0].get_subplotspec()
        assert place is not None
        rows, columns = place.get_gridspec().get_geometry()
        panel = (width / columns - 0.75, (height - foot - legend - 0.35) / rows - 0.75)
        figure.subplots_adjust(
            left=0.65 / width,
            right=1 - 0.1 / width,
            top=1 - 0.6 / height,
            bottom=(foot + legend + 0.5) / height,
            wspace=0.75 / panel[0],
            hspace=0.8 / panel[1],
        )
    else:
        figure.tight_layout(rect=(0, (foot + legend) / height, 1, 1 - 0.3 / height), h_pad=1.2, w_pad=1.2)
    note = "  (partial: the study is still running)" if partial else ""
    figure.text(0.01, 1 - 0.08 / height, title + note, ha="left", va="top", fontsize=11.5)
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
    at, y = np.array(x, dtype=float), np.array([100 * e.value for e in estimates])
    axis.plot(at, y, color=k.colour, linewidth=1.3, zorder=3)
    axis.vlines(
        at,
        [100 * e.low for e in estimates],
        [100 * e.high for e in estimates],
        color=k.colour,
        linewidth=1,
        alpha=0.8,
        zorder=2,
    )
    torn = np.array([e.holes > 0 for e in estimates], dtype=bool)
    for here, inside in ((torn, "white"), (~torn, k.colour)):
        if here.any():
            axis.plot(at[here], y[here], k.marker, color=k.colour, markerfacecolor=inside, markersize=5, zorder=4)


def log_counts(axis: Any, label: str) -> None:
    """A logarithmic x-axis with 1k, 10k, 1M."""
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
    axis.xaxis.set_minor_locator(NullLocator())
    low, high = axis.get_xlim()
    if high / low < 30:  # one or two powers of ten do not make an axis
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_xlabel(label)


def beside(x: Sequence[float], i: int, n: int) -> list[float]:
    """Places on a logarithmic axis moved a little, so that n methods at one place can be told apart."""
    return [v * 1.035 ** (i - (n - 1) / 2) for v in x]


def short(n: float) -> str:
    """``4.1k``, ``1M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:.3g}"


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """PDF and PNG; the same study gives the same bytes."""
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    figure.savefig(paths[0], metadata={"CreationDate": None})
    figure.savefig(paths[1], dpi=150)
    return paths
