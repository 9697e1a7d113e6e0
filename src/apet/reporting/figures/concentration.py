"""E8: one N on few weights or on many, the variants of APET beside each other; the paper has no such figure."""

from __future__ import annotations

import altair as alt

from apet.analysis.study import Analysis
from apet.reporting import captions
from apet.reporting.figures import log_axis, marks
from apet.reporting.figures.figure import ROWS, Choice, Figure, Row
from apet.reporting.figures.seeds import SeedsByCell
from apet.reporting.formatting import MEAN_OVER_TASKS, count, display_name

TITLE = "E8: one number of parameters on few weights or on many"


def figure(a: Analysis) -> Figure:
    """A panel for each N, in one scale; choices: backbone, task."""
    rows = _rows(a)
    cut = marks.cut_wide_intervals(rows, lambda r: (r["backbone"], r["task"]))
    variants = a.data.concentrated_variants
    backbones = tuple(dict.fromkeys(str(r["backbone"]) for r in rows))[::-1]
    found = {str(r["task"]) for r in rows}
    tasks = tuple(t for t in (MEAN_OVER_TASKS, *a.data.categories) if t in found)
    panels = list(dict.fromkeys(str(r["panel"]) for r in rows))
    x = log_axis.count_axis("place", "weights that N falls on", [float(r["sites"] or 0) for r in rows])
    tooltip = marks.point_tooltip(
        ("backbone", "backbone", None),
        ("task", "task", None),
        ("n", "trained parameters", ","),
        ("sites", "weights", ","),
        ("differences", "differences", None),
    )
    chart = alt.layer(*marks.points(x, "score (%)", variants, tooltip)).facet(
        facet=alt.Facet("panel:N", title=None, sort=panels), data=alt.NamedData(ROWS), columns=min(2, len(panels))
    )
    return Figure(
        "concentration",
        TITLE,
        f"{captions.concentration(a)}{marks.CUT * cut}",
        marks.described("Score over the number of weights that one number of parameters falls on", rows),
        chart,
        rows,
        variants,
        (Choice("backbone", backbones), Choice("task", tasks)),
        columns=min(2, len(panels)),
        panel_height=220,
    )


def _rows(a: Analysis) -> list[Row]:
    rows: list[Row] = []
    seeds, variants = SeedsByCell.of(a), a.data.concentrated_variants
    for c in a.concentrations:
        told = "; ".join(
            f"{pair.replace('-', ' − ')} {100 * e.score:.1f} ({e.verdict})" for pair, e in c.differences.items()
        )
        for variant, e in c.scores.items():
            place = log_axis.side_by_side(c.sites, variants.index(variant), len(variants), 30)
            cell: Row = {
                "kind": "point",
                "backbone": c.scale.name,
                "task": c.task or MEAN_OVER_TASKS,
                "panel": f"N = {count(c.num_trainable)}",
                "method": display_name(variant),
                "n": c.num_trainable,
                "sites": c.sites,
                "place": place,
                "differences": told,
            }
            rows.append(
                cell | marks.estimate_row(e) | seeds.row(c.scale, c.methods[variant], c.num_trainable, c.task, e)
            )
    return rows
