"""What commands print on the standard output: tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def print_json(value: object) -> None:
    """Print one JSON document.

    Args:
        value: mappings, lists, texts and finite numbers.
    """
    # allow_nan=False: NaN is not JSON, and programs that read ours would choke on it far from here.
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_cautions(lines: Iterable[str]) -> None:
    """Print what a reader of a score must not miss, on the standard error: also where the output is JSON, and quiet.

    Args:
        lines: empty ones are left out.
    """
    for line in filter(None, lines):
        print(f"caution: {line}", file=sys.stderr)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table without lines.

    Args:
        columns: headings; one that ends in ``#`` holds numbers, which are aligned at the right.
        rows: a text for each column.
        title: line above the table.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in columns:
        numeric = heading.endswith("#")
        table.add_column(heading.rstrip("#"), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def _console() -> Console:
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich itself would end the process, with the code of a fault

    # Where the output is no terminal, a line of a table stays one line, so that grep and head see whole rows.
    width = None if sys.stdout.isatty() else max(160, shutil.get_terminal_size().columns)
    return Ours(width=width, highlight=False, markup=False)


def format_bytes(num_bytes: float) -> str:
    """Size of something with its unit: ``"1.05 MB"``. Units are powers of 1,000.

    Args:
        num_bytes: the size, bytes.

    Returns:
        Three significant digits and B, kB, MB or GB.
    """
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} GB"


def format_duration(seconds: float) -> str:
    """Duration in the unit that a person would use: ``"40 seconds"``, ``"12 minutes"``, ``"3.5 hours"``."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
