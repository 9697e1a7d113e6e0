"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def as_json(value: Any) -> None:
    """One JSON document on the standard output."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def as_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table on the standard output; columns whose names end in '#' are numbers and stand at the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for c in columns:
        table.add_column(c.rstrip("#"), justify="right" if c.endswith("#") else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def console() -> Console:
    """The standard output; as wide as it needs where it is no terminal."""
    wide = None if sys.stdout.isatty() else max(160, shutil.get_terminal_size().columns)
    return Console(width=wide, highlight=False, markup=False)


def size(n_bytes: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000 or unit == "GB":
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    raise AssertionError
