"""E2: at each method's count, the method against the variants of APET (figure 5 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from apet.analysis.claims.verdict import corrected_verdicts
from apet.analysis.structure import Structure
from apet.analysis.study import Analysis
from apet.reporting.captions import (
    INTERVALS,
    MISSING_RUNS,
    plural,
    run_summary,
)
from apet.reporting.experiments.experiment import Experiment, Finding
from apet.reporting.figures import log_axis, marks
from apet.reporting.figures.figure import ROWS, Choice, Figure, Row
from apet.reporting.figures.seeds import SeedsByCell
from apet.reporting.formatting import (
    MEAN_OVER_TASKS,
    display_name,
    join_words,
    mean_and_spread,
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
)
from apet.reporting.variants import difference_headings, structure_variants

TITLE = "E2: structure at equal counts"
THE_METHOD = "the method"
"""Place in a group of bars of the method whose count it is."""


def figure(a: Analysis) -> Figure:
    """A panel for each backbone, a group of bars for each count, in one scale; choice: task."""
    rows = _rows(a)
    cut = marks.cut_wide_intervals(rows, lambda r: r["task"])
    panels = list(dict.fromkeys(str(r["panel"]) for r in rows))
    tasks = tuple(dict.fromkeys(str(r["task"]) for r in rows))
    tasks = tuple(sorted(tasks, key=lambda t: t != MEAN_OVER_TASKS))
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    chart = alt.layer(*_layers(a, rows)).facet(
        facet=alt.Facet("panel:N", title=None, sort=panels), data=alt.NamedData(ROWS), columns=columns
    )
    return Figure(
        "structure",
        TITLE,
        f"{caption(a)}{marks.CUT * cut}",
        marks.described("Bars of the score at each method's count, the method beside the variants of APET", rows),
        chart.resolve_scale(x="independent", xOffset="independent"),
        rows,
        a.data.methods,
        (Choice("task", tasks),),
        columns=columns,
        panel_height=200,
    )


def _layers(a: Analysis, rows: Sequence[Row]) -> list[alt.Chart]:
    groups = list(dict.fromkeys(str(r["group"]) for r in rows))
    x = alt.X(
        "group:N",
        title=None,
        sort=groups,
        scale=alt.Scale(paddingInner=0.25),
        axis=alt.Axis(labelExpr="split(datum.label, '|')", labelAngle=0, labelOverlap=False),
    )
    offset = alt.XOffset("place:N", sort=[THE_METHOD, *map(display_name, structure_variants(a))])
    shown = [m for m in a.data.methods if any(r["method"] == display_name(m) for r in rows)]
    tooltip = marks.point_tooltip(
        ("backbone", "backbone", None),
        ("task", "task", None),
        ("n", "trained parameters", ","),
        ("differences", "differences", None),
    )
    color = marks.method_color(a.data.methods, shown)
    scale = alt.Scale(zero=True)
    y = alt.Y("score:Q", title="score (%)", scale=scale, stack=None)
    bars = [
        alt.Chart().transform_filter(condition).mark_bar(style=style).encode(x=x, y=y, color=color, tooltip=tooltip)
        for condition, style in (("!datum.hollow", "bar"), ("datum.hollow", "hollow-bar"))
    ]
    marked = marks.points(x, "score (%)", a.data.methods, tooltip, shown=shown, line=False, zero=True)
    return [layer.encode(xOffset=offset) for layer in (*bars, *marked)]


def _rows(a: Analysis) -> list[Row]:
    rows: list[Row] = []
    seeds, variants = SeedsByCell.of(a), structure_variants(a)
    for s in a.structures:
        for method in (s.method, *variants):
            if method not in s.scores:
                continue
            e = s.scores[method]
            cell: Row = {
                "kind": "point",
                "panel": f"{s.scale.name} ({log_axis.short_count(s.scale.num_parameters)})",
                "backbone": s.scale.name,
                "task": s.task or MEAN_OVER_TASKS,
                "method": display_name(method),
                "group": f"{display_name(s.method)}|{s.num_trainable:,}",
                "place": THE_METHOD if method == s.method else display_name(method),
                "n": s.num_trainable,
                "differences": _differences(s),
            }
            rows.append(cell | marks.estimate_row(e) | seeds.row(s.scale, method, s.num_trainable, s.task, e))
    return rows


def _differences(s: Structure) -> str:
    """Every difference of a group, in points, with its verdict."""
    headings = difference_headings([s])
    return "; ".join(f"{h} {percent(s.differences[k].score)} ({s.differences[k].verdict})" for k, h in headings.items())


def table(a: Analysis) -> Table:
    """The table of E2: the method, every variant of APET, and every difference between two of them."""
    variants, headings = structure_variants(a), difference_headings(a.structures)
    rows: list[list[Value]] = []
    for s in a.structures:
        scores = [s.scores.get(m) for m in (s.method, *variants)]
        differences = [s.differences.get(k) for k in headings]
        with_verdicts = [x for d in differences for x in (d, None if d is None else d.verdict)]
        over = s.task or f"mean over {plural(next(iter(s.scores.values())).num_tasks, 'task')}"
        rows.append([s.scale.name, display_name(s.method), s.num_trainable, over, *scores, *with_verdicts])
    columns = [BACKBONE, METHOD, N, TASK, estimate_column("score", "method %", mean_and_spread)]
    for method in variants:
        name = f"{method.replace('-', '_')}_score"
        columns.append(estimate_column(name, f"{display_name(method)} %", mean_and_spread))
    for heading in headings.values():
        name = heading.replace(" − ", "_minus_").replace("-", "_")
        columns += [estimate_column(name, f"{heading}, points"), Column("verdict", name=f"{name}_verdict")]
    return Table("structure", "E2: structure at equal counts", caption(a), tuple(columns), rows)


def caption(a: Analysis) -> str:
    """Caption of E2."""
    cells = {(s.scale.name, m, s.num_trainable) for s in a.structures for m in s.scores}
    sides = ["the method", *map(display_name, structure_variants(a))]
    return (
        f"At each method's exact count: {join_words(sides)}, averaged over the tasks and seeds that all of them have."
        f" {INTERVALS} {MISSING_RUNS} {run_summary(a, cells, {s.task for s in a.structures})}"
    )


def findings(a: Analysis) -> list[Finding]:
    """How many structures differ at equal counts."""
    verdicts = corrected_verdicts([d for s in a.structures if s.task is None for d in s.differences.values()])
    if not verdicts:
        return []
    different = sum(v in ("higher", "lower") for v in verdicts)
    one_seed = sum(v == "not decidable" for v in verdicts)
    text = (
        f"At equal counts, {different} of {len(verdicts)} comparisons between structures show a significant difference"
        f" and {len(verdicts) - different - one_seed} do not, after Holm's correction"
    )
    return [Finding("E2", text + (f"; {one_seed} rest on one seed." if one_seed else "."))]


EXPERIMENT = Experiment(
    number="E2",
    name="structure",
    title="Structure at equal counts",
    figure=figure,
    tables=lambda a: [table(a)],
    findings=findings,
)
