"""Tables of a study's record: their columns are the fields of `apet.training.result`'s types."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence

from pydantic import JsonValue

from apet.training.result import (
    ColumnKind,
    CurvePoint,
    Record,
    RecordColumn,
    RunResult,
    TransferRecord,
    columns,
)

FILE, RUNS, LOCK = "study.sqlite", "runs", "lock"
"""What lies in a study's folder: the record, the folders of its runs, and the lock of who writes."""
VERSION = 8
"""Raised when the tables change. Version 3: digests of rows and of runs' folders; 5 to 7: new fields."""
APPLICATION_ID = 0x41504554
"""What SQLite's header says of the file: APET."""

SqlValue = str | int | float | None
"""What SQLite holds in one cell."""

_TYPES: dict[ColumnKind, str] = {"text": "TEXT", "integer": "INTEGER", "number": "REAL", "json": "TEXT"}
# The identifier is the table's key, beside what the store itself knows of a run.
RESULT_COLUMNS = tuple(c for c in columns(RunResult) if c.name != "run_id")


def _declared(record_columns: Sequence[RecordColumn], *, optional: bool) -> str:
    """Column definitions of a record's fields; ``optional`` where a row may lack the record as a whole."""
    return ",\n    ".join(
        f"{c.name} {_TYPES[c.kind]}{'' if optional or c.nullable else ' NOT NULL'}" for c in record_columns
    )


SCHEMA = f"""
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('complete', 'failed')),
    axes TEXT NOT NULL,      -- JSON: backbone, task, method, budget, seed in the study's words
    error TEXT,              -- why it failed; the columns below are then NULL
    attempts INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    manifest TEXT,           -- digest of the manifest in the run's folder
    {_declared(RESULT_COLUMNS, optional=True)},
    digest TEXT NOT NULL     -- of this row and of the run's curve
) WITHOUT ROWID;
CREATE TABLE curves (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    {_declared(columns(CurvePoint), optional=False)},
    PRIMARY KEY (run_id, step)
) WITHOUT ROWID;
CREATE TABLE transfers (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    {_declared(columns(TransferRecord), optional=False)},
    digest TEXT NOT NULL,
    PRIMARY KEY (run_id, target)
) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TRIGGER finished_runs_stay BEFORE UPDATE ON runs WHEN old.state = 'complete'
    BEGIN SELECT raise(ABORT, 'a finished run never changes'); END;
CREATE TRIGGER finished_runs_are_kept BEFORE DELETE ON runs WHEN old.state = 'complete'
    BEGIN SELECT raise(ABORT, 'a finished run is never removed'); END;
CREATE TRIGGER finished_runs_are_not_replaced BEFORE INSERT ON runs
    WHEN EXISTS (SELECT 1 FROM runs WHERE run_id = new.run_id AND state = 'complete')
    BEGIN SELECT raise(ABORT, 'a finished run is never replaced'); END;
"""
# The third trigger is needed beside the second: REPLACE removes rows without a word to the triggers of DELETE.


def tables_of(db: sqlite3.Connection) -> dict[str, str]:
    """The statement that made each table, by name."""
    return {str(name): str(sql) for name, sql in db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")}


def _tables() -> dict[str, str]:
    db = sqlite3.connect(":memory:")
    try:
        db.executescript(SCHEMA)
        return tables_of(db)
    finally:
        db.close()


TABLES = _tables()
"""The tables of a record as SQLite keeps them; others may lie beside them."""


def to_cells(record: Record, record_columns: Sequence[RecordColumn]) -> list[SqlValue]:
    """A record as the cells of a row: nested values as JSON text.

    Args:
        record: a result, a point of a curve, a transfer.
        record_columns: those of its columns that are meant, in order.

    Returns:
        One cell a column.
    """
    values: dict[str, JsonValue] = record.model_dump(mode="json")
    cells: list[SqlValue] = []
    for column in record_columns:
        value = values[column.name]
        if column.kind == "json":  # allow_nan: a NaN would be text that no other reader of JSON takes
            cells.append(json.dumps(value, ensure_ascii=False, allow_nan=False))
        else:
            assert value is None or isinstance(value, str | int | float)
            cells.append(value)
    return cells


def to_result(row: sqlite3.Row) -> RunResult | None:
    """The result that a row of ``runs`` holds; None where the run failed."""
    if row["state"] != "complete":
        return None
    # Columns are read by name: the order in which SQLite has them is nobody's business here.
    values = {c.name: json.loads(row[c.name]) if c.kind == "json" else row[c.name] for c in RESULT_COLUMNS}
    # Through JSON: there, a list is a valid tuple, and everything else is as strict as in a file.
    return RunResult.model_validate_json(json.dumps({"run_id": row["run_id"], **values}))


def digest_of(*rows: Sequence[SqlValue]) -> str:
    """Digest of rows, 16 hex digits: a cell that was changed by anything but the store shows by it."""
    return hashlib.sha256(json.dumps([list(row) for row in rows]).encode()).hexdigest()[:16]


def insert(table: str, num_cells: int) -> str:
    """The statement that inserts one row of so many cells."""
    return f"INSERT INTO {table} VALUES ({', '.join('?' * num_cells)})"
