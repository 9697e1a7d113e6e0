"""The record of a study: one SQLite file and a folder for each run. Finished runs never change."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from apet.errors import ApetError
from apet.studies.store_errors import AGAIN, clear_errors
from apet.studies.store_schema import (
    APPLICATION_ID,
    FILE,
    RESULT_COLUMNS,
    RUNS,
    SCHEMA,
    TABLES,
    VERSION,
    SqlValue,
    digest_of,
    insert,
    tables_of,
    to_cells,
    to_result,
)
from apet.training import output_folder, run_dir
from apet.training.config import RunAxes
from apet.training.manifest import MANIFEST, check_manifest, looks_unchanged
from apet.training.result import CurvePoint, RunResult, TransferRecord, columns

BUSY = 30.0
"""Seconds to wait for another process that is writing."""


class DamagedRunError(ApetError):
    """A run's folder that holds no whole run: a power cut, a disk's fault, a stranger's hand."""


@dataclass(frozen=True)
class StoredRun:
    """A run in a study's record.

    Attributes:
        run_id: names it.
        state: whether it finished.
        axes: its place in the study.
        result: what it recorded; None where it failed.
        error: why it failed; None where it finished.
        manifest: digest of the manifest in its folder; None where it failed.
    """

    run_id: str
    state: Literal["complete", "failed"]
    axes: RunAxes
    result: RunResult | None
    error: str | None
    manifest: str | None = None


class Store:
    """A study's record; see `apet.studies.held_store.open_store` for the one who writes it.

    Args:
        folder: of the study.
        create: make it if it is not there.
        write: whether it may be changed. Reading changes nothing, so it may lie where nothing can be written.

    Attributes:
        damaged: run_id -> why, of rows that cannot be believed; filled by `rows`.

    Raises:
        ApetError: no study there, a damaged file, one of another version, or a place that cannot be written.
    """

    def __init__(self, folder: Path, *, create: bool = False, write: bool = False) -> None:
        self.folder = folder
        path = folder / FILE
        if not create:
            require_study(folder)
        with clear_errors(folder):
            if create:
                (folder / RUNS).mkdir(parents=True, exist_ok=True)
            # Without isolation_level: Python would begin transactions by itself, at a write and not IMMEDIATE.
            if create or write:
                self.db = sqlite3.connect(path, isolation_level=None, timeout=BUSY)
            else:
                self.db = sqlite3.connect(_read_only_uri(path), isolation_level=None, timeout=BUSY, uri=True)
            try:
                self._open(path, create or write)
            except BaseException:
                self.db.close()  # with it go the files that SQLite has made beside the record
                raise
        self.db.row_factory = sqlite3.Row
        # A byte that is no text must be one damaged row's matter, not that of the whole table.
        self.db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        self.damaged: dict[str, str] = {}

    def _open(self, path: Path, write: bool) -> None:
        if not write:
            self.db.execute("PRAGMA query_only = 1")
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        tables = [row[0] for row in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        owner = self.db.execute("PRAGMA application_id").fetchone()[0]
        if tables and owner != APPLICATION_ID and not 0 < version < VERSION:
            raise ApetError(f"{str(path)!r} is no record of apet; give another folder, or move the file away")
        if version == 0 and tables:
            raise ApetError(f"{str(path)!r} is damaged (its version is gone); {AGAIN}")
        if version > VERSION:
            raise ApetError(
                f"{str(path)!r} was written by a newer apet (store version {version}, this one reads {VERSION});"
                " upgrade with pip install -U apet"
            )
        if 0 < version < VERSION:
            raise ApetError(
                f"{str(path)!r} was written by an older apet (store version {version}, this one reads {VERSION});"
                " run the study again in a new folder"
            )
        if version == 0 and not write:  # it is just being begun, or was killed at that: an empty record
            self.db.close()
            self.db = sqlite3.connect(":memory:", isolation_level=None)
            self.db.executescript(SCHEMA)
        elif version == 0:
            self.db.execute("PRAGMA journal_mode = WAL")  # readers do not wait for the scheduler, nor it for them
            marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
            self.db.executescript(f"BEGIN; {SCHEMA} {marks} COMMIT;")
        elif self.db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise ApetError(f"{str(path)!r} is damaged; {AGAIN}")
        elif not TABLES.items() <= tables_of(self.db).items():
            raise ApetError(f"{str(path)!r} is damaged (its tables were changed); {AGAIN}")

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()

    def run_folder(self, run_id: str) -> Path:
        """Where a run's files are."""
        return self.folder / RUNS / run_id

    def states(self) -> dict[str, str]:
        """State of every run by run_id: ``complete`` or ``failed``."""
        with clear_errors(self.folder):
            return {row["run_id"]: row["state"] for row in self.db.execute("SELECT run_id, state FROM runs")}

    def changed_folders(self, run_ids: Iterable[str]) -> dict[str, str]:
        """Finished runs whose files are not those that were recorded; a folder that is gone is nobody's fault.

        Args:
            run_ids: to look at.

        Returns:
            run_id -> what was changed.
        """
        with clear_errors(self.folder):
            recorded = dict(self.db.execute("SELECT run_id, manifest FROM runs WHERE state = 'complete'").fetchall())
        changed = {}
        for run_id in run_ids:
            folder = self.run_folder(run_id)
            if run_id not in recorded or not folder.is_dir() or looks_unchanged(folder):
                continue
            try:
                if check_manifest(folder, run_id) != recorded[run_id]:
                    changed[run_id] = f"{MANIFEST} is not the one that was recorded"
            except ApetError as e:
                changed[run_id] = str(e)
        return changed

    def errors(self) -> dict[str, str]:
        """Why a run failed by run_id, of every run that did."""
        failed = "SELECT run_id, error FROM runs WHERE state = 'failed'"
        with clear_errors(self.folder):
            return {row["run_id"]: row["error"] for row in self.db.execute(failed)}

    def record_result(self, run_id: str, axes: RunAxes) -> RunResult:
        """Record a finished run from its folder.

        Returns:
            Its result.

        Raises:
            DamagedRunError: the folder holds no whole run.
            ApetError: the disk is full, or the run is recorded as finished; the record is as it was.
        """
        # Before the transaction: reading holds no lock.
        result, points, manifest = _read_whole_run(self.run_folder(run_id), run_id)
        with self._transaction():
            row = [*self._head(run_id, "complete", axes, None), manifest, *to_cells(result, RESULT_COLUMNS)]
            rows = [[run_id, *to_cells(point, columns(CurvePoint))] for point in points]
            row.append(digest_of(row, *sorted(rows, key=lambda cells: int(cells[1] or 0))))
            # Only a failed row makes way; one of a finished run stops the insertion by its trigger.
            self.db.execute("DELETE FROM runs WHERE run_id = ? AND state = 'failed'", (run_id,))
            self.db.execute(insert("runs", len(row)), row)
            self.db.executemany(insert("curves", len(rows[0])).replace("INSERT", "INSERT OR IGNORE"), rows)
        return result

    def quarantine(self, run_id: str) -> Path:
        """Move a damaged run's folder away, so that the run can be made again.

        Returns:
            Where it is now.

        Raises:
            ApetError: the place cannot be written.
        """
        folder = self.run_folder(run_id)
        aside = output_folder.partial_path(folder).with_suffix(".damaged")
        with clear_errors(self.folder):
            os.replace(folder, aside)
        return aside

    def fail(self, run_id: str, axes: RunAxes, error: str) -> None:
        """Record a run that failed; never a number, and never over one.

        Raises:
            ApetError: the disk is full, or the run is recorded as finished; the record is as it was.
        """
        with self._transaction():
            row = [*self._head(run_id, "failed", axes, error), None, *[None] * len(RESULT_COLUMNS)]
            row.append(digest_of(row))
            self.db.execute("DELETE FROM runs WHERE run_id = ? AND state = 'failed'", (run_id,))
            self.db.execute(insert("runs", len(row)), row)

    def note(self, name: str, value: str) -> None:
        """Keep something about the study itself, such as its definition."""
        with self._transaction():
            self.db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def describe(self, name: str, definition: str, planned: int) -> None:
        """Keep what is being run: the study's name, its YAML, and how many runs it has."""
        self.note("study", name)
        self.note("definition", definition)
        self.note("planned", str(planned))

    def notes(self) -> dict[str, str]:
        """What was kept about the study, by name."""
        with clear_errors(self.folder):
            rows = self.db.execute("SELECT name, value FROM notes")
            return {
                str(row["name"]): str(row["value"]) for row in rows
            }  # bytes, too, are some text, and no note of ours

    def rows(self) -> Iterator[StoredRun]:
        """Every run whose row is intact, by run_id; the others are in `damaged` afterwards."""
        curves: defaultdict[str, list[tuple[SqlValue, ...]]] = defaultdict(list)
        for point in self.curves():
            curves[str(point[0])].append(point)
        with clear_errors(self.folder):
            rows = self.db.execute("SELECT * FROM runs ORDER BY run_id").fetchall()
        for row in rows:
            *cells, digest = row
            try:
                if digest != digest_of(cells, *curves[row["run_id"]]):
                    raise ValueError("its row was changed")
                axes = RunAxes(**json.loads(row["axes"]))
                run = StoredRun(row["run_id"], row["state"], axes, to_result(row), row["error"], row["manifest"])
            except (ValueError, TypeError, RecursionError) as e:  # also of JSON and of pydantic
                self.damaged[str(row["run_id"])] = (str(e).splitlines() or [type(e).__name__])[0]
            else:
                yield run

    def curves(self) -> list[tuple[SqlValue, ...]]:
        """Every measurement of every run: run_id and the fields of `CurvePoint`."""
        with clear_errors(self.folder):
            return [tuple(row) for row in self.db.execute("SELECT * FROM curves ORDER BY run_id, step")]

    def record_transfer(self, run_id: str, transfer: TransferRecord) -> None:
        """Record the zero-shot score of a run on another task, in place of an earlier one."""
        with self._transaction():
            row = [run_id, *to_cells(transfer, columns(TransferRecord))]
            row.append(digest_of(row))
            self.db.execute(insert("transfers", len(row)).replace("INSERT", "INSERT OR REPLACE"), row)

    def transfers(self) -> list[tuple[str, TransferRecord]]:
        """Every zero-shot score with the run_id of its run."""
        names = [c.name for c in columns(TransferRecord)]
        with clear_errors(self.folder):
            rows = self.db.execute("SELECT * FROM transfers ORDER BY run_id, target").fetchall()
        transfers = []
        for row in rows:
            try:
                intact = row["digest"] == digest_of([row["run_id"], *(row[name] for name in names)])
            except TypeError:  # bytes in a cell
                intact = False
            if intact:
                transfers.append((row["run_id"], TransferRecord(**{name: row[name] for name in names})))
            else:
                self.damaged[str(row["run_id"])] = f"its transfer to {row['target']!r} was changed"
        return transfers

    def _head(self, run_id: str, state: str, axes: RunAxes, error: str | None) -> list[SqlValue]:
        """What the store itself knows of a run: the first columns of its row."""
        row = self.db.execute("SELECT attempts FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        attempts = 1 + (row["attempts"] if row else 0)
        recorded_at = datetime.now(UTC).isoformat(timespec="seconds")
        return [run_id, state, json.dumps(asdict(axes)), error, attempts, recorded_at]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        with clear_errors(self.folder):
            self.db.execute("BEGIN IMMEDIATE")  # a lock that is taken at the first write could be refused halfway
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:  # SQLite has rolled back by itself where the disk was full
                    self.db.execute("ROLLBACK")
                raise


def require_study(folder: Path) -> None:
    """Pass where a study lies.

    Raises:
        ApetError: none does.
    """
    if not (folder / FILE).is_file():
        raise ApetError(f"no study at {str(folder)!r}; give a folder written by apet study run")


def _read_only_uri(path: Path) -> str:
    """The file as SQLite opens it for reading alone.

    Beside a record that others may write, SQLite needs small files of its own, which only a connection that might write
    removes again. Where none can be made, nobody writes: the file is read as it is, unless a log beside it holds more.

    Returns:
        The URI for `sqlite3.connect`.
    """
    log = path.with_name(f"{path.name}-wal")
    if os.access(path.parent, os.W_OK):
        # A log is there while somebody writes, or was killed at it: what it holds is not ours to move.
        mode = "ro" if log.exists() else "rw"
    else:
        mode = "ro" if log.is_file() and log.stat().st_size else "ro&immutable=1"
    return f"file:{quote(str(path.absolute()))}?mode={mode}"


def _read_whole_run(folder: Path, run_id: str) -> tuple[RunResult, list[CurvePoint], str]:
    """Read a run's folder.

    Returns:
        Result, curve, and the digest of its manifest.

    Raises:
        DamagedRunError: something of it is missing, empty, changed, another run's, or cannot be read.
    """
    if folder.is_symlink():
        raise DamagedRunError(f"{str(folder)!r} is damaged (it is a link, which may lead to anything)")
    try:
        empty = [f.name for f in folder.iterdir() if not f.stat().st_size]
        if empty:  # what a power cut leaves of a file that was not flushed
            raise DamagedRunError(f"{str(folder)!r} is damaged ({min(empty)} is empty)")
        return run_dir.check_run(folder, run_id)
    except DamagedRunError:
        raise
    except (ApetError, OSError, ValueError) as e:
        raise DamagedRunError(f"{str(folder)!r} is damaged ({type(e).__name__}: {e})") from e
