"""E9: the gap to full fine-tuning over N and scale as heat maps; the paper has no such figure."""

from __future__ import annotations

from itertools import groupby

import altair as alt

from apet.analysis.gap_surface import SurfaceCell
from apet.analysis.study import Analysis
from apet.reporting.captions import INTERVALS, MISSING_RUNS, run_summary
from apet.reporting.experiments.experiment import Experiment, Finding
from apet.reporting.figures import marks
from apet.reporting.figures.figure import ROWS, Choice, Figure, Row, number
from apet.reporting.figures.heat import numbers
from apet.reporting.figures.seeds import SeedsByCell
from apet.reporting.formatting import MEAN_OVER_TASKS, both_intervals, count, display_name, join_words, percent
from apet.reporting.table import BACKBONE, METHOD, TASK, Column, N, Table, Value, estimate_column, integer_column

TITLE = "E9: gap to full fine-tuning over parameters and scale"


def figure(a: Analysis) -> Figure:
    """Backbones down, counts across, a panel for each method, one scale of colors; choices: family, task."""
    rows = _rows(a)
    found = {str(r["task"]) for r in rows}
    choices = (
        Choice("family", tuple(f for f in a.data.families if any(r["family"] == f for r in rows))),
        Choice("task", tuple(t for t in (MEAN_OVER_TASKS, *a.data.categories) if t in found)),
    )
    panels = [display_name(m) for m in a.data.methods if any(c.method == m for c in a.gap_surfaces)]
    backbones = {c.scale.name for c in a.gap_surfaces}
    columns = min(2, len(panels))
    return Figure(
        "gap_surface",
        TITLE,
        caption(a),
        marks.described("Heat maps of the gap to full fine-tuning over N and scale", rows, "points"),
        _chart(a, rows, panels, columns),
        rows,
        a.data.methods,
        choices,
        columns=columns,
        panel_height=40 + 26 * len(backbones),
    )


def _chart(a: Analysis, rows: list[Row], panels: list[str], columns: int) -> alt.FacetChart:
    counts = [count(n) for n in sorted({c.num_trainable for c in a.gap_surfaces})]
    # the largest on top, as on an axis
    names = [s.name for s in a.data.scales][::-1]
    highest = max([1.0, *(float(r["score"]) for r in rows if isinstance(r["score"], int | float))])
    x = alt.X("count:N", sort=counts, title="trained parameters", axis=alt.Axis(labelAngle=0, grid=False))
    y = alt.Y("backbone:N", sort=names, title=None, axis=alt.Axis(grid=False))
    scale = alt.Scale(domain=[0, highest], scheme="cividis", reverse=True, clamp=True)
    color = alt.Color("score:Q", title="points", scale=scale, legend=alt.Legend(orient="right", gradientLength=80))
    tooltip = [
        marks.tooltip("tuned", "method"),
        marks.tooltip("backbone", "backbone"),
        marks.tooltip("task", "task"),
        marks.tooltip("n", "trained parameters", ","),
        marks.tooltip("score", "gap, points", ".1f"),
        marks.tooltip("interval", "95 %"),
        marks.tooltip("reached", "score %", ".1f"),
        marks.tooltip("seeds", "seeds"),
    ]
    cells = alt.Chart().encode(x=x, y=y)
    layers = (
        cells.mark_rect().encode(color=color, tooltip=tooltip),
        numbers(cells, alt.Text("told:N"), highest, dark_is_high=True),
    )
    facet = alt.Facet("tuned:N", title=None, sort=panels)
    return alt.layer(*layers).facet(facet=facet, data=alt.NamedData(ROWS), columns=columns)


def _rows(a: Analysis) -> list[Row]:
    seeds = SeedsByCell.of(a)
    return [
        {
            "method": None,  # a heat map has nothing left when its method is switched off
            "family": c.scale.family,
            "backbone": c.scale.name,
            "task": c.task or MEAN_OVER_TASKS,
            "tuned": display_name(c.method),
            "n": c.num_trainable,
            "count": count(c.num_trainable),
            "score": number(100 * c.gap.score),
            "told": percent(c.gap.score) if _differs(c) else f"({percent(c.gap.score)})",
            "interval": both_intervals(c.gap),
            "reached": number(100 * c.score.score),
        }
        | seeds.row(c.scale, c.method, c.num_trainable, c.task, c.gap)
        for c in a.gap_surfaces
    ]


def _differs(c: SurfaceCell) -> bool:
    return c.gap.verdict in ("higher", "lower")


def table(a: Analysis) -> Table:
    """The table of E9."""
    words = {"higher": "below full fine-tuning", "lower": "above full fine-tuning"}
    rows: list[list[Value]] = [
        [
            c.scale.name,
            c.scale.num_parameters,
            c.task or MEAN_OVER_TASKS,
            display_name(c.method),
            c.num_trainable,
            c.score,
            c.gap,
            words.get(c.gap.verdict, c.gap.verdict),
        ]
        for c in a.gap_surfaces
    ]
    columns = (
        BACKBONE,
        integer_column("backbone_parameters", "parameters"),
        TASK,
        METHOD,
        N,
        estimate_column("score", "score %"),
        estimate_column("gap", "gap, points"),
        Column("verdict"),
    )
    return Table("gap_surface", TITLE, caption(a), columns, rows)


def caption(a: Analysis) -> str:
    """Caption of E9."""
    cells = {(c.scale.name, c.method, c.num_trainable) for c in a.gap_surfaces}
    return (
        "Full fine-tuning − method in points, paired by seed, at counts that several backbones of a family share; along"
        " a row parameters are added, up a column the backbone grows. In brackets: the interval over seeds includes 0,"
        f" or one seed has none. {INTERVALS} {MISSING_RUNS} {run_summary(a, cells, {c.task for c in a.gap_surfaces})}"
    )


def findings(a: Analysis) -> list[Finding]:
    """Of each method, what parameters give on one backbone and scale at one N, between the corners of its surface."""
    texts = []
    tasks = {c.task for c in a.gap_surfaces}
    whole = [c for c in a.gap_surfaces if c.task is None or len(tasks) == 1]
    for (family, method), group in groupby(whole, key=lambda c: (c.scale.family, c.method)):
        gaps = {(c.scale.num_parameters, c.num_trainable): c for c in group}
        sizes, counts = (sorted({key[i] for key in gaps}) for i in (0, 1))
        corners = [gaps.get((size, n)) for size in (sizes[0], sizes[-1]) for n in (counts[0], counts[-1])]
        known = [c for c in corners if c is not None]
        if len(known) < len(corners):
            continue  # from other corners it would not be the same statement
        small, large = known[:2], known[2:]
        told = join_words([f"{_trend(pair)} on {pair[0].scale.name}" for pair in (small, large)])
        texts.append(
            f"{display_name(method)} of {family}, from {count(counts[0])} to {count(counts[-1])} parameters: gap"
            f" {told}."
        )
    return [Finding("E9", text) for text in texts]


def _trend(pair: list[SurfaceCell]) -> str:
    return f"{percent(pair[0].gap.score)} to {percent(pair[1].gap.score)} points"


EXPERIMENT = Experiment(
    number="E9",
    name="gap_surface",
    title="Gap over parameters and scale",
    figure=figure,
    tables=lambda a: [table(a)],
    findings=findings,
    asked=lambda a: bool(a.gap_surfaces),
)
