"""Schemas of the result tables (runs, curves, item scores, transfer): the meaning of each column, and checks."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from apet.errors import ApetError
from apet.studies.reported import SPLIT, with_reported_scores
from apet.tasks.metrics import METRICS
from apet.training.result import ColumnKind, CurvePoint, Record, RunResult, columns

ColumnType = Literal["text", "number"]
Columns = dict[str, tuple[ColumnType, str]]


def _described(record: type[Record], *names: str) -> Columns:
    """Columns of a record's fields, with the kind and the meaning that the record gives them."""
    fields = {c.name: c for c in columns(record)}
    kinds: dict[ColumnKind, ColumnType] = {"text": "text", "integer": "number", "number": "number"}
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
        "majority_baseline",
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
    SPLIT: ("text", "which split the score is of"),
}
CURVES: Columns = {"run_id": ("text", "the run"), **_described(CurvePoint, *CurvePoint.model_fields)}
ITEMS: Columns = {
    "run_id": ("text", "the run"),
    "item": ("number", "item of the split that is reported; the same number is the same item in every run of the task"),
    "score": ("number", "in [0, 1]"),
}
TRANSFER: Columns = {
    "source": ("text", "task trained on"),
    "target": ("text", "task evaluated on; equal to the source = the target trained on itself"),
    "backbone": ("text", "name of the backbone"),
    "method": ("text", "display name"),
    "num_trainable": ("number", "N, exact"),
    "seed": ("number", "of the run"),
    "score": ("number", "score on the target in [0, 1]"),
    "ci_low": ("number", "lower end of its item-level 95 % interval"),
    "ci_high": ("number", "upper end of its item-level 95 % interval"),
    "num_examples": ("number", "items"),
    "majority_baseline": ("number", "score of the target's most frequent transfer label; empty for free text"),
}

PLANNED: Columns = {
    "backbone": ("text", "name of the backbone"),
    "task": ("text", "name of the task"),
    "method": ("text", "display name"),
    "num_trainable": ("number", "N, exact"),
    "seed": ("number", "of the run"),
}

FULL = "fine-tuning"
APET_PREFIX = "apet-"
"""Display names of APET variants: this and the name of the distribution."""
ADJACENT, DISCRETE = f"{APET_PREFIX}adjacent", f"{APET_PREFIX}discrete"
"""The two variants that the paper's claims speak of; every other registered distribution is treated like them."""
CELL = ["backbone", "task", "method", "num_trainable"]

_REQUIRED_NUMBERS = (
    *("num_backbone_parameters", "num_trainable", "seed"),
    *("score", "ci_low", "ci_high", "num_examples", "untrained_baseline"),
)
# Runs of one cell may differ in nothing but the seed; the learning rate is left out because a search may choose it
# for each run anew.
_EQUAL_WITHIN_CELL = ("metric", "objective", "max_steps", "backbone_fingerprint")
# A score and an end of its interval that were rounded apart may miss each other by this much.
_ROUNDING = 1e-9


def checked_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Table of runs with checked values and numeric columns, sorted by scale, task, method, N and seed.

    Args:
        frame: a row per run, with the columns of `RUNS`. Test scores, where each run of a task has one, take the place
            of its validation scores (`apet.studies.reported`); other columns are ignored.

    Returns:
        The columns of `RUNS`; a failed run keeps its error and has NaN for its numbers.

    Raises:
        ApetError: a column is missing, a complete run lacks a number, a score lies outside [0, 1], or runs that
            differ in more than the seed share a backbone, task, method and N.
    """
    runs = _drop_repeated_requests(_typed(_with_split(frame), RUNS, "runs"))
    _check_unique(runs, ["run_id"], "runs")
    unknown_states = sorted(set(runs["state"]) - {"complete", "failed"})
    if unknown_states:
        raise ApetError(
            f"runs: state {unknown_states[0]!r} is not a valid state; expected complete or failed; leave out what still"
            " runs"
        )
    done = complete(runs)
    for name in _REQUIRED_NUMBERS:
        without = done.loc[~np.isfinite(done[name]), "run_id"]
        if len(without):
            raise ApetError(
                f"runs: complete run {without.iloc[0]!r} has no {name}; mark it as failed, or give the number"
            )
    _check_fraction(done[~_is_signed(done)], "score", "runs")
    outside = (done["ci_low"] > done["score"] + _ROUNDING) | (done["ci_high"] < done["score"] - _ROUNDING)
    if outside.any():
        first = done.loc[outside, "run_id"].iloc[0]
        raise ApetError(f"runs: the interval of run {first!r} does not hold its score; give ci_low <= score <= ci_high")
    _check_one_setting_per_cell(done)
    order = ["backbone_family", "num_backbone_parameters", "backbone", "task", "method", "num_trainable", "seed"]
    return runs.sort_values(order, kind="stable", na_position="last").reset_index(drop=True)


def _with_split(frame: pd.DataFrame) -> pd.DataFrame:
    # A table that lacks even these is named by the check of its columns.
    return with_reported_scores(frame) if {"task", "state", "score"} <= set(frame.columns) else frame.assign(split="")


def _is_signed(runs: pd.DataFrame) -> pd.Series:
    """Which runs have a metric of numbers, such as a correlation, which may be below 0."""
    return runs["metric"].isin([name for name, m in METRICS.entries().items() if m.types == ("regression",)])


def checked_curves(frame: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Learning curves of the given runs with checked values, sorted by run and step.

    Args:
        frame: a row per evaluation, with the columns of `CURVES`.
        runs: the runs whose curves are kept.

    Returns:
        The columns of `CURVES`.

    Raises:
        ApetError: a column is missing, a step comes twice, or a score lies outside [0, 1].
    """
    curves = _typed(frame, CURVES, "curves")
    _check_unique(curves, ["run_id", "step"], "curves")
    signed = runs.loc[_is_signed(runs), "run_id"]
    _check_fraction(curves[~curves["run_id"].isin(signed)], "score", "curves")
    return curves[curves["run_id"].isin(runs["run_id"])].sort_values(["run_id", "step"]).reset_index(drop=True)


def checked_items(frame: pd.DataFrame) -> pd.DataFrame:
    """Scores of single items with checked values, sorted by run and item.

    Args:
        frame: a row per run and item, with the columns of `ITEMS`.

    Returns:
        The columns of `ITEMS`.

    Raises:
        ApetError: a column is missing, an item comes twice in a run, or a score lies outside [0, 1].
    """
    items = _typed(frame, ITEMS, "items")
    _check_unique(items, ["run_id", "item"], "items")
    _check_fraction(items, "score", "items")
    # Paired comparisons subtract the scores of two runs place by place: both must list the items in one order.
    return items.sort_values(["run_id", "item"]).reset_index(drop=True)


def checked_planned(frame: pd.DataFrame) -> pd.DataFrame:
    """Planned runs of a study with checked values, each once.

    Args:
        frame: a row per planned run, with the columns of `PLANNED`.

    Returns:
        The columns of `PLANNED`.

    Raises:
        ApetError: a column is missing, or holds a value that is not a number.
    """
    return _typed(frame, PLANNED, "planned").drop_duplicates(ignore_index=True)


def checked_transfer(frame: pd.DataFrame) -> pd.DataFrame:
    """Zero-shot transfer scores of sources on targets with checked values.

    Args:
        frame: a row per source, target and seed, with the columns of `TRANSFER`.

    Returns:
        The columns of `TRANSFER`.

    Raises:
        ApetError: a column is missing, a pair comes twice for a seed, or a score lies outside [0, 1].
    """
    transfer = _typed(frame, TRANSFER, "transfer")
    _check_unique(transfer, ["backbone", "method", "num_trainable", "source", "target", "seed"], "transfer")
    _check_fraction(transfer, "score", "transfer")
    return transfer


def complete(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that finished and have a score."""
    return runs[runs["state"] == "complete"]


def failed(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that have an error instead of a score."""
    return runs[runs["state"] == "failed"]


def _typed(frame: pd.DataFrame, columns: Columns, table: str) -> pd.DataFrame:
    """The schema's columns, numbers as floats and missing text as None."""
    missing = [f"{c} ({meaning})" for c, (_, meaning) in columns.items() if c not in frame.columns]
    if missing:
        raise ApetError(
            f"{table}: missing column{'s' * (len(missing) > 1)} {'; '.join(missing)}; add"
            f" {'them' if len(missing) > 1 else 'it'} to the table"
        )
    typed = frame[list(columns)].copy()
    for name, (kind, meaning) in columns.items():
        if kind == "number":
            try:
                # Integers, too, become floats: only a float column can hold the NaN of a failed run.
                typed[name] = pd.to_numeric(typed[name]).astype(float)
            except (TypeError, ValueError) as e:
                raise ApetError(
                    f"{table}: column {name} ({meaning}) holds a value that is not a number: {e}; give numbers, and"
                    " nothing where there is none"
                ) from e
        else:
            # An empty text comes as NaN from CSV and as None from SQLite; groups and sorts must see one of them.
            column = typed[name].astype(object)
            typed[name] = column.where(column.notna(), None)
    return typed


def _check_unique(frame: pd.DataFrame, key: list[str], table: str) -> None:
    """Raise ApetError where two rows share the key."""
    repeated = frame[frame.duplicated(key)]
    if len(repeated):
        first = repeated.iloc[0]
        values = ", ".join(f"{c} {first[c]:g}" if isinstance(first[c], float) else f"{c} {first[c]}" for c in key)
        raise ApetError(f"{table}: {values} comes twice; give it once")


def _check_fraction(frame: pd.DataFrame, column: str, table: str) -> None:
    """Raise ApetError where a value lies outside [0, 1]."""
    outside = frame[~frame[column].between(0, 1)]
    if len(outside):
        first = outside.iloc[0]
        name = first["run_id"] if "run_id" in frame else f"{first['source']} to {first['target']}"
        raise ApetError(
            f"{table}: {column} {first[column]:g} of {name} lies outside [0, 1]; give fractions, not percent"
        )


def _drop_repeated_requests(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs without those that repeat another at the same count (budgets ``=lora`` and ``65536``).

    Two budgets that come to one N are one run with one result. Counted twice it would look like two seeds, and the
    interval would be too narrow.

    Returns:
        The runs in the order of the table. Of repeats one stays, the one without a budget where there is such a one.
    """
    settings = ["max_steps", "learning_rate", "objective", "metric", "data_fingerprint"]
    # A run without a budget is at the method's default size. It must be the one that stays, for the default sizes are
    # looked up by their empty budget.
    default_first = runs.sort_values("budget", key=lambda budget: budget.notna(), kind="stable")
    # A run_id that comes twice is a mistake in the table, which the check for unique keys has to see.
    unique_id = ~default_first.duplicated("run_id", keep=False)
    repeats = (
        default_first.duplicated([*CELL, "seed", "score", "ci_low", "ci_high", *settings])
        & (default_first["state"] == "complete")
        & unique_id
    )
    return default_first[~repeats].sort_index()


def _check_one_setting_per_cell(done: pd.DataFrame) -> None:
    """Raise ApetError where a mean over seeds would mix runs that differ in more than their seed."""
    repeated = done[done.duplicated([*CELL, "seed"], keep=False)].sort_values([*CELL, "seed"])
    if len(repeated):
        first, second = repeated.iloc[0], repeated.iloc[1]
        raise ApetError(
            f"runs {first['run_id']!r} and {second['run_id']!r} share backbone, task, method, N and seed; report one"
            " setting at a time"
        )
    # A missing value is a value here: a run that does not say its objective may well differ from one that does.
    num_values = done.groupby(CELL, observed=True, sort=False)[list(_EQUAL_WITHIN_CELL)].nunique(dropna=False)
    mixed = num_values[(num_values > 1).any(axis=1)]
    if len(mixed):
        cell, first_mixed = mixed.index[0], mixed.iloc[0]
        names = ", ".join(c for c in _EQUAL_WITHIN_CELL if first_mixed[c] > 1)
        raise ApetError(f"runs of {' / '.join(map(str, cell))} differ in {names}; report one setting at a time")
