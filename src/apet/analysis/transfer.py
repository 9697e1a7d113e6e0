"""Relative zero-shot transfer: score on a target over that of training on the target (E7; figure 9, appendix E)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from apet.analysis.frames import checked_transfer, complete
from apet.analysis.intervals import Estimate, t_interval
from apet.analysis.study_data import StudyData
from apet.errors import ApetError

_INTERVAL = ["score", "ci_low", "ci_high"]


@dataclass(frozen=True)
class TransferScore:
    """Zero-shot score of one source on one target, relative to training on the target itself.

    Attributes:
        backbone: what was trained on.
        method: display name.
        source: task trained on.
        target: task evaluated on.
        zero_shot: score of the source's run on the target, mean over the seeds.
        own_score: score of the run that was trained on the target itself.
        base: score that is had without training: the better of the untrained score and the best constant answer.
        relative: zero_shot / own_score, paired by seed; its item-level interval is MOVER-R's.
        by_seed: seed -> its zero-shot score and its score of the run trained on the target.
    """

    backbone: str
    method: str
    source: str
    target: str
    zero_shot: float
    own_score: float
    base: float
    relative: Estimate
    by_seed: dict[int, tuple[float, float]]


def transfer_scores(transfer: pd.DataFrame, data: StudyData, allow_holes: bool = False) -> list[TransferScore]:
    """Relative transfer of every source on every target; a target whose score on itself is 0 has none.

    Args:
        transfer: with the columns of `apet.analysis.frames.TRANSFER`; where a target's score on itself is not given,
            it is that of its run.
        data: the runs. Of a method with several counts, its default size is taken, or else the largest.
        allow_holes: leave out what is missing.

    Returns:
        By backbone, method, source and target.

    Raises:
        ApetError: a pair, or a target's score on itself, is missing, and missing runs are not allowed.
    """
    frame = _with_targets_themselves(_at_default_size(checked_transfer(transfer), data), data)
    all_scores = []
    bases = data.bases
    for (backbone, method), group in frame.groupby(["backbone", "method"], sort=False):
        tasks = sorted(set(group["source"]) | set(group["target"]))
        seeds = sorted({int(s) for s in group["seed"]})
        num_pairs = len(tasks) ** 2 * len(seeds)
        num_missing = num_pairs - len(group)
        if num_missing and not allow_holes:
            raise ApetError(
                f"transfer: {num_missing} of {num_pairs} pairs of {method} on {group['backbone'].iloc[0]} are missing;"
                " evaluate them, or allow holes (in Python allow_holes=True)"
            )
        keys = zip(group["source"], group["target"], group["seed"].astype(int), strict=True)
        by_key = group.set_index(pd.MultiIndex.from_tuples(list(keys)), drop=False)
        for source in tasks:
            for target in tasks:
                # By transfer labels, of which there may be fewer, a constant answer is right more often.
                constant = group.loc[group["target"] == target, "majority_baseline"].max()
                base = float(np.fmax(bases.get((str(backbone), target), np.nan), constant))
                score = _transfer_score(by_key, source, target, seeds, base)
                if score is not None:
                    all_scores.append(score)
    return all_scores


def _transfer_score(
    by_key: pd.DataFrame, source: str, target: str, seeds: Sequence[int], base: float
) -> TransferScore | None:
    """Relative transfer over the seeds that have both scores; None without any.

    Args:
        by_key: rows of one backbone and method, indexed by source, target and seed.
        source: task trained on.
        target: task evaluated on.
        seeds: of the backbone and method.
        base: what is had on the target without training.

    Returns:
        Mean ratio of the zero-shot score to the target's score on itself, with its intervals; None where no seed has
        both.
    """
    positive = set(by_key.index[by_key["score"] > 0])  # a ratio to 0 says nothing
    shared = [s for s in seeds if (source, target, s) in by_key.index and (target, target, s) in positive]
    if not shared:
        return None
    zero_shot = by_key.loc[[(source, target, s) for s in shared]]
    on_itself = by_key.loc[[(target, target, s) for s in shared]]
    # Paired by seed: what a seed does to training, it does to both runs, and in their ratio it cancels.
    ratios = zero_shot["score"].to_numpy(dtype=float) / on_itself["score"].to_numpy(dtype=float)
    mean, sd, low, high = (float(x) for x in t_interval(ratios))
    item_low, item_high, method = math.nan, math.nan, "1 by definition"
    if source != target:
        # The table holds no item scores, so numerator and denominator count as measured on different items.
        above, below = zero_shot[_INTERVAL].mean(), on_itself[_INTERVAL].mean()
        item_low, item_high = ratio_interval(
            (above["score"], above["ci_low"], above["ci_high"]), (below["score"], below["ci_low"], below["ci_high"])
        )
        method = "items, unpaired"
    num_examples = int(zero_shot["num_examples"].iloc[0])
    num_missing = len(seeds) - len(shared)
    return TransferScore(
        backbone=str(by_key["backbone"].iloc[0]),
        method=str(by_key["method"].iloc[0]),
        source=source,
        target=target,
        zero_shot=float(zero_shot["score"].mean()),
        own_score=float(on_itself["score"].mean()),
        base=base,
        relative=Estimate(
            mean, len(shared), sd, low, high, num_examples, item_low, item_high, method, num_missing=num_missing
        ),
        by_seed=dict(
            zip(shared, zip(zero_shot["score"].tolist(), on_itself["score"].tolist(), strict=True), strict=True)
        ),
    )


def _at_default_size(frame: pd.DataFrame, data: StudyData) -> pd.DataFrame:
    """The rows at each method's default size; a ratio of runs at two counts would measure the counts."""
    n = [data.own_sizes.get(key) for key in zip(frame["backbone"], frame["method"], strict=True)]
    return frame[frame["num_trainable"] == pd.Series(n, index=frame.index, dtype=float)]


def _with_targets_themselves(frame: pd.DataFrame, data: StudyData) -> pd.DataFrame:
    """The rows, and for every task on which source and target could be equal the score of its run."""
    cell = ["backbone", "method", "num_trainable", "seed"]
    runs = frame[cell].drop_duplicates().merge(complete(data.runs), on=cell)
    tasks = {
        (backbone, method): set(g["source"]) | set(g["target"])
        for (backbone, method), g in frame.groupby(["backbone", "method"], sort=False)
    }
    runs = runs[[r.task in tasks[r.backbone, r.method] for r in runs.itertuples()]]
    themselves = runs.assign(source=runs["task"], target=runs["task"])[list(frame.columns)]
    # A score on itself that the table gives comes first and stays: like the table's others, it may have been evaluated
    # on fewer items than its run was.
    both = pd.concat([frame, themselves], ignore_index=True)
    return both.drop_duplicates([*cell, "source", "target"], ignore_index=True)


def ratio_interval(
    numerator: tuple[float, float, float], denominator: tuple[float, float, float]
) -> tuple[float, float]:
    """MOVER-R: 95 % interval of a ratio from the intervals of both parts (Donner and Zou 2012).

    Args:
        numerator: score, lower and upper end of its 95 % interval.
        denominator: the same of a score above 0.

    Returns:
        Lower and upper end; the upper one is infinite where the denominator may be 0.
    """
    # As the paper writes it: estimates x and y with limits l and u. The delta method would make an interval that is
    # symmetric about the ratio, and so would throw away the asymmetry that the scores' intervals have near 0 and 1.
    (x, x_l, x_u), (y, y_l, y_u) = numerator, denominator
    low = 0.0
    if y_u < 2 * y:  # else the paper's denominator is not positive, and nothing but 0 bounds the ratio from below
        root = math.sqrt(max(0.0, (x * y) ** 2 - x_l * y_u * (2 * x - x_l) * (2 * y - y_u)))
        low = (x * y - root) / (y_u * (2 * y - y_u))
    if y_l <= 0:
        return max(0.0, low), math.inf
    root = math.sqrt(max(0.0, (x * y) ** 2 - x_u * y_l * (2 * x - x_u) * (2 * y - y_l)))
    return max(0.0, low), (x * y + root) / (y_l * (2 * y - y_l))
