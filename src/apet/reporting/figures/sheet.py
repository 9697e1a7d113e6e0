"""A printed figure: panels, a title above, legend and caption below, saved as PDF and PNG."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # fonts as TrueType: many publishers refuse matplotlib's default, Type 3
    "svg.hashsalt": "apet",
}
_LEGEND_SIZE, _MARKS_SIZE = 8, 7.5
PARTIAL_STUDY = "(partial: the study is not finished)"


def panels(rows: int, columns: int, width: float = 3.2, height: float = 2.6) -> tuple[Figure, npt.NDArray[Any]]:
    """A figure of panels, outside matplotlib's global state.

    Args:
        rows: of panels.
        columns: of panels.
        width: of a panel, inches.
        height: of a panel, inches.

    Returns:
        The figure and its axes, (rows, columns).
    """
    figure = Figure(figsize=(max(5.0, width * columns), height * rows + 1.0))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def drawing_style() -> AbstractContextManager[None]:
    """A context in which figures are drawn and saved."""
    return mpl.rc_context(_STYLE)


def finish(
    figure: Figure,
    title: str,
    caption: str,
    legend: Sequence[Artist],
    partial: bool = False,
    plain: bool = True,
    marks: Sequence[Artist] = (),
) -> Figure:
    """Title above, legend and caption below; of a partial study, the title says so.

    Args:
        figure: with its panels drawn.
        title: of the figure.
        caption: of the figure.
        legend: its entries, of methods.
        partial: whether the study is unfinished.
        plain: tick labels are short numbers, so that fixed margins do; else they are measured, which takes long.
        marks: further entries, of what a reader must know to read the marks.

    Returns:
        The same figure, taller by what was added.
    """
    width, panel_height = figure.get_size_inches()
    caption_lines = textwrap.wrap(caption, int(width * 18.5) - 2)
    caption_height = 0.14 * len(caption_lines) + 0.1
    legend_columns, mark_columns = _columns(legend, width, _LEGEND_SIZE), _columns(marks, width, _MARKS_SIZE)
    below = caption_height + _height(legend, legend_columns) + _height(marks, mark_columns)
    title_text = figure.text(0.01, 1, "", ha="left", va="top", fontsize=11.5)
    title_parts = (title, *((PARTIAL_STUDY,) if partial else ()))
    above = 0.19 * (_fit(title_text, title_parts, 0.98 * width) - 1)
    if plain:
        _set_fixed_margins(figure, width, panel_height, above, below)
    else:
        height = panel_height + above + below
        figure.set_size_inches(width, height)
        rect = (0, below / height, 1, 1 - (0.3 + above) / height)
        figure.tight_layout(rect=rect, h_pad=1.2, w_pad=1.2)
        for axis in figure.axes:
            _fit_panel_title(axis, axis.get_window_extent().width / figure.dpi)
    height = figure.get_size_inches()[1]
    title_text.set_y(1 - 0.08 / height)
    figure.text(
        0.01,
        caption_height / height,
        "\n".join(caption_lines),
        ha="left",
        va="top",
        fontsize=7,
        color="#444444",
        linespacing=1.2,
    )
    _place_legend(figure, marks, mark_columns, _MARKS_SIZE, caption_height)
    _place_legend(figure, legend, legend_columns, _LEGEND_SIZE, caption_height + _height(marks, mark_columns))
    return figure


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write PDF and PNG; the same study gives the same bytes.

    Returns:
        Both files.
    """
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    figure.savefig(paths[0], metadata={"CreationDate": None})  # the one thing in it that changes from day to day
    figure.savefig(paths[1], dpi=150)
    return paths


def _place_legend(figure: Figure, entries: Sequence[Artist], columns: int, size: float, bottom: float) -> None:
    """Entries in so many columns, their lower edge so many inches above that of the figure."""
    if entries:
        anchor = (0.5, bottom / figure.get_size_inches()[1])
        figure.legend(
            handles=list(entries),
            ncols=columns,
            fontsize=size,
            loc="lower center",
            bbox_to_anchor=anchor,
            frameon=False,
        )


def _set_fixed_margins(figure: Figure, width: float, panel_height: float, above: float, below: float) -> None:
    """Fixed margins around panels of the same size, with room for titles of several lines.

    Args:
        figure: with its panels.
        width: of the figure, inches.
        panel_height: of the figure without what is above and below, inches.
        above: what the title takes beyond a line, inches.
        below: what stands below the panels, inches.
    """
    place = figure.axes[0].get_subplotspec()
    assert place is not None
    rows, columns = place.get_gridspec().get_geometry()
    axis_width = width / columns - 0.75
    titles = 0.15 * (max(_fit_panel_title(axis, axis_width) for axis in figure.axes) - 1)
    axis_height = (panel_height - 0.35) / rows - 0.75
    height = panel_height + above + below + rows * titles
    figure.set_size_inches(width, height)
    figure.subplots_adjust(
        left=0.65 / width,
        right=1 - 0.1 / width,
        top=1 - (0.6 + above + titles) / height,
        bottom=(below + 0.5) / height,
        wspace=0.75 / axis_width,
        hspace=(0.8 + titles) / axis_height,
    )


def _fit_panel_title(axis: Axes, width: float) -> int:
    """Wrap a panel's title to its panel; how many lines that takes."""
    title = axis.get_title(loc=mpl.rcParams["axes.titlelocation"])
    return _fit(axis.set_title(title), title.split("\n"), width) if title else 1


def _fit(text: Text, parts: Sequence[str], width: float) -> int:
    """Set the parts on as few lines as fit the width, smaller where a single word does not.

    Args:
        text: what is written.
        parts: each starts a line of its own where they do not fit on one.
        width: inches.

    Returns:
        How many lines.
    """
    figure = text.get_figure(root=True)
    assert figure is not None
    assert isinstance(figure.canvas, FigureCanvasAgg)
    renderer, max_pixels = figure.canvas.get_renderer(), width * figure.dpi

    def pixels(s: str) -> float:
        text.set_text(s)
        return float(text.get_window_extent(renderer).width)

    one_line = "  ".join(parts)
    if pixels(one_line) <= max_pixels:
        return 1
    longest = max(pixels(word) for word in one_line.split())
    if longest > max_pixels:
        text.set_fontsize(float(text.get_fontsize()) * 0.98 * max_pixels / longest)
    lines: list[str] = []
    for part in parts:
        line = ""
        for word in part.split():
            longer = f"{line} {word}".strip()
            if line and pixels(longer) > max_pixels:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    text.set_text("\n".join(lines))
    return len(lines)


def _columns(entries: Sequence[Artist], width: float, size: float) -> int:
    """How many entries stand in a row of the legend, by the longest of them."""
    longest = max((len(str(e.get_label())) for e in entries), default=0)
    return max(1, int(width // max(1.35, 0.55 + 0.0082 * size * longest)))


def _height(entries: Sequence[Artist], columns: int) -> float:
    """Inches that a legend takes."""
    return 0.2 * math.ceil(len(entries) / columns) + 0.08 if entries else 0.0
