"""What notebooks show of our objects: small tables in HTML, without a style of their own."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a title.

    Args:
        title: above the table.
        columns: headings; empty = none.
        rows: a value for each column; numbers are aligned at the right.

    Returns:
        HTML; every text in it is escaped.
    """
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f"<table><caption style='text-align:left'><b>{html.escape(title)}</b></caption>"
        f"{f'<thead><tr>{head}</tr></thead>' if columns else ''}<tbody>{body}</tbody></table>"
    )


def html_notes(lines: Iterable[str]) -> str:
    """Lines below a table."""
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)


def html_image(png: bytes, description: str) -> str:
    """A picture inside the page, which needs no file beside it.

    Args:
        png: its bytes.
        description: for who cannot see it.

    Returns:
        HTML.
    """
    data = base64.b64encode(png).decode()
    return f"<img alt='{html.escape(description, quote=True)}' src='data:image/png;base64,{data}'/>"


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"<td style='text-align:right'>{value:,}</td>"
    if isinstance(value, float):
        return f"<td style='text-align:right'>{value:.4g}</td>"
    return f"<td style='text-align:left'>{html.escape(str(value))}</td>"
