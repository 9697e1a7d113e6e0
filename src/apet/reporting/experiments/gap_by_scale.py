"""E1: full fine-tuning and the methods over scale, and the gap between them (figures 1 and 3 of the paper)."""

from __future__ import annotations

import math
import re

import altair as alt

from apet.analysis.claims.verdict import corrected_verdicts
from apet.analysis.frames import FULL, complete
from apet.analysis.gap_by_scale import Gap
from apet.analysis.intervals import Estimate
from apet.analysis.study import Analysis
from apet.reporting.captions import (
    INTERVALS,
    MISSING_RUNS,
    count_range,
    run_summary,
)
from apet.reporting.experiments.experiment import Experiment, Finding
from apet.reporting.figures import log_axis, marks
from apet.reporting.figures.figure import ROWS, Choice, Figure, Row
from apet.reporting.figures.seeds import SeedsByCell
from apet.reporting.formatting import (
    MEAN_OVER_TASKS,
    display_name,
    interval,
    join_words,
    percent,
)
from apet.reporting.table import (
    BACKBONE,
    METHOD,
    TASK,
    Column,
    N,
    Table,
    Value,
    estimate_column,
    integer_column,
)

TITLE = "E1: methods and their gap to full fine-tuning over scale"
SOME = 0.1
"""Share of the runs that may still rise at their end without a word: the rule takes noise for a rise now and then."""
GAP, SCORE = "gap to full fine-tuning (points)", "score (%)"


def figure(a: Analysis) -> Figure:
    """The gap beside the score; choices: family, task. In print a file for each family."""
    rows = _rows(a)
    cut = marks.cut_wide_intervals(rows, lambda r: (r["measure"], r["family"], r["task"]))
    families = tuple(a.data.families)
    tasks = tuple(t for t in (MEAN_OVER_TASKS, *a.data.categories) if any(r["task"] == t for r in rows))
    x = log_axis.count_axis("place", "parameters of the backbone", [float(r["place"] or 0) for r in rows])
    tooltip = marks.point_tooltip(
        ("backbone", "backbone", None), ("task", "task", None), ("n", "trained parameters", ","), unit="% or points"
    )
    zero = (
        alt.Chart()
        .transform_filter("datum.kind == 'zero'")
        .mark_rule(style="baseline")
        .encode(y=alt.Y("score:Q", title=""))
    )
    layers = [zero, *marks.points(x, "", a.data.methods, tooltip)]
    # of a line, the backbones are the points and not, as elsewhere, what parts one line from another
    chart = alt.layer(*(_joined(layer) for layer in layers)).facet(
        facet=alt.Facet("measure:N", title=None, sort=[GAP, SCORE]), data=alt.NamedData(ROWS), columns=2
    )
    return Figure(
        "gap_by_scale",
        TITLE,
        f"{caption(a)}{marks.CUT * cut}",
        marks.described("Score over the scale of the backbone, and the gap to full fine-tuning", _scores(rows)),
        chart.resolve_scale(y="independent"),
        rows,
        a.data.methods,
        (Choice("family", families), Choice("task", tasks)),
        columns=2,
        panel_height=230,
        views={_file(f, families): {"family": f} for f in families},
    )


def _file(family: str, families: tuple[str, ...]) -> str:
    return "gap_by_scale" if len(families) == 1 else re.sub(r"[^\w.-]+", "-", f"gap_by_scale_{family}")


def _joined(layer: alt.Chart) -> alt.Chart:
    if isinstance(layer.mark, alt.MarkDef) and layer.mark.type == "line":
        layer.encoding.detail = alt.Undefined
    return layer


def _scores(rows: list[Row]) -> list[Row]:
    return [r for r in rows if r["kind"] == "point" and r["measure"] == SCORE]


def _rows(a: Analysis) -> list[Row]:
    rows: list[Row] = []
    seeds, num_methods = SeedsByCell.of(a), len(a.data.methods)
    sizes = [s.num_parameters for s in a.data.scales]
    for g in a.gaps:
        nth = a.data.methods.index(g.method)
        place = log_axis.side_by_side(g.scale.num_parameters, nth, num_methods, max(sizes) / min(sizes))
        for measure, e in ((SCORE, g.score), (GAP, g.gap)):
            if e is not None:
                rows.append(
                    {"kind": "point", "measure": measure, **_cell(g), "place": round(place)}
                    | marks.estimate_row(e)
                    | seeds.row(g.scale, g.method, g.num_trainable, g.task, e)
                )
    gaps = {(r["family"], r["task"]) for r in rows if r["measure"] == GAP}
    none: Row = dict.fromkeys(rows[0]) if rows else {}
    # a scale of its own for the rule would be one more; as a point's score it shares that of the panel
    rows += [
        none | {"kind": "zero", "measure": GAP, "family": f, "task": t, "score": 0, "place": rows[0]["place"]}
        for f, t in sorted(gaps, key=str)
    ]
    return rows


def _cell(g: Gap) -> Row:
    return {
        "family": g.scale.family,
        "backbone": g.scale.name,
        "task": g.task or MEAN_OVER_TASKS,
        "method": display_name(g.method),
        "n": g.num_trainable,
    }


def table(a: Analysis) -> Table:
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
    return Table("gap_by_scale", title, caption(a), columns, rows)


def caption(a: Analysis) -> str:
    """Caption of E1."""
    all_default = all(g.is_default_size for g in a.gaps)
    size = (
        "" if all_default else " A method that was never run at its default size is shown at the largest count tried."
    )
    return (
        "Full fine-tuning and the methods at their default sizes over the scale of the backbone; gap = full"
        f" fine-tuning − method, paired by seed, averaged over tasks.{size}{_unequal_steps(a)} {INTERVALS}"
        f" {MISSING_RUNS} {run_summary(a, {(g.scale.name, g.method, g.num_trainable) for g in a.gaps})}"
    )


def _unequal_steps(a: Analysis) -> str:
    """Where full fine-tuning was trained for another number of steps than a method it is compared with."""
    done = complete(a.data.runs)
    parts = []
    for scale in a.data.scales:
        runs = done[done["backbone"] == scale.name]
        is_full = runs["method"] == FULL
        full_steps, other_steps = (set(runs.loc[side, "max_steps"]) for side in (is_full, ~is_full))
        if full_steps and other_steps and full_steps != other_steps:
            methods = count_range(other_steps, "step")
            parts.append(f"{count_range(full_steps, 'step')} on {scale.name}, the methods {methods}")
    return f" Unequal training: full fine-tuning took {join_words(parts)}." if parts else ""


def findings(a: Analysis) -> list[Finding]:
    """How far full fine-tuning is ahead, the largest backbone first."""
    texts = []
    for scale in a.data.scales[::-1]:
        gaps = [(g, g.gap) for g in a.gaps if g.scale == scale and g.task is None and g.gap is not None]
        if not gaps:
            continue
        by_side: dict[str, list[str]] = {side: [] for side in (*_SIDES.values(), _NO_DIFFERENCE)}
        for (g, e), verdict in zip(gaps, corrected_verdicts([e for _, e in gaps]), strict=True):
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
    return [Finding("E1", text) for text in (*texts, *_unfinished(a))]


def _unfinished(a: Analysis) -> list[str]:
    """That training had not ended, where that is so of many runs: what a gap then holds besides."""
    state, is_full = a.converged["state"], a.converged["method"] == FULL
    told, rising = state != "too short", state == "still rising"
    if rising.sum() <= SOME * told.sum():
        return []
    sides = [
        f"{rising[side].sum():,} of {(told & side).sum():,} {whose}"
        for whose, side in (("of full fine-tuning", is_full), ("of the methods", ~is_full))
        if (told & side).any()
    ]
    text = f"Runs that still rose at their last step: {join_words(sides)}."
    return [f"{text} There, scores, gaps and thresholds also say how slowly a method learns, not only how far it gets."]


_SIDES = {"higher": "behind are", "lower": "ahead are", "not decidable": "not decidable with one seed are"}


_NO_DIFFERENCE = "no significant difference for"


def _gap(g: Gap, e: Estimate) -> str:
    low, high = (e.item_ci_low, e.item_ci_high) if math.isnan(e.ci_low) else (e.ci_low, e.ci_high)
    ends = "" if math.isnan(low) else f" ({interval(low, high)})"
    dagger = "\u00a0†" if e.num_missing else ""
    return f"{display_name(g.method)} {percent(e.score)}{ends}{dagger}"


EXPERIMENT = Experiment(
    number="E1",
    name="gap_by_scale",
    title="Gap to full fine-tuning",
    figure=figure,
    tables=lambda a: [table(a)],
    findings=findings,
)
