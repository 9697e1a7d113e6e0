"""A report as one HTML file with everything in it: no request leaves it."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from plotly.offline import get_plotlyjs

from apet.reporting.figures.plotly_data import InteractiveFigure
from apet.reporting.formatting import display_name
from apet.reporting.headline import Finding
from apet.reporting.style import method_style
from apet.reporting.table import Table

SHAPES = {
    "square": "M-4.5,-4.5H4.5V4.5H-4.5Z",
    "triangle-up": "M0,-5L5.5,4.5H-5.5Z",
    "triangle-down": "M0,5L5.5,-4.5H-5.5Z",
    "diamond": "M0,-6L5,0L0,6L-5,0Z",
    "cross": "M-1.8,-5.5H1.8V-1.8H5.5V1.8H1.8V5.5H-1.8V1.8H-5.5V-1.8H-1.8Z",
    "x": "M-5,-2.6L-2.6,-5L0,-2.4L2.6,-5L5,-2.6L2.4,0L5,2.6L2.6,5L0,2.4L-2.6,5L-5,2.6L-2.4,0Z",
    "hexagon": "M0,-5.5L4.8,-2.75V2.75L0,5.5L-4.8,2.75V-2.75Z",
    "hexagon2": "M-5.5,0L-2.75,-4.8H2.75L5.5,0L2.75,4.8H-2.75Z",
    "octagon": "M-2.1,-5H2.1L5,-2.1V2.1L2.1,5H-2.1L-5,2.1V-2.1Z",
    "pentagon": "M0,-5.5L5.2,-1.7L3.2,4.5H-3.2L-5.2,-1.7Z",
    "star": "M0,-6L1.4,-1.9H5.7L2.2,0.7L3.5,4.9L0,2.3L-3.5,4.9L-2.2,0.7L-5.7,-1.9H-1.4Z",
    "triangle-left": "M-5,0L4.5,-5.5V5.5Z",
    "triangle-right": "M5,0L-4.5,-5.5V5.5Z",
    "diamond-tall": "M0,-6L3.6,0L0,6L-3.6,0Z",
}
"""Markers of the page's switches, as paths."""

MAX_OPEN_ROWS = 50
"""A longer table is closed until it is asked for."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id, title: of the part.
        figure: what it shows.
        tables: below it; the first is open where there is no figure.
        body: ready HTML above both.
        reference_tables: names of tables that hold the paper's numbers, which are set apart.
    """

    id: str
    title: str
    figure: InteractiveFigure | None = None
    tables: Sequence[Table] = ()
    body: str = ""
    reference_tables: frozenset[str] = frozenset()


def html_page(
    kind: str,
    title: str,
    headline: str,
    run_summary: str,
    sections: Sequence[Section],
    methods: Sequence[str],
    footer: str,
    banner: str = "",
) -> str:
    """The whole file as text.

    Args:
        kind: small words above the title.
        title: the name, plain text.
        headline: the first sentence, plain text.
        run_summary: what was run, plain text.
        sections: in order.
        methods: with a switch each.
        footer: plain text.
        banner: plain text above everything; empty = none.

    Returns:
        HTML with style, scripts and data inside; plotly is left out where no section has a figure.
    """
    figures = [s.figure for s in sections if s.figure is not None]
    tables = [t for s in sections for t in s.tables]
    payload = {
        "methods": [
            {
                "name": m,
                "label": display_name(m),
                "color": method_style(m).color,
                "symbol": method_style(m).symbol,
            }
            for m in methods
        ],
        "shapes": SHAPES,
        "figures": [{"id": f.id, "choices": f.choices, "plots": f.plots, "log": f.log} for f in figures],
        "tables": [table_data(t) for t in tables],
    }
    return Template(_page_file("page.html")).substitute(
        kind=_escape(kind),
        title=_escape(title),
        headline=_escape(headline),
        run_summary=_escape(run_summary),
        banner=f'<p class="banner" role="status">{_escape(banner)}</p>' if banner else "",
        nav="".join(f'<a href="#{s.id}">{_escape(s.title)}</a>' for s in sections),
        body="\n".join(_section(s) for s in sections),
        footer=_escape(footer),
        style=_page_file("style.css"),
        script=_page_file("page.js"),
        plotly=get_plotlyjs() if figures else "",
        data=embedded_json(payload),
    )


def finding_list(findings: Sequence[Finding]) -> str:
    """A list of sentences, as HTML."""
    entries = "".join(f"<li><b>{f.experiment}</b><span>{_escape(f.text)}</span></li>" for f in findings)
    return f'<ul class="findings">{entries}</ul>'


def definition_list(values: Mapping[str, object]) -> str:
    """Names and values, as HTML."""
    rows = "".join(f"<dt>{_escape(str(k))}</dt><dd>{_escape(_plain(v))}</dd>" for k, v in values.items())
    return f"<dl>{rows}</dl>"


def source_text(text: str) -> str:
    """Text as it stands in a file, as HTML."""
    return f"<pre>{html.escape(text)}</pre>"


def note(text: str) -> str:
    """A plain sentence, as HTML."""
    return f'<p class="note">{_escape(text)}</p>'


def embedded_json(payload: Mapping[str, object]) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # "<" could begin </script>; U+2028 and U+2029 end a line of JavaScript, though not of JSON
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def table_data(t: Table) -> dict[str, object]:
    """A table for the page's script: of each column the distinct texts and numbers, and which of them each row has."""
    columns = []
    for c, values in zip(t.columns, zip(*t.rows, strict=True), strict=True):
        # most columns repeat few values over thousands of rows: each is stored once
        distinct: dict[tuple[str, float | None], int] = {}
        cells = [distinct.setdefault((c.text(v), c.sort_key(v) if c.numeric else None), len(distinct)) for v in values]
        numbers = [n for _, n in distinct] if c.numeric else None
        columns.append({"heading": c.heading, "texts": [s for s, _ in distinct], "numbers": numbers, "cells": cells})
    return {"name": t.name, "title": t.title, "rows": len(t.rows), "columns": columns}


def _section(s: Section) -> str:
    parts = [f"<h2>{_escape(s.title)}</h2>", s.body]
    if s.figure is not None:
        parts.append(f'<div class="figure"></div><p class="caption">{_escape(s.figure.caption)}</p>')
    for i, t in enumerate(s.tables):
        is_open = " open" if i == 0 and s.figure is None and len(t.rows) <= MAX_OPEN_ROWS else ""
        reference = ' class="reference"' if t.name in s.reference_tables else ""
        caption = f'<p class="caption">{_escape(t.caption)}</p>'
        rows = f"{len(t.rows):,} row" + ("" if len(t.rows) == 1 else "s")
        parts.append(
            f"<details{is_open}{reference}><summary>{_escape(t.title)} ({rows})</summary>"
            f'<div id="table-{t.name}"></div>{caption}</details>'
        )
    return f'<section id="{s.id}">{"".join(parts)}</section>'


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {x}" for k, x in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple | set) else str(value)


def _escape(text: str) -> str:
    """Text for HTML; a number and its percent sign stay on one line."""
    return html.escape(text).replace(" %", "\u00a0%")


def _page_file(name: str) -> str:
    return (files("apet.reporting.page") / name).read_text("utf-8")
