"""A study's results in Python: tables of runs, curves and transfers, made of the record's own fields."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import JsonValue

from apet.errors import ApetError
from apet.studies.grid import Cell, cells
from apet.studies.reported import tasks_with_test
from apet.studies.store import Store, StoredRun
from apet.studies.study_config import DECIDED_BY_AXES, StudyConfig
from apet.training import run_dir
from apet.training.config import DEFAULT_BUDGET, RunAxes, RunConfig
from apet.training.manifest import MANIFEST, check_manifest
from apet.training.result import (
    ColumnKind,
    CurvePoint,
    RecordColumn,
    RunResult,
    TransferRecord,
    columns,
    scalar_columns,
)

_RUN_ID = RecordColumn("run_id", "text", False, "The run.")
STATE = RecordColumn("state", "text", False, "complete, or failed: then its numbers are missing.")
ERROR = RecordColumn("error", "text", True, "Why the run failed.")
OUTDATED = "outdated"
"""Column of `Study.runs`: whether the study, as it was last run, sets the run otherwise."""

# The nullable integers of pandas: a missing count must not turn the others into 53152.0.
_DTYPES: dict[ColumnKind, str] = {"text": "object", "integer": "Int64", "number": "float64", "json": "object"}


def _types(*record_columns: RecordColumn) -> dict[str, str]:
    return {c.name: _DTYPES[c.kind] for c in record_columns}


_RESULT_COLUMNS = scalar_columns(RunResult)
RUN_TYPES = {**_types(_RESULT_COLUMNS[0], STATE, ERROR, *_RESULT_COLUMNS[1:]), OUTDATED: "bool"}
"""Column of `Study.runs` -> pandas type: the texts and numbers of a `RunResult`, and what the store knows beside it."""
CURVE_TYPES = _types(_RUN_ID, *columns(CurvePoint))
"""Column of `Study.curves` -> pandas type."""
_AXES_TYPES = {"run_id": "object", "source": "object", "target": "object", "backbone": "object", "method": "object"}
TRANSFER_TYPES = {**_AXES_TYPES, "num_trainable": "Int64", "seed": "Int64", **_types(*columns(TransferRecord))}
"""Column of `Study.transfers` -> pandas type."""
PLANNED_TYPES = {
    "backbone": "object",
    "task": "object",
    "method": "object",
    "num_trainable": "float64",
    "seed": "Int64",
}
"""Column of `Study.planned` -> pandas type."""


class Study:
    """A stored study as tables, finished or still running; `apet.Study` is the same with what notebooks show.

    Args:
        folder: from ``apet study run --output``.

    Raises:
        ApetError: no study there, a damaged one, or one of another version.

    Attributes:
        damaged: run_id -> why, of runs whose rows or files are not what was recorded; they are left out.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        # Everything is read at once and the file let go: a study that still runs is seen at one moment.
        store = Store(self.folder)
        self.notes = store.notes()
        self._runs: list[StoredRun] = list(store.rows())
        self._axes_of: dict[str, RunAxes] = {run.run_id: run.axes for run in self._runs}
        points, transfers = store.curves(), store.transfers()
        store.close()
        # What belongs to a run whose row is not intact, or is gone, is as little to be believed.
        self._curves = [point for point in points if point[0] in self._axes_of]
        self._transfers: list[tuple[str, TransferRecord]] = [t for t in transfers if t[0] in self._axes_of]
        orphans = {str(x[0]) for x in (*points, *transfers)} - set(self._axes_of)
        # run_id -> why, of rows and files that are not what was recorded: they are left out, and named.
        self.damaged: dict[str, str] = dict.fromkeys(sorted(orphans), "its row is gone") | store.damaged

    def runs(self) -> pd.DataFrame:
        """One row a run, finished or failed; the numbers of a failed run are missing.

        Returns:
            The columns of `RUN_TYPES`: the fields of `apet.training.result.RunResult` that hold a text or a number;
            backbone, task, method, budget and seed in the study's words.
        """
        table = pd.DataFrame([_flat(run) for run in self._runs], columns=list(RUN_TYPES))
        table[OUTDATED] = table["run_id"].isin(self.outdated)
        table = table.astype(RUN_TYPES)
        return table.sort_values(["backbone", "task", "method", "num_trainable", "seed"], ignore_index=True)

    def curves(self) -> pd.DataFrame:
        """One row a measurement along a run.

        Returns:
            The columns of `CURVE_TYPES`: run_id and the fields of `apet.training.result.CurvePoint`.
        """
        return pd.DataFrame(self._curves, columns=list(CURVE_TYPES)).astype(CURVE_TYPES)

    def transfers(self) -> pd.DataFrame:
        """One row a zero-shot score of a run on another task.

        Returns:
            run_id, source, target, backbone, method, num_trainable, seed, score, ci_low, ci_high, num_examples,
            majority_baseline.
        """
        num_trainable = {run_id: result.num_trainable for run_id, result in self.results().items()}
        rows = []
        for run_id, transfer in self._transfers:
            axes = self._axes_of[run_id]
            row = {"run_id": run_id, "source": axes.task, "backbone": axes.backbone, "method": axes.method}
            counts = {"num_trainable": num_trainable[run_id], "seed": axes.seed}
            rows.append({**row, **counts, **transfer.model_dump()})
        return pd.DataFrame(rows, columns=list(TRANSFER_TYPES)).astype(TRANSFER_TYPES)

    def items(self, tested: Collection[str] | None = None) -> dict[str, NDArray[np.float64]]:
        """Score of every example of the split that is reported, from the runs' predictions.

        Args:
            tested: tasks of which the test split is reported; None = those all of whose current runs have a test score.

        Returns:
            run_id -> (examples,), in [0, 1]: of the test split for these tasks, else of validation; in the order of the
            data, which all runs of a task share.
            Runs whose predictions are not what was recorded are in ``damaged`` instead.
        """
        scores = {}
        if tested is None:
            runs = self.runs()
            tested = tasks_with_test(runs[~runs[OUTDATED]])  # outdated ones are in no report
        for run in self._runs:
            name = run_dir.TEST_PREDICTIONS if run.axes.task in tested else run_dir.PREDICTIONS
            folder = self.run_folder(run.run_id)
            if run.state != "complete" or not (folder / name).is_file():
                continue
            try:
                recorded = check_manifest(folder, run.run_id, [name]) == run.manifest
                found = run_dir.read_scores(folder / name)
            except ApetError as e:
                self.damaged[run.run_id] = str(e)
            else:
                if recorded and not np.isnan(found).all():
                    scores[run.run_id] = found
                elif recorded:
                    continue  # a metric of the whole split
                else:
                    self.damaged[run.run_id] = f"{MANIFEST} is not the one that was recorded"
        return scores

    def planned(self) -> pd.DataFrame | None:
        """One row a run of the study as it was last run: backbone, task, method, num_trainable, seed.

        Returns:
            The table; the count of a budget that has not run yet is NaN. None where runs came without a study, as
            from a threshold search.
        """
        if self._definition is None:
            return None
        # Counting anew would describe every backbone; what ran once has its count in the record.
        num_trainable = {
            (run.axes.backbone, run.axes.method, run.axes.budget): run.result.num_trainable
            for run in self._runs
            if run.result is not None
        }
        rows = []
        for cell in self._definition:
            axes = cell.config.axes
            count = num_trainable.get((axes.backbone, axes.method, axes.budget), math.nan)
            rows.append((axes.backbone, axes.task, axes.method, count, axes.seed))
        return pd.DataFrame(rows, columns=list(PLANNED_TYPES)).astype(PLANNED_TYPES)

    @cached_property
    def _definition(self) -> list[Cell] | None:
        # The text in the record, not the study's file: that may have been changed since, or be gone.
        text = self.notes.get("definition")
        try:
            return list(cells(StudyConfig.from_stored(text))) if text else None
        except ValueError as e:  # of YAML and of pydantic
            why, where = (str(e).splitlines() or [""])[0], str(self.folder)
            raise ApetError(f"the definition of the study in {where!r} is damaged ({why}); run it again") from e

    @property
    def num_planned(self) -> int | None:
        """Runs of the study as it was last run; None where runs came without a study, or the number is damaged."""
        number = self.notes.get("planned", "")
        return int(number) if number.isdecimal() and len(number) < 12 else None

    def is_planned(self, axes: RunAxes) -> bool:
        """Whether a run is of the study as it was last run; true where runs came without a study."""
        return self._planned_axes is None or axes in self._planned_axes

    @cached_property
    def _planned_axes(self) -> frozenset[RunAxes] | None:
        return None if self._definition is None else frozenset(cell.config.axes for cell in self._definition)

    def results(self) -> dict[str, RunResult]:
        """Everything that finished runs recorded, by run_id."""
        return {run.run_id: run.result for run in self._runs if run.result is not None}

    def axes(self) -> dict[str, RunAxes]:
        """Backbone, task, method, budget and seed of every run in the study's words, by run_id."""
        return dict(self._axes_of)

    def stored_runs(self) -> list[StoredRun]:
        """Every run as it is stored."""
        return list(self._runs)

    @cached_property
    def outdated(self) -> frozenset[str]:
        """run_id of finished runs that the study, as it was last run, sets otherwise (another learning rate, …)."""
        if self._definition is None:
            return frozenset()
        # The axes tell which cell a run belongs to; what else differs means that the cell was set otherwise since.
        fields = set(RunConfig.model_fields) - DECIDED_BY_AXES - {"track"}  # it is about no number
        planned = {cell.config.axes: cell.config.model_dump(mode="json", include=fields) for cell in self._definition}
        outdated = set()
        for run_id, result in self.results().items():
            settings = planned.get(self._axes_of[run_id])
            if settings is not None and result.config.model_dump(mode="json", include=fields) != settings:
                outdated.add(run_id)
        return frozenset(outdated)

    def run_folder(self, run_id: str) -> Path:
        """Where a run's files are."""
        return self.folder / "runs" / run_id


def _flat(run: StoredRun) -> dict[str, JsonValue]:
    """A run as a row of `Study.runs`."""
    # Without the settings: dumping them takes most of the time of a large table, which has no column for them.
    recorded = run.result.model_dump(mode="json", exclude={"config"}) if run.result is not None else {}
    axes = run.axes
    # The study's words go over the run's own: a task that is a file is called by its path in every table.
    words: dict[str, JsonValue] = {"backbone": axes.backbone, "task": axes.task, "method": axes.method}
    words |= {"budget": None if axes.budget == DEFAULT_BUDGET else axes.budget, "seed": axes.seed}
    return {**recorded, **words, "run_id": run.run_id, "state": run.state, "error": run.error}
