"""E1: full fine-tuning and the methods over scale, and the gap between them (figures 1 and 3 of the paper)."""

from __future__ import annotations

import re

import altair as alt

from apet.analysis.gap_by_scale import Gap
from apet.analysis.study import Analysis
from apet.reporting import captions
from apet.reporting.figures import log_axis, marks
from apet.reporting.figures.figure import ROWS, Choice, Figure, Row
from apet.reporting.figures.seeds import SeedsByCell
from apet.reporting.formatting import MEAN_OVER_TASKS, display_name

TITLE = "E1: methods and their gap to full fine-tuning over scale"
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
        f"{captions.gap_by_scale(a)}{marks.CUT * cut}",
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
