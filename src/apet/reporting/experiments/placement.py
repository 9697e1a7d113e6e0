"""E10: one N on some roles of the backbone or everywhere; the paper has no such figure."""

from __future__ import annotations

import altair as alt

from apet.analysis.claims.verdict import corrected_verdicts
from apet.analysis.study import Analysis
from apet.reporting.captions import INTERVALS, MISSING_RUNS, plural, run_summary
from apet.reporting.experiments.experiment import Experiment, Finding
from apet.reporting.figures import marks
from apet.reporting.figures.figure import ROWS, Choice, Figure, Row
from apet.reporting.figures.seeds import SeedsByCell
from apet.reporting.formatting import MEAN_OVER_TASKS, count, display_name, join_words, mean_and_spread, percent
from apet.reporting.table import BACKBONE, METHOD, TASK, Column, N, Table, Value, estimate_column

TITLE = "E10: one number of parameters at different places"
OWN_PLACES = "its own places"
"""Stands where roles would: the method as it is without being told where."""


def figure(a: Analysis) -> Figure:
    """A panel for each N, roles across, those that reach most on the whole first; choices: backbone, task."""
    rows = _rows(a)
    cut = marks.cut_wide_intervals(rows, lambda r: (r["backbone"], r["task"]))
    methods = _methods(a)
    backbones = tuple(dict.fromkeys(str(r["backbone"]) for r in rows))[::-1]
    found = {str(r["task"]) for r in rows}
    tasks = tuple(t for t in (MEAN_OVER_TASKS, *a.data.categories) if t in found)
    panels = list(dict.fromkeys(str(r["panel"]) for r in rows))
    x = alt.X(
        "roles:N",
        title=None,
        sort=_best_first(a),
        axis=alt.Axis(labelAngle=-40, grid=False),
    )
    tooltip = marks.point_tooltip(
        ("backbone", "backbone", None),
        ("task", "task", None),
        ("roles", "roles", None),
        ("n", "trained parameters", ","),
        ("difference", "against its own places", None),
    )
    chart = alt.layer(*marks.points(x, "score (%)", methods, tooltip, line=False)).facet(
        facet=alt.Facet("panel:N", title=None, sort=panels), data=alt.NamedData(ROWS), columns=1
    )
    return Figure(
        "placement",
        TITLE,
        f"{caption(a)}{marks.CUT * cut}",
        marks.described("Score of one number of parameters at different places", rows),
        chart.resolve_scale(x="independent"),
        rows,
        methods,
        (Choice("backbone", backbones), Choice("task", tasks)),
        panel_height=220,
    )


def _best_first(a: Analysis) -> list[str]:
    """Roles by the mean of what they reach, over backbones, counts and tasks."""
    scores: dict[str, list[float]] = {}
    for p in a.placements:
        scores.setdefault(p.roles or OWN_PLACES, []).append(p.score.score)
    return sorted(scores, key=lambda roles: -sum(scores[roles]) / len(scores[roles]))


def _methods(a: Analysis) -> tuple[str, ...]:
    """Those that were placed, without their roles."""
    return tuple(dict.fromkeys(p.method for p in a.placements))


def _rows(a: Analysis) -> list[Row]:
    rows: list[Row] = []
    seeds = SeedsByCell.of(a)
    for p in a.placements:
        place: Row = {
            "kind": "point",
            "backbone": p.scale.name,
            "task": p.task or MEAN_OVER_TASKS,
            "panel": f"N = {count(p.num_trainable)}",
            "method": display_name(p.method),
            "roles": p.roles or OWN_PLACES,
            "n": p.num_trainable,
            "difference": "" if p.difference is None else f"{percent(p.difference.score)} ({p.difference.verdict})",
        }
        rows.append(place | marks.estimate_row(p.score) | seeds.row(p.scale, p.name, p.num_trainable, p.task, p.score))
    return rows


def table(a: Analysis) -> Table:
    """The table of E10."""
    rows: list[list[Value]] = [
        [
            p.scale.name,
            p.task or MEAN_OVER_TASKS,
            display_name(p.method),
            p.num_trainable,
            p.roles or OWN_PLACES,
            p.score,
            p.difference,
            None if p.difference is None else p.difference.verdict,
        ]
        for p in a.placements
    ]
    columns = (
        BACKBONE,
        TASK,
        METHOD,
        N,
        Column("roles"),
        estimate_column("score", "score %", mean_and_spread),
        estimate_column("difference", "against its own places, points"),
        Column("verdict"),
    )
    return Table("placement", TITLE, caption(a), columns, rows)


def caption(a: Analysis) -> str:
    """Caption of E10."""
    cells = {(p.scale.name, p.name, p.num_trainable) for p in a.placements}
    return (
        "Exactly N parameters of one method on the roles named, and where the method puts them by itself; averaged over"
        f" the tasks and seeds that all places of an N have. {INTERVALS} {MISSING_RUNS}"
        f" {run_summary(a, cells, {p.task for p in a.placements})}"
    )


def findings(a: Analysis) -> list[Finding]:
    """Which places are better or worse than a method's own, each backbone and N for itself."""
    texts = []
    for scale, n, method in dict.fromkeys((p.scale, p.num_trainable, p.method) for p in a.placements):
        here = [p for p in a.placements if (p.scale, p.num_trainable, p.method) == (scale, n, method)]
        whole = [p for p in here if p.task is None] or here
        compared = [(p, p.difference) for p in whole if p.difference is not None]
        verdicts = corrected_verdicts([e for _, e in compared])
        by_side: dict[str, list[str]] = {"higher": [], "lower": []}
        for (p, e), verdict in sorted(zip(compared, verdicts, strict=True), key=lambda c: -c[0][1].score):
            if verdict in by_side:
                by_side[verdict].append(f"{p.roles} {percent(e.score)}")
        start = f"{display_name(method)} with {count(n)} parameters on {scale.name}"
        corrected = f"of {plural(len(compared), 'comparison')} after Holm's correction"
        parts = [f"{side} on {join_words(told)}" for side, told in by_side.items() if told]
        if parts:
            texts.append(f"{start}, in points against {OWN_PLACES}, {corrected}: {'; '.join(parts)}.")
        elif compared and "not decidable" not in verdicts:
            texts.append(f"{start}: no place differs from {OWN_PLACES}, {corrected}.")
    return [Finding("E10", text) for text in texts]


EXPERIMENT = Experiment(
    number="E10",
    name="placement",
    title="Where parameters matter",
    figure=figure,
    tables=lambda a: [table(a)],
    findings=findings,
    asked=lambda a: bool(a.placements),
)
