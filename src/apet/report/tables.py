"""The tables of a study: E1 to E7, the claims, what failed, every run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from apet.analysis.frames import RUNS
from apet.analysis.intervals import Estimate
from apet.analysis.study import Analysis
from apet.report import captions
from apet.report import reference_results as paper
from apet.report.formatting import bracket, brief, count, full, named, points, significant, threshold_notes
from apet.report.table import Column, Table

MEAN = "mean over tasks"
PAPERS = {
    "the gap to full fine-tuning shrinks with scale": "yes: T5 from 6–4 to 4–0 points, BERT from 11–2 to 6–1",
    "the high threshold falls with scale": "yes",
    "the low thresholds of all methods lie within a factor of 10": "one range per backbone: 8.0e2–7.9e3 (T5 small),"
    " 7.9e3–8.5e3 (T5 XXL), 4.0e2–1.6e3 (BERT small), 8.0e2–3.2e3 (BERT large)",
    "adjacent converges in fewer steps than discrete": "yes",
    "transfer works within a category and less across": "yes",
}


def every_table(a: Analysis) -> list[Table]:
    """Those that have rows."""
    made = [
        claims(a),
        gaps(a),
        structure(a),
        convergence(a),
        levels(a),
        thresholds(a),
        tasks(a),
        papers(a),
        transfer(a),
    ]
    return [t for t in (*made, failed(a), runs(a)) if t.rows]


def measured(title: str, show: Callable[[Any], str] = full) -> Column:
    """A column of estimates."""
    return Column(title, show, _PARTS)


_PARTS: dict[str, Callable[[Any], Any]] = {
    "score": lambda e: e.score,
    "seeds": lambda e: e.num_seeds,
    "sd over seeds": lambda e: e.sd,
    "low over seeds": lambda e: e.ci_low,
    "high over seeds": lambda e: e.ci_high,
    "items": lambda e: e.num_examples or None,
    "low over items": lambda e: e.item_ci_low,
    "high over items": lambda e: e.item_ci_high,
    "basis": lambda e: e.ci_method,
    "tasks": lambda e: e.num_tasks,
    "holes": lambda e: e.num_missing,
}


def claims(a: Analysis) -> Table:
    """What the paper claims against what our runs say."""
    rows = [
        [
            t.claim,
            t.where,
            named(t.what),
            t.verdict,
            t.number,
            t.estimate,
            t.ci_low,
            t.ci_high,
            t.ci_method,
            PAPERS.get(t.claim),
        ]
        for t in a.trends
    ]
    columns = (
        Column("claim"),
        Column("where"),
        Column("method"),
        Column("our runs say"),
        Column("number"),
        Column("fitted", significant),
        Column("low", significant),
        Column("high", significant),
        Column("basis"),
        Column("the paper says"),
    )
    caption = (
        "Supported: the whole interval (95 %, or for thresholds what the ranges leave open) agrees with the claim. Not"
        " supported: it leaves no room for an effect worth naming. Else not decidable with these runs."
        f" {captions.ran(a)}"
    )
    return Table("claims", "The claims about scale, against our runs", caption, columns, rows)


def gaps(a: Analysis) -> Table:
    """E1."""
    rows = [
        [
            g.scale.family,
            g.scale.name,
            g.scale.num_parameters,
            named(g.method),
            g.num_trainable,
            g.task or MEAN,
            g.score,
            g.gap,
            None if g.gap is None else _gap_words(g.gap),
        ]
        for g in a.gaps
    ]
    columns = (
        Column("family"),
        Column("backbone"),
        Column("parameters", count),
        Column("method"),
        Column("N", count),
        Column("task"),
        measured("measure %"),
        measured("gap, points"),
        Column("verdict"),
    )
    return Table("e1_gaps", "E1: gap between full fine-tuning and the methods", captions.gap(a), columns, rows)


def _gap_words(e: Estimate) -> str:
    return {"higher": "below full fine-tuning", "lower": "above full fine-tuning"}.get(e.verdict, e.verdict)


def structure(a: Analysis) -> Table:
    """E2."""
    rows = []
    for s in a.structures:
        differences = [s.differences.get(p) for p in ("method-adjacent", "method-discrete", "adjacent-discrete")]
        levels = [s.scores.get(m) for m in (s.method, "apet-adjacent", "apet-discrete")]
        verdicts = [x for d in differences for x in (d, None if d is None else d.verdict)]
        over = s.task or f"mean over {captions.plural(next(iter(s.scores.values())).num_tasks, 'task')}"
        rows.append([s.scale.name, named(s.method), s.num_trainable, over, *levels, *verdicts])
    columns = [Column("backbone"), Column("method"), Column("N", count), Column("task")]
    columns += [measured(f"{m} %", brief) for m in ("method", "APET-adjacent", "APET-discrete")]
    for p in ("method − adjacent", "method − discrete", "adjacent − discrete"):
        columns += [measured(f"{p}, points"), Column("verdict")]
    return Table("e2_structure", "E2: structure at equal counts", captions.structure(a), tuple(columns), rows)


def convergence(a: Analysis) -> Table:
    """E3."""
    rows = []
    for r in (c for c in a.convergence_comparisons if c.is_papers_pair):
        e = r.log2_ratio
        word = {"lower": "adjacent sooner", "higher": "discrete sooner"}.get(e.verdict, e.verdict)
        ends = None if math.isnan(e.ci_low) else f"{2**e.ci_low:.2f} to {2**e.ci_high:.2f}"
        rows.append(
            [
                r.scale.name,
                r.num_trainable or "all",
                r.adjacent,
                r.discrete,
                2**e.score,
                e.num_seeds,
                ends,
                r.pairs,
                r.left_out,
                word,
            ]
        )
    columns = (
        Column("backbone"),
        Column("N", lambda n: n if isinstance(n, str) else count(n)),
        Column("adjacent: steps", lambda v: significant(v, 4)),
        Column("discrete: steps", lambda v: significant(v, 4)),
        Column("ratio", significant),
        Column("seeds", count),
        Column("95 % over seeds"),
        Column("pairs of curves", count),
        Column("without convergence", count),
        Column("verdict"),
    )
    return Table("e3_convergence", "E3: steps to convergence", captions.convergence(a), columns, rows)


def levels(a: Analysis) -> Table:
    """E4."""
    rows = [
        [
            x.scale.name,
            x.task or MEAN,
            named(x.method),
            x.num_trainable,
            x.trainable_percent,
            x.untrained_baseline,
            x.score,
            x.gap,
        ]
        for x in a.budget_points
    ]
    columns = (
        Column("backbone"),
        Column("task"),
        Column("method"),
        Column("N", count),
        Column("% of backbone", significant),
        Column("chance %", points),
        measured("measure %"),
        measured("full fine-tuning − method, points"),
    )
    return Table("e4_levels", "E4: measure over the number of trained parameters", captions.levels(a), columns, rows)


def thresholds(a: Analysis) -> Table:
    """E5."""
    rows = [
        [
            t.scale.name,
            t.task or MEAN,
            named(t.method),
            t.kind,
            bracket(t.bracket, t.tried),
            t.bracket.lower,
            t.bracket.upper,
            len(t.tried),
            t.seeds,
            t.ci_method,
            threshold_notes(t),
        ]
        for t in a.thresholds
    ]
    columns = (
        Column("backbone"),
        Column("task"),
        Column("method"),
        Column("threshold"),
        Column("range of N"),
        Column("above", count),
        Column("at most", lambda v: "not shown" if math.isinf(v) else count(v)),
        Column("counts tried", count),
        Column("fewest seeds", count),
        Column("decided by"),
        Column("notes"),
    )
    return Table("e5_thresholds", "E5: low and high thresholds", captions.thresholds(a), columns, rows)


def tasks(a: Analysis) -> Table:
    """E6, ours."""
    names = list(dict.fromkeys(t for f in a.data.families for t in a.data.tasks(f)))
    rows: dict[tuple[str, str, int], dict[str, Estimate]] = {}
    ratio = {}
    for x in a.budget_points:
        if x.task is not None and _in_table(a, x.scale.name, x.method, x.num_trainable):
            at = (x.scale.name, x.method, x.num_trainable)
            rows.setdefault(at, {})[x.task] = x.score
            ratio[at] = x.trainable_percent
    scales = [s.name for s in a.data.scales]
    order = sorted(rows, key=lambda at: (scales.index(at[0]), a.data.methods.index(at[1]), at[2]))
    columns = (
        Column("backbone"),
        Column("method"),
        Column("N", count),
        Column("% of backbone", significant),
        *(measured(t, brief) for t in names),
    )
    made = [[b, named(m), n, ratio[b, m, n], *(rows[b, m, n].get(t) for t in names)] for b, m, n in order]
    return Table("e6_tasks", "E6: all tasks and backbones, our runs", captions.tasks(a), columns, made)


def _in_table(a: Analysis, backbone: str, method: str, n: int) -> bool:
    """Methods at their own sizes, and APET at any of these counts."""
    own = a.data.own_sizes
    counts = {v for (b, _), v in own.items() if b == backbone}
    return own.get((backbone, method)) == n or (method.startswith("apet") and n in counts)


def papers(a: Analysis) -> Table:
    """E6, as the paper prints it, where our families mirror it."""
    names = list(dict.fromkeys(t for p in paper.table2() for t in p.values))
    shown = paper.mirrored(set(a.data.families))
    rows = [[p.backbone, named(p.method), p.trainable_percent, *(p.values.get(t) for t in names)] for p in shown]
    columns = (
        Column("backbone"),
        Column("method"),
        Column("% of backbone", significant),
        *(Column(t, lambda v: f"{v:.1f}") for t in names),
    )
    caption = (
        f"{paper.SOURCE}, in percent: the paper's own numbers, on its own backbones and data, without intervals; not"
        " measured by us. Empty where it prints none or the scan is illegible."
    )
    return Table("e6_paper", "E6: the paper's own numbers, for comparison", caption, columns, rows)


def transfer(a: Analysis) -> Table:
    """E7."""
    rows = [
        [
            r.backbone,
            named(r.method),
            r.source,
            r.target,
            r.zero_shot,
            r.own_score,
            r.relative,
        ]
        for r in a.transfer_scores
    ]
    columns = (
        Column("backbone"),
        Column("method"),
        Column("source"),
        Column("target"),
        Column("zero-shot %", points),
        Column("target's own %", points),
        measured("relative %"),
    )
    return Table("e7_transfer", "E7: relative transfer", captions.transfer(a), columns, rows)


def failed(a: Analysis) -> Table:
    """Runs with a reason instead of a number."""
    names = ("run_id", "backbone", "task", "method", "budget", "seed", "error")
    rows = [[r[n] for n in names] for _, r in a.failed.iterrows()]
    columns = tuple(Column(n, count if n == "seed" else None) for n in names)
    return Table("failed", "Runs that failed", "They have no number and count as none.", columns, rows)


NARROW = (
    *("run_id", "state", "backbone", "task", "method", "num_trainable", "trainable_percent", "seed"),
    *("score", "ci_low", "ci_high", "num_examples", "best_step", "learning_rate", "training_seconds"),
)


def runs(a: Analysis, narrow: bool = False) -> Table:
    """Every run, as it came; on the page only the columns that people look at."""
    shows: dict[str, Any] = {
        "score": points,
        "ci_low": points,
        "ci_high": points,
        "untrained_baseline": points,
        "score_untrained": points,
    }
    kept = list(NARROW if narrow else RUNS)
    frame = a.data.runs[kept]
    columns = tuple(
        Column(f"{c} %" if c in shows else c, shows.get(c, _number) if RUNS[c][0] == "number" else None) for c in kept
    )
    return Table("runs", "Every run", captions.ran(a), columns, frame.to_numpy(dtype=object).tolist())


def _number(v: float) -> str:
    return count(v) if float(v).is_integer() else significant(v, 4)
