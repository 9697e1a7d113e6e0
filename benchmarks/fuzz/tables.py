"""Tables made here, and the files that people save them in: what data files are held against."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import dataclass
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from openpyxl.workbook.workbook import Workbook

Cell = str | int | float | bool | None | list[str]

TEXTS = (
    *("a fine film", "ein schöner Film", "un film très réussi, à voir", "хороший фильм, смотреть", "映画はとても良い"),
    *(
        "好看的电影",
        "واحد من أفضل الأفلام",
        "naïve café — “quoted” …",
        'he said "no"',
        "it's; a, b | c",
        "a\tb",
        "a\nb\nc",
    ),
    *(
        "a\r\nb",
        "  spaces around  ",
        "a\u2028b",
        "a\x85b",
        "🙂🙃",
        "e\u0301té",
        "#no comment",
        "'single'",
        "NA",
        "null",
        "nan",
    ),
    *("1e5", "007", "-1", "TRUE", "None", "{a: b}", "[1, 2]", '["x"]', "\ufeffmark", "a\x1fb", "a\u00a0b", "x" * 300),
)
HOSTILE: tuple[Cell, ...] = (
    "",
    " ",
    None,
    "\0",
    "a\0b",
    float("nan"),
    float("inf"),
    ["a"],
    7,
    7.0,
    0.1,
    True,
    "\ud800",
)
LABELS: tuple[tuple[Cell, ...], ...] = (
    *(("good", "bad"), ("yes", "no"), ("0", "1"), ("01", "1"), (0, 1), (True, False), (1.0, 2.0), ("true", "false")),
    *(("sehr gut", "schlecht", "mäßig"), (-1, 0, 1), ("NA", "B"), ("1", "1.0"), ("a,b", 'c"d'), ("+", "-")),
)
ENCODINGS = (*("utf-8",) * 6, "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "cp1252", "latin-1", "cp1251", "shift_jis")
FORMATS = ("csv", "csv", "csv", "tsv", "jsonl", "jsonl", "json", "parquet", "xlsx")


@dataclass(frozen=True)
class SavedTable:
    """A table and a file of it.

    Attributes:
        rows: cells by column, as they stand in the file.
        raw: the file.
        suffix: ending of its name, such as ``csv.gz``.
        encoding: of its text; None for binary files.
    """

    rows: list[dict[str, Cell]]
    raw: bytes
    suffix: str
    encoding: str | None


def make_rows(rng: Random, hostile: float) -> list[dict[str, Cell]]:
    """Rows with a text that no other row has, a label, and sometimes another column."""
    labels = rng.choice(LABELS)
    other = rng.random() < 0.4
    texts = rng.sample(TEXTS, rng.choice((2, 5, 12)))
    rows: list[dict[str, Cell]] = []
    for n in range(rng.choice((4, 9, 30, 70))):
        text: Cell = f"{rng.choice(texts)} {n}"
        if rng.random() < 0.1:
            text = f"{n} {rng.choice(texts)}"
        label: Cell = labels[n % len(labels)]
        if rng.random() < hostile:
            text = rng.choice(HOSTILE)
        if rng.random() < hostile / 2:
            label = rng.choice(HOSTILE)
        rows.append({"text": text, **({"n": str(n)} if other else {}), "label": label})
    return rows


def save(rows: list[dict[str, Cell]], rng: Random) -> SavedTable:
    """Save rows in one of the formats, as some program would."""
    form = rng.choice(FORMATS)
    encoding: str | None = None
    if form == "parquet":
        rows, raw = _parquet(rows)
    elif form == "xlsx":
        rows, raw = _xlsx(rows)
    else:
        if form in ("csv", "tsv"):
            rows, text = _delimited(rows, "\t" if form == "tsv" else rng.choice(",,,;\t|"), rng)
        else:
            rows, text = _json(rows, form, rng)
        encoding = rng.choice(ENCODINGS)
        try:
            raw = text.encode(encoding)
        except UnicodeEncodeError:
            encoding, raw = "utf-8", text.encode("utf-8", "replace")
    if rng.random() < 0.15:
        return SavedTable(rows, gzip.compress(raw, 1), f"{form}.gz", encoding)
    return SavedTable(rows, raw, form, encoding)


def as_text(cell: Cell) -> str:
    """A cell as text without types writes it."""
    return "" if cell is None else str(cell).encode("utf-8", "replace").decode()


def _delimited(rows: list[dict[str, Cell]], separator: str, rng: Random) -> tuple[list[dict[str, Cell]], str]:
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        delimiter=separator,
        lineterminator=rng.choice(("\n", "\r\n")),
        quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
    )
    written: list[dict[str, Cell]] = [{k: as_text(v) for k, v in row.items()} for row in rows]
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in written)
    return written, out.getvalue()


def _json(rows: list[dict[str, Cell]], form: str, rng: Random) -> tuple[list[dict[str, Cell]], str]:
    escaped = rng.random() < 0.5
    if not escaped:  # half a surrogate pair has no bytes
        rows = [{k: as_text(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    if form == "json":
        return rows, json.dumps(rows, ensure_ascii=escaped, indent=rng.choice((None, 1)))
    return rows, "".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows)


def _parquet(rows: list[dict[str, Cell]]) -> tuple[list[dict[str, Cell]], bytes]:
    columns: dict[str, list[Cell]] = {name: [row[name] for row in rows] for name in rows[0]}
    for name, cells in columns.items():
        if len({type(c) for c in cells if c is not None}) > 1:  # a column has one type
            columns[name] = [None if c is None else as_text(c) for c in cells]
        else:
            columns[name] = [as_text(c) if isinstance(c, str) else c for c in cells]
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    names = list(columns)
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True)], out.getvalue()


def _xlsx(rows: list[dict[str, Cell]]) -> tuple[list[dict[str, Cell]], bytes]:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(list(rows[0]))
    written = [{name: _cell_of_excel(cell) for name, cell in row.items()} for row in rows]
    for row in written:
        sheet.append(list(row.values()))
    out = io.BytesIO()
    book.save(out)
    return written, out.getvalue()


def _cell_of_excel(cell: Cell) -> Cell:
    """What a sheet can hold: no control characters, no lists, no NaN, and text that is no formula."""
    if isinstance(cell, str):
        text = "".join(c for c in as_text(cell) if c >= " " or c in "\t\n")
        return text.lstrip("=") or None
    if isinstance(cell, list) or (isinstance(cell, float) and (cell != cell or abs(cell) == float("inf"))):
        return None
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
