"""A report as one HTML file with everything in it: no request leaves it."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from apet.reporting.experiments.experiment import Finding
from apet.reporting.figures.figure import Figure, packed
from apet.reporting.figures.look import css_variables, page_look
from apet.reporting.formatting import display_name
from apet.reporting.page.vega import vega_script
from apet.reporting.table import Table

MAX_OPEN_ROWS = 50
"""A longer table is closed until it is asked for."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id, title: of the part.
        figure: what it shows.
        tables: below it; the first holds the figure's data, or is open where there is no figure.
        body: ready HTML above both.
        reference_tables: names of tables that hold the paper's numbers, which are set apart.
    """

    id: str
    title: str
    figure: Figure | None = None
    tables: Sequence[Table] = ()
    body: str = ""
    reference_tables: frozenset[str] = frozenset()


def html_page(
    kind: str,
    title: str,
    headline: str,
    run_summary: str,
    sections: Sequence[Section],
    footer: str,
    banner: str = "",
    answer: Section | None = None,
) -> str:
    """The whole file as text.

    Args:
        kind: small words above the title.
        title: the name, plain text.
        headline: the first sentence, plain text.
        run_summary: what was run, plain text.
        sections: in order.
        footer: plain text.
        banner: plain text above everything; empty = none.
        answer: the picture of the headline, which stands below it; None = none.

    Returns:
        HTML with style, scripts and data inside; Vega is left out where no section has a figure.
    """
    every = [*([] if answer is None else [answer]), *sections]
    figures = [s.figure for s in every if s.figure is not None]
    tables = {t.name: t for s in every for t in s.tables}
    looks = figures[0].looks if figures else []
    methods = figures[0].methods if figures else []
    payload = {
        "config": page_look(looks),
        "methods": [{"label": display_name(m), "shape": s.shape} for m, s in zip(methods, looks, strict=True)],
        "figures": [_figure_data(f) for f in figures],
        "data": {_data_name(f): packed(f.rows) for f in figures},
        "tables": [table_data(t) for t in tables.values()],
    }
    return Template(_page_file("page.html")).substitute(
        kind=_escape(kind),
        title=_escape(title),
        headline=_escape(headline),
        run_summary=_escape(run_summary),
        banner=f'<p class="banner" role="status">{_escape(banner)}</p>' if banner else "",
        answer="" if answer is None or answer.figure is None else _figure(answer.figure, answer.tables[:1]),
        nav="".join(f'<a href="#{s.id}">{_escape(s.title)}</a>' for s in sections),
        body="\n".join(_section(s) for s in sections),
        footer=_escape(footer),
        light=css_variables(looks, dark=False),
        dark=css_variables(looks, dark=True),
        style=_page_file("style.css"),
        script=_page_file("page.js"),
        vega=vega_script() if figures else "",
        data=embedded_json(payload),
    )


def _figure_data(f: Figure) -> dict[str, object]:
    return {
        "id": f.name,
        "spec": f.spec,
        "data": _data_name(f),
        "columns": f.columns,
        "height": f.panel_height,
        "choices": [{"name": c.name, "options": c.options, "all": c.shows_all} for c in f.choices],
    }


def _data_name(f: Figure) -> str:
    """Figures of the same rows, such as the answer and E4, have them once."""
    return "score_by_budget" if f.name == "answer" else f.name


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
    tables = list(s.tables)
    if s.figure is not None:
        parts.append(_figure(s.figure, tables[:1]))
        tables = tables[1:]
    for i, t in enumerate(tables):
        is_open = i == 0 and s.figure is None and len(t.rows) <= MAX_OPEN_ROWS
        parts.append(_table(t, is_open, reference=t.name in s.reference_tables))
    return f'<section id="{s.id}">{"".join(parts)}</section>'


def _figure(f: Figure, tables: Sequence[Table]) -> str:
    """A figure with its text alternative, its caption and its numbers; the script draws it."""
    description = html.escape(f.description, quote=True)
    return (
        f'<figure id="figure-{f.name}" aria-labelledby="caption-{f.name}"><div class="controls"></div>'
        # Vega gives its own element a role, and hundreds of marks without words: to a reader of screens it is one image
        f'<div role="img" aria-label="{description}"><div class="plot"></div></div>'
        f"<noscript><p>{_escape(f.description)}</p></noscript>"
        f'<figcaption class="caption" id="caption-{f.name}">'
        f"<b>{_escape(f.title)}.</b> {_escape(f.caption)}</figcaption>"
        f"{''.join(_table(t, False) for t in tables)}</figure>"
    )


def _table(t: Table, is_open: bool, reference: bool = False) -> str:
    rows = f"{len(t.rows):,} row" + ("" if len(t.rows) == 1 else "s")
    return (
        f"<details{' open' * is_open}{' class=reference' * reference}>"
        f"<summary>{_escape(t.title)} ({rows})</summary>"
        f'<div data-table="{t.name}"></div><p class="caption">{_escape(t.caption)}</p></details>'
    )


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {x}" for k, x in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple | set) else str(value)


def _escape(text: str) -> str:
    """Text for HTML; a number and its percent sign stay on one line."""
    return html.escape(text).replace(" %", "\u00a0%")


def _page_file(name: str) -> str:
    return (files("apet.reporting.page") / name).read_text("utf-8")
