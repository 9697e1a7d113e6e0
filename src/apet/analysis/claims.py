"""What the paper claims about scale, held against our runs: a fitted number, its interval and a plain verdict.

A claim says that a number lies below 0 (or within a factor). It is *supported* where the whole interval does, *not
supported* where the interval leaves no room for an effect worth naming (``least``), and *not decidable with these
runs* otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from apet.analysis.convergence import ConvergenceComparison
from apet.analysis.gap_by_scale import Gap
from apet.analysis.intervals import Estimate, Floats, t_quantile
from apet.analysis.study_data import Scale, StudyData
from apet.analysis.thresholds import Threshold
from apet.analysis.transfer import TransferScore, within_against_across

Verdict = Literal["supported", "not supported", "not decidable with these runs"]

GAP_LEAST = 0.005
"""Half a point of gap closed per tenfold scale."""
FALL_LEAST = 0.1
"""log10: a threshold that falls by a fifth per tenfold scale."""
ONE_RANGE = 10.0
"""Factor within which thresholds count as the same; the paper's own ranges span up to ten."""
FASTER_LEAST = 0.1
"""log2: 7 % fewer steps."""
TRANSFER_LEAST = 0.05
"""Of the target's own measure."""
LEFT_OPEN = "the interval is what the ranges leave open"


@dataclass(frozen=True)
class Trend:
    """One claim about one family, backbone or method.

    Attributes:
        claim: in words.
        where: family or backbone.
        what: method, or how many methods; empty where the claim names them.
        number: what was fitted, in words with its unit.
        value, low, high: the number and its 95 % interval, or what the ranges leave open.
        verdict: plain.
        basis: what stands behind it.
    """

    claim: str
    where: str
    what: str
    number: str
    estimate: float
    ci_low: float
    ci_high: float
    verdict: Verdict
    ci_method: str


def below_zero(low: float, high: float, least: float) -> Verdict:
    """Verdict on "lies below 0"."""
    if high < 0:
        return "supported"
    return "not supported" if low > -least else "not decidable with these runs"


def slope(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Least-squares slope of y on x over the last axis, with its 95 % t-interval; NaN where it has no freedom left.

    Args:
        x: (points,).
        y: (..., points).
    """
    centred = x - x.mean()
    sxx = float(centred @ centred)
    free = len(x) - 2
    if free < 1 or sxx == 0:
        unknown = np.full(y.shape[:-1], np.nan)
        return unknown, unknown, unknown
    b = (y - y.mean(axis=-1, keepdims=True)) @ centred / sxx
    left = y - y.mean(axis=-1, keepdims=True) - b[..., None] * centred
    half = t_quantile(free) * np.sqrt((left**2).sum(axis=-1) / free / sxx)
    return b, b - half, b + half


def gap_shrinks(found: Sequence[Gap]) -> list[Trend]:
    """Does the gap to full fine-tuning shrink with scale? For all methods together, then for each."""
    means = {(g.scale, g.method) for g in found if g.task is None and g.by_seed}
    trends = []
    for family in dict.fromkeys(s.family for s, _ in means):
        scales = sorted({s for s, _ in means if s.family == family}, key=lambda s: (s.num_parameters, s.name))
        methods = [m for m in dict.fromkeys(g.method for g in found) if {s for s, x in means if x == m} >= set(scales)]
        by_task = {(g.scale, g.method, g.task): g.by_seed for g in found if g.task is not None and g.by_seed}
        tasks = [
            t
            for t in dict.fromkeys(g.task for g in found if g.task is not None)
            if all((s, m, t) in by_task for s in scales for m in methods)
        ]
        if len(scales) < 2 or not methods or not tasks:
            continue
        if len(methods) > 1:
            trends.append(_gap_trend(family, methods, f"mean of {len(methods)} methods", scales, tasks, by_task))
        for m in methods:
            trends.append(_gap_trend(family, [m], m, scales, tasks, by_task))
    return trends


def _gap_trend(
    family: str,
    methods: Sequence[str],
    what: str,
    scales: Sequence[Scale],
    tasks: Sequence[str],
    by_task: Mapping[tuple[Scale, str, str], Mapping[int, float]],
) -> Trend:
    """Over the tasks that every scale has; a scale's gap is the mean over the seeds that all of them have there.

    Backbones scatter about any line by more than their seeds do. So the line is fitted to one mean a scale, and its
    interval takes in both; with two scales there is no scatter to see, and the seeds alone make the interval.
    """
    points: list[tuple[Scale, Floats]] = []
    for s in scales:
        cells = [by_task[s, m, t] for m in methods for t in tasks]
        seeds = sorted(set.intersection(*(set(c) for c in cells)))
        points.append((s, np.array([np.mean([c[seed] for c in cells]) for seed in seeds])))
    over_means = len(scales) > 2
    if over_means:
        points = [(s, np.array([y.mean()])) for s, y in points if len(y)]
    x = np.concatenate([np.full(len(y), math.log10(s.num_parameters)) for s, y in points])
    y = np.concatenate([y for _, y in points])
    b, low, high = (float(v) for v in slope(x, y))
    what_was_fitted = f"{len(y)} means of a scale" if over_means else f"{len(y)} seeds of {len(points)} scales"
    return Trend(
        claim="the gap to full fine-tuning shrinks with scale",
        where=family,
        what=what,
        number="points of gap per tenfold scale",
        estimate=100 * b,
        ci_low=100 * low,
        ci_high=100 * high,
        verdict="not decidable with these runs" if math.isnan(low) else below_zero(low, high, GAP_LEAST),
        ci_method=f"least squares over {what_was_fitted}, {len(tasks)} task{'s' * (len(tasks) != 1)}, t-interval",
    )


def high_falls(found: Sequence[Threshold]) -> list[Trend]:
    """Does the high threshold fall with scale? The slope of its logarithm, as far as the ranges settle it."""
    high = [t for t in found if t.kind == "high" and t.task is not None]
    trends = []
    for family in dict.fromkeys(t.scale.family for t in high):
        for method in dict.fromkeys(t.method for t in high if t.scale.family == family):
            mine = [t for t in high if t.scale.family == family and t.method == method]
            scales = sorted({t.scale for t in mine}, key=lambda s: s.num_parameters)
            tasks = set.intersection(*({t.task for t in mine if t.scale == s} for s in scales))
            if len({s.num_parameters for s in scales}) < 2 or not tasks:
                continue
            logs = {s: _mean_log([t for t in mine if t.scale == s and t.task in tasks]) for s in scales}
            x = np.array([math.log10(s.num_parameters) for s in scales])
            low, top = slope_bounds(x, np.array([logs[s][0] for s in scales]), np.array([logs[s][1] for s in scales]))
            trends.append(
                Trend(
                    claim="the high threshold falls with scale",
                    where=family,
                    what=method,
                    number="powers of ten per tenfold scale",
                    estimate=(low + top) / 2 if math.isfinite(low + top) else math.nan,
                    ci_low=low,
                    ci_high=top,
                    verdict=below_zero(low, top, FALL_LEAST),
                    ci_method=f"least squares, {len(scales)} scales, {_over(tasks)}; {LEFT_OPEN}",
                )
            )
    return trends


def slope_bounds(x: Floats, low: Floats, high: Floats) -> tuple[float, float]:
    """Smallest and largest least-squares slope of points known only as ranges, (points,) each."""
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    used = weights != 0
    w, lo, hi = weights[used], low[used], high[used]
    return float(np.where(w > 0, w * lo, w * hi).sum()), float(np.where(w > 0, w * hi, w * lo).sum())


def _mean_log(found: Sequence[Threshold]) -> tuple[float, float]:
    """Ends of the mean log10 threshold: at least one parameter, at most as far as was tried."""
    lows = [math.log10(max(1.0, t.bracket.lower)) for t in found]
    highs = [math.log10(t.bracket.upper) if math.isfinite(t.bracket.upper) else math.inf for t in found]
    return float(np.mean(lows)), float(np.mean(highs))


def low_same(found: Sequence[Threshold]) -> list[Trend]:
    """Do the low thresholds of all methods lie in one range, backbone by backbone?"""
    low = [t for t in found if t.kind == "low" and t.task is not None]
    trends = []
    for scale in dict.fromkeys(t.scale for t in low):
        mine = [t for t in low if t.scale == scale]
        methods = list(dict.fromkeys(t.method for t in mine))
        tasks = set.intersection(*({t.task for t in mine if t.method == m} for m in methods))
        if len(methods) < 2 or not tasks:
            continue
        logs = [_mean_log([t for t in mine if t.method == m and t.task in tasks]) for m in methods]
        least = max(0.0, max(lo for lo, _ in logs) - min(hi for _, hi in logs))
        most = max(hi for _, hi in logs) - min(lo for lo, _ in logs)
        room = math.log10(ONE_RANGE)
        verdict: Verdict = (
            "supported" if most <= room else "not supported" if least > room else "not decidable with these runs"
        )
        trends.append(
            Trend(
                claim=f"the low thresholds of all methods lie within a factor of {ONE_RANGE:.0f}",
                where=scale.name,
                what=f"{len(methods)} methods",
                number="largest factor between two methods",
                estimate=math.nan,
                ci_low=10**least,
                ci_high=10**most,
                verdict=verdict,
                ci_method=f"{_over(tasks)}; {LEFT_OPEN}",
            )
        )
    return trends


def adjacent_faster(found: Sequence[ConvergenceComparison]) -> list[Trend]:
    """Does APET-adjacent converge in fewer steps than APET-discrete? Backbone by backbone."""
    trends = []
    for r in found:
        if r.num_trainable is not None:
            continue
        e = r.log2_ratio
        left = f"; left out without convergence: {r.left_out}" if r.left_out else ""
        trends.append(
            Trend(
                claim="adjacent converges in fewer steps than discrete",
                where=r.scale.name,
                what="",
                number="steps of adjacent / steps of discrete",
                estimate=2**e.score,
                ci_low=2**e.ci_low,
                ci_high=2**e.ci_high,
                verdict=_of(e, FASTER_LEAST),
                ci_method=f"{_plural(r.pairs, 'pair')} of curves, {_plural(e.num_seeds, 'seed')}, t-interval of the log{left}",
            )
        )
    return trends


def transfer_within(found: Sequence[TransferScore], board: StudyData) -> list[Trend]:
    """Does transfer work better within a category than across?"""
    trends = []
    for backbone, method in dict.fromkeys((r.backbone, r.method) for r in found):
        mine = [r for r in found if (r.backbone, r.method) == (backbone, method)]
        e = within_against_across(mine, board.categories)
        if e is None:
            continue
        trends.append(
            Trend(
                claim="transfer works within a category and less across",
                where=backbone,
                what=method,
                number="points of relative transfer, across − within",
                estimate=-100 * e.score,
                ci_low=-100 * e.ci_high,
                ci_high=-100 * e.ci_low,
                verdict=_of(replace(e, score=-e.score, ci_low=-e.ci_high, ci_high=-e.ci_low), TRANSFER_LEAST),
                ci_method=f"{_plural(e.num_seeds, 'seed')}, t-interval",
            )
        )
    return trends


def _over(tasks: Collection[object]) -> str:
    return f"geometric mean over {_plural(len(tasks), 'task')}"


def _plural(n: int, word: str) -> str:
    return f"{n} {word}{'s' * (n != 1)}"


def _of(e: Estimate, least: float) -> Verdict:
    return "not decidable with these runs" if math.isnan(e.ci_low) else below_zero(e.ci_low, e.ci_high, least)
