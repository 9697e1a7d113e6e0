"""E2: at each method's count, the method against the variants of APET (figure 5 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from apet.analysis.structure import Structure
from apet.analysis.study import Analysis
from apet.reporting import captions
from apet.reporting.figures import log_axis, marks
from apet.reporting.figures.figure import ROWS, Choice, Figure, Row
from apet.reporting.figures.seeds import SeedsByCell
from apet.reporting.formatting import MEAN_OVER_TASKS, display_name, percent
from apet.reporting.variants import difference_headings, structure_variants

TITLE = "E2: structure at equal counts"
METHOD = "the method"
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
        f"{captions.structure(a)}{marks.CUT * cut}",
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
    offset = alt.XOffset("place:N", sort=[METHOD, *map(display_name, structure_variants(a))])
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
                "place": METHOD if method == s.method else display_name(method),
                "n": s.num_trainable,
                "differences": _differences(s),
            }
            rows.append(cell | marks.estimate_row(e) | seeds.row(s.scale, method, s.num_trainable, s.task, e))
    return rows


def _differences(s: Structure) -> str:
    """Every difference of a group, in points, with its verdict."""
    headings = difference_headings([s])
    return "; ".join(f"{h} {percent(s.differences[k].score)} ({s.differences[k].verdict})" for k, h in headings.items())
