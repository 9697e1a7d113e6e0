"""A study's results in Python: tables of runs and of curves."""

from __future__ import annotations

import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from apet.errors import ApetError, UnknownName
from apet.studies.definition import GIVEN, OWN, Cell, Definition, cells
from apet.studies.store import Store
from apet.training import record
from apet.training.settings import RunSettings

RUN_COLUMNS = (
    "key", "state", "reason", "backbone", "family", "backbone_parameters", "task", "category", "measure", "method",
    "budget", "trainable_parameters", "ratio_percent", "seed", "value", "low", "high", "n", "untrained", "chance",
    "best_step", "steps", "batch_size", "learning_rate", "training_seconds", "steps_per_second", "peak_memory_bytes",
    "data_digest", "backbone_digest", "head_parameters", "objective", "outdated",
)  # fmt: skip
CURVE_COLUMNS = ("key", "step", "loss", "value", "low", "high", "seconds")


class Study:
    """A stored study, finished or still running.

    Args:
        folder: from ``apet study run --output``.

    Raises:
        ApetError: no study there, a damaged one, or one of a newer version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        store = Store(self.folder)
        self.notes = store.notes()
        self._rows = list(store.rows())
        self._axes_of = {key: cell for key, _, cell, _, _ in self._rows}
        self._curves = store.curves()
        self._transfers = store.transfers()
        store.close()

    def runs(self) -> pd.DataFrame:
        """One row a run, finished or failed (see `RUN_COLUMNS`); measures in [0, 1], missing where a run failed.

        ``outdated`` marks those that `outdated` names.
        """
        table = pd.DataFrame([_flat(*row) for row in self._rows], columns=list(RUN_COLUMNS))
        table["outdated"] = table["key"].isin(self.outdated)
        return table.sort_values(["backbone", "task", "method", "trainable_parameters", "seed"], ignore_index=True)

    def curves(self) -> pd.DataFrame:
        """One row a measurement along a run (see `CURVE_COLUMNS`)."""
        return pd.DataFrame(self._curves, columns=list(CURVE_COLUMNS))

    def transfers(self) -> pd.DataFrame:
        """One row a zero-shot measure: key of the run, source, target, its axes and count, value, low, high, n."""
        sizes = {key: result["trainable_parameters"] for key, result in self.results().items()}
        rows = []
        for key, target, value, low, high, n in self._transfers:
            cell = self._axes_of[key]
            axes = cell["backbone"], cell["method"], sizes[key], int(cell["seed"])
            rows.append((key, cell["task"], target, *axes, value, low, high, n))
        columns = ["key", "source", "target", "backbone", "method", "trainable_parameters", "seed"]
        columns += ["value", "low", "high", "n"]
        return pd.DataFrame(rows, columns=columns)

    def items(self) -> dict[str, NDArray[np.float64]]:
        """Score of every validation item by key of the run, (items,) each, in [0, 1]; from the runs' predictions.

        Items come in the order of the data, which all runs of a task share.
        """
        found = {}
        for key, state, *_ in self._rows:
            path = self.run_folder(key) / record.PREDICTIONS
            if state == "complete" and path.is_file():
                found[key] = record.read_scores(path)
        return found

    def planned(self) -> pd.DataFrame | None:
        """One row a run of the study as it was last run: backbone, task, method, trainable_parameters, seed.

        The count of a budget that has not run yet is NaN. None where runs came without a study, as from a search.
        """
        if self._definition is None:
            return None
        sizes = {
            (cell["backbone"], cell["method"], cell["budget"]): result["trainable_parameters"]
            for _, _, cell, result, _ in self._rows
            if result is not None
        }
        rows = [
            (s.backbone, s.learnt, c.label, sizes.get((s.backbone, c.label, c.budget), math.nan), s.seed)
            for c in self._definition
            for s in (c.settings,)
        ]
        return pd.DataFrame(rows, columns=["backbone", "task", "method", "trainable_parameters", "seed"])

    @cached_property
    def _definition(self) -> list[Cell] | None:
        text = self.notes.get("definition")
        return list(cells(Definition.stored(text))) if text else None

    def results(self) -> dict[str, dict[str, Any]]:
        """Everything that finished runs recorded, by key: settings, seeds, versions, host, digests."""
        return {key: result for key, _, _, result, _ in self._rows if result is not None}

    def axes(self) -> dict[str, dict[str, str]]:
        """Backbone, task, method, budget and seed of every run in the study's words, by key."""
        return dict(self._axes_of)

    @cached_property
    def outdated(self) -> frozenset[str]:
        """Keys of finished runs whose cell the study, as it was last run, sets otherwise (another learning rate, …)."""
        if self._definition is None:
            return frozenset()
        fields = set(RunSettings.model_fields) - GIVEN
        now = {
            (c.settings.backbone, c.settings.learnt, c.label, c.budget, str(c.settings.seed)): c.settings.model_dump(
                mode="json", include=fields
            )
            for c in self._definition
        }
        found = set()  # a setting that an older record does not know had no other value then
        for key, result in self.results().items():
            cell = self._axes_of[key]
            wanted = now.get((cell["backbone"], cell["task"], cell["method"], cell["budget"], cell["seed"]))
            if wanted is not None and any(_other(f, result["settings"].get(f, v), v) for f, v in wanted.items()):
                found.add(key)
        return frozenset(found)

    def run_folder(self, key: str) -> Path:
        """Where a run's files are."""
        return self.folder / "runs" / key


def _other(field: str, had: Any, wanted: Any) -> bool:
    """Whether a run had another setting than the study asks for. A dtype left open is down as what it came to."""
    return bool(had != wanted) and (field, wanted) != ("dtype", "auto")


def _flat(
    key: str, state: str, cell: dict[str, Any], result: dict[str, Any] | None, reason: str | None
) -> dict[str, Any]:
    own = cell["budget"] == OWN  # the method's own full size is no budget
    row: dict[str, Any] = {"key": key, "state": state, "reason": reason, **cell, "seed": int(cell["seed"])}
    row["budget"] = None if own else cell["budget"]
    if result is None:
        return row
    v, b, t = result["validation"], result["backbone"], result["times"]
    return row | {
        "family": b["family"],
        "backbone_parameters": b["parameters"],
        "category": result["task"]["category"],
        "objective": result["task"]["objective"],
        "measure": v["measure"],
        "value": v["value"],
        "low": v["low"],
        "high": v["high"],
        "n": v["n"],
        "trainable_parameters": result["trainable_parameters"],
        "ratio_percent": result["ratio_percent"],
        "untrained": result["untrained"]["value"],
        "chance": result["chance"],
        "best_step": result["best_step"],
        "steps": result["steps"],
        "batch_size": result["settings"]["batch_size"],
        "learning_rate": result["learning_rate"]["value"],
        "training_seconds": t["training_seconds"],
        "steps_per_second": t["steps_per_second"],
        "peak_memory_bytes": result["peak_memory_bytes"],
        "data_digest": result["data"]["digest"],
        "backbone_digest": b["digest"],
        "head_parameters": result["head"]["parameters"],
    }


def provenance(study: Study) -> dict[str, Any]:
    """Where a study's numbers come from, and whether all of them are there."""
    states = [state for key, state, _, _, _ in study._rows if key not in study.outdated]
    results = [r for key, r in study.results().items() if key not in study.outdated]
    planned = int(study.notes.get("planned", len(states)))
    started = sorted(r["times"]["started"] for r in results)
    return {
        "name": study.notes.get("study", study.folder.name),
        "settings": study.notes.get("definition", ""),
        "version": ", ".join(sorted({r["versions"]["apet"] for r in results})),
        "planned": planned,
        "complete": states.count("complete"),
        "failed": states.count("failed"),
        "running": states.count("complete") + states.count("failed") < planned,
        "first run began": started[0] if started else "",
        "last run began": started[-1] if started else "",
        "hosts": ", ".join(sorted({r["host"]["system"] for r in results})),
        "data": "; ".join(sorted({f"{r['task']['name']}: {n}" for r in results for n in r["data"]["notes"]})),
    }


WRITERS = {"csv": "to_csv", "parquet": "to_parquet", "json": "to_json"}


def export(study: Study, folder: Path, form: str) -> list[Path]:
    """Write runs and curves as CSV, Parquet or JSON.

    Raises:
        UnknownName: another format.
        ApetError: the folder cannot be written.
    """
    if form not in WRITERS:
        raise UnknownName("format", form, WRITERS)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in (("runs", study.runs()), ("curves", study.curves())):
            path = folder / f"{name}.{form}"
            if form == "json":
                path.write_text(json.dumps(json.loads(table.to_json(orient="records")), indent=1) + "\n", "utf-8")
            else:
                getattr(table, WRITERS[form])(path, index=False)
            paths.append(path)
    except OSError as e:
        raise ApetError(f"cannot write to {str(folder)!r}: {e.strerror}; give another folder") from e
    return paths
