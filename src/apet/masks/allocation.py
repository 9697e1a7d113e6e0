"""Allocation of a budget over weights: exact, even, and never too little for a weight to have a gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apet.seeding import SeededGenerator


def allocate_budget(
    num_trainable: int,
    min_params: Sequence[int],
    max_params: Sequence[int],
    shares: Sequence[float],
    mask_seed: int,
) -> list[int] | None:
    """Split a budget over targets, as evenly as their shares ask, by the largest-remainder rule.

    A budget too small for every target goes to some of them, chosen by ``mask_seed``; where those cannot hold it all,
    to the largest.

    Args:
        num_trainable: the budget N, at least 1.
        min_params: of each target, the fewest parameters with which all of them have a gradient; at least 1.
        max_params: of each target, the most that it can hold.
        shares: counts are proportional to these, within [min, max].
        mask_seed: decides which targets a small budget reaches and which get the odd parameter.

    Returns:
        One count for each target, 0 for those left out, adding up to ``num_trainable``; None if no split exists
        (decided exactly for minima that are all equal, or 1 and 2, as those of every method here are).
    """
    order = SeededGenerator(mask_seed, "allocation").permutation(range(len(min_params)))
    chosen = _affordable(num_trainable, min_params, order)
    # The drawn targets may be small ones that cannot hold the budget, where fewer but larger ones can.
    if sum(max_params[i] for i in chosen) < num_trainable:
        chosen = _affordable(num_trainable, min_params, sorted(order, key=lambda i: -max_params[i]))
    if not chosen or sum(max_params[i] for i in chosen) < num_trainable:
        return None
    low = np.array([min_params[i] for i in chosen], dtype=float)
    high = np.array([max_params[i] for i in chosen], dtype=float)
    share = np.array([shares[i] for i in chosen], dtype=float)
    ideal = np.clip(_level(num_trainable, low, high, share) * share, low, high)
    given = np.floor(ideal).astype(np.int64)
    rest = num_trainable - int(given.sum())
    # The odd parameters go to the largest remainders; the stable sort keeps the drawn order among equals.
    ranking = np.argsort(-(ideal - given), kind="stable")
    # The rest can be negative where the level comes out a rounding error too high: then parameters are taken back.
    step = 1 if rest > 0 else -1
    bound = high if rest > 0 else low
    while rest:
        with_room = [j for j in ranking if given[j] != bound[j]][: abs(rest)]
        given[with_room] += step
        rest -= step * len(with_room)
    counts = [0] * len(min_params)
    for i, count in zip(chosen, given, strict=True):
        counts[i] = int(count)
    return counts


def _affordable(num_trainable: int, min_params: Sequence[int], order: Sequence[int]) -> list[int]:
    """Targets whose minima together fit into the budget, first come, first served."""
    chosen, needed = [], 0
    for i in order:
        if needed + min_params[i] <= num_trainable:
            chosen.append(i)
            needed += min_params[i]
    return chosen


def _level(num_trainable: int, low: np.ndarray, high: np.ndarray, share: np.ndarray) -> float:
    """The level λ at which Σ clip(λ · share, low, high) reaches the budget.

    The sum grows with λ by straight pieces that bend where a target leaves its minimum or meets its maximum, so the
    piece that holds the budget is found by one sort instead of by trial.

    Returns:
        The level.
    """
    bends = np.concatenate([low / share, high / share])
    order = np.argsort(bends, kind="stable")
    bends = bends[order]
    slopes = np.cumsum(np.concatenate([share, -share])[order])
    sums = low.sum() + np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(bends))])
    piece = int(np.searchsorted(sums, num_trainable, side="right")) - 1
    if piece < 0 or slopes[piece] <= 0:
        return float(bends[max(piece, 0)])
    return float(bends[piece] + (num_trainable - sums[piece]) / slopes[piece])
