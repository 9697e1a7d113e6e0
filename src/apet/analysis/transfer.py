"""E7: relative transfer, the zero-shot measure on a target over the target's own (figure 9, appendix E)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from apet.analysis.frames import checked_transfer, complete
from apet.analysis.intervals import Estimate, t_interval
from apet.analysis.study_data import StudyData
from apet.errors import ApetError


@dataclass(frozen=True)
class TransferScore:
    """One source on one target.

    Attributes:
        backbone, method: what was trained.
        source, target: tasks.
        zero_shot: measure on the target, mean over the seeds.
        own: measure of the module trained on the target itself.
        relative: zero_shot / own, paired by seed; its item-level interval is MOVER's (Donner and Zou 2012).
        by_seed: the ratio of each seed.
    """

    backbone: str
    method: str
    source: str
    target: str
    zero_shot: float
    own_score: float
    relative: Estimate
    by_seed: dict[int, float]


def transfer_scores(transfer: pd.DataFrame, board: StudyData, allow_holes: bool = False) -> list[TransferScore]:
    """Every source on every target; a target whose own measure is 0 has no relative one.

    Args:
        transfer: see `apet.analysis.frames`; a target's own measure, where it is not there, is that of its run.
        board: the runs. Of a method with several counts, its own size is taken, or else the largest.
        allow_holes: leave out what is missing.

    Raises:
        ApetError: a pair or a target's own measure is missing and holes are not allowed.
    """
    frame = _with_own(_at_own_size(checked_transfer(transfer), board), board)
    found = []
    for (backbone, method), mine in frame.groupby(["backbone", "method"], sort=False):
        tasks = sorted(set(mine["source"]) | set(mine["target"]))
        seeds = sorted({int(s) for s in mine["seed"]})
        missing = len(tasks) ** 2 * len(seeds) - len(mine)
        if missing and not allow_holes:
            raise ApetError(
                f"transfer: {missing} of {len(tasks) ** 2 * len(seeds)} pairs of {method} on {backbone} are missing;"
                " measure them, or allow holes"
            )
        rows = {(str(r.source), str(r.target), int(r.seed)): r for r in mine.itertuples()}
        for source in tasks:
            for target in tasks:
                pairs = {
                    s: (rows[source, target, s], rows[target, target, s])
                    for s in seeds
                    if (source, target, s) in rows and (target, target, s) in rows and rows[target, target, s].score > 0
                }
                if pairs:
                    found.append(_relative(str(backbone), str(method), source, target, pairs, len(seeds) - len(pairs)))
    return found


def _at_own_size(frame: pd.DataFrame, board: StudyData) -> pd.DataFrame:
    n = [board.own_sizes.get(at) for at in zip(frame["backbone"], frame["method"], strict=True)]
    return frame[frame["num_trainable"] == pd.Series(n, index=frame.index, dtype=float)]


def _with_own(frame: pd.DataFrame, board: StudyData) -> pd.DataFrame:
    """With the measure of every source's own run on its own task, and of every target's."""
    by = ["backbone", "method", "num_trainable", "seed"]
    meant = frame[by].drop_duplicates().merge(complete(board.runs), on=by)
    tasks = {
        (b, m): set(g["source"]) | set(g["target"]) for (b, m), g in frame.groupby(["backbone", "method"], sort=False)
    }
    meant = meant[[r.task in tasks[r.backbone, r.method] for r in meant.itertuples()]]
    own = meant.assign(source=meant["task"], target=meant["task"])[list(frame.columns)]
    return pd.concat([frame, own], ignore_index=True).drop_duplicates([*by, "source", "target"], ignore_index=True)


def _relative(
    backbone: str, method: str, source: str, target: str, pairs: Mapping[int, tuple[object, object]], holes: int
) -> TransferScore:
    zero = pd.DataFrame([a for a, _ in pairs.values()])[["score", "ci_low", "ci_high", "num_examples"]]
    own = pd.DataFrame([b for _, b in pairs.values()])[["score", "ci_low", "ci_high", "num_examples"]]
    ratios = (zero["score"] / own["score"]).to_numpy(dtype=float)
    mean, sd, low, high = (float(x) for x in t_interval(ratios))
    if source == target:
        item_low = item_high = math.nan
        basis = "1 by definition"
    else:
        z, o = zero.mean(), own.mean()
        item_low, item_high = ratio_interval(
            (z["score"], z["ci_low"], z["ci_high"]), (o["score"], o["ci_low"], o["ci_high"])
        )
        basis = "items, unpaired"
    n = int(zero["num_examples"].iloc[0])
    estimate = Estimate(mean, len(ratios), sd, low, high, n, item_low, item_high, basis, 1, holes)
    by_seed = dict(zip(pairs, ratios.tolist(), strict=True))
    return TransferScore(
        backbone, method, source, target, float(zero["score"].mean()), float(own["score"].mean()), estimate, by_seed
    )


def ratio_interval(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float]:
    """95 % interval of a / b from value, low and high of each (Donner and Zou 2012, MOVER-R).

    Returns:
        Both ends; the upper one is infinite where b may be 0.
    """
    (x, xl, xu), (y, yl, yu) = a, b
    low = 0.0
    if yu < 2 * y:
        low = (x * y - math.sqrt(max(0.0, (x * y) ** 2 - xl * yu * (2 * x - xl) * (2 * y - yu)))) / (yu * (2 * y - yu))
    if yl <= 0:
        return max(0.0, low), math.inf
    high = (x * y + math.sqrt(max(0.0, (x * y) ** 2 - xu * yl * (2 * x - xu) * (2 * y - yl)))) / (yl * (2 * y - yl))
    return max(0.0, low), high


def within_against_across(found: list[TransferScore], categories: Mapping[str, str]) -> Estimate | None:
    """Mean relative transfer within a category − across categories, paired by seed; None where either is missing.

    Args:
        found: of one backbone and method.
        categories: task -> category.
    """
    within: dict[int, list[float]] = {}
    across: dict[int, list[float]] = {}
    for r in found:
        if r.source == r.target or r.source not in categories or r.target not in categories:
            continue
        side = within if categories[r.source] == categories[r.target] else across
        for seed, value in r.by_seed.items():
            side.setdefault(seed, []).append(value)
    seeds = sorted(set(within) & set(across))
    if not seeds:
        return None
    by_seed = np.array([np.mean(within[s]) - np.mean(across[s]) for s in seeds])
    mean, sd, low, high = (float(x) for x in t_interval(by_seed))
    return Estimate(mean, len(seeds), sd, low, high, 0, math.nan, math.nan, "none", len({r.target for r in found}))
