"""E8: one N on few weights or on many, the variants of APET beside each other; the paper has no such figure."""

from __future__ import annotations

import altair as alt

from apet.analysis.claims.verdict import corrected_verdicts
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
    count,
    display_name,
    join_words,
    mean_and_spread,
    percent,
)
from apet.reporting.table import (
    BACKBONE,
    TASK,
    Column,
    N,
    Table,
    Value,
    estimate_column,
    integer_column,
)

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
    x = log_axis.count_axis("place", "weights that N falls on", [float(r["place"] or 0) for r in rows])
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
        f"{caption(a)}{marks.CUT * cut}",
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
    sites = [c.sites for c in a.concentrations]
    span = max(sites) / min(sites) if sites else 1.0
    for c in a.concentrations:
        told = "; ".join(
            f"{pair.replace('-', ' − ')} {100 * e.score:.1f} ({e.verdict})" for pair, e in c.differences.items()
        )
        for variant, e in c.scores.items():
            place = log_axis.side_by_side(c.sites, variants.index(variant), len(variants), span)
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


def table(a: Analysis) -> Table:
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
    return Table("concentration", title, caption(a), tuple(columns), rows)


def caption(a: Analysis) -> str:
    """Caption of E8."""
    cells = {(c.scale.name, m, c.num_trainable) for c in a.concentrations for m in c.methods.values()}
    return (
        "Exactly N parameters on k weights, N / k on each, from few weights to many; averaged over the tasks and seeds"
        f" that all points of an N have. {INTERVALS} {MISSING_RUNS}"
        f" {run_summary(a, cells, {c.task for c in a.concentrations})}"
    )


def findings(a: Analysis) -> list[Finding]:
    """On how many weights the variants differ, each backbone and N for itself."""
    texts = []
    for scale, n in dict.fromkeys((c.scale, c.num_trainable) for c in a.concentrations):
        here = [c for c in a.concentrations if (c.scale, c.num_trainable) == (scale, n)]
        whole = [c for c in here if c.task is None] or here
        pairs = [(c, pair, e) for c in whole for pair, e in c.differences.items()]
        verdicts = corrected_verdicts([e for *_, e in pairs])
        told = [
            f"{pair.replace('-', ' − ')} {percent(e.score)} points on {plural(c.sites, 'weight')}"
            for (c, pair, e), verdict in zip(pairs, verdicts, strict=True)
            if verdict in ("higher", "lower")
        ]
        of = f"of {plural(len(pairs), 'comparison')} after Holm's correction"
        if told:
            texts.append(f"On {scale.name} at {count(n)} parameters, different {of}: {join_words(told)}.")
        elif pairs and "not decidable" not in verdicts:
            texts.append(f"On {scale.name} at {count(n)} parameters, none {of} is different.")
    return [Finding("E8", text) for text in texts]


EXPERIMENT = Experiment(
    number="E8",
    name="concentration",
    title="Concentration",
    figure=figure,
    tables=lambda a: [table(a)],
    findings=findings,
    asked=lambda a: bool(a.data.concentrated_variants),
)
