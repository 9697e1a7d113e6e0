"""A table as Markdown, LaTeX (booktabs), CSV and data for the page."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apet.report.formatting import NONE

LONG = 500
"""Rows; a longer table is written as CSV alone."""
PAGE_ROWS = 40
"""Of LaTeX; a table with more does not fit a page."""
WIDE = 10
"""Columns; a table with more is set small."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: its heading, with the unit.
        show: raw value -> text; None = plain text.
        parts: of a value with several numbers, such as a mean with its intervals: the columns it has in CSV.
        number: whether it is set at the right.
    """

    title: str
    show: Callable[[Any], str] | None = None
    parts: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)

    @property
    def number(self) -> bool:
        """At the right."""
        return self.show is not None


@dataclass(frozen=True)
class Table:
    """Raw values; text is made where it is written.

    Attributes:
        name: of the files.
        title: a line.
        caption: what was run, what the intervals are.
        columns, rows: of raw values; None or NaN = unknown.
    """

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Any]]

    def texts(self) -> list[list[str]]:
        """Every cell as people read it."""
        return [[text(c, v) for c, v in zip(self.columns, row, strict=True)] for row in self.rows]


def text(column: Column, value: Any) -> str:
    """One cell."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    return str(value) if column.show is None else column.show(value)


def markdown(t: Table) -> str:
    """For a README or an issue."""
    rule = ["---:" if c.number else "---" for c in t.columns]
    head, *cells = [[_cell(x) for x in row] for row in ([c.title for c in t.columns], *t.texts())]
    lines = ["| " + " | ".join(r) + " |" for r in (head, rule, *cells)]
    return f"**{t.title}**\n\n" + "\n".join(lines) + f"\n\n{t.caption}\n"


def _cell(s: str) -> str:
    """Text that ends neither its cell nor its row."""
    return s.replace("|", "\\|").replace("\n", " ")


_LATEX = {
    **{c: "\\" + c for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "≤": r"$\le$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "†": r"\textdagger{}",
    "∞": r"$\infty$",
    "θ": r"$\theta$",
    "…": r"\dots{}",
}


def latex_text(s: str) -> str:
    """The text with everything that LaTeX reads escaped."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda m: _LATEX[m.group()], s.replace("\n", " "))


def latex(t: Table) -> str:
    """A table with booktabs rules: a float, or where it has more rows than a page a longtable that goes on.

    The document must load ``booktabs``, and ``longtable`` for the long ones. A wide one is set small and close; on a
    page of its own it stands well inside ``landscape`` of pdflscape, which holds both forms.
    """
    return _longtable(t) if len(t.rows) > PAGE_ROWS else _float(t)


def _float(t: Table) -> str:
    head, *rows = _latex_rows(t)
    lines = [
        r"\begin{table}",
        r"\centering",
        *_small(t),
        rf"\caption{{{_latex_caption(t)}}}",
        rf"\label{{tab:{t.name}}}",
    ]
    lines += [rf"\begin{{tabular}}{{{_latex_spec(t)}}}", r"\toprule", head, r"\midrule", *rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _longtable(t: Table) -> str:
    """Its head stands on every page, its label and whole caption on the first."""
    head, *rows = _latex_rows(t)
    n = len(t.columns)
    lines = [r"\begingroup", *_small(t), rf"\begin{{longtable}}{{{_latex_spec(t)}}}"]
    lines += [
        rf"\caption{{{_latex_caption(t)}}}\label{{tab:{t.name}}}\\",
        r"\toprule",
        head,
        r"\midrule",
        r"\endfirsthead",
    ]
    lines += [rf"\multicolumn{{{n}}}{{l}}{{\tablename~\thetable, continued}}\\"]
    lines += [r"\toprule", head, r"\midrule", r"\endhead"]
    lines += [r"\midrule", rf"\multicolumn{{{n}}}{{r}}{{continued on the next page}}\\", r"\endfoot"]
    lines += [r"\bottomrule", r"\endlastfoot"]
    return "\n".join([*lines, *rows, r"\end{longtable}", r"\endgroup", ""])


def _latex_rows(t: Table) -> list[str]:
    """Heading and rows."""
    return [" & ".join(map(latex_text, r)) + r" \\" for r in ([c.title for c in t.columns], *t.texts())]


def _latex_spec(t: Table) -> str:
    return "".join("r" if c.number else "l" for c in t.columns)


def _latex_caption(t: Table) -> str:
    return f"{latex_text(t.title)}. {latex_text(t.caption)}"


def _small(t: Table) -> list[str]:
    return [r"\small", r"\setlength{\tabcolsep}{3pt}"] if len(t.columns) > WIDE else []


def comma_separated(t: Table) -> str:
    """Raw values for programs: fractions stay fractions, what is unknown is empty, every number has its column."""
    out = io.StringIO()
    w = csv.writer(out, lineterminator="\n")
    titles = [(c.title.removesuffix(" %").removesuffix(", points"), c) for c in t.columns]
    w.writerow([f"{title}: {part}" if part else title for title, c in titles for part in c.parts or ("",)])
    for row in t.rows:
        w.writerow([x for c, v in zip(t.columns, row, strict=True) for x in _raw(c, v)])
    return out.getvalue()


def _raw(c: Column, v: Any) -> list[Any]:
    values = [None if v is None else get(v) for get in c.parts.values()] if c.parts else [v]
    return ["" if x is None or (isinstance(x, float) and math.isnan(x)) else x for x in values]


def write(t: Table, folder: Path) -> list[Path]:
    """All three files; a long table as CSV alone."""
    made = {"csv": comma_separated}
    if len(t.rows) <= LONG:
        made |= {"md": markdown, "tex": latex}
    paths = []
    for suffix, render in made.items():
        paths.append(folder / f"{t.name}.{suffix}")
        paths[-1].write_text(render(t), "utf-8")
    return paths


def data(t: Table) -> dict[str, Any]:
    """For the page, by column: distinct cells (text, and the raw number to sort by) and which one each row has."""
    columns = []
    for c, values in zip(t.columns, zip(*t.rows, strict=True), strict=True):
        cells: dict[tuple[str, float | None], int] = {}
        at = [cells.setdefault((text(c, v), _plain(v) if c.number else None), len(cells)) for v in values]
        numbers = [n for _, n in cells] if c.number else None
        columns.append({"title": c.title, "texts": [s for s, _ in cells], "numbers": numbers, "at": at})
    return {"name": t.name, "title": t.title, "rows": len(t.rows), "columns": columns}


def _plain(v: Any) -> float | None:
    """The number to sort by."""
    v = getattr(v, "score", v)
    if v is None or isinstance(v, str) or math.isnan(v):
        return None
    return math.copysign(1e300, v) if math.isinf(v) else float(f"{float(v):.6g}")
