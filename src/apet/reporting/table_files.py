"""A table as files: Markdown for an issue, LaTeX for a paper, CSV for programs."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from apet.reporting.latex import latex
from apet.reporting.table import Table

MAX_PRINTED_ROWS = 500
"""A longer table is written as CSV alone."""


def markdown(t: Table) -> str:
    """A table for a README or an issue."""
    rule = ["---:" if c.numeric else "---" for c in t.columns]
    head, *cells = [[_escape(x) for x in row] for row in ([c.heading for c in t.columns], *t.texts())]
    lines = ["| " + " | ".join(row) + " |" for row in (head, rule, *cells)]
    return f"**{t.title}**\n\n" + "\n".join(lines) + f"\n\n{t.caption}\n"


def _escape(text: str) -> str:
    """Text that ends neither its cell nor its row."""
    return text.replace("|", "\\|").replace("\n", " ")


def csv_text(t: Table) -> str:
    """Raw values for programs: fractions stay fractions, what is unknown is empty, every number has its column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(t.csv_header())
    for row in t.rows:
        writer.writerow([x for c, v in zip(t.columns, row, strict=True) for x in c.csv_values(v)])
    return out.getvalue()


def write_table(t: Table, folder: Path, printed: Table | None = None) -> list[Path]:
    """Write all three files; of a long table the CSV alone.

    Args:
        t: with all of its columns.
        folder: where to.
        printed: the same with the columns that people look at; None = all.

    Returns:
        The files.
    """
    texts = {"csv": csv_text(t)}
    if len(t.rows) <= MAX_PRINTED_ROWS:
        texts |= {"md": markdown(printed or t), "tex": latex(printed or t)}
    paths = [folder / f"{t.name}.{suffix}" for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, "utf-8")
    return paths
