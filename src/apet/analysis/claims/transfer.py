"""Claim that transfer works within a category and less across, by a permutation of the categories among the tasks.

What counts of a zero-shot score is what it gains over the untrained model and the best constant answer, as a share of
what training on the target gains over them. Pairs of tasks are not independent (each task is in many), and a hard task
makes all its pairs hard; so the categories are dealt out anew among the tasks in every possible way, and the difference
between pairs within and across is held against all that come out. The seeds must agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, permutations, product

import numpy as np

from apet.analysis.claims.complete_cells import LEAST_GAIN, Mask
from apet.analysis.claims.verdict import ALPHA, OPEN, SUPPORTED, ClaimRow, View, below_zero, p_below_zero, unknown_view
from apet.analysis.intervals import Floats, t_interval
from apet.analysis.transfer import TransferScore

CLAIM = "transfer works within a category and less across"
SMALLEST_DIFFERENCE = 5.0
"""Points of what training on the target gains."""
MAX_PERMUTATIONS, MAX_ARRANGEMENTS = 50_000, 4000
"""All orders of the tasks are gone through up to the first number, beyond it as many random ones as the second."""
_ROUNDING = 1e-12


@dataclass(frozen=True)
class TransferGains:
    """What zero-shot transfer gains, relative to training on the target itself.

    Attributes:
        tasks: names.
        categories: of the tasks.
        gains: (seeds, sources, targets); NaN where there is none, as of a task on itself.
    """

    tasks: tuple[str, ...]
    categories: tuple[str, ...]
    gains: Floats


def transfer_within(scores: Sequence[TransferScore], categories: Mapping[str, str]) -> list[ClaimRow]:
    """The claim by backbone and method.

    Args:
        scores: as `apet.analysis.transfer.transfer_scores` returns them.
        categories: task -> category.

    Returns:
        Rows before Holm's correction; none where no pair lies within a category, or none across.
    """
    rows = []
    for backbone, method in dict.fromkeys((s.backbone, s.method) for s in scores):
        of_method = [s for s in scores if (s.backbone, s.method) == (backbone, method)]
        gains, note = _gains(of_method, categories)
        row = transfer_row(backbone, method, gains, note)
        if row is not None:
            rows.append(row)
    return rows


def _gains(scores: Sequence[TransferScore], categories: Mapping[str, str]) -> tuple[TransferGains, str]:
    """Gains of one backbone and method, and what was left out."""
    learnt = {s.target for s in scores if s.own_score - s.base >= LEAST_GAIN}
    known = [t for t in categories if any(t in (s.source, s.target) for s in scores)]
    tasks = tuple(t for t in known if t in learnt)
    seeds = sorted({seed for s in scores for seed in s.by_seed})
    gains = np.full((len(seeds), len(tasks), len(tasks)), np.nan)
    for s in scores:
        if s.source in tasks and s.target in tasks and s.source != s.target:
            for seed, (zero_shot, own) in s.by_seed.items():
                gain = own - s.base
                # Of one seed that learnt nothing there is no share; the mean over seeds has learnt.
                if gain >= LEAST_GAIN:
                    place = seeds.index(seed), tasks.index(s.source), tasks.index(s.target)
                    gains[place] = (zero_shot - s.base) / gain
    left_out = [t for t in known if t not in learnt]
    note = f"left out, since training on them gains nothing: {', '.join(left_out)}" if left_out else ""
    return TransferGains(tasks, tuple(categories[t] for t in tasks), gains), note


def transfer_row(where: str, what: str, gains: TransferGains, note: str = "") -> ClaimRow | None:
    """The claim for one backbone and method; see the module.

    Args:
        where: backbone.
        what: method.
        gains: of all pairs.
        note: what was left out.

    Returns:
        The row before Holm's correction; None where no pair lies within a category, or none across.
    """
    categories = np.array(gains.categories)
    same = categories[:, None] == categories
    known: Mask = np.asarray(~np.isnan(gains.gains).all(axis=0))
    if not (known & same).any() or not (known & ~same).any():
        return None
    by_seed = np.array([float(_across_minus_within(g, same)) for g in gains.gains])
    by_seed = 100 * by_seed[~np.isnan(by_seed)]
    number = "points of what training on the target gains, across − within"
    return ClaimRow.of(CLAIM, where, what, [_over_categories(number, gains, known), _over_seeds(number, by_seed)], note)


def _over_seeds(number: str, by_seed: Floats) -> View:
    """Student's t over the seeds."""
    if not len(by_seed):
        return unknown_view("seeds", number, "no seed has both")
    mean, _, low, high = (float(v) for v in t_interval(by_seed))
    p_value = p_below_zero(mean, high - mean, len(by_seed) - 1)
    basis = f"{len(by_seed)} seed{'s' * (len(by_seed) != 1)}, t-interval"
    return View("seeds", number, mean, low, high, p_value, below_zero(low, high, SMALLEST_DIFFERENCE), basis)


def _over_categories(number: str, gains: TransferGains, known: Mask) -> View:
    """Permutation test over the categories; its p-value can be no smaller than their number allows."""
    counts = (~np.isnan(gains.gains)).sum(axis=0)
    mean = np.where(known, np.nansum(gains.gains, axis=0) / np.maximum(counts, 1), np.nan)
    dealt = _across_minus_within(mean, _arrangements(gains.categories, _kinds(known)))
    measured = dealt[0]
    others = dealt[~np.isnan(dealt)]
    p_value = min(1.0, 2 * float(np.mean(others <= measured + _ROUNDING)))
    basis = f"permutation test, {len(others):,} arrangements of the categories"
    if 2 / len(others) > ALPHA:
        basis += f", too few for a p below {2 / len(others):.2g}"
    verdict = SUPPORTED if p_value <= ALPHA else OPEN
    return View("categories", number, 100 * float(measured), math.nan, math.nan, p_value, verdict, basis)


def _across_minus_within(gains: Floats, same: Mask) -> Floats:
    """Mean over pairs across − mean over pairs within; NaN where either has none.

    Args:
        gains: (sources, targets).
        same: which pairs lie within a category, (..., sources, targets).

    Returns:
        (...).
    """
    known = ~np.isnan(gains)
    values = np.where(known, gains, 0.0)
    means = []
    for side in (known & ~same, known & same):
        counts = side.sum(axis=(-2, -1))
        sums = (values * side).sum(axis=(-2, -1))
        means.append(np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0))
    return np.asarray(means[0] - means[1])


def _kinds(known: Mask) -> tuple[tuple[int, ...], ...]:
    """Tasks by what they transfer to: labels go to tasks with labels, text to text, and categories stay among those."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i in range(len(known)):
        partners = tuple(sorted({i, *np.flatnonzero(known[i] | known[:, i]).tolist()}))
        groups.setdefault(partners, []).append(i)
    return tuple(tuple(g) for g in groups.values())


@lru_cache(maxsize=32)
def _arrangements(categories: tuple[str, ...], kinds: tuple[tuple[int, ...], ...]) -> Mask:
    """Every way to deal out the categories among the tasks of each kind, or `MAX_ARRANGEMENTS` random ones.

    Args:
        categories: of the tasks.
        kinds: places of the tasks of each kind.

    Returns:
        Which pairs then lie within a category, (arrangements, tasks, tasks), the true one first. What categories are
        called does not matter: ways that group the tasks alike come once.
    """
    labels = np.array(categories)
    if math.prod(math.factorial(len(k)) for k in kinds) <= MAX_PERMUTATIONS:
        every = [tuple(chain(*each)) for each in product(*(permutations(k) for k in kinds))]
        places = np.array(every, dtype=int)
    else:
        rng = np.random.default_rng(0)
        drawn = [np.concatenate([rng.permutation(k) for k in kinds]) for _ in range(MAX_ARRANGEMENTS - 1)]
        places = np.array([np.concatenate(kinds), *drawn], dtype=int)
    dealt = np.empty_like(places, dtype=labels.dtype)
    dealt[:, np.concatenate(kinds)] = labels[places]
    same = np.asarray(dealt[:, :, None] == dealt[:, None, :])
    if len(same) == MAX_ARRANGEMENTS:
        return same
    packed = np.packbits(same.reshape(len(same), -1), axis=1)
    _, first = np.unique(packed, axis=0, return_index=True)
    return same[np.sort(first)]
