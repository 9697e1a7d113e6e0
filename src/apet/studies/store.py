"""The record of a study: one SQLite file and a folder for each run. Finished runs never change."""

from __future__ import annotations

import csv
import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apet.errors import ApetError
from apet.training import record

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


_CURVE = ("loss", "value", "low", "high", "seconds")


class Store:
    """Reading and writing a study's record.

    Args:
        folder: of the study.
        create: make it if it is not there.

    Raises:
        ApetError: no study there, a damaged file, one of a newer version, or a place that cannot be written.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.folder = folder
        path = folder / FILE
        if not path.is_file() and not create:
            raise ApetError(f"no study at {str(folder)!r}; give a folder written by apet study run")
        with _clear(folder):
            if create:
                (folder / RUNS).mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._open(path)

    def _open(self, path: Path) -> None:
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise ApetError(
                f"{str(path)!r} was written by a newer apet (store version {version}, this one reads {VERSION});"
                " upgrade with pip install -U apet"
            )
        if version == 0:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif self.db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise ApetError(
                f"{str(path)!r} is damaged; move it away and run again: finished runs are taken in from {RUNS}/"
            )

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

    def take_in(self, key: str, cell: dict[str, Any]) -> dict[str, Any]:
        """Make a row of a finished run's folder; the result.

        Raises:
            ApetError: the folder is damaged, or the disk is full; the record is as it was.
        """
        folder = self.run_folder(key)
        result = record.read_run(folder)[2]
        with (folder / record.CURVE).open(encoding="utf-8", newline="") as f:
            points = [
                (key, int(r["step"]), *(float(r[c]) if r[c] else None for c in _CURVE)) for r in csv.DictReader(f)
            ]
        with self._writing():
            attempts = self._attempts(key) + 1
            self.db.execute("DELETE FROM runs WHERE key = ? AND state = 'failed'", (key,))
            row = (key, json.dumps(cell), json.dumps(result), attempts, _now())
            self.db.execute("INSERT OR IGNORE INTO runs VALUES (?, 'complete', ?, ?, NULL, ?, ?)", row)
            self.db.executemany("INSERT OR IGNORE INTO curves VALUES (?, ?, ?, ?, ?, ?, ?)", points)
        return result

    def fail(self, key: str, cell: dict[str, Any], reason: str) -> None:
        """Record a run that failed; never a number."""
        with self._writing():
            row = (key, json.dumps(cell), reason, self._attempts(key) + 1, _now())
            self.db.execute("INSERT OR REPLACE INTO runs VALUES (?, 'failed', ?, NULL, ?, ?, ?)", row)

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
            row = (key, target, score["value"], score["low"], score["high"], score["n"])
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


@contextmanager
def _clear(folder: Path) -> Iterator[None]:
    """SQLite's and the system's errors as one line."""
    try:
        yield
    except sqlite3.DatabaseError as e:
        path = str(folder / FILE)
        text = str(e)
        if "full" in text:
            raise ApetError(
                f"cannot write {path!r}: the disk is full; free some space, the same command goes on"
            ) from e
        if "readonly" in text or "unable to open" in text:
            raise ApetError(f"cannot write {path!r}: {text}; give a folder that can be written") from e
        raise ApetError(
            f"{path!r} is damaged ({text}); move it away and run again: finished runs are taken in from {RUNS}/"
        ) from e
    except OSError as e:
        raise ApetError(f"cannot write to {str(folder)!r}: {e.strerror}; give a folder that can be written") from e


@contextmanager
def only_driver(folder: Path) -> Iterator[None]:
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
def opened(folder: Path, *, create: bool = True) -> Iterator[Store]:
    """The store of a folder, held alone; raises as `Store` and `only_driver`."""
    store = Store(folder, create=create)
    try:
        with only_driver(folder):
            yield store
    finally:
        store.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
