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

from apet.errors import ApetError, UnknownNameError
from apet.studies.grid import Cell, cells
from apet.studies.store import Store
from apet.studies.study_config import DECIDED_BY_AXES, DEFAULT_BUDGET, StudyConfig
from apet.training import run_dir
from apet.training.config import RunConfig

RUN_COLUMNS = (
    "run_id", "state", "error", "backbone", "family", "backbone_parameters", "task", "category", "metric", "method",
    "budget", "num_trainable", "trainable_percent", "seed", "score", "ci_low", "ci_high", "num_examples", "score_untrained", "untrained_baseline",
    "best_step", "max_steps", "batch_size", "learning_rate", "training_seconds", "steps_per_second", "peak_memory_bytes",
    "data_fingerprint", "backbone_fingerprint", "head_parameters", "objective", "outdated",
)  # fmt: skip
CURVE_COLUMNS = ("run_id", "step", "loss", "score", "ci_low", "ci_high", "seconds")


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
        table["outdated"] = table["run_id"].isin(self.outdated)
        return table.sort_values(["backbone", "task", "method", "num_trainable", "seed"], ignore_index=True)

    def curves(self) -> pd.DataFrame:
        """One row a measurement along a run (see `CURVE_COLUMNS`)."""
        return pd.DataFrame(self._curves, columns=list(CURVE_COLUMNS))

    def transfers(self) -> pd.DataFrame:
        """One row a zero-shot measure: key of the run, source, target, its axes and count, value, low, high, n."""
        sizes = {key: result["num_trainable"] for key, result in self.results().items()}
        rows = []
        for key, target, value, low, high, n in self._transfers:
            cell = self._axes_of[key]
            axes = cell["backbone"], cell["method"], sizes[key], int(cell["seed"])
            rows.append((key, cell["task"], target, *axes, value, low, high, n))
        columns = ["run_id", "source", "target", "backbone", "method", "num_trainable", "seed"]
        columns += ["score", "ci_low", "ci_high", "num_examples"]
        return pd.DataFrame(rows, columns=columns)

    def items(self) -> dict[str, NDArray[np.float64]]:
        """Score of every validation item by key of the run, (items,) each, in [0, 1]; from the runs' predictions.

        Items come in the order of the data, which all runs of a task share.
        """
        found = {}
        for key, state, *_ in self._rows:
            path = self.run_folder(key) / run_dir.PREDICTIONS
            if state == "complete" and path.is_file():
                found[key] = run_dir.read_scores(path)
        return found

    def planned(self) -> pd.DataFrame | None:
        """One row a run of the study as it was last run: backbone, task, method, num_trainable, seed.

        The count of a budget that has not run yet is NaN. None where runs came without a study, as from a search.
        """
        if self._definition is None:
            return None
        sizes = {
            (cell["backbone"], cell["method"], cell["budget"]): result["num_trainable"]
            for _, _, cell, result, _ in self._rows
            if result is not None
        }
        rows = [
            (s.backbone, s.task_name, c.label, sizes.get((s.backbone, c.label, c.budget), math.nan), s.seed)
            for c in self._definition
            for s in (c.config,)
        ]
        return pd.DataFrame(rows, columns=["backbone", "task", "method", "num_trainable", "seed"])

    @cached_property
    def _definition(self) -> list[Cell] | None:
        text = self.notes.get("definition")
        return list(cells(StudyConfig.from_stored(text))) if text else None

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
        fields = set(RunConfig.model_fields) - DECIDED_BY_AXES
        now = {
            (c.config.backbone, c.config.task_name, c.label, c.budget, str(c.config.seed)): c.config.model_dump(
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
    own = cell["budget"] == DEFAULT_BUDGET  # the method's own full size is no budget
    row: dict[str, Any] = {"run_id": key, "state": state, "error": reason, **cell, "seed": int(cell["seed"])}
    row["budget"] = None if own else cell["budget"]
    if result is None:
        return row
    v, b, t = result["validation"], result["backbone"], result["times"]
    return row | {
        "family": b["family"],
        "backbone_parameters": b["parameters"],
        "category": result["task"]["category"],
        "objective": result["task"]["objective"],
        "metric": v["metric"],
        "score": v["score"],
        "ci_low": v["ci_low"],
        "ci_high": v["ci_high"],
        "num_examples": v["num_examples"],
        "num_trainable": result["num_trainable"],
        "trainable_percent": result["trainable_percent"],
        "score_untrained": result["score_untrained"]["score"],
        "untrained_baseline": result["untrained_baseline"],
        "best_step": result["best_step"],
        "max_steps": result["steps"],
        "batch_size": result["settings"]["batch_size"],
        "learning_rate": result["learning_rate"]["score"],
        "training_seconds": t["training_seconds"],
        "steps_per_second": t["steps_per_second"],
        "peak_memory_bytes": result["peak_memory_bytes"],
        "data_fingerprint": result["data"]["digest"],
        "backbone_fingerprint": b["digest"],
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
        UnknownNameError: another format.
        ApetError: the folder cannot be written.
    """
    if form not in WRITERS:
        raise UnknownNameError("format", form, WRITERS)
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
