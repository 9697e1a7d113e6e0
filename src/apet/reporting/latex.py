"""A table as LaTeX with booktabs rules."""

from __future__ import annotations

import re

from apet.reporting.table import Table

PAGE_ROWS = 40
"""A table with more rows does not fit a page."""
WIDE_COLUMNS = 10
"""A table with more columns is set small."""

_ESCAPES = {
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
    "³": "$^3$",
}


def latex_text(text: str) -> str:
    """The text with everything that LaTeX reads escaped."""
    # one pass over the text: replacing in turn would escape the backslashes of earlier replacements
    return re.sub("|".join(map(re.escape, _ESCAPES)), lambda m: _ESCAPES[m.group()], text.replace("\n", " "))


def latex(t: Table) -> str:
    """A table with booktabs rules: a float, or where it has more rows than a page a longtable that goes on.

    The document must load ``booktabs``, and ``longtable`` for the long ones. A wide one is set small and close; on a
    page of its own it stands well inside ``landscape`` of pdflscape, which holds both forms.

    Returns:
        LaTeX source.
    """
    return _longtable(t) if len(t.rows) > PAGE_ROWS else _float(t)


def _float(t: Table) -> str:
    head, *rows = _head_and_rows(t)
    lines = [
        r"\begin{table}",
        r"\centering",
        *_small_print(t),
        rf"\caption{{{_caption(t)}}}",
        rf"\label{{tab:{t.name}}}",
    ]
    lines += [rf"\begin{{tabular}}{{{_column_spec(t)}}}", r"\toprule", head, r"\midrule", *rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _longtable(t: Table) -> str:
    """Its head stands on every page, its label and whole caption on the first."""
    head, *rows = _head_and_rows(t)
    n = len(t.columns)
    # a longtable is not a float: without the group, \small would go on in the text after it
    lines = [r"\begingroup", *_small_print(t), rf"\begin{{longtable}}{{{_column_spec(t)}}}"]
    lines += [
        rf"\caption{{{_caption(t)}}}\label{{tab:{t.name}}}\\",
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


def _head_and_rows(t: Table) -> list[str]:
    return [" & ".join(map(latex_text, cells)) + r" \\" for cells in ([c.heading for c in t.columns], *t.texts())]


def _column_spec(t: Table) -> str:
    return "".join("r" if c.numeric else "l" for c in t.columns)


def _caption(t: Table) -> str:
    return f"{latex_text(t.title)}. {latex_text(t.caption)}"


def _small_print(t: Table) -> list[str]:
    return [r"\small", r"\setlength{\tabcolsep}{3pt}"] if len(t.columns) > WIDE_COLUMNS else []
