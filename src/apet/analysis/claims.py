"""Claims of the paper about scale, tested on our runs: a fitted number, its 95 % interval and a verdict.

A claim says that a number lies below 0 (or within a factor). It is *supported* where the whole interval does, *not
supported* where the interval leaves no room for an effect worth naming (``smallest_effect``), and *not decidable with
these runs* otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from apet.analysis.convergence import ConvergenceComparison
from apet.analysis.gap_by_scale import Gap
from apet.analysis.intervals import Estimate, Floats
from apet.analysis.study_data import Scale, StudyData
from apet.analysis.thresholds import Threshold
from apet.analysis.transfer import TransferScore, within_against_across
from apet.analysis.trend import ClaimVerdict, Trend, below_zero, slope, slope_bounds

SMALLEST_GAP_SLOPE = 0.005
"""Half a point of gap closed per tenfold scale."""
SMALLEST_THRESHOLD_SLOPE = 0.1
"""log10: a threshold that falls by a fifth per tenfold scale."""
SAME_RANGE_FACTOR = 10.0
"""Factor within which thresholds count as the same; the paper's own ranges span up to ten."""
SMALLEST_SPEEDUP = 0.1
"""log2: 7 % fewer steps."""
SMALLEST_TRANSFER_DIFFERENCE = 0.05
"""In relative transfer: a share of the score of training on the target itself."""
LEFT_OPEN = "the interval is what the ranges leave open"


def gap_shrinks(gaps: Sequence[Gap]) -> list[Trend]:
    """Claim that the gap to full fine-tuning shrinks with scale: slope of the gap on log10 of the parameters.

    Args:
        gaps: as `apet.analysis.gap_by_scale.gaps` returns them.

    Returns:
        By family; of each all methods together, then each. None for a family of one scale.
    """
    means = {(g.scale, g.method) for g in gaps if g.task is None and g.by_seed}
    by_task = {(g.scale, g.method, g.task): g.by_seed for g in gaps if g.task is not None and g.by_seed}
    trends = []
    for family in dict.fromkeys(s.family for s, _ in means):
        scales = sorted({s for s, _ in means if s.family == family}, key=lambda s: (s.num_parameters, s.name))
        # Only what every scale has enters: an easy task that the largest lacks would make its gap seem to grow.
        methods = [m for m in dict.fromkeys(g.method for g in gaps) if {s for s, x in means if x == m} >= set(scales)]
        tasks = [
            t
            for t in dict.fromkeys(g.task for g in gaps if g.task is not None)
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
    """Trend of the mean gap of some methods; a scale's gap is over the seeds that all its methods and tasks have."""
    gaps_by_scale: list[tuple[Scale, Floats]] = []
    for s in scales:
        cells = [by_task[s, m, t] for m in methods for t in tasks]
        # Seeds are matched by their number: the mean of one seed over all methods and tasks is one draw of the study.
        seeds = sorted(set.intersection(*(set(c) for c in cells)))
        gaps_by_scale.append((s, np.array([np.mean([c[seed] for c in cells]) for seed in seeds])))
    # Backbones scatter about any line by more than their seeds do: pooled over seeds, the interval covers the slope in
    # less than 75 % of cases. So each scale is one point. Two scales show no scatter, and the seeds have to do.
    over_means = len(scales) > 2
    if over_means:
        gaps_by_scale = [(s, np.array([y.mean()])) for s, y in gaps_by_scale if len(y)]
    # Scale enters as its logarithm: the paper's claim is about each tenfold, and sizes span orders of magnitude.
    x = np.concatenate([np.full(len(y), math.log10(s.num_parameters)) for s, y in gaps_by_scale])
    y = np.concatenate([y for _, y in gaps_by_scale])
    fitted, low, high = (float(v) for v in slope(x, y))
    points = f"{len(y)} means of a scale" if over_means else f"{len(y)} seeds of {len(gaps_by_scale)} scales"
    return Trend(
        claim="the gap to full fine-tuning shrinks with scale",
        where=family,
        what=what,
        number="points of gap per tenfold scale",
        estimate=100 * fitted,
        ci_low=100 * low,
        ci_high=100 * high,
        verdict=below_zero(low, high, SMALLEST_GAP_SLOPE),
        ci_method=f"least squares over {points}, {_plural(len(tasks), 'task')}, t-interval",
    )


def high_falls(thresholds: Sequence[Threshold]) -> list[Trend]:
    """Claim that the high threshold falls with scale: slope of log10 N on log10 of the parameters.

    Args:
        thresholds: as `apet.analysis.thresholds.thresholds` returns them.

    Returns:
        By family and method, with the slopes that the ranges of the thresholds allow.
    """
    high = [t for t in thresholds if t.kind == "high" and t.task is not None]
    trends = []
    for family, method in dict.fromkeys((t.scale.family, t.method) for t in high):
        of_method = [t for t in high if (t.scale.family, t.method) == (family, method)]
        scales = sorted({t.scale for t in of_method}, key=lambda s: s.num_parameters)
        tasks = set.intersection(*({t.task for t in of_method if t.scale == s} for s in scales))
        if len({s.num_parameters for s in scales}) < 2 or not tasks:
            continue
        ranges = [_mean_log([t for t in of_method if t.scale == s and t.task in tasks]) for s in scales]
        # A threshold is known as a range; any point within may be true, so all slopes through the ranges are given
        # instead of an interval about one of them.
        low, top = slope_bounds(
            np.array([math.log10(s.num_parameters) for s in scales]),
            np.array([low for low, _ in ranges]),
            np.array([high for _, high in ranges]),
        )
        trends.append(
            Trend(
                claim="the high threshold falls with scale",
                where=family,
                what=method,
                number="powers of ten per tenfold scale",
                estimate=(low + top) / 2 if math.isfinite(low + top) else math.nan,
                ci_low=low,
                ci_high=top,
                verdict=below_zero(low, top, SMALLEST_THRESHOLD_SLOPE),
                ci_method=f"least squares, {len(scales)} scales, {_over(tasks)}; {LEFT_OPEN}",
            )
        )
    return trends


def _mean_log(thresholds: Sequence[Threshold]) -> tuple[float, float]:
    """Ends of the mean log10 threshold: at least one parameter, at most as far as was tried."""
    # In the logarithm, for N is tried on a geometric grid: 100 against 200 is as far as 10,000 against 20,000.
    lows = [math.log10(max(1.0, t.answer.ci_low)) for t in thresholds]
    highs = [math.log10(t.answer.ci_high) if math.isfinite(t.answer.ci_high) else math.inf for t in thresholds]
    return float(np.mean(lows)), float(np.mean(highs))


def low_same(thresholds: Sequence[Threshold]) -> list[Trend]:
    """Claim that the low thresholds of all methods lie in one range: largest factor between two methods.

    Args:
        thresholds: as `apet.analysis.thresholds.thresholds` returns them.

    Returns:
        By backbone, with the factors that the ranges of the thresholds allow. None for a backbone of one method.
    """
    low = [t for t in thresholds if t.kind == "low" and t.task is not None]
    trends = []
    for scale in dict.fromkeys(t.scale for t in low):
        of_scale = [t for t in low if t.scale == scale]
        methods = list(dict.fromkeys(t.method for t in of_scale))
        tasks = set.intersection(*({t.task for t in of_scale if t.method == m} for m in methods))
        if len(methods) < 2 or not tasks:
            continue
        ranges = [_mean_log([t for t in of_scale if t.method == m and t.task in tasks]) for m in methods]
        # At least the distance between the ranges that lie farthest apart (0 if all overlap), at most their union.
        smallest = max(0.0, max(lowest for lowest, _ in ranges) - min(highest for _, highest in ranges))
        largest = max(highest for _, highest in ranges) - min(lowest for lowest, _ in ranges)
        allowed = math.log10(SAME_RANGE_FACTOR)
        verdict: ClaimVerdict = "not decidable with these runs"
        if largest <= allowed:
            verdict = "supported"
        elif smallest > allowed:
            verdict = "not supported"
        trends.append(
            Trend(
                claim=f"the low thresholds of all methods lie within a factor of {SAME_RANGE_FACTOR:.0f}",
                where=scale.name,
                what=f"{len(methods)} methods",
                number="largest factor between two methods",
                estimate=math.nan,
                ci_low=10**smallest,
                ci_high=10**largest,
                verdict=verdict,
                ci_method=f"{_over(tasks)}; {LEFT_OPEN}",
            )
        )
    return trends


def adjacent_faster(comparisons: Sequence[ConvergenceComparison]) -> list[Trend]:
    """Claim that APET-adjacent converges in fewer steps than APET-discrete: mean ratio of their steps.

    Args:
        comparisons: as `apet.analysis.convergence.convergence_comparisons` returns them; of other pairs the paper
            claims nothing, and they are ignored.

    Returns:
        By backbone, over all N together.
    """
    trends = []
    for c in comparisons:
        if c.num_trainable is not None or not c.is_papers_pair:
            continue
        ratio = c.log2_ratio
        # Pairs without convergence are no evidence for either side; how many there are must be seen beside the verdict.
        left_out = f"; left out without convergence: {c.left_out}" if c.left_out else ""
        counts = f"{_plural(c.pairs, 'pair')} of curves, {_plural(ratio.num_seeds, 'seed')}"
        trends.append(
            Trend(
                claim="adjacent converges in fewer steps than discrete",
                where=c.scale.name,
                what="",
                number="steps of adjacent / steps of discrete",
                estimate=2**ratio.score,
                ci_low=2**ratio.ci_low,
                ci_high=2**ratio.ci_high,
                verdict=below_zero(ratio.ci_low, ratio.ci_high, SMALLEST_SPEEDUP),
                ci_method=f"{counts}, t-interval of the log{left_out}",
            )
        )
    return trends


def transfer_within(scores: Sequence[TransferScore], data: StudyData) -> list[Trend]:
    """Claim that transfer works within a category and less across: difference of the mean relative transfer.

    Args:
        scores: as `apet.analysis.transfer.transfer_scores` returns them.
        data: the runs, for the categories of the tasks.

    Returns:
        By backbone and method.
    """
    trends = []
    for backbone, method in dict.fromkeys((s.backbone, s.method) for s in scores):
        of_method = [s for s in scores if (s.backbone, s.method) == (backbone, method)]
        within_minus_across = within_against_across(of_method, data.categories)
        if within_minus_across is None:
            continue
        difference = _negated(within_minus_across)
        trends.append(
            Trend(
                claim="transfer works within a category and less across",
                where=backbone,
                what=method,
                number="points of relative transfer, across − within",
                estimate=100 * difference.score,
                ci_low=100 * difference.ci_low,
                ci_high=100 * difference.ci_high,
                verdict=below_zero(difference.ci_low, difference.ci_high, SMALLEST_TRANSFER_DIFFERENCE),
                ci_method=f"{_plural(difference.num_seeds, 'seed')}, t-interval",
            )
        )
    return trends


def _negated(e: Estimate) -> Estimate:
    """The difference the other way round."""
    return replace(e, score=-e.score, ci_low=-e.ci_high, ci_high=-e.ci_low)


def _over(tasks: Collection[object]) -> str:
    return f"geometric mean over {_plural(len(tasks), 'task')}"


def _plural(n: int, word: str) -> str:
    return f"{n} {word}{'s' * (n != 1)}"
