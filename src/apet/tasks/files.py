"""One data file to rows with their places: CSV, TSV, JSON, Parquet and Excel, plain, gzipped or in a zip archive."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from apet.errors import ApetError
from apet.tasks.decoding import decode
from apet.tasks.delimited import read_cells, read_delimited
from apet.tasks.rows import Reading, Row, Table

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx")
"""Endings of data files; each may be followed by .gz."""
MAX_BYTES = 8 << 30
"""Of a file once it is unpacked: a small archive can hold more than any memory."""
MAX_CELLS = 500_000_000
"""Of a table: rows times columns."""


def data_suffix(path: Path) -> str | None:
    """The ending that says what a data file holds, ``.csv`` of ``train.csv.gz``; None where it is none of ours."""
    name = path.name.lower().removesuffix(".gz")
    return next((s for s in SUFFIXES if name.endswith(s)), None)


def read_table(path: Path, reading: Reading = Reading()) -> Table:  # noqa: B008, frozen
    """All rows of a file.

    Args:
        path: a data file, or a zip archive's path followed by a member's name.
        reading: how text is read.

    Returns:
        The rows in their order, at least one, and notes of what was found or left out.

    Raises:
        ApetError: no such file, an unknown ending, no rows, too much of them, or lines that cannot be read (named).
    """
    kind = data_suffix(path)
    if kind is None:
        raise ApetError(
            f"data file {path.name!r} ends in {path.suffix or 'nothing'}; known endings: {', '.join(SUFFIXES)}, each"
            " also with .gz"
        )
    try:
        raw = _bytes(path)
    except MemoryError:
        raise ApetError(f"data file {str(path)!r} is larger than the memory; give a part of it") from None
    except (OSError, KeyError, RuntimeError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as e:
        why = (isinstance(e, OSError) and e.strerror) or str(e)
        raise ApetError(f"cannot read data file {str(path)!r}: {why}") from e
    table = _table(raw, path.name, kind, reading)
    if not table.rows:
        raise ApetError(f"data file {str(path)!r} has no rows; give a file with at least two examples")
    if len(table.rows) * len(table.rows[0].values) > MAX_CELLS:
        raise ApetError(f"data file {str(path)!r} has more than {MAX_CELLS:,} cells; give a part of it")
    return table


def _bytes(path: Path) -> bytes:
    # A member of an archive is named by a path through it, as if the archive were a folder.
    archive = next((p for p in path.parents if p.suffix == ".zip" and p.is_file()), None)
    if archive is None:
        raw = path.read_bytes()
    else:
        with zipfile.ZipFile(archive) as z, z.open(path.relative_to(archive).as_posix()) as member:
            raw = _limited(member.read(MAX_BYTES + 1))
    if path.name.lower().endswith(".gz"):
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as unpacked:
            raw = unpacked.read(MAX_BYTES + 1)
    return _limited(raw)


def _limited(raw: bytes) -> bytes:
    if len(raw) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES >> 30} GiB; give a part of it")
    return raw


def _table(raw: bytes, name: str, kind: str, reading: Reading) -> Table:
    if kind == ".parquet":
        return _parquet(raw, name)
    if kind == ".xlsx":
        return _xlsx(raw, name)
    text, guessed = decode(raw, name, reading.encoding)
    notes = [f"{name}: read as {guessed}"] if guessed else []
    if kind in (".csv", ".tsv"):
        table = read_delimited(text, name, kind, reading.separator)
    elif text.lstrip()[:1] == "[":
        table = Table(list(_json_array(text, name)))
    else:
        table = Table(list(_json_lines(text, name)))
    return Table(table.rows, [*notes, *table.notes])


def _json_lines(text: str, name: str) -> Iterator[Row]:
    # Only "\n" ends a line here: str.splitlines would also cut at U+2028 and the C1 controls inside a text.
    for n, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _json_row(_json(line, f"{name}:{n}", "one JSON object a line, or an array of objects"), f"{name}:{n}")


def _json_array(text: str, name: str) -> Iterator[Row]:
    values = _json(text, name, "an array of objects")
    if not isinstance(values, list):
        raise ApetError(f"{name}: a {type(values).__name__}; expected an array of objects, or one JSON object a line")
    for n, value in enumerate(values, start=1):
        yield _json_row(value, f"{name}:row {n}")


def _json(text: str, place: str, expected: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as e:
        line = f":{e.lineno}" if e.lineno > 1 else ""
        raise ApetError(f"{place}{line}: no JSON ({e.msg} at character {e.colno}); expected {expected}") from e
    except (
        ValueError,
        RecursionError,
    ) as e:  # nested a thousand deep, a number of five thousand digits, a repeated key
        raise ApetError(f"{place}: no JSON object ({e}); expected {expected}") from e


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} comes twice")
    return values


def _json_row(value: object, place: str) -> Row:
    if not isinstance(value, dict):
        raise ApetError(f"{place}: a {type(value).__name__}; expected a JSON object with the columns")
    return Row(value, place)


def _parquet(raw: bytes, name: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(raw))
        meta = file.metadata
        size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
        if size > MAX_BYTES or meta.num_rows * meta.num_columns > MAX_CELLS:
            raise ApetError(f"{name} holds {size >> 30} GiB in {meta.num_rows:,} rows; give a part of it")
        rows = file.read().to_pylist()
    except ApetError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as e:
        raise ApetError(f"{name} is no Parquet file ({(str(e).splitlines() or ['unreadable'])[0]})") from e
    return Table([Row(values, f"{name}:row {n}") for n, values in enumerate(rows, start=1)])


def _xlsx(raw: bytes, name: str) -> Table:
    """The first sheet of a workbook that has rows; formulas by the values that were saved with them."""
    from openpyxl.reader.excel import load_workbook

    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as z:
            if sum(i.file_size for i in z.infolist()) > MAX_BYTES:
                raise ApetError(f"{name} holds more than {MAX_BYTES >> 30} GiB; give a part of it")
        book = load_workbook(io.BytesIO(raw), read_only=True, data_only=True)
        sheets = [(s.title, [list(r) for r in s.iter_rows(values_only=True)]) for s in book.worksheets]
    except ApetError:
        raise
    except Exception as e:  # the XML inside is read by a library that raises whatever it meets
        raise ApetError(f"{name} is no Excel workbook ({type(e).__name__})") from e
    filled = [(title, cells) for title, cells in sheets if any(any(c is not None for c in r) for r in cells)]
    if not filled:
        return Table([])
    title, cells = filled[0]
    width = max(map(len, cells))
    cells = [[*line, *[None] * (width - len(line))] for line in cells]
    # As a text table is read, so that empty columns, repeated headers and the like are one matter.
    table = read_cells(enumerate(cells, start=1), f"{name}!{title}", "")
    others = [t for t, _ in filled[1:]]
    if others:
        table.notes.append(f"{name}: only sheet {title!r} is read, not {', '.join(repr(t) for t in others)}")
    return table
