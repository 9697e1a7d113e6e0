"""Rows of data files with their line numbers: CSV, TSV, JSONL and Parquet, plain or inside a zip archive."""

from __future__ import annotations

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from apet.errors import ApetError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")

csv.field_size_limit(2**31 - 1)  # the module's own limit of 128 KiB cuts real documents


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        values: by column.
        location: ``file:line``, for messages.
    """

    values: dict[str, object]
    location: str


def read_rows(path: Path, encoding: str = "utf-8") -> list[Row]:
    """All rows of a file.

    Args:
        path: a data file, or a zip archive's path followed by a member's name.
        encoding: of text files.

    Returns:
        The rows, in their order.

    Raises:
        ApetError: no such file, an unknown ending, no rows, or a line that cannot be read (named).
    """
    # A member of an archive is named by a path through it, as if the archive were a folder.
    archive = next((p for p in path.parents if p.suffix == ".zip" and p.is_file()), None)
    name = path.name
    try:
        if archive is not None:
            with zipfile.ZipFile(archive) as z:
                raw = z.read(path.relative_to(archive).as_posix())
        else:
            raw = path.read_bytes()
    except (OSError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile) as e:
        why = (isinstance(e, OSError) and e.strerror) or str(e)
        raise ApetError(f"cannot read data file {str(path)!r}: {why}") from e
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise ApetError(f"data file {name!r} ends in {kind or 'nothing'}; known endings: {', '.join(SUFFIXES)}")
    rows = list(_parquet(raw, name) if kind == ".parquet" else _text(raw, name, kind, encoding))
    if not rows:
        raise ApetError(f"data file {str(path)!r} has no rows; give a file with at least two examples")
    return rows


def _text(raw: bytes, name: str, kind: str, encoding: str) -> Iterator[Row]:
    try:
        # A byte-order mark would become a part of the first column's name.
        text = raw.decode(encoding).removeprefix("\ufeff")
    except LookupError as e:
        raise ApetError(f"{name}: there is no encoding {encoding!r}; give such as utf-8 or latin-1") from e
    except UnicodeDecodeError as e:
        line = raw[: e.start].count(b"\n") + 1
        raise ApetError(
            f"{name}:{line}: byte 0x{raw[e.start]:02x} is no {encoding}; convert the file,"
            " e.g. iconv -f latin1 -t utf-8"
        ) from e
    yield from _json_lines(text, name) if kind in (".jsonl", ".json") else _table(text, name, kind)


def _json_lines(text: str, name: str) -> Iterator[Row]:
    # Only "\n" ends a line here: str.splitlines would also cut at U+2028 and the C1 controls inside a text.
    for n, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise ApetError(f"{name}:{n}: no JSON object ({e}); expected one object a line") from e
        if not isinstance(values, dict):
            raise ApetError(f"{name}:{n}: a {type(values).__name__}; expected one JSON object a line")
        yield Row(values, f"{name}:{n}")


def _table(text: str, name: str, kind: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if kind == ".tsv" else ",", strict=True)
    header: list[str] | None = None
    begin = 1
    try:
        for cells in reader:
            # A quoted cell may run over several lines: a row is named by the line where it starts.
            start, begin = begin, reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = cells
                if len(set(header)) < len(header):
                    raise ApetError(f"{name}:{start}: two columns have one name; rename one of {', '.join(header)}")
                continue
            if len(cells) != len(header):
                raise ApetError(f"{name}:{start}: {len(cells)} cells; the header has {len(header)}")
            yield Row(dict(zip(header, cells, strict=True)), f"{name}:{start}")
    except csv.Error as e:
        raise ApetError(f"{name}:{begin}: {e}; quote cells that hold quotes or line ends") from e


def _parquet(raw: bytes, name: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(raw))
    except (pa.ArrowException, OSError) as e:
        raise ApetError(f"{name} is no Parquet file ({str(e).splitlines()[0]})") from e
    for n, values in enumerate(table.to_pylist(), start=1):
        yield Row(values, f"{name}:row {n}")
