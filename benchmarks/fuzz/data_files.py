"""Data files: every row that stands in one is read, as it stands there, or the file is refused."""

from __future__ import annotations

import codecs
import json
import math
from collections import Counter
from pathlib import Path
from random import Random
from typing import ClassVar

from apet.errors import ApetError
from apet.tasks.files import read_table
from apet.tasks.from_file import task_from_file
from apet.tasks.rows import Reading, Row
from apet.tasks.sources import TaskData, load_data
from apet.tasks.splits import read_splits

from .kind import Kind, WrongError
from .mutations import mutate_bytes, mutate_text
from .tables import Cell, SavedTable, make_rows, save

TRAIN = ("train", "Train", "reviews_train", "training-data")
VALIDATION = ("valid", "dev", "reviews_val", "eval-data")


class DataFiles(Kind):
    """`read_table`, `read_splits`, `task_from_file` and `load_data`."""

    name: ClassVar[str] = "data files"
    share: ClassVar[float] = 0.2

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.tables: dict[str, SavedTable] = {}
        self.path = place
        self.reading = Reading()
        self.mangled = False

    def make(self, rng: Random) -> str:
        """A hostile table saved well, alone or as a folder with two splits; or a file of one, mangled."""
        for old in self.place.iterdir():
            old.unlink()
        self.mangled = rng.random() < 0.5
        if self.mangled:
            self._make_mangled(rng)
        elif rng.random() < 0.25:
            self._make_folder(rng)
        else:
            saved = save(make_rows(rng, rng.choice((0.0, 0.0, 0.05))), rng)
            self._write({"films": saved})
        saved = next(iter(self.tables.values()))
        told = saved.encoding is not None and len(self.tables) == 1 and rng.random() < 0.3
        self.reading = Reading(encoding=saved.encoding if told else None)
        names = sorted(f.name for f in self.place.iterdir())
        return f"{names} {saved.encoding} mangled={self.mangled} {self.reading}: {saved.raw[:300]!r}"

    def _make_mangled(self, rng: Random) -> None:
        saved = save(make_rows(rng, 0.0), rng)
        if saved.encoding is not None and not saved.suffix.endswith(".gz") and rng.random() < 0.5:
            text = saved.raw.decode(saved.encoding)
            raw = mutate_text(text, text[: len(text) // 2], rng).encode(saved.encoding, "ignore")
        else:
            raw = mutate_bytes(saved.raw, save(make_rows(rng, 0.0), rng).raw, rng)
        self._write({"films": SavedTable(saved.rows, raw, saved.suffix, saved.encoding)})

    def _make_folder(self, rng: Random) -> None:
        n = rng.randrange(len(TRAIN))
        train, validation = (save(make_rows(rng, 0.0), rng) for _ in range(2))
        self._write({TRAIN[n]: train, VALIDATION[n]: validation})

    def _write(self, tables: dict[str, SavedTable]) -> None:
        self.tables = tables
        for name, saved in tables.items():
            self.path = self.place / f"{name}.{saved.suffix}"
            self.path.write_bytes(saved.raw)
        if len(tables) > 1:
            self.path = self.place

    def read(self) -> None:
        """Read it as rows, and as the examples of a task."""
        if len(self.tables) > 1:
            found = read_splits(self.path, self.reading)
            for rows, saved in zip(found.rows.values(), self.tables.values(), strict=True):
                self._compare(rows, saved, found.notes)
        else:
            table = read_table(self.path, self.reading)
            self._compare(table.rows, next(iter(self.tables.values())), tuple(table.notes))
        task = task_from_file(str(self.path), ["text"], "label", self.reading)
        refused: ApetError | None = None
        try:
            self._compare_examples(load_data(task), dropping=False)
        except ApetError as e:
            refused = e
        self._compare_examples(load_data(task.model_copy(update={"on_missing": "drop"})), dropping=True)
        if refused:
            raise refused

    def _compare(self, rows: list[Row], saved: SavedTable, notes: tuple[str, ...]) -> None:
        if self.mangled:
            self._compare_mangled(rows, saved)
            return
        expected = saved.rows
        if not saved.suffix.startswith(("json", "parquet")):  # empty lines of text and sheets are left out, and counted
            expected = [row for row in expected if any(c is not None and str(c).strip() for c in row.values())]
            left_out = sum("empty line" in note for note in notes)
            if len(expected) < len(saved.rows) and not left_out:
                raise WrongError("empty lines were left out without a word")
        if len(rows) != len(expected):
            raise WrongError(f"{len(rows)} rows were read, {len(expected)} stand there; {notes}")
        if self._guessed(saved, notes):
            return
        for row, cells in zip(rows, expected, strict=True):
            if not _same_row(row.values, cells):
                raise WrongError(
                    f"{row.location} was read as {row.values!r:.500}, {cells!r:.500} stands there; {notes}"
                )

    def _guessed(self, saved: SavedTable, notes: tuple[str, ...]) -> bool:
        """Whether another encoding than the file's was guessed, and said: nothing in the bytes tells it for certain."""
        said = [note.rpartition("read as ")[2] for note in notes if "read as " in note]
        real = codecs.lookup(saved.encoding or "utf-8").name
        return any(codecs.lookup(s).name != real for s in said)

    def _compare_mangled(self, rows: list[Row], saved: SavedTable) -> None:
        """Checksums of gzip and Excel files tell what was changed; mangled JSON has another reader."""
        if saved.suffix.startswith("json") and not saved.suffix.endswith(".gz"):
            expected = _parse_json(saved.raw, self.reading.encoding or "utf-8")
            if expected is not None and not (
                len(rows) == len(expected) and all(_same(r.values, e) for r, e in zip(rows, expected, strict=True))
            ):
                raise WrongError(f"{[r.values for r in rows]!r:.400} was read, {expected!r:.400} stands there")

    def _compare_examples(self, data: TaskData, *, dropping: bool) -> None:
        if self.mangled or any(self._guessed(saved, data.notes) for saved in self.tables.values()):
            return
        expected: Counter[tuple[str, str]] = Counter()
        num_missing = 0
        for saved in self.tables.values():
            for row in saved.rows:
                text, label = (_answer(row[name]) for name in ("text", "label"))
                if text is None or label is None or not (text.strip() and label.strip()):
                    num_missing += 1
                else:
                    expected[text, _spelling(label)] += 1
        found = Counter((e.texts["text"], _spelling(e.references[0])) for part in data.splits.values() for e in part)
        # Equal texts of two splits are left out of train, and counted; no two rows of one table are equal but these.
        overlap = sum(int(n.split()[1]) for n in data.notes if n.startswith("train: ") and "held out, too" in n)
        gone, invented = expected - found, found - expected
        if invented or gone.total() != overlap:
            raise WrongError(f"missing {list(gone)[:3]!r}, invented {list(invented)[:3]!r}; {data.notes}")
        # Empty lines of text files are no rows.
        told = any("left out" in note for note in data.notes)
        if num_missing and not (dropping or told):
            raise WrongError(f"{num_missing} rows without text or label were accepted; {data.notes}")


def _spelling(label: str) -> str:
    """A label without what two files of one data set may write differently: pandas' True is JSON's true."""
    label = label.strip()
    return label.lower() if label.lower() in ("true", "false") else label


def _same_row(read: dict[str, object], cells: dict[str, Cell]) -> bool:
    return read.keys() == cells.keys() and all(_same(read[name], cell) for name, cell in cells.items())


def _same(one: object, two: object) -> bool:
    if isinstance(one, float) and isinstance(two, float) and math.isnan(one) and math.isnan(two):
        return True
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(_same(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[k], two[k]) for k in one)
    return type(one) is type(two) and one == two


def _answer(cell: Cell) -> str | None:
    """A cell as the text that a model reads; None where it is none."""
    if cell is None or isinstance(cell, list) or (isinstance(cell, float) and not math.isfinite(cell)):
        return None
    if isinstance(cell, str):
        return None if "\0" in cell else cell.encode("utf-8", "replace").decode()
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _parse_json(raw: bytes, encoding: str) -> list[object] | None:
    """The rows of a file that is JSON, or one JSON value a line; None where it is not."""
    try:
        text = raw.decode(encoding)
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, LookupError, RecursionError):
        return None
    return rows if isinstance(rows, list) and not text.startswith("\ufeff") else None
