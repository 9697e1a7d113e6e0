"""Two studies side by side: cell by cell what changed, with the interval of the difference, and what only one has."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import pandas as pd
from pydantic import JsonValue

from apet.analysis.claims.verdict import corrected_verdicts
from apet.analysis.frames import complete
from apet.analysis.intervals import DifferenceVerdict, Estimate
from apet.analysis.score_matrix import Scores, difference, score_matrix

CellKey: TypeAlias = tuple[str, str, str, str]
"""Backbone, task, method, budget, in the studies' words."""
KEY = ["backbone", "task", "method", "budget"]
OWN_SIZE = "default"
"""Budget of a method that chose its own size, in the studies' words; in their tables none is named."""


@dataclass(frozen=True)
class CellDifference:
    """One cell that both studies have.

    Attributes:
        cell: backbone, task, method, budget.
        metric: of the scores.
        num_trainable: exact number of trained parameters in the first study and in the second.
        scores: mean over the shared seeds, in the first and in the second.
        difference: second − first, paired by seed and, where items are known, by item.
        verdict: of the difference at 5 %, after Holm's correction over the cells.
        settings: what the runs of the cell were set otherwise, as ``learning_rate: 0.001 → 0.002``.
    """

    cell: CellKey
    metric: str
    num_trainable: tuple[int, int]
    scores: tuple[float, float]
    difference: Estimate
    verdict: DifferenceVerdict
    settings: tuple[str, ...]

    def as_dict(self) -> dict[str, JsonValue]:
        """Plain data for programs; an unknown number is None."""
        d = self.difference
        ends = {"ci_low": d.ci_low, "ci_high": d.ci_high, "item_ci_low": d.item_ci_low, "item_ci_high": d.item_ci_high}
        return {
            **dict(zip(KEY, self.cell, strict=True)),
            "metric": self.metric,
            "num_trainable_first": self.num_trainable[0],
            "num_trainable_second": self.num_trainable[1],
            "score_first": self.scores[0],
            "score_second": self.scores[1],
            "difference": d.score,
            **{name: None if math.isnan(end) else end for name, end in ends.items()},
            "num_seeds": d.num_seeds,
            "verdict": self.verdict,
            "settings": list(self.settings),
        }


@dataclass(frozen=True)
class StudyDifference:
    """What two studies differ in.

    Attributes:
        cells: that both have finished runs of, with a shared seed; the largest difference first.
        only_first: cells that only the first has finished runs of.
        only_second: cells that only the second has finished runs of.
        apart: cells of both that cannot be held against each other, and why.
    """

    cells: tuple[CellDifference, ...]
    only_first: tuple[CellKey, ...]
    only_second: tuple[CellKey, ...]
    apart: dict[CellKey, str]


Settings: TypeAlias = dict[str, dict[str, JsonValue]]
"""run_id -> what the run was set to, by name."""


def study_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    items: Scores | None = None,
    settings: Settings | None = None,
) -> StudyDifference:
    """Hold the finished runs of one study against those of another.

    Runs of one cell and seed are a pair: they see the same data in the same order, where the settings are the same.

    Args:
        first: runs as `apet.Study.runs` gives them, with the scores that are reported (`apet.studies.reported`).
        second: likewise; no run_id is in both, and no cell of either has two runs of one seed.
        items: item scores of the runs of both, by run_id; without them, or on other data, intervals are unpaired.
        settings: of the runs of both.

    Returns:
        What differs, the largest difference first.
    """
    one, other = (
        dict(iter(complete(runs).fillna({"budget": OWN_SIZE}).groupby(KEY, sort=False))) for runs in (first, second)
    )
    compared, apart = [], {}
    for key in (key for key in one if key in other):
        why = _cannot(one[key], other[key])
        if why:
            apart[key] = why
        else:
            compared.append(_compare(key, one[key], other[key], items or {}, settings or {}))
    return StudyDifference(
        tuple(sorted(_after_holm(compared), key=lambda c: -abs(c.difference.score))),
        tuple(key for key in one if key not in other),
        tuple(key for key in other if key not in one),
        apart,
    )


def _cannot(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """Why two cells cannot be held against each other; empty where they can."""
    metrics = [str(runs["metric"].iloc[0]) for runs in (one, other)]
    if metrics[0] != metrics[1]:
        return f"measured by {metrics[0]} and by {metrics[1]}"
    if not set(one["seed"]) & set(other["seed"]):
        return "no seed in common"
    return ""


def _compare(key: CellKey, one: pd.DataFrame, other: pd.DataFrame, items: Scores, settings: Settings) -> CellDifference:
    seeds = sorted(set(one["seed"]) & set(other["seed"]))
    # Answers to other data are no pairs, also where there are as many.
    same_data = set(one["data_fingerprint"]) == set(other["data_fingerprint"])
    before, after = (score_matrix(runs, " ".join(key), [key[1]], seeds) for runs in (one, other))
    found = difference(after, before, items if same_data else {}, allow_holes=True)
    assert found is not None, "the cells share a seed"
    counts = tuple(int(runs["num_trainable"].iloc[0]) for runs in (one, other))
    return CellDifference(
        key,
        str(one["metric"].iloc[0]),
        (counts[0], counts[1]),
        (float(before.scores.mean()), float(after.scores.mean())),
        found,
        found.verdict,
        _changed(before.run_ids.ravel()[0], after.run_ids.ravel()[0], settings),
    )


def _changed(one: str, other: str, settings: Settings) -> tuple[str, ...]:
    before, after = settings.get(one, {}), settings.get(other, {})
    names = [name for name in before | after if before.get(name) != after.get(name)]
    return tuple(f"{name}: {before.get(name)} → {after.get(name)}" for name in names)


def _after_holm(cells: list[CellDifference]) -> list[CellDifference]:
    """Verdicts that stand although many cells were looked at (Holm 1979)."""
    verdicts = corrected_verdicts([c.difference for c in cells])
    return [replace(c, verdict=verdict) for c, verdict in zip(cells, verdicts, strict=True)]
