"""What SQLite and the system say of a study's record, as one line that says what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apet.errors import ApetError
from apet.studies.store_schema import FILE, RUNS

AGAIN = f"move it away and run again: finished runs are recorded anew from {RUNS}/"


@contextmanager
def clear_errors(folder: Path) -> Iterator[None]:
    """SQLite's and the system's errors, inside the block, as one line.

    Raises:
        ApetError: the record is damaged, held by another process, or cannot be read or written.
    """
    try:
        yield
    except sqlite3.DatabaseError as e:
        raise ApetError(_said(e, str(folder / FILE))) from e
    except UnicodeDecodeError as e:  # in the names of tables and columns
        raise ApetError(f"{str(folder / FILE)!r} is damaged ({e}); {AGAIN}") from e
    except OSError as e:
        raise ApetError(f"cannot write to {str(folder)!r}: {e.strerror}; give a folder that can be written") from e


def _said(error: sqlite3.DatabaseError, path: str) -> str:
    """What happened and what to do. Only a file that is broken is to be moved away."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of an extended code says where it came from
    if code == sqlite3.SQLITE_FULL:
        return f"cannot write {path!r}: the disk is full; free some space, the same command goes on"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"another process is writing {path!r} ({error}); wait for it, or try again"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"cannot open {path!r}: {error}; give a folder that can be read and written"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"{path!r} is damaged ({error}); {AGAIN}"
    return f"cannot use {path!r}: {error}; try again"
