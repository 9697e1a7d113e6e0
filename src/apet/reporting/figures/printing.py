"""A figure in print: PDF for a paper, PNG for a screen, LaTeX that sets it with its caption; no browser is needed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import vl_convert

from apet.reporting.figures.figure import VEGA_LITE, Figure, Spec
from apet.reporting.figures.look import print_look
from apet.reporting.formatting import display_name
from apet.reporting.latex import latex_text

Width = Literal["column", "page"]
WIDTHS: dict[Width, float] = {"column": 219.0, "page": 455.0}
"""Points: a column and the whole text of a page of two columns, as the ACL sets them (7.7 and 16 cm)."""
NARROWEST_PANEL = {"column": 200.0, "page": 108.0}
AXIS_ROOM = 34.0
"""Points that a panel's own axis takes, as a first guess; the second drawing knows."""
ENTRY_WIDTH = 4.0
"""Points of a letter in a legend, and its symbol as five letters."""
PIXELS_PER_POINT = 2.5
PARTIAL_STUDY = "(partial: the study is not finished)"


def save(figure: Figure, folder: Path, partial: bool = False, width: Width = "page") -> list[Path]:
    """Write each view of a figure as PDF, PNG and LaTeX.

    The PDF is as wide as a column or a page of a paper, with its fonts inside, and has no title: the caption is set by
    LaTeX. The PNG has its title, because it is shown around alone.

    Args:
        figure: to draw.
        folder: where to.
        partial: whether the study is unfinished: everything says so.
        width: of a column, or of a page with two.

    Returns:
        The files.
    """
    paths = []
    for name, chosen in (figure.views or {figure.name: {}}).items():
        pdf, png, tex = (folder / f"{name}.{suffix}" for suffix in ("pdf", "png", "tex"))
        note = PARTIAL_STUDY if partial else ""
        pdf.write_bytes(vl_convert.svg_to_pdf(svg(figure, width, chosen, subtitle=note)))
        png.write_bytes(png_bytes(figure, chosen, subtitle=note))
        tex.write_text(latex_figure(figure, name, chosen, width, note), "utf-8")
        paths += [pdf, png, tex]
    return paths


def png_bytes(figure: Figure, chosen: Mapping[str, str] | None = None, subtitle: str = "") -> bytes:
    """A picture with its title, as wide as a page, for a screen."""
    chosen = chosen or {}
    parts = [*_said(figure, chosen), *([subtitle] if subtitle else [])]
    drawn = svg(figure, "page", chosen, figure.title, ", ".join(parts))
    # a screen may be dark, and a picture does not know: it brings its white paper along
    on_white = drawn.replace("<g ", '<rect width="100%" height="100%" fill="white"/><g ', 1)
    return vl_convert.svg_to_png(on_white, PIXELS_PER_POINT)


def svg(
    figure: Figure,
    width: Width = "page",
    chosen: Mapping[str, str] | None = None,
    title: str = "",
    subtitle: str = "",
) -> str:
    """A figure of exactly this width, unless its legend alone is wider.

    Args:
        figure: to draw.
        width: of a column or a page.
        chosen: options in place of the first ones.
        title: above it; empty = none.
        subtitle: below the title.

    Returns:
        SVG.
    """
    spec = figure.spec
    spec["data"] = {"values": list(figure.rows)}
    for parameter in spec["params"]:
        parameter["value"] = (chosen or {}).get(parameter["name"], parameter["value"])
    letters = int(WIDTHS[width] / ENTRY_WIDTH)
    if title:
        spec["title"] = {"text": textwrap.wrap(title, int(0.8 * letters)), "subtitle": textwrap.wrap(subtitle, letters)}
    elif subtitle:
        spec["title"] = {"text": textwrap.wrap(subtitle, int(0.8 * letters)), "fontWeight": "normal"}
    spec["config"] = print_look(figure.looks, _legend_columns(figure, WIDTHS[width]))
    columns = min(figure.columns, max(1, int(WIDTHS[width] // NARROWEST_PANEL[width])))
    panel = WIDTHS[width] / columns - AXIS_ROOM
    # what axes and legends take is known when they are drawn: the second time, the width is right
    for _ in range(2):
        _set_panels(spec, columns, panel, 0.62 * figure.panel_height)
        drawn = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
        panel = max(40.0, panel + (WIDTHS[width] - _width(drawn)) / columns)
        if abs(_width(drawn) - WIDTHS[width]) < 1:
            break
    else:
        _set_panels(spec, columns, panel, 0.62 * figure.panel_height)
        drawn = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
    return drawn


def latex_figure(figure: Figure, name: str, chosen: Mapping[str, str], width: Width, note: str = "") -> str:
    r"""LaTeX that sets the PDF with its caption; ``\graphicspath`` leads to its folder."""
    environment, length = ("figure", r"\columnwidth") if width == "column" else ("figure*", r"\textwidth")
    shown = ", ".join(_said(figure, chosen))
    caption = f"{figure.title}{': ' + shown if shown else ''}. {figure.caption} {note}".rstrip()
    return "\n".join(
        [
            rf"\begin{{{environment}}}",
            r"\centering",
            rf"\includegraphics[width={length}]{{{name}.pdf}}",
            rf"\caption{{{latex_text(caption)}}}",
            rf"\label{{fig:{name}}}",
            rf"\end{{{environment}}}",
            "",
        ]
    )


def _said(figure: Figure, chosen: Mapping[str, str]) -> list[str]:
    """What of the choices is shown here, where there is more than one option."""
    return [
        option
        for c in figure.choices
        for option in [chosen.get(c.name, c.options[0])]
        if len(c.options) > 1 and option != c.shows_all
    ]


def _set_panels(spec: Spec, columns: int, width: float, height: float) -> None:
    for panel in spec.get("concat") or [spec.get("spec") or spec]:
        panel |= {"width": width, "height": height}
    if "concat" in spec or "facet" in spec:
        spec["columns"] = columns
    spec["config"]["header"]["labelLimit"] = width


def _width(drawn: str) -> float:
    found = re.search(r'<svg[^>]* width="([\d.]+)"', drawn)
    assert found is not None
    return float(found[1])


def _legend_columns(figure: Figure, width: float) -> int:
    longest = max((len(display_name(m)) for m in figure.methods), default=1)
    return max(1, int(width // (ENTRY_WIDTH * (longest + 5))))
