"""Sharing a budget out over places: exact, fair, and never leaving a place less than it needs to be alive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apet.seeding import SeededGenerator


def allocate_budget(
    total: int, minima: Sequence[int], caps: Sequence[int], weights: Sequence[float], mask_seed: int
) -> list[int] | None:
    """Split ``total`` scalars over places, as evenly as their weights ask, by the largest-remainder rule.

    A budget too small for every place goes to some of them, chosen by ``mask_seed``; where those cannot hold it all,
    to the largest.

    Args:
        total: at least 1.
        minima: fewest scalars with which a place is alive; at least 1 each.
        caps: most that a place can hold.
        weights: shares are proportional to these, within [minimum, cap].
        mask_seed: decides which places a small budget reaches and who gets the odd scalar.

    Returns:
        One count for each place, 0 for those left out, adding up to ``total``; None if no split exists (decided
        exactly for minima that are all equal, or 1 and 2, as those of every method here are).
    """
    order = SeededGenerator(mask_seed, "allocation").permutation(range(len(minima)))
    chosen = _affordable(total, minima, order)
    if sum(caps[i] for i in chosen) < total:
        chosen = _affordable(total, minima, sorted(order, key=lambda i: -caps[i]))
    if not chosen or sum(caps[i] for i in chosen) < total:
        return None
    low = np.array([minima[i] for i in chosen], dtype=float)
    high = np.array([caps[i] for i in chosen], dtype=float)
    weight = np.array([weights[i] for i in chosen], dtype=float)
    level = _level(total, low, high, weight)
    ideal = np.clip(level * weight, low, high)
    given = np.floor(ideal).astype(np.int64)
    rest = total - int(given.sum())
    ranking = np.argsort(-(ideal - given), kind="stable")
    step = 1 if rest > 0 else -1
    bound = high if rest > 0 else low
    while rest:
        open_ = [j for j in ranking if given[j] != bound[j]][: abs(rest)]
        given[open_] += step
        rest -= step * len(open_)
    counts = [0] * len(minima)
    for i, n in zip(chosen, given, strict=True):
        counts[i] = int(n)
    return counts


def _affordable(total: int, minima: Sequence[int], order: Sequence[int]) -> list[int]:
    """The places that ``total`` keeps alive, first come, first served."""
    chosen, needed = [], 0
    for i in order:
        if needed + minima[i] <= total:
            chosen.append(i)
            needed += minima[i]
    return chosen


def _level(total: int, low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> float:
    """The level λ at which Σ clip(λ · weight, low, high) reaches the total: it grows by straight pieces."""
    bends = np.concatenate([low / weight, high / weight])
    order = np.argsort(bends, kind="stable")
    bends = bends[order]
    slopes = np.cumsum(np.concatenate([weight, -weight])[order])
    sums = low.sum() + np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(bends))])
    piece = int(np.searchsorted(sums, total, side="right")) - 1
    if piece < 0 or slopes[piece] <= 0:
        return float(bends[max(piece, 0)])
    return float(bends[piece] + (total - sums[piece]) / slopes[piece])
