"""The tables of a study's report: the claims, E1 to E5 and E7, and the list of all of them."""

from __future__ import annotations

import math

from apet.analysis.structure import distribution
from apet.analysis.study import Analysis
from apet.reporting import captions
from apet.reporting.formatting import (
    MEAN_OVER_TASKS,
    display_name,
    mean_and_spread,
    percent,
    significant,
)
from apet.reporting.run_tables import all_runs, failed_runs
from apet.reporting.table import Column, Table, Value, estimate_column, integer_column
from apet.reporting.task_tables import task_table, task_table_reference
from apet.reporting.variants import (
    convergence_pairs,
    convergence_variants,
    difference_headings,
    structure_variants,
)

PAPER_VERDICTS = {
    "the gap to full fine-tuning shrinks with scale": "yes: T5 from 6–4 to 4–0 points, BERT from 11–2 to 6–1",
    "structure matters less as the backbone grows": "yes",
    "the high threshold falls with scale": "yes",
    "the low thresholds of all methods lie within a factor of 10": "one range per backbone: 8.0e2–7.9e3 (T5 small),"
    " 7.9e3–8.5e3 (T5 XXL), 4.0e2–1.6e3 (BERT small), 8.0e2–3.2e3 (BERT large)",
    "adjacent converges in fewer steps than discrete": "yes",
    "transfer works within a category and less across": "yes",
}
"""Claim -> what the paper says of it."""

BACKBONE, TASK, METHOD = Column("backbone"), Column("task"), Column("method")
N = integer_column("num_trainable", "N")
TRAINABLE_PERCENT = Column("% of backbone", significant, "trainable_percent")


def study_tables(a: Analysis) -> list[Table]:
    """Every table that has rows."""
    tables = [
        claims(a),
        gap_by_scale(a),
        structure(a),
        convergence(a),
        score_by_budget(a),
        thresholds(a),
        task_table(a),
        task_table_reference(a),
        transfer(a),
        concentration(a),
        failed_runs(a),
        all_runs(a),
    ]
    return [t for t in tables if t.rows]


def claims(a: Analysis) -> Table:
    """What the paper claims, beside what the runs say."""
    rows: list[list[Value]] = [
        [
            row.claim,
            row.where,
            display_name(row.what),
            row.verdict,
            row.p_value,
            view.name or None,
            view.verdict,
            view.number,
            view.estimate,
            view.ci_low,
            view.ci_high,
            view.basis,
            row.note or None,
            PAPER_VERDICTS.get(row.claim),
        ]
        for row in a.claims
        for view in row.views
    ]
    columns = (
        Column("claim"),
        Column("where", name="scope"),
        METHOD,
        Column("our runs say", name="verdict"),
        Column("p (Holm)", significant, "p_value"),
        Column("view"),
        Column("this view says", name="view_verdict"),
        Column("number", name="quantity"),
        Column("fitted", significant, "estimate"),
        Column("low", significant, "ci_low"),
        Column("high", significant, "ci_high"),
        Column("basis", name="ci_method"),
        Column("note"),
        Column("the paper says", name="paper_verdict"),
    )
    caption = (
        "Supported: every view excludes 0 on the claim's side at 95 %, and it survives Holm's correction over the rows"
        " of the claim. Not supported: a view leaves no room for an effect worth naming. Depends on the view: one"
        " supports what another rules out. Else not decidable with these runs."
        f" {captions.run_summary(a)}"
    )
    return Table("claims", "The claims about scale, against our runs", caption, columns, rows)


def gap_by_scale(a: Analysis) -> Table:
    """The table of E1."""
    words = {"higher": "below full fine-tuning", "lower": "above full fine-tuning"}
    rows: list[list[Value]] = [
        [
            g.scale.family,
            g.scale.name,
            g.scale.num_parameters,
            display_name(g.method),
            g.num_trainable,
            g.task or MEAN_OVER_TASKS,
            g.score,
            g.gap,
            None if g.gap is None else words.get(g.gap.verdict, g.gap.verdict),
        ]
        for g in a.gaps
    ]
    columns = (
        Column("family"),
        BACKBONE,
        integer_column("backbone_parameters", "parameters"),
        METHOD,
        N,
        TASK,
        estimate_column("score", "score %"),
        estimate_column("gap", "gap, points"),
        Column("verdict"),
    )
    title = "E1: gap between full fine-tuning and the methods"
    return Table("gap_by_scale", title, captions.gap_by_scale(a), columns, rows)


def structure(a: Analysis) -> Table:
    """The table of E2: the method, every variant of APET, and every difference between two of them."""
    variants, headings = structure_variants(a), difference_headings(a.structures)
    rows: list[list[Value]] = []
    for s in a.structures:
        scores = [s.scores.get(m) for m in (s.method, *variants)]
        differences = [s.differences.get(k) for k in headings]
        with_verdicts = [x for d in differences for x in (d, None if d is None else d.verdict)]
        over = s.task or f"mean over {captions.plural(next(iter(s.scores.values())).num_tasks, 'task')}"
        rows.append([s.scale.name, display_name(s.method), s.num_trainable, over, *scores, *with_verdicts])
    columns = [BACKBONE, METHOD, N, TASK, estimate_column("score", "method %", mean_and_spread)]
    for method in variants:
        name = f"{method.replace('-', '_')}_score"
        columns.append(estimate_column(name, f"{display_name(method)} %", mean_and_spread))
    for heading in headings.values():
        name = heading.replace(" − ", "_minus_").replace("-", "_")
        columns += [estimate_column(name, f"{heading}, points"), Column("verdict", name=f"{name}_verdict")]
    return Table("structure", "E2: structure at equal counts", captions.structure(a), tuple(columns), rows)


def convergence(a: Analysis) -> Table:
    """The table of E3; which two variants a row compares stands in it where there is more than one pair."""
    variants, pairs = convergence_variants(a.convergence_comparisons), convergence_pairs(a.convergence_comparisons)
    rows: list[list[Value]] = []
    for c in a.convergence_comparisons:
        ratio, first, second = c.log2_ratio, distribution(c.first), distribution(c.second)
        words = {"lower": f"{first} sooner", "higher": f"{second} sooner"}
        ends = None if math.isnan(ratio.ci_low) else f"{2**ratio.ci_low:.2f} to {2**ratio.ci_high:.2f}"
        pair = [f"{first} / {second}"] if len(pairs) > 1 else []
        rows.append(
            [
                c.scale.name,
                *pair,
                c.num_trainable,
                *(c.steps.get(m) for m in variants),
                2**ratio.score,
                ratio.num_seeds,
                ends,
                c.pairs,
                c.left_out,
                words.get(ratio.verdict, ratio.verdict),
            ]
        )
    columns = (
        BACKBONE,
        *([Column("compared", name="pair")] if len(pairs) > 1 else []),
        integer_column("num_trainable", "N", unknown="all"),
        *(Column(f"{distribution(m)}: steps", _four_digits, f"{m.replace('-', '_')}_steps") for m in variants),
        Column("ratio", significant),
        integer_column("num_seeds", "seeds"),
        Column("95 % over seeds", name="ci_seeds"),
        integer_column("num_pairs", "pairs of curves"),
        integer_column("num_not_converged", "without convergence"),
        Column("verdict"),
    )
    return Table("convergence", "E3: steps to convergence", captions.convergence(a), columns, rows)


def _four_digits(steps: float) -> str:
    return significant(steps, 4)


def score_by_budget(a: Analysis) -> Table:
    """The table of E4."""
    rows: list[list[Value]] = [
        [
            p.scale.name,
            p.task or MEAN_OVER_TASKS,
            display_name(p.method),
            p.num_trainable,
            p.trainable_percent,
            p.untrained_baseline,
            p.score,
            p.gap,
        ]
        for p in a.budget_points
    ]
    columns = (
        BACKBONE,
        TASK,
        METHOD,
        N,
        TRAINABLE_PERCENT,
        Column("baseline %", percent, "untrained_baseline"),
        estimate_column("score", "score %"),
        estimate_column("full_fine_tuning_minus_method", "full fine-tuning − method, points"),
    )
    title = "E4: score over the number of trained parameters"
    return Table("score_by_budget", title, captions.score_by_budget(a), columns, rows)


def thresholds(a: Analysis) -> Table:
    """The table of E5."""
    rows: list[list[Value]] = [
        [
            t.scale.name,
            t.task or MEAN_OVER_TASKS,
            display_name(t.method),
            t.kind,
            t.answer.describe(),
            None if math.isinf(t.answer.median) or t.answer.median == 0 else round(t.answer.median),
            t.answer.ci_low,
            None if math.isinf(t.answer.ci_high) else t.answer.ci_high,
            t.answer.state,
            len(t.tried),
            t.seeds,
        ]
        for t in a.thresholds
    ]
    columns = (
        BACKBONE,
        TASK,
        METHOD,
        Column("threshold"),
        Column("range of N", name="num_trainable_range"),
        integer_column("num_trainable_median", "median", unknown="beyond"),
        integer_column("lower", "above"),
        integer_column("upper", "at most", unknown="not shown"),
        Column("state"),
        integer_column("num_counts", "counts tried"),
        integer_column("min_seeds", "fewest seeds"),
    )
    return Table("thresholds", "E5: low and high thresholds", captions.thresholds(a), columns, rows)


def transfer(a: Analysis) -> Table:
    """The table of E7."""
    rows: list[list[Value]] = [
        [
            t.backbone,
            display_name(t.method),
            t.source,
            t.target,
            t.zero_shot,
            t.own_score,
            t.relative,
        ]
        for t in a.transfer_scores
    ]
    columns = (
        BACKBONE,
        METHOD,
        Column("source"),
        Column("target"),
        Column("zero-shot %", percent, "zero_shot"),
        Column("target's score %", percent, "target_score"),
        estimate_column("relative", "relative %"),
    )
    return Table("transfer", "E7: relative transfer", captions.transfer(a), columns, rows)


def concentration(a: Analysis) -> Table:
    """The table of E8."""
    variants = a.data.concentrated_variants
    pairs = list(dict.fromkeys(pair for c in a.concentrations for pair in c.differences))
    rows: list[list[Value]] = []
    for c in a.concentrations:
        differences = [c.differences.get(pair) for pair in pairs]
        with_verdicts = [x for d in differences for x in (d, None if d is None else d.verdict)]
        scores = [c.scores.get(v) for v in variants]
        over = c.task or MEAN_OVER_TASKS
        rows.append([c.scale.name, over, c.num_trainable, c.sites, *scores, *with_verdicts])
    columns = [BACKBONE, TASK, N, integer_column("num_sites", "weights")]
    for variant in variants:
        name = f"{variant.replace('-', '_')}_score"
        columns.append(estimate_column(name, f"{display_name(variant)} %", mean_and_spread))
    for pair in pairs:
        name, heading = pair.replace("-", "_minus_"), pair.replace("-", " − ")
        columns += [estimate_column(name, f"{heading}, points"), Column("verdict", name=f"{name}_verdict")]
    title = "E8: one number of parameters on few weights or on many"
    return Table("concentration", title, captions.concentration(a), tuple(columns), rows)
