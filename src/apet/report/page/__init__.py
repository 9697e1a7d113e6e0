"""One HTML file with everything in it: no request leaves it."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from apet.report.figures.plot import View
from apet.report.formatting import named
from apet.report.headline import Finding
from apet.report.style import look
from apet.report.table import Table, data

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


OPEN = 50
"""Rows; a longer table is closed until it is asked for."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id, title: of the part.
        view: its figure.
        tables: below it; the first is open where there is no figure.
        body: ready HTML above both.
        theirs: names of tables that hold the paper's numbers.
    """

    id: str
    title: str
    view: View | None = None
    tables: Sequence[Table] = ()
    body: str = ""
    theirs: frozenset[str] = frozenset()


def page(
    kind: str,
    title: str,
    answer: str,
    ran: str,
    sections: Sequence[Section],
    methods: Sequence[str],
    footer: str,
    banner: str = "",
) -> str:
    """The whole file as text.

    Args:
        kind: small words above the title.
        title, answer, ran: plain text: the name, the first sentence, what was run.
        sections: in order.
        methods: with a switch each.
        footer, banner: plain text.
    """
    views = [s.view for s in sections if s.view is not None]
    tables = [t for s in sections for t in s.tables]
    payload = {
        "methods": [
            {"name": m, "label": named(m), "colour": look(m).colour, "symbol": look(m).symbol} for m in methods
        ],
        "shapes": SHAPES,
        "views": [{"id": v.id, "choices": v.choices, "plots": v.plots, "log": v.log} for v in views],
        "tables": [data(t) for t in tables],
    }
    return Template(_own("page.html")).substitute(
        kind=_text(kind),
        title=_text(title),
        answer=_text(answer),
        ran=_text(ran),
        banner=f'<p class="banner" role="status">{_text(banner)}</p>' if banner else "",
        nav="".join(f'<a href="#{s.id}">{_text(s.title)}</a>' for s in sections),
        body="\n".join(_section(s) for s in sections),
        footer=_text(footer),
        style=_own("style.css"),
        script=_own("page.js"),
        plotly=get_plotlyjs() if views else "",
        data=embedded(payload),
    )


def findings(found: Sequence[Finding]) -> str:
    """A list of sentences."""
    items = "".join(f"<li><b>{f.about}</b><span>{_text(f.text)}</span></li>" for f in found)
    return f'<ul class="findings">{items}</ul>'


def facts(values: Mapping[str, Any]) -> str:
    """Names and values."""
    rows = "".join(f"<dt>{_text(str(k))}</dt><dd>{_text(_plain(v))}</dd>" for k, v in values.items())
    return f"<dl>{rows}</dl>"


def source(text: str) -> str:
    """Text as it stands in a file."""
    return f"<pre>{html.escape(text)}</pre>"


def note(text: str) -> str:
    """A plain sentence."""
    return f'<p class="note">{_text(text)}</p>'


def embedded(payload: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _section(s: Section) -> str:
    parts = [f"<h2>{_text(s.title)}</h2>", s.body]
    if s.view is not None:
        parts.append(f'<div class="figure"></div><p class="caption">{_text(s.view.caption)}</p>')
    for i, t in enumerate(s.tables):
        open_ = " open" if i == 0 and s.view is None and len(t.rows) <= OPEN else ""
        theirs = ' class="theirs"' if t.name in s.theirs else ""
        caption = f'<p class="caption">{_text(t.caption)}</p>'
        rows = f"{len(t.rows):,} row" + ("" if len(t.rows) == 1 else "s")
        parts.append(
            f"<details{open_}{theirs}><summary>{_text(t.title)} ({rows})</summary>"
            f'<div id="table-{t.name}"></div>{caption}</details>'
        )
    return f'<section id="{s.id}">{"".join(parts)}</section>'


def _plain(v: Any) -> str:
    if isinstance(v, Mapping):
        return ", ".join(f"{k} {x}" for k, x in v.items())
    return ", ".join(map(str, v)) if isinstance(v, list | tuple | set) else str(v)


def _text(s: str) -> str:
    """Escaped; a number and its percent sign stay on one line."""
    return html.escape(s).replace(" %", "\u00a0%")


def _own(name: str) -> str:
    return (files("apet.report.page") / name).read_text("utf-8")
