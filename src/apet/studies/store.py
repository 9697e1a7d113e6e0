"""The record of a study: one SQLite file and a folder for each run. Finished runs never change."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from apet.errors import ApetError
from apet.training import run_dir

FILE, RUNS, LOCK = "study.sqlite", "runs", "lock"
VERSION = 1
"""Raised when the tables change."""

_SCHEMA = """
CREATE TABLE runs (
    key TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('complete', 'failed')),
    cell TEXT NOT NULL,      -- JSON: backbone, task, method, budget, seed in the study's words
    result TEXT,             -- JSON: what result.json holds; NULL where it failed
    reason TEXT,             -- why it failed
    attempts INTEGER NOT NULL,
    stored TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE curves (
    key TEXT NOT NULL REFERENCES runs (key),
    step INTEGER NOT NULL,
    loss REAL,
    value REAL NOT NULL,
    low REAL NOT NULL,
    high REAL NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (key, step)
) WITHOUT ROWID;
CREATE TABLE transfers (
    key TEXT NOT NULL REFERENCES runs (key),
    target TEXT NOT NULL,
    value REAL NOT NULL,
    low REAL NOT NULL,
    high REAL NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (key, target)
) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TRIGGER finished_runs_stay BEFORE UPDATE ON runs WHEN old.state = 'complete'
    BEGIN SELECT raise(ABORT, 'a finished run never changes'); END;
CREATE TRIGGER finished_runs_are_kept BEFORE DELETE ON runs WHEN old.state = 'complete'
    BEGIN SELECT raise(ABORT, 'a finished run is never removed'); END;
"""

_GUARD = """
CREATE TRIGGER IF NOT EXISTS finished_runs_are_not_replaced BEFORE INSERT ON runs
    WHEN EXISTS (SELECT 1 FROM runs WHERE key = new.key AND state = 'complete')
    BEGIN SELECT raise(ABORT, 'a finished run is never replaced'); END;
"""
"""REPLACE removes rows without a word to the other triggers. Records that were begun before it get it, too."""

BUSY = 30.0
"""Seconds to wait for another process that is writing."""


class DamagedRunError(ApetError):
    """A run's folder that holds no whole run: a power cut, a disk's fault, a stranger's hand."""


_CURVE = ("loss", "score", "ci_low", "ci_high", "seconds")


class Store:
    """A study's record; see `opened` for the one who writes it.

    Args:
        folder: of the study.
        create: make it if it is not there.
        write: whether it may be changed. Reading changes nothing, so it may lie where nothing can be written.

    Raises:
        ApetError: no study there, a damaged file, one of a newer version, or a place that cannot be written.
    """

    def __init__(self, folder: Path, *, create: bool = False, write: bool = False) -> None:
        self.folder = folder
        path = folder / FILE
        if not create:
            _refuse_nowhere(folder)
        with _clear(folder):
            if create:
                (folder / RUNS).mkdir(parents=True, exist_ok=True)
            if create or write:
                self.db = sqlite3.connect(path, isolation_level=None, timeout=BUSY)
            else:
                self.db = sqlite3.connect(_to_read(path), isolation_level=None, timeout=BUSY, uri=True)
            self._open(path, create or write)

    def _open(self, path: Path, write: bool) -> None:
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise ApetError(
                f"{str(path)!r} was written by a newer apet (store version {version}, this one reads {VERSION});"
                " upgrade with pip install -U apet"
            )
        if version == 0 and not write:  # it is just being begun, or was killed at that: an empty record
            self.db.close()
            self.db = sqlite3.connect(":memory:", isolation_level=None)
            self.db.executescript(_SCHEMA)
        elif version == 0:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif self.db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise ApetError(
                f"{str(path)!r} is damaged; move it away and run again: finished runs are taken in from {RUNS}/"
            )
        if write:
            self.db.executescript(_GUARD)

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()

    def run_folder(self, key: str) -> Path:
        """Where a run's files are."""
        return self.folder / RUNS / key

    def states(self) -> dict[str, str]:
        """Key -> ``complete`` or ``failed``."""
        with _clear(self.folder):
            return dict(self.db.execute("SELECT key, state FROM runs"))

    def errors(self) -> dict[str, str]:
        """Key -> why it failed, of every run that did."""
        with _clear(self.folder):
            return dict(self.db.execute("SELECT key, reason FROM runs WHERE state = 'failed'"))

    def record_result(self, key: str, cell: dict[str, Any]) -> dict[str, Any]:
        """Make a row of a finished run's folder; the result.

        Raises:
            DamagedRunError: the folder holds no whole run.
            ApetError: the disk is full, or the run is down as finished; the record is as it was.
        """
        result, points = _whole(self.run_folder(key))
        with self._writing():
            attempts = self._attempts(key) + 1
            self.db.execute("DELETE FROM runs WHERE key = ? AND state = 'failed'", (key,))
            row = (key, json.dumps(cell), json.dumps(result), attempts, _now())
            self.db.execute("INSERT INTO runs VALUES (?, 'complete', ?, ?, NULL, ?, ?)", row)
            self.db.executemany(
                "INSERT OR IGNORE INTO curves VALUES (?, ?, ?, ?, ?, ?, ?)", [(key, *point) for point in points]
            )
        return result

    def quarantine(self, key: str) -> Path:
        """Move a damaged run's folder away, so that the run can be made again; where it is now.

        Raises:
            ApetError: the place cannot be written.
        """
        folder = self.run_folder(key)
        aside = run_dir.partial_path(folder).with_suffix(".damaged")
        with _clear(self.folder):
            os.replace(folder, aside)
        return aside

    def fail(self, key: str, cell: dict[str, Any], reason: str) -> None:
        """Record a run that failed; never a number, and never over one.

        Raises:
            ApetError: the disk is full, or the run is down as finished; the record is as it was.
        """
        with self._writing():
            row = (key, json.dumps(cell), reason, self._attempts(key) + 1, _now())
            self.db.execute("DELETE FROM runs WHERE key = ? AND state = 'failed'", (key,))
            self.db.execute("INSERT INTO runs VALUES (?, 'failed', ?, NULL, ?, ?, ?)", row)

    def note(self, name: str, value: str) -> None:
        """Keep something about the study itself, such as its definition."""
        with self._writing():
            self.db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def describe(self, name: str, definition: str, planned: int) -> None:
        """Keep what is being run: the study's name, its YAML, and how many runs it has."""
        self.note("study", name)
        self.note("definition", definition)
        self.note("planned", str(planned))

    def notes(self) -> dict[str, str]:
        """What was kept about the study."""
        with _clear(self.folder):
            return dict(self.db.execute("SELECT name, value FROM notes"))

    def rows(self) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any] | None, str | None]]:
        """Every run: key, state, cell, result, reason."""
        with _clear(self.folder):
            found = self.db.execute("SELECT key, state, cell, result, reason FROM runs ORDER BY key").fetchall()
        for key, state, cell, result, reason in found:
            yield key, state, json.loads(cell), json.loads(result) if result else None, reason

    def curves(self) -> list[tuple[Any, ...]]:
        """Every point: key, step, loss, value, low, high, seconds."""
        with _clear(self.folder):
            return self.db.execute("SELECT * FROM curves ORDER BY key, step").fetchall()

    def transferred(self, key: str, target: str, score: dict[str, Any]) -> None:
        """Record the zero-shot measure of a run on another task."""
        with self._writing():
            row = (key, target, score["score"], score["ci_low"], score["ci_high"], score["num_examples"])
            self.db.execute("INSERT OR REPLACE INTO transfers VALUES (?, ?, ?, ?, ?, ?)", row)

    def transfers(self) -> list[tuple[Any, ...]]:
        """Every zero-shot measure: key, target, value, low, high, n."""
        with _clear(self.folder):
            return self.db.execute("SELECT * FROM transfers ORDER BY key, target").fetchall()

    def _attempts(self, key: str) -> int:
        row = self.db.execute("SELECT attempts FROM runs WHERE key = ?", (key,)).fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """All of it or nothing."""
        with _clear(self.folder):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise


def _refuse_nowhere(folder: Path) -> None:
    if not (folder / FILE).is_file():
        raise ApetError(f"no study at {str(folder)!r}; give a folder written by apet study run")


def _to_read(path: Path) -> str:
    """The file as SQLite opens it for reading alone.

    Beside a record that others may write, SQLite needs small files of its own. Where none can be made, nobody writes:
    the file is read as it is, unless a log beside it holds more.
    """
    log = path.with_name(f"{path.name}-wal")
    fixed = not os.access(path.parent, os.W_OK) and not (log.is_file() and log.stat().st_size)
    return f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if fixed else ''}"


def _whole(folder: Path) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """Result and curve of a run's folder.

    Raises:
        DamagedRunError: something of it is missing, empty, or cannot be read.
    """
    try:
        hollow = [f.name for f in folder.iterdir() if not f.stat().st_size]
        if hollow:
            raise DamagedRunError(f"{str(folder)!r} is damaged ({min(hollow)} is empty)")
        result = run_dir.read_run(folder)[2]
        with (folder / run_dir.CURVE).open(encoding="utf-8", newline="") as f:
            points = [(int(r["step"]), *(float(r[c]) if r[c] else None for c in _CURVE)) for r in csv.DictReader(f)]
        float(result["validation"]["score"])
    except DamagedRunError:
        raise
    except (ApetError, OSError, ValueError, KeyError, TypeError, csv.Error) as e:
        raise DamagedRunError(f"{str(folder)!r} is damaged ({type(e).__name__}: {e})") from e
    return result, points


@contextmanager
def _clear(folder: Path) -> Iterator[None]:
    """SQLite's and the system's errors as one line."""
    try:
        yield
    except sqlite3.DatabaseError as e:
        raise ApetError(_said(e, str(folder / FILE))) from e
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
        return f"{path!r} is damaged ({error}); move it away and run again: finished runs are taken in from {RUNS}/"
    return f"cannot use {path!r}: {error}; try again"


@contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Hold a study's folder for one driver; the system lets go when the process ends, however it ends.

    Raises:
        ApetError: another driver holds it.
    """
    with _clear(folder):
        handle = (folder / LOCK).open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise ApetError(
                f"another apet is running the study in {str(folder)!r}; wait for it, or give another folder"
            ) from e
        yield


@contextmanager
def open_store(folder: Path, *, create: bool = True) -> Iterator[Store]:
    """The store of a folder, held alone from before it is made; raises as `Store` and `only_driver`."""
    if create:
        with _clear(folder):
            folder.mkdir(parents=True, exist_ok=True)
    else:
        _refuse_nowhere(folder)
    with study_lock(folder):
        store = Store(folder, create=create, write=True)
        try:
            remove_partial_runs(folder)
            yield store
        finally:
            store.close()


def remove_partial_runs(folder: Path) -> None:
    """Remove what killed workers left half written.

    One whose driver was killed may be writing still: its folder is taken from it by another name first, so that it
    fails instead of finishing a folder that has lost files meanwhile.
    """
    for half in (folder / RUNS).glob("*.part"):
        with suppress(OSError):  # it took its name just now, or cannot be removed: it is in nobody's way
            taken = run_dir.partial_path(half.with_name(half.name.partition(".")[0]))
            os.replace(half, taken)
            shutil.rmtree(taken, ignore_errors=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
