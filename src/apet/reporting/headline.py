"""What the runs say, in plain words: the first thing on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from apet.analysis.claims.verdict import ALPHA, DEPENDS, SUPPORTED, VERDICTS, ClaimRow, View, holm_p_values
from apet.analysis.curve_values import ThresholdKind
from apet.analysis.frames import complete
from apet.analysis.gap_by_scale import Gap
from apet.analysis.intervals import DifferenceVerdict, Estimate
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.analysis.thresholds import Threshold
from apet.reporting.captions import count_range, plural
from apet.reporting.formatting import count, display_name, interval, join_words, percent, significant

_PAGE_ORDER = ("E5", "E1", "E2", "E3", "E7")


@dataclass(frozen=True)
class Finding:
    """One thing that a reader should take away.

    Attributes:
        experiment: such as E5.
        text: a sentence or two.
    """

    experiment: str
    text: str


def findings(a: Analysis) -> list[Finding]:
    """The thresholds first, each experiment's numbers before its claims; empty without a complete run."""
    claims = [_claim([r for r in a.claims if r.claim == c]) for c in dict.fromkeys(r.claim for r in a.claims)]
    numbers = [*_high_thresholds(a), *_low_thresholds(a), *_gaps(a), *_structure(a)]
    return sorted([*numbers, *claims], key=lambda f: _PAGE_ORDER.index(f.experiment))


def headline(a: Analysis) -> str:
    """The first sentence of the page: where full fine-tuning is reached, on the largest backbone, else the gaps."""
    if complete(a.data.runs).empty:
        return "No run is complete yet."
    all_findings = findings(a)
    reaching = [f for f in all_findings if " reaches full fine-tuning from " in f.text]
    first = reaching or _gaps(a) or all_findings
    return first[0].text if first else "The runs that are complete do not compare anything yet."


def _thresholds_on(a: Analysis, scale: Scale, kind: ThresholdKind) -> list[Threshold]:
    """Thresholds of the mean over tasks; of a family with one task, of that."""
    of_scale = [t for t in a.thresholds if t.scale == scale and t.kind == kind]
    of_mean = [t for t in of_scale if t.task is None]
    return of_mean if of_mean or len(a.data.tasks(scale.family)) > 1 else of_scale


def _reached(thresholds: Sequence[Threshold]) -> list[Threshold]:
    """Those with an upper end, the smallest first."""
    return sorted((t for t in thresholds if math.isfinite(t.answer.ci_high)), key=lambda t: t.answer.ci_high)


def _place(a: Analysis, scale: Scale, task: str | None) -> str:
    tasks = a.data.tasks(scale.family)
    return f"On {scale.name} (mean over {len(tasks)} tasks)" if task is None else f"On {scale.name}, {task}"


def _high_thresholds(a: Analysis) -> list[Finding]:
    texts = []
    reach = a.reach.describe()
    for scale in a.data.scales[::-1]:
        thresholds = _thresholds_on(a, scale, "high")
        if not thresholds:
            continue
        open_ended = [t for t in thresholds if math.isinf(t.answer.ci_high)]
        never = join_words([f"{display_name(t.method)} up to {count(t.tried[-1])}" for t in open_ended])
        place = _place(a, scale, thresholds[0].task)
        reached = _reached(thresholds)
        if not reached:
            texts.append(f"{place}, nothing tried is shown to reach full fine-tuning, that is {reach}: {never}.")
            continue
        first, *others = reached
        text = (
            f"{place}, {display_name(first.method)} reaches full fine-tuning from {_upper_end(first)}, that is {reach}"
        )
        if others:
            text += "; " + join_words([f"{display_name(t.method)} from {_upper_end(t)}" for t in others])
        texts.append(text + (f"; not shown: {never}." if never else "."))
    return [Finding("E5", text) for text in texts] or _high_thresholds_by_task(a)


def _upper_end(t: Threshold) -> str:
    share = 100 * t.answer.ci_high / t.scale.num_parameters
    return f"{count(t.answer.ci_high)} parameters ({significant(share, 2)} %)"


def _high_thresholds_by_task(a: Analysis) -> list[Finding]:
    """Where no count was run on all tasks: how often each method gets there."""
    texts = []
    for method in a.data.methods:
        thresholds = [t for t in a.thresholds if t.kind == "high" and t.method == method]
        if not thresholds:
            continue
        reached = _reached(thresholds)
        pairs = f"{len(reached)} of {len(thresholds)} pairs of backbone and task"
        text = f"{display_name(method)} reaches full fine-tuning on {pairs}"
        if reached:
            first = reached[0]
            text += f", first from {_upper_end(first)} on {first.task} with {first.scale.name}"
        texts.append(text + ".")
    return [Finding("E5", text) for text in texts]


def _low_thresholds(a: Analysis) -> list[Finding]:
    texts = []
    for scale in a.data.scales[::-1]:
        reached = _reached(_thresholds_on(a, scale, "low"))
        if reached:
            each = join_words([f"{display_name(t.method)} from {count(t.answer.ci_high)}" for t in reached])
            texts.append(f"{_place(a, scale, reached[0].task)}, above the baseline: {each} parameters.")
    return [Finding("E5", text) for text in texts]


def _gaps(a: Analysis) -> list[Finding]:
    texts = []
    for scale in a.data.scales[::-1]:
        gaps = [(g, g.gap) for g in a.gaps if g.scale == scale and g.task is None and g.gap is not None]
        if not gaps:
            continue
        by_side: dict[str, list[str]] = {side: [] for side in (*_SIDES.values(), _NO_DIFFERENCE)}
        for (g, e), verdict in zip(gaps, _corrected([e for _, e in gaps]), strict=True):
            by_side[_SIDES.get(verdict, _NO_DIFFERENCE)].append(_gap(g, e))
        parts = [f"{side} {join_words(methods)}" for side, methods in by_side.items() if methods]
        if len(by_side[_SIDES["not decidable"]]) == len(gaps):  # a list of all of them needs no heading
            parts = [join_words(by_side[_SIDES["not decidable"]])]
        seeds = {e.num_seeds for _, e in gaps}
        over_seeds = f"over {count_range(seeds - {1}, 'seed')}" if seeds != {1} else ""
        over_items = "over the items of one seed" if 1 in seeds else ""
        over = ", else ".join(x for x in (over_seeds, over_items) if x)
        over += "; verdicts after Holm's correction" if len(gaps) > 1 and over_seeds else ""
        texts.append(f"On {scale.name}, full fine-tuning − method in points (95 % {over}): {'; '.join(parts)}.")
    return [Finding("E1", text) for text in texts]


_SIDES = {"higher": "behind are", "lower": "ahead are", "not decidable": "not decidable with one seed are"}
_NO_DIFFERENCE = "no significant difference for"


def _gap(g: Gap, e: Estimate) -> str:
    low, high = (e.item_ci_low, e.item_ci_high) if math.isnan(e.ci_low) else (e.ci_low, e.ci_high)
    ends = "" if math.isnan(low) else f" ({interval(low, high)})"
    dagger = "\u00a0†" if e.num_missing else ""
    return f"{display_name(g.method)} {percent(e.score)}{ends}{dagger}"


def _structure(a: Analysis) -> list[Finding]:
    verdicts = _corrected([d for s in a.structures if s.task is None for d in s.differences.values()])
    if not verdicts:
        return []
    different = sum(v in ("higher", "lower") for v in verdicts)
    one_seed = sum(v == "not decidable" for v in verdicts)
    text = (
        f"At equal counts, {different} of {len(verdicts)} comparisons between structures show a significant difference"
        f" and {len(verdicts) - different - one_seed} do not, after Holm's correction"
    )
    return [Finding("E2", text + (f"; {one_seed} rest on one seed." if one_seed else "."))]


def _corrected(estimates: Sequence[Estimate]) -> list[DifferenceVerdict]:
    """Verdicts of differences that are told together: one that Holm's correction does not leave is not significant."""
    verdicts = [e.verdict for e in estimates]
    tested = [i for i, e in enumerate(estimates) if not math.isnan(e.p_value)]
    if tested:
        for i, p in zip(tested, holm_p_values([estimates[i].p_value for i in tested]), strict=True):
            if p > ALPHA:
                verdicts[i] = "no significant difference"
    return verdicts


def _claim(rows: Sequence[ClaimRow]) -> Finding:
    """One claim with its verdicts: everything that it was decided for, by verdict."""
    experiments = {"the gap": "E1", "structure": "E2", "the high": "E5", "the low": "E5", "transfer": "E7"}
    claim = rows[0].claim
    parts = []
    for verdict in VERDICTS:
        decided = [_scope(row) for row in rows if row.verdict == verdict]
        if decided:
            is_verdict = verdict if verdict == DEPENDS else f"is {verdict}"
            parts.append(f"{is_verdict} for {join_words(decided)}")
    tested = sum(not math.isnan(row.p_value) for row in rows)
    told = tested > 1 and any(row.verdict == SUPPORTED for row in rows)
    basis = f"; p after Holm's correction over {plural(tested, 'row')}" if told else ""
    notes = list(dict.fromkeys(row.note for row in rows if row.note))
    note = f" ({notes[0]})" if len(notes) == 1 else ""
    # every other claim is that one variant of APET converges sooner than another, and begins with its name
    experiment = next((e for start, e in experiments.items() if claim.startswith(start)), "E3")
    return Finding(experiment, f"That {claim} {'; '.join(parts)}{basis}{note}.")


def _scope(row: ClaimRow) -> str:
    """For which method and backbone a claim was decided, and what the views say where that is more than the verdict."""
    what = f"{display_name(row.what)} on {row.where}" if row.what else row.where
    if row.verdict == SUPPORTED:
        return f"{what} ({'; '.join(_numbers(v) for v in row.views)}; p = {significant(row.p_value, 2)})"
    if row.verdict == DEPENDS:
        by_verdict = {v: [view.name for view in row.views if view.verdict == v] for v in VERDICTS}
        return f"{what} ({'; '.join(f'{v} in {join_words(names)}' for v, names in by_verdict.items() if names)})"
    return what


def _numbers(view: View) -> str:
    """A view's number with its interval: ``points, own N −2.1 (−3.0 to −1.2)``."""
    ends = f" ({significant(view.ci_low, 2)} to {significant(view.ci_high, 2)})" if not math.isnan(view.ci_low) else ""
    return f"{view.name or view.number} {significant(view.estimate, 2)}{ends}"
