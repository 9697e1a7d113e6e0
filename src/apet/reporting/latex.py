"""A table as LaTeX with booktabs rules that fits the width it is set in."""

from __future__ import annotations

import math
import re

from apet.analysis.intervals import Estimate
from apet.reporting.formatting import interval, percent
from apet.reporting.table import Column, EstimateColumn, Table, Value

PAGE_ROWS = 40
"""A table with more rows does not fit a page, and goes on in another float."""
COLUMN_LETTERS = 45
"""A table with more letters in a line is set over both columns of a page."""
SIZES = ((105, r"\small"), (125, r"\footnotesize"), (150, r"\scriptsize"))
"""Letters in a line of a page, and the size of type in which so many fit it."""
SMALLEST = r"\tiny"
LONGEST_CELL = 24
"""Letters from which a column of text is set as a paragraph."""
GAP = 3
"""Letters that the gap between two columns takes."""

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
    "·": r"$\cdot$",
    "→": r"$\to$",
}


def latex_text(text: str) -> str:
    """The text with everything that LaTeX reads escaped."""
    # one pass over the text: replacing in turn would escape the backslashes of earlier replacements
    return re.sub("|".join(map(re.escape, _ESCAPES)), lambda m: _ESCAPES[m.group()], text.replace("\n", " "))


def latex(t: Table) -> str:
    r"""A table with booktabs rules, as a float that fits; one with more rows than a page as several floats.

    The document must load ``booktabs``, ``array`` and ``graphicx``. A wide table is set in small type over both columns
    of a page (``table*``); one that is still too wide is scaled to the line.

    Returns:
        LaTeX source.
    """
    head, *rows = _lines(t)
    letters, spec = _layout(t)
    pages = range(0, max(1, len(rows)), PAGE_ROWS)
    environment = "table*" if letters > COLUMN_LETTERS else "table"
    floats = []
    for page, first in enumerate(pages, 1):
        of = f" ({page} of {len(pages)})" if len(pages) > 1 else ""
        caption = f"{latex_text(t.title)}{of}." + (f" {latex_text(t.caption)}{_how(t)}" if page == 1 else "")
        floats += [
            rf"\begin{{{environment}}}",
            r"\centering",
            *_small_print(letters),
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{t.name}{'' if page == 1 else f'-{page}'}}}",
            # as wide as it is, or the line if that is less: the estimate of letters holds for no font exactly
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{spec}}}",
            *(r"\toprule", head, r"\midrule", *rows[first : first + PAGE_ROWS], r"\bottomrule"),
            r"\end{tabular}}",
            rf"\end{{{environment}}}",
            "",
        ]
    return "\n".join(floats)


def _how(t: Table) -> str:
    has_estimates = any(isinstance(c, EstimateColumn) for c in t.columns)
    return r" In brackets: 95 \% over seeds, of one seed over its items." if has_estimates else ""


def _cells(t: Table) -> list[list[str]]:
    rows = [[_text(c, v) for c, v in zip(t.columns, row, strict=True)] for row in t.rows]
    return [[c.heading for c in t.columns], *rows]


def _text(column: Column, value: Value) -> str:
    """A cell; of a number with its intervals the one that decides, in brackets: two would not fit."""
    if not isinstance(value, Estimate) or not isinstance(column, EstimateColumn) or math.isnan(value.score):
        return column.text(value)
    one_seed = value.num_seeds < 2
    low, high = (value.item_ci_low, value.item_ci_high) if one_seed else (value.ci_low, value.ci_high)
    ends = "" if math.isnan(low) else f" [{interval(low, high)}]"
    return f"{percent(value.score)}{ends}{' †' if value.num_missing else ''}"


def _lines(t: Table) -> list[str]:
    return [" & ".join(map(latex_text, cells)) + r" \\" for cells in _cells(t)]


def _layout(t: Table) -> tuple[int, str]:
    """How many letters a line takes, and the columns: a column of long texts is broken into lines."""
    # half an em a letter, as most fonts have it
    paragraph = rf">{{\raggedright\arraybackslash}}p{{{LONGEST_CELL / 2:g}em}}"
    letters, spec = GAP * len(t.columns), ""
    for column, cells in zip(t.columns, zip(*_cells(t), strict=True), strict=True):
        longest = max(map(len, cells))
        breaks = not column.numeric and longest > LONGEST_CELL
        letters += LONGEST_CELL if breaks else longest
        spec += paragraph if breaks else "r" if column.numeric else "l"
    return letters, spec


def _small_print(letters: int) -> list[str]:
    if letters <= SIZES[0][0] - 20:
        return []
    size = next((size for most, size in SIZES if letters <= most), SMALLEST)
    return [size, r"\setlength{\tabcolsep}{3pt}"]
