"""The files of an export: everything that a report is made of, for other programs and for whoever analyzes it again."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import JsonValue

from apet.errors import ApetError, UnknownNameError
from apet.studies.results import CURVE_TYPES, PLANNED_TYPES, RUN_TYPES, TRANSFER_TYPES, Study
from apet.studies.tables import StudyTables

FORMATS = ("csv", "csv.gz", "parquet", "json")
TABLES = ("runs", "curves", "transfers", "planned")
ITEM_SCORES = "items.npz"
"""run_id -> score of each item, as `Study.items` has them."""
FACTS = "facts.json"
"""Where the numbers come from: the study's settings, counts of its runs, versions, what a reader must not miss."""

COUNTED = ("planned", "complete", "failed", "running")
"""Facts without which nobody knows whether all runs are there."""


def export(study: Study, folder: Path, form: str) -> list[Path]:
    """Write runs, curves, transfers and the plan as CSV, Parquet or JSON, and item scores for `numpy.load`.

    Args:
        study: finished or still running.
        folder: for the files.
        form: one of `FORMATS`.

    Returns:
        The files; transfers are among them where some were measured.

    Raises:
        UnknownNameError: another format.
        ApetError: the folder cannot be written.
    """
    if form not in FORMATS:
        raise UnknownNameError("format", form, FORMATS)
    tables = StudyTables.of(study)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            table = getattr(tables, name)
            if table is None or (name == "transfers" and table.empty):
                continue
            path = folder / f"{name}.{form}"
            _write(table, path, form)
            paths.append(path)
        if tables.items:
            items = {run_id: _packed(scores) for run_id, scores in tables.items.items()}
            np.savez_compressed(folder / ITEM_SCORES, allow_pickle=False, **items)
            paths.append(folder / ITEM_SCORES)
        (folder / FACTS).write_text(json.dumps(dict(tables.facts), indent=1) + "\n", "utf-8")
        paths.append(folder / FACTS)
    except OSError as e:
        raise ApetError(f"cannot write to {str(folder)!r}: {e.strerror}; give another folder") from e
    return paths


def _write(table: pd.DataFrame, path: Path, form: str) -> None:
    if form == "parquet":
        table.to_parquet(path, index=False)
    elif form == "json":
        # Not by pandas' own JSON, which rounds; what is missing is null.
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        path.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    else:
        # Without the time in the file's head: the same runs are the same bytes.
        packed: dict[str, JsonValue] = {"method": "gzip", "mtime": 0}
        table.to_csv(path, index=False, compression=packed if form == "csv.gz" else None)


def _packed(scores: NDArray[np.floating | np.integer]) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Right and wrong as a byte an item; other scores as they are in the predictions, to six digits."""
    right = scores.astype(np.uint8)
    return right if np.array_equal(right, scores) else scores.astype(np.float32)


def is_export(folder: Path) -> bool:
    """Whether a folder holds the files of an export."""
    return (folder / FACTS).is_file() and _file_of(folder, "runs") is not None


def read_export(folder: Path) -> StudyTables:
    """The tables of an export, whatever its format.

    Args:
        folder: as `export` wrote it.

    Returns:
        What the study held when it was exported.

    Raises:
        ApetError: a file is missing, or is none that `export` writes.
    """
    try:
        facts = json.loads((folder / FACTS).read_text("utf-8"))
        if not isinstance(facts, dict) or not all(isinstance(facts.get(name), int) for name in COUNTED):
            raise ApetError(f"{str(folder / FACTS)!r} does not hold the facts of a study; export the study again")
        items: dict[str, NDArray[np.floating | np.integer]] = {}
        if (folder / ITEM_SCORES).is_file():
            with np.load(folder / ITEM_SCORES) as stored:
                items = {run_id: stored[run_id].astype(np.float64) for run_id in stored.files}
        planned = _file_of(folder, "planned")
        return StudyTables(
            _read(folder, "runs", RUN_TYPES),
            _read(folder, "curves", CURVE_TYPES),
            _read(folder, "transfers", TRANSFER_TYPES),
            items,
            None if planned is None else _read(folder, "planned", PLANNED_TYPES),
            facts,
        )
    # What gzip, zip, CSV, JSON and Parquet raise on files that were cut or changed.
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise ApetError(f"the export in {str(folder)!r} cannot be read ({reason}); export the study again") from e


def _file_of(folder: Path, name: str) -> Path | None:
    return next((p for form in FORMATS if (p := folder / f"{name}.{form}").is_file()), None)


def _read(folder: Path, name: str, types: dict[str, str]) -> pd.DataFrame:
    """A table with the types that its study has; empty where an export has none of it."""
    path = _file_of(folder, name)
    if path is None:
        return pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in types.items()})
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
    elif path.suffix == ".json":
        table = pd.DataFrame(json.loads(path.read_text("utf-8")))
    else:
        # As text first: a budget of 1024 is no number, and a task may be called "none".
        table = pd.read_csv(path, dtype=str, keep_default_na=False).replace("", None)
    missing = [column for column in types if column not in table]
    if missing:
        raise ApetError(f"{str(path)!r} has no column {missing[0]!r}; export the study again with this version of apet")
    return _typed(table, types)


def _typed(table: pd.DataFrame, types: dict[str, str]) -> pd.DataFrame:
    typed = table[list(types)].copy()
    for column, kind in types.items():
        if kind == "bool":
            typed[column] = typed[column].map({"True": True, "False": False, True: True, False: False}).astype(bool)
        elif kind == "object":
            typed[column] = typed[column].astype(object).where(typed[column].notna(), None)
        else:
            # Python's own reading of digits: the numbers come back to the last bit.
            number = float if kind == "float64" else int
            typed[column] = typed[column].map(number, na_action="ignore").astype(kind)
    return typed
