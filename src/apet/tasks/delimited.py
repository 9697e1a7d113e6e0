"""Tables in text files, as spreadsheets, databases and people save them: CSV, TSV and their like."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from apet.errors import ApetError, shortened
from apet.tasks.rows import Ambiguous, Row, Table

csv.field_size_limit(2**31 - 1)  # the module's own limit of 128 KiB cuts real documents

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
Cell = TypeVar("Cell")
_SAMPLE_LINES = 200
"""Lines from which the separator is found."""


def read_delimited(text: str, name: str, kind: str, separator: str | None = None) -> Table:
    """Rows of a table in text.

    Args:
        text: of the file, the header first.
        name: of the file, for messages.
        kind: ``.csv`` or ``.tsv``.
        separator: of the cells; None = found out, comma or tab where no other fits better.

    Returns:
        The rows; empty lines at the end, empty cells past the header and repetitions of the header are left out.

    Raises:
        ApetError: a separator of several characters, quotes that do not close, or lines with too few or many cells.
    """
    if separator is not None and (len(separator) != 1 or separator in '"\n\r'):
        known = ", ".join(f"{s!r}" for s in SEPARATORS)
        raise ApetError(f"separator {separator!r} is not one character; give such as {known}")
    usual = "\t" if kind == ".tsv" else ","
    if text[:4].lower() == "sep=" and text[5:6] in ("\n", "\r"):  # Excel's own word, in the first line
        separator, text = separator or text[4], text[5:]
    found = separator or _find_separator(text, usual)
    advice = f". Quote cells that hold the separator ({SEPARATORS.get(found, found)}), or give another: separator=…"
    table = read_cells(_records(text, name, found), name, advice)
    if found != usual and separator is None:
        table.notes.append(f"{name}: cells are separated by {SEPARATORS[found]}")
    return table


def read_cells(records: Iterable[tuple[int, list[object]]], name: str, advice: str) -> Table:
    """Rows of a table whose first filled line is the header.

    Args:
        records: the number of each line, and its cells.
        name: of the file, for messages.
        advice: what to do about lines with too few or many cells.

    Returns:
        The rows; empty lines, empty cells past the header and repetitions of the header are left out, and noted.

    Raises:
        ApetError: lines with too few or many cells.
    """
    rows: list[Row] = []
    repeated: list[int] = []
    empty: list[int] = []
    wrong: list[str] = []
    header: list[str] | None = None
    ambiguous: set[str] = set()
    for line, cells in records:
        if not any(map(_filled, cells)):
            empty.extend([line] if cells else [])
            continue
        if header is None:
            header = ["" if c is None else str(c).strip() for c in _trimmed(cells)]
            ambiguous = {h for h in header if header.count(h) > 1}
            continue
        while len(cells) > len(header) and not _filled(cells[-1]):
            cells.pop()
        if len(cells) != len(header):
            wrong.append(f"{name}:{line}: {len(cells)} cells")
        elif [str(c).strip() for c in cells] == header:
            repeated.append(line)
        else:
            values: dict[str, object] = dict(zip(header, cells, strict=True))
            values.update(dict.fromkeys(ambiguous, Ambiguous()))
            rows.append(Row(values, f"{name}:{line}"))
    if wrong:
        shown = "; ".join(wrong[:10]) + (f" … ({len(wrong)} lines in all)" if len(wrong) > 10 else "")
        raise ApetError(f"{shown}; the header has {len(header or ())}{advice}")
    return Table(rows, [*_note(name, "empty line", empty), *_note(name, "repetition of the header", repeated)])


def _filled(cell: object) -> bool:
    return cell is not None and bool(str(cell).strip())


def _note(name: str, what: str, lines: list[int]) -> list[str]:
    if not lines:
        return []
    shown = ", ".join(str(n) for n in lines[:5]) + (", …" if len(lines) > 5 else "")
    return [f"{name}: {len(lines)} {what}{'s' * (len(lines) > 1)} left out (line {shown})"]


def _records(text: str, name: str, separator: str) -> Iterator[tuple[int, list[object]]]:
    """Cells of every record, with the line where it starts: a quoted cell may run over several lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    begin = 1
    try:
        for cells in reader:
            start, begin = begin, reader.line_num + 1
            yield start, list(cells)
    except csv.Error as e:
        raise ApetError(f"{name}:{begin}: {e}; quote cells that hold quotes or line ends") from e


def _find_separator(text: str, usual: str) -> str:
    """The separator that parts the first lines into equally many cells, more than one."""
    # csv.Sniffer guesses from frequencies of letters and fails on ordinary prose; the header is better evidence.
    for candidate in dict.fromkeys((usual, *SEPARATORS)):
        try:
            sample = list(islice(_records(text, "", candidate), _SAMPLE_LINES))
        except ApetError:
            continue
        records = [cells for _, cells in sample if any(map(_filled, cells))]
        width = len(_trimmed(records[0])) if records else 0
        if width > 1 and all(len(r) in (width, len(records[0])) or len(_trimmed(r)) == width for r in records):
            return candidate
    # Ragged lines: the header alone decides, and the lines are told of.
    first = shortened(text.lstrip().partition("\n")[0], 10_000)
    return max((usual, *SEPARATORS), key=first.count) if usual not in first else usual


def _trimmed(cells: list[Cell]) -> list[Cell]:
    end = len(cells)
    while end > 1 and not _filled(cells[end - 1]):
        end -= 1
    return cells[:end]
