"""What the runs say, in plain words: the first thing on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from apet.analysis.claims.verdict import DEPENDS, SUPPORTED, VERDICTS, ClaimRow, View
from apet.analysis.frames import complete
from apet.analysis.study import Analysis
from apet.reporting.captions import plural
from apet.reporting.experiments import gap_by_scale
from apet.reporting.experiments.experiment import Finding
from apet.reporting.experiments.registry import experiments_of
from apet.reporting.formatting import display_name, join_words, significant

_PAGE_ORDER = ("E5", "E1", "E2", "E3", "E7")


def findings(a: Analysis) -> list[Finding]:
    """The thresholds first, each experiment's numbers before its claims; empty without a complete run."""
    claims = [_claim([r for r in a.claims if r.claim == c]) for c in dict.fromkeys(r.claim for r in a.claims)]
    numbers = [f for e in experiments_of(a) for f in e.findings(a)]
    last = len(_PAGE_ORDER)  # of an experiment that is not the paper's
    place = {number: n for n, number in enumerate(_PAGE_ORDER)}
    return sorted([*numbers, *claims], key=lambda f: place.get(f.experiment, last))


def headline(a: Analysis) -> str:
    """The first sentence of the page: where full fine-tuning is reached, on the largest backbone, else the gaps."""
    if complete(a.data.runs).empty:
        return "No run is complete yet."
    all_findings = findings(a)
    reaching = [f for f in all_findings if " reaches full fine-tuning from " in f.text]
    first = reaching or gap_by_scale.findings(a) or all_findings
    return first[0].text if first else "The runs that are complete do not compare anything yet."


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
