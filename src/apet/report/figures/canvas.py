"""What all printed figures share."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from apet.analysis.intervals import Estimate, Floats
from apet.report.formatting import named
from apet.report.style import look

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
DASHES = (0, (2.0, 1.5))
"""Of the intervals that one seed has."""
ONE_SEED = "one seed: interval over the items"
TORN = "hollow: planned runs are missing (†)"
PARTIAL = "(partial: the study is not finished)"


def sheet(rows: int, columns: int, width: float = 3.2, height: float = 2.6, **more: Any) -> tuple[Figure, Any]:
    """A figure of panels, axes as an array (rows, columns); nothing global is touched."""
    figure = Figure(figsize=(max(5.0, width * columns), height * rows + 1.0))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def style() -> Any:
    """A context in which figures are drawn and saved."""
    return mpl.rc_context(STYLE)


def finish(
    figure: Figure,
    title: str,
    caption: str,
    legend: Sequence[Artist],
    partial: bool = False,
    plain: bool = True,
    marks: Sequence[Artist] = (),
) -> Figure:
    """Title above, legend and caption below; a partial study says so beside the title. Titles are as wide as they may.

    Args:
        figure: with its panels drawn.
        title, caption: of the figure.
        legend: its entries, of methods.
        partial: whether the study still runs.
        plain: tick labels are short numbers, so that fixed margins do; else they are measured, which takes long.
        marks: further entries, of what a reader must know to read the marks.
    """
    width, panels = figure.get_size_inches()
    lines = textwrap.wrap(caption, int(width * 18.5) - 2)
    foot = 0.14 * len(lines) + 0.1
    above, below = _rows(legend, width, 8), _rows(marks, width, 7.5)
    under = foot + _tall(legend, above) + _tall(marks, below)
    name = figure.text(0.01, 1, "", ha="left", va="top", fontsize=11.5)
    said = (title, *((PARTIAL,) if partial else ()))
    more = 0.19 * (_fit(name, said, 0.98 * width) - 1)
    if plain:
        _panels(figure, width, panels, more, under)
    else:
        height = panels + more + under
        figure.set_size_inches(width, height)
        rect = (0, under / height, 1, 1 - (0.3 + more) / height)
        figure.tight_layout(rect=rect, h_pad=1.2, w_pad=1.2)
        for axis in figure.axes:
            _fit_title(axis, axis.get_window_extent().width / figure.dpi)
    height = figure.get_size_inches()[1]
    name.set_y(1 - 0.08 / height)
    figure.text(
        0.01, foot / height, "\n".join(lines), ha="left", va="top", fontsize=7, color="#444444", linespacing=1.2
    )
    at = foot
    for entries, per_row, size in ((marks, below, 7.5), (legend, above, 8)):
        if entries:
            where: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, at / height), "frameon": False}
            figure.legend(handles=list(entries), ncols=per_row, fontsize=size, **where)
            at += _tall(entries, per_row)
    return figure


def _panels(figure: Figure, width: float, panels: float, more: float, under: float) -> None:
    """Fixed margins around panels of the same size, with room for titles of several lines.

    Args:
        width, panels: of the figure without what is above and below, inches.
        more, under: what the title takes beyond a line, and what stands below the panels, inches.
    """
    place = figure.axes[0].get_subplotspec()
    assert place is not None
    rows, columns = place.get_gridspec().get_geometry()
    wide = width / columns - 0.75
    titles = 0.15 * (max(_fit_title(axis, wide) for axis in figure.axes) - 1)
    tall = (panels - 0.35) / rows - 0.75
    height = panels + more + under + rows * titles
    figure.set_size_inches(width, height)
    figure.subplots_adjust(
        left=0.65 / width,
        right=1 - 0.1 / width,
        top=1 - (0.6 + more + titles) / height,
        bottom=(under + 0.5) / height,
        wspace=0.75 / wide,
        hspace=(0.8 + titles) / tall,
    )


def _fit_title(axis: Axes, width: float) -> int:
    """Wrap a panel's title to its panel; how many lines that takes."""
    words = axis.get_title(loc=mpl.rcParams["axes.titlelocation"])
    return _fit(axis.set_title(words), words.split("\n"), width) if words else 1


def _fit(text: Text, parts: Sequence[str], width: float) -> int:
    """Set the parts on as few lines as fit the width, smaller where a single word does not; how many lines.

    Args:
        text: what is written.
        parts: each starts a line of its own where they do not fit on one.
        width: inches.
    """
    figure = text.get_figure(root=True)
    assert figure is not None
    assert isinstance(figure.canvas, FigureCanvasAgg)
    renderer, room = figure.canvas.get_renderer(), width * figure.dpi

    def takes(s: str) -> float:
        text.set_text(s)
        return float(text.get_window_extent(renderer).width)

    whole = "  ".join(parts)
    if takes(whole) <= room:
        return 1
    longest = max(takes(word) for word in whole.split())
    if longest > room:
        text.set_fontsize(float(text.get_fontsize()) * 0.98 * room / longest)
    lines: list[str] = []
    for part in parts:
        line = ""
        for word in part.split():
            joined = f"{line} {word}".strip()
            if line and takes(joined) > room:
                lines.append(line)
                joined = word
            line = joined
        lines.append(line)
    text.set_text("\n".join(lines))
    return len(lines)


def _rows(entries: Sequence[Artist], width: float, size: float) -> int:
    """How many entries stand in a row of the legend."""
    longest = max((len(str(e.get_label())) for e in entries), default=0)
    return max(1, int(width // max(1.35, 0.55 + 0.0082 * size * longest)))


def _tall(entries: Sequence[Artist], per_row: int) -> float:
    return 0.2 * math.ceil(len(entries) / per_row) + 0.08 if entries else 0.0


def lines(methods: Sequence[str]) -> list[Artist]:
    """Entries of the legend where methods are lines."""
    return [
        Line2D([], [], color=k.colour, marker=k.marker, markersize=5, linewidth=1.4, label=named(m))
        for m, k in ((m, look(m)) for m in methods)
    ]


def patches(methods: Sequence[str]) -> list[Artist]:
    """Entries of the legend where methods are bars."""
    return [
        Patch(facecolor=k.colour, hatch=k.hatch, edgecolor="white", label=named(m))
        for m, k in ((m, look(m)) for m in methods)
    ]


def marks(estimates: Iterable[Estimate | None], bars: bool = False) -> list[Artist]:
    """Entries of the legend for what these numbers need: dashed whiskers of one seed, hollow where runs are missing."""
    shown = [e for e in estimates if e is not None]
    found: list[Artist] = []
    if any(e.num_seeds < 2 and not math.isnan(e.item_ci_low) for e in shown):
        found.append(Line2D([], [], color=GREY, linestyle=DASHES, linewidth=0.9, label=ONE_SEED))
    if any(torn(e) for e in shown):
        hollow: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 5, "markerfacecolor": "white"}
        found.append(
            Patch(facecolor="white", edgecolor=GREY, hatch="//", label=TORN)
            if bars
            else Line2D([], [], color=GREY, label=TORN, **hollow)
        )
    return found


def torn(e: Estimate) -> bool:
    """Whether planned runs are missing; such a number is hollow everywhere."""
    return e.num_missing > 0


def whiskers(axis: Any, x: Sequence[float], estimates: Sequence[Estimate], colour: str, over: float = 2) -> None:
    """Intervals in percent: solid over seeds; of one seed thin and dashed, over its items."""
    placed = list(zip(x, estimates, strict=True))
    seeds = [(v, e.ci_low, e.ci_high) for v, e in placed if e.num_seeds > 1]
    items = [(v, e.item_ci_low, e.item_ci_high) for v, e in placed if e.num_seeds < 2 and not math.isnan(e.item_ci_low)]
    thin: dict[str, Any] = {"linewidth": 0.8, "linestyle": DASHES}
    for found, how in ((seeds, {"linewidth": 1.0}), (items, thin)):
        if found:
            at, low, high = np.array(found).T
            axis.vlines(at, 100 * low, 100 * high, color=colour, alpha=0.8, zorder=over, **how)


def curve(axis: Any, x: Sequence[float], estimates: Sequence[Estimate], method: str) -> None:
    """Points joined by a line, with their intervals in percent; hollow where planned runs are missing."""
    k = look(method)
    at, y = np.array(x, dtype=float), np.array([100 * e.score for e in estimates])
    axis.plot(at, y, color=k.colour, linewidth=1.3, zorder=3)
    whiskers(axis, x, estimates, k.colour)
    holes = np.array([torn(e) for e in estimates], dtype=bool)
    for here, inside in ((holes, "white"), (~holes, k.colour)):
        if here.any():
            axis.plot(at[here], y[here], k.marker, color=k.colour, markerfacecolor=inside, markersize=5, zorder=4)


class Counts(LogLocator):
    """Ticks of a logarithmic axis: powers of ten, or steps between them where those are few; never fewer than two."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Between both ends."""
        low, high = sorted((vmin, vmax))
        if low <= 0:
            return super().tick_values(vmin, vmax)
        tens = _steps(low, high, (1,))
        if len(tens) > 1 and high / low >= 30:
            return tens[:: math.ceil(len(tens) / 8)]
        for between in ((1, 2, 5), range(1, 10)):
            found = _steps(low, high, between)
            if len(found) > 1:
                return found
        return np.array([v for v in MaxNLocator(4).tick_values(low, high) if low <= v <= high])


def _steps(low: float, high: float, between: Iterable[int]) -> Floats:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [b * 10.0**p for p in powers for b in between]
    return np.array([v for v in found if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)])


def log_counts(axis: Any, label: str) -> None:
    """A logarithmic x-axis with 1k, 10k, 1M."""
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_locator(Counts())
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
