"""Records of studies: whatever became of study.sqlite, a number that is shown is one that was recorded."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path
from random import Random
from typing import ClassVar

import pandas as pd

from apet.studies.results import Study
from apet.studies.store_schema import FILE, RUNS
from apet.studies.tables import facts

from .finished_runs import write_study
from .kind import Kind, WrongError
from .mutations import mutate_bytes

CELLS = (
    *("NULL", "0", "1", "-1", "0.5", "7.5", "1e999", "-1e999", "''", "'NaN'", "'{'", "'[]'", "'{}'", "'null'", "'[1]'"),
    *("x'00ff'", "x''", "'complete'", "'failed'", "9223372036854775807", "'0.5'", "zeroblob(1000)", "char(0)"),
    *("'{\"a\": NaN}'", "printf('%.*c', 3000, '[')", "'0000000000000000'", "1.0", "'☃'", "char(55296)", "2.5e-320"),
)
"""SQL of hostile cells."""
TABLES = ("runs", "runs", "runs", "curves", "curves", "transfers", "notes")


class Records(Kind):
    """`Study` and its tables over a changed study.sqlite."""

    name: ClassVar[str] = "study records"
    share: ClassVar[float] = 0.1

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.raw: list[bytes] = []
        self.results: dict[str, object] = {}
        self.items: dict[str, list[float]] = {}
        self.curves: set[tuple[object, ...]] = set()
        self.transfers: set[tuple[object, ...]] = set()
        self.runs = place.with_name(f"{place.name}-seed")
        for n in range(2):
            folder = self.runs / str(n)
            write_study(folder, n)
            with sqlite3.connect(folder / FILE) as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.close()
            study = Study(folder)
            self.raw.append((folder / FILE).read_bytes())
            self.results |= {k: r.model_dump_json() for k, r in study.results().items()}
            self.items |= {k: list(v) for k, v in study.items().items()}
            self.curves |= _rows(study.curves())
            self.transfers |= _rows(study.transfers()[["run_id", "target", "score", "num_examples"]])

    def make(self, rng: Random) -> str:
        """A record with changed bytes, or with changed cells, tables or marks."""
        for old in self.place.glob(f"{FILE}*"):
            old.unlink()
        if not (self.place / RUNS).is_dir():
            shutil.copytree(self.runs / "0" / RUNS, self.place / RUNS)
        path = self.place / FILE
        if rng.random() < 0.5:
            path.write_bytes(mutate_bytes(self.raw[0], self.raw[1], rng))
            return "bytes"
        path.write_bytes(self.raw[0])
        statements = [_statement(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
        db = sqlite3.connect(path, isolation_level=None)
        for trigger in ("finished_runs_stay", "finished_runs_are_kept", "finished_runs_are_not_replaced"):
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute("PRAGMA ignore_check_constraints = 1")
        db.execute("PRAGMA writable_schema = 1")
        for statement in statements:
            with contextlib.suppress(sqlite3.Error):  # SQLite itself refuses it
                db.execute(statement)
        db.close()
        return "; ".join(statements)

    def read(self) -> None:
        """Read every table, and compare the numbers with those of the seeds."""
        study = Study(self.place)
        for run_id, result in study.results().items():
            if self.results.get(run_id) != result.model_dump_json():
                raise WrongError(f"the result of {run_id} is not the one that was recorded")
        self._require(self.curves, study.curves(), "curves")
        self._require(self.transfers, study.transfers()[["run_id", "target", "score", "num_examples"]], "transfers")
        for run_id, scores in study.items().items():
            if list(scores) != self.items.get(run_id):
                raise WrongError(f"the items of {run_id} are not those that were recorded")
        study.runs()
        study.planned()
        facts(study)

    def _require(self, known: set[tuple[object, ...]], table: pd.DataFrame, name: str) -> None:
        unknown = _rows(table) - known
        if unknown:
            raise WrongError(f"{name} hold {sorted(map(str, unknown))[:3]}, which nobody recorded")

    def clean(self) -> None:
        """Nothing is kept open."""


def _rows(table: pd.DataFrame) -> set[tuple[object, ...]]:
    return {tuple(map(repr, row)) for row in table.itertuples(index=False)}


def _statement(rng: Random) -> str:
    table = rng.choice(TABLES)
    column = rng.choice(_COLUMNS[table])
    cell = rng.choice(CELLS)
    some = "" if rng.random() < 0.2 else f" WHERE rowid_of LIKE '%{rng.randrange(4)}%'"
    key = "name" if table == "notes" else "run_id"
    where = some.replace("rowid_of", key)
    return rng.choice(
        (
            f"UPDATE {table} SET {column} = {cell}{where}",
            f"UPDATE {table} SET {column} = {cell}{where}",
            f"UPDATE {table} SET {column} = {cell}{where}",
            f"UPDATE {table} SET {column} = {rng.choice(_COLUMNS[table])}{where}",
            f"DELETE FROM {table}{where}",
            f"ALTER TABLE {table} RENAME COLUMN {column} TO {column}_x",
            f"ALTER TABLE {table} DROP COLUMN {column}",
            f"ALTER TABLE {table} ADD COLUMN {column}_x",
            f"ALTER TABLE {table} RENAME TO {table}_x",
            f"DROP TABLE {table}",
            f"CREATE TABLE IF NOT EXISTS {table}_y AS SELECT * FROM {table}",
            f"PRAGMA user_version = {rng.choice((0, 1, 2, 4, -1, 99))}",
            f"PRAGMA application_id = {rng.choice((0, 1, -1))}",
            f"UPDATE sqlite_master SET sql = replace(sql, 'TEXT', {cell}) WHERE name = '{table}'",
            f"UPDATE notes SET value = {cell} WHERE name = '{rng.choice(('study', 'definition', 'planned'))}'",
        )
    )


_COLUMNS = {
    "runs": (
        *("run_id", "state", "axes", "error", "attempts", "recorded_at", "manifest", "digest", "score", "ci_low"),
        *("num_examples", "num_trainable", "config", "host", "data_notes", "metric", "best_step", "learning_rate"),
    ),
    "curves": ("run_id", "step", "loss", "score", "ci_low", "ci_high", "seconds"),
    "transfers": ("run_id", "target", "score", "ci_low", "ci_high", "num_examples", "digest"),
    "notes": ("name", "value"),
}
