"""The tables that an analysis starts from: every column with its meaning, checked before any number is made."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from apet.errors import ApetError
from apet.training.result import ColumnKind, CurvePoint, Record, RunResult, columns

Kind = Literal["text", "number"]
Columns = dict[str, tuple[Kind, str]]


def _described(record: type[Record], *names: str) -> Columns:
    """Columns of a record's fields, with the kind and the meaning that the record gives them."""
    fields = {c.name: c for c in columns(record)}
    kinds: dict[ColumnKind, Kind] = {"text": "text", "integer": "number", "number": "number"}
    return {name: (kinds[fields[name].kind], fields[name].description.rstrip(".")) for name in names}


# What the analysis reads of a run; what each of them means is said once, in the record.
RUNS: Columns = {
    "state": ("text", "complete or failed"),
    "error": ("text", "why it failed"),
    **_described(
        RunResult,
        "run_id",
        "backbone",
        "backbone_family",
        "num_backbone_parameters",
        "task",
        "category",
        "metric",
        "method",
        "budget",
        "num_trainable",
        "trainable_percent",
        "seed",
        "score",
        "ci_low",
        "ci_high",
        "num_examples",
        "score_untrained",
        "untrained_baseline",
        "best_step",
        "max_steps",
        "learning_rate",
        "training_seconds",
        "steps_per_second",
        "peak_memory_bytes",
        "data_fingerprint",
        "backbone_fingerprint",
        "num_head_parameters",
        "objective",
    ),
}
CURVES: Columns = {"run_id": ("text", "the run"), **_described(CurvePoint, *CurvePoint.model_fields)}
ITEMS: Columns = {
    "run_id": ("text", "the run"),
    "item": ("number", "validation item; the same number is the same item in every run of the task"),
    "score": ("number", "in [0, 1]"),
}
TRANSFER: Columns = {
    "source": ("text", "task trained on"),
    "target": ("text", "task measured; equal to the source = the target's own"),
    "backbone": ("text", "name of the backbone"),
    "method": ("text", "display name"),
    "num_trainable": ("number", "N, exact"),
    "seed": ("number", "of the run"),
    "score": ("number", "measure in [0, 1]"),
    "ci_low": ("number", "lower end of its item-level 95 % interval"),
    "ci_high": ("number", "upper end of its item-level 95 % interval"),
    "num_examples": ("number", "items"),
}

PLANNED: Columns = {
    "backbone": ("text", "name of the backbone"),
    "task": ("text", "name of the task"),
    "method": ("text", "display name"),
    "num_trainable": ("number", "N, exact"),
    "seed": ("number", "of the run"),
}

FULL = "fine-tuning"
ADJACENT, DISCRETE = "apet-adjacent", "apet-discrete"
CELL = ["backbone", "task", "method", "num_trainable"]

_NEEDED = (
    "num_backbone_parameters",
    "num_trainable",
    "seed",
    "score",
    "ci_low",
    "ci_high",
    "num_examples",
    "untrained_baseline",
)
_ONE_SETTING = ("metric", "objective", "max_steps", "backbone_fingerprint")


def checked_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with numbers as numbers, sorted by scale, task, method, N and seed.

    Raises:
        ApetError: a column is missing, a complete run lacks a number, a value lies outside [0, 1], or runs that
            differ in more than the seed share a backbone, task, method and N.
    """
    runs = _without_twins(_typed(frame, RUNS, "runs"))
    _unique(runs, ["run_id"], "runs")
    states = sorted(set(runs["state"]) - {"complete", "failed"})
    if states:
        raise ApetError(f"runs: state {states[0]!r} is unknown; expected complete or failed")
    done = complete(runs)
    for name in _NEEDED:
        bad = done.loc[~np.isfinite(done[name]), "run_id"]
        if len(bad):
            raise ApetError(f"runs: complete run {bad.iloc[0]!r} has no {name}; mark it as failed, or give the number")
    _within_unit(done, "score", "runs")
    wrong = done.loc[(done["ci_low"] > done["score"] + 1e-9) | (done["ci_high"] < done["score"] - 1e-9), "run_id"]
    if len(wrong):
        raise ApetError(
            f"runs: the interval of run {wrong.iloc[0]!r} does not hold its value; give low <= value <= high"
        )
    _one_setting(done)
    order = ["backbone_family", "num_backbone_parameters", "backbone", "task", "method", "num_trainable", "seed"]
    return runs.sort_values(order, kind="stable", na_position="last").reset_index(drop=True)


def checked_curves(frame: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The curves of the given runs, by run and step.

    Raises:
        ApetError: a column is missing, a step comes twice, or a value lies outside [0, 1].
    """
    curves = _typed(frame, CURVES, "curves")
    _unique(curves, ["run_id", "step"], "curves")
    _within_unit(curves, "score", "curves")
    return curves[curves["run_id"].isin(runs["run_id"])].sort_values(["run_id", "step"]).reset_index(drop=True)


def checked_items(frame: pd.DataFrame) -> pd.DataFrame:
    """Item scores, by run and item.

    Raises:
        ApetError: a column is missing, an item comes twice in a run, or a score lies outside [0, 1].
    """
    items = _typed(frame, ITEMS, "items")
    _unique(items, ["run_id", "item"], "items")
    _within_unit(items, "score", "items")
    return items.sort_values(["run_id", "item"]).reset_index(drop=True)


def checked_planned(frame: pd.DataFrame) -> pd.DataFrame:
    """What was to run, each once.

    Raises:
        ApetError: a column is missing, or a number is none.
    """
    return _typed(frame, PLANNED, "planned").drop_duplicates(ignore_index=True)


def checked_transfer(frame: pd.DataFrame) -> pd.DataFrame:
    """Measures of every source on every target.

    Raises:
        ApetError: a column is missing, a pair comes twice for a seed, or a value lies outside [0, 1].
    """
    transfer = _typed(frame, TRANSFER, "transfer")
    _unique(transfer, ["backbone", "method", "num_trainable", "source", "target", "seed"], "transfer")
    _within_unit(transfer, "score", "transfer")
    return transfer


def complete(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that have a number."""
    return runs[runs["state"] == "complete"]


def failed(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that have a reason instead."""
    return runs[runs["state"] == "failed"]


def _typed(frame: pd.DataFrame, columns: Columns, what: str) -> pd.DataFrame:
    missing = [f"{c} ({meaning})" for c, (_, meaning) in columns.items() if c not in frame.columns]
    if missing:
        raise ApetError(f"{what}: missing column{'s' * (len(missing) > 1)} {'; '.join(missing)}")
    typed = frame[list(columns)].copy()
    for name, (kind, meaning) in columns.items():
        if kind == "number":
            try:
                typed[name] = pd.to_numeric(typed[name]).astype(float)
            except (TypeError, ValueError) as e:
                raise ApetError(f"{what}: column {name} ({meaning}) holds something that is no number: {e}") from e
        else:
            column = typed[name].astype(object)
            typed[name] = column.where(column.notna(), None)
    return typed


def _unique(frame: pd.DataFrame, by: list[str], what: str) -> None:
    twice = frame[frame.duplicated(by)]
    if len(twice):
        first = twice.iloc[0]
        named = ", ".join(f"{c} {first[c]:g}" if isinstance(first[c], float) else f"{c} {first[c]}" for c in by)
        raise ApetError(f"{what}: {named} comes twice; give it once")


def _within_unit(frame: pd.DataFrame, name: str, what: str) -> None:
    outside = frame[~frame[name].between(0, 1)]
    if len(outside):
        row = outside.iloc[0]
        named = row["run_id"] if "run_id" in frame else f"{row['source']} to {row['target']}"
        raise ApetError(f"{what}: {name} {row[name]:g} of {named} lies outside [0, 1]; give fractions, not percent")


def _without_twins(runs: pd.DataFrame) -> pd.DataFrame:
    """A count asked for in two ways (``=lora``, ``65536``) is one run with one number; the method's own size stays."""
    same = [
        *CELL,
        "seed",
        "score",
        "ci_low",
        "ci_high",
        "max_steps",
        "learning_rate",
        "objective",
        "metric",
        "data_fingerprint",
    ]
    own_first = runs.sort_values("budget", key=lambda b: b.notna(), kind="stable")
    twin = own_first.duplicated(same) & (own_first["state"] == "complete") & ~own_first.duplicated("run_id", keep=False)
    return own_first[~twin].sort_index()


def _one_setting(done: pd.DataFrame) -> None:
    """Means over seeds are means over seeds only."""
    twice = done[done.duplicated([*CELL, "seed"], keep=False)].sort_values([*CELL, "seed"])
    if len(twice):
        a, b = twice.iloc[0], twice.iloc[1]
        raise ApetError(
            f"runs {a['run_id']!r} and {b['run_id']!r} share backbone, task, method, N and seed;"
            " report one setting at a time"
        )
    settings = done.groupby(CELL, observed=True, sort=False)[list(_ONE_SETTING)].nunique(dropna=False)
    mixed = settings[(settings > 1).any(axis=1)]
    if len(mixed):
        cell, counts = mixed.index[0], mixed.iloc[0]
        names = ", ".join(c for c in _ONE_SETTING if counts[c] > 1)
        raise ApetError(f"runs of {' / '.join(map(str, cell))} differ in {names}; report one setting at a time")
