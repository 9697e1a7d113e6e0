"""What the runs say, in plain words: the first thing on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from apet.analysis.claims import LEFT_OPEN
from apet.analysis.frames import complete
from apet.analysis.gap_by_scale import Gap
from apet.analysis.intervals import Estimate
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.analysis.thresholds import Threshold
from apet.analysis.trend import Trend
from apet.report.captions import between
from apet.report.formatting import count, listed, named, points, significant, span


@dataclass(frozen=True)
class Finding:
    """One thing that a reader should take away.

    Attributes:
        about: experiment, such as E5.
        text: a sentence or two.
    """

    about: str
    text: str


def findings(a: Analysis) -> list[Finding]:
    """The thresholds first, each experiment's numbers before its claims; empty without a complete run."""
    claims = [_claim([t for t in a.trends if t.claim == c]) for c in dict.fromkeys(t.claim for t in a.trends)]
    numbers = [*_high(a), *_low(a), *_gaps(a), *_structure(a)]
    order = ("E5", "E1", "E2", "E3", "E7")
    return sorted([*numbers, *claims], key=lambda f: order.index(f.about))


def headline(a: Analysis) -> str:
    """The first sentence of the page: where full fine-tuning is reached, on the largest backbone, else the gaps."""
    if complete(a.data.runs).empty:
        return "No run is complete yet."
    found = findings(a)
    reaching = [f for f in found if " reaches full fine-tuning from " in f.text]
    first = reaching or _gaps(a) or found
    return first[0].text if first else "The runs that are complete do not compare anything yet."


def _main(a: Analysis, scale: Scale, found: Sequence[Threshold]) -> list[Threshold]:
    """Thresholds of the mean over tasks; where there is none, of the only task."""
    mean = [t for t in found if t.scale == scale and t.task is None]
    if mean or len(a.data.tasks(scale.family)) > 1:
        return mean
    return [t for t in found if t.scale == scale]


def _where(a: Analysis, scale: Scale, found: Sequence[Threshold]) -> str:
    tasks = a.data.tasks(scale.family)
    task = found[0].task
    return f"On {scale.name} (mean over {len(tasks)} tasks)" if task is None else f"On {scale.name}, {task}"


def _high(a: Analysis) -> list[Finding]:
    found = []
    for scale in a.data.scales[::-1]:
        mine = _main(a, scale, [t for t in a.thresholds if t.kind == "high"])
        if not mine:
            continue
        reached = sorted((t for t in mine if math.isfinite(t.bracket.upper)), key=lambda t: t.bracket.upper)
        never = listed([f"{named(t.method)} up to {count(t.tried[-1])}" for t in mine if math.isinf(t.bracket.upper)])
        within = f"to within {significant(100 * a.margin)} point{'' if a.margin == 0.01 else 's'}"
        where = _where(a, scale, mine)
        if not reached:
            found.append(Finding("E5", f"{where}, nothing tried is shown to reach full fine-tuning {within}: {never}."))
            continue
        first, *others = reached
        text = f"{where}, {named(first.method)} reaches full fine-tuning from {_from(first)}, {within}"
        if others:
            text += "; " + listed([f"{named(t.method)} from {_from(t)}" for t in others])
        found.append(Finding("E5", text + (f"; not shown: {never}." if never else ".")))
    return found or _high_by_task(a)


def _from(t: Threshold) -> str:
    share = 100 * t.bracket.upper / t.scale.num_parameters
    return f"{count(t.bracket.upper)} parameters ({significant(share, 2)} %)"


def _high_by_task(a: Analysis) -> list[Finding]:
    """Where no count was run on all tasks: how often each method gets there."""
    found = []
    for method in a.data.methods:
        mine = [t for t in a.thresholds if t.kind == "high" and t.method == method]
        reached = sorted((t for t in mine if math.isfinite(t.bracket.upper)), key=lambda t: t.bracket.upper)
        if not mine:
            continue
        text = f"{named(method)} reaches full fine-tuning on {len(reached)} of {len(mine)} pairs of backbone and task"
        if reached:
            t = reached[0]
            text += f", first from {_from(t)} on {t.task} with {t.scale.name}"
        found.append(Finding("E5", text + "."))
    return found


def _low(a: Analysis) -> list[Finding]:
    found = []
    for scale in a.data.scales[::-1]:
        mine = _main(a, scale, [t for t in a.thresholds if t.kind == "low"])
        reached = sorted((t for t in mine if math.isfinite(t.bracket.upper)), key=lambda t: t.bracket.upper)
        if reached:
            each = listed([f"{named(t.method)} from {count(t.bracket.upper)}" for t in reached])
            found.append(Finding("E5", f"{_where(a, scale, mine)}, above chance: {each} parameters."))
    return found


def _gaps(a: Analysis) -> list[Finding]:
    found = []
    for scale in a.data.scales[::-1]:
        mine = [(g, g.gap) for g in a.gaps if g.scale == scale and g.task is None and g.gap is not None]
        if not mine:
            continue
        groups = {v: [_gap(g, e) for g, e in mine if e.verdict == v] for v in _SIDES}
        parts = [f"{_SIDES[v]} {listed(words)}" for v, words in groups.items() if words]
        if not any(words for v, words in groups.items() if v != "not decidable"):  # one seed: nothing to tell apart
            parts = [listed(groups["not decidable"])]
        seeds = {e.num_seeds for _, e in mine}
        many = f"over {between(seeds - {1}, 'seed')}" if seeds != {1} else ""
        single = "over the items of one seed" if 1 in seeds else ""
        over = ", else ".join(x for x in (many, single) if x)
        text = f"On {scale.name}, full fine-tuning − method in points (95 % {over}): {'; '.join(parts)}."
        found.append(Finding("E1", text))
    return found


_SIDES = {
    "higher": "behind are",
    "lower": "ahead are",
    "no significant difference": "without a significant difference are",
    "not decidable": "not decidable with one seed are",
}


def _gap(g: Gap, e: Estimate) -> str:
    low, high = (e.item_ci_low, e.item_ci_high) if math.isnan(e.ci_low) else (e.ci_low, e.ci_high)
    ends = "" if math.isnan(low) else f" ({span(low, high)})"
    mark = "\u00a0†" if e.num_missing else ""
    return f"{named(g.method)} {points(e.score)}{ends}{mark}"


def _structure(a: Analysis) -> list[Finding]:
    mine = [d for s in a.structures if s.task is None for d in s.differences.values()]
    if not mine:
        return []
    apart = sum(d.verdict in ("higher", "lower") for d in mine)
    open_ = sum(d.verdict == "not decidable" for d in mine)
    text = (
        f"At equal counts, {apart} of {len(mine)} comparisons between structures are distinguished"
        f" and {len(mine) - apart - open_} are not"
    )
    return [Finding("E2", text + (f"; {open_} rest on one seed." if open_ else "."))]


def _claim(trends: Sequence[Trend]) -> Finding:
    about = {"the gap": "E1", "the high": "E5", "the low": "E5", "adjacent": "E3", "transfer": "E7"}
    claim = trends[0].claim
    parts = []
    for verdict in ("supported", "not supported", "not decidable with these runs"):
        mine = [t for t in trends if t.verdict == verdict]
        if mine:
            parts.append(f"{verdict} for {listed([_short(t) for t in mine])}")
    ends = ", as far as the ranges settle it" if trends[0].ci_method.endswith(LEFT_OPEN) else ", 95 %"
    experiment = next(v for k, v in about.items() if claim.startswith(k))
    return Finding(experiment, f"That {claim} is {'; '.join(parts)} ({trends[0].number}{ends}).")


def _short(t: Trend) -> str:
    who = f"{named(t.what)} on {t.where}" if t.what else t.where
    if math.isnan(t.ci_low):
        return who
    if math.isinf(t.ci_low) and math.isinf(t.ci_high):
        return f"{who} (open)"
    return f"{who} ({significant(t.ci_low, 2)} to {significant(t.ci_high, 2)})"
