"""The tables of E6: every task on every backbone, as measured, and as the paper prints it."""

from __future__ import annotations

from apet.analysis.intervals import Estimate
from apet.analysis.study import Analysis
from apet.reporting import reference_results
from apet.reporting.captions import (
    MISSING_RUNS,
    run_summary,
)
from apet.reporting.experiments.experiment import Experiment
from apet.reporting.formatting import (
    display_name,
    mean_and_spread,
    significant,
)
from apet.reporting.table import (
    Column,
    Table,
    Value,
    estimate_column,
    integer_column,
    snake_case,
)

_TRAINABLE_PERCENT = Column("% of backbone", significant, "trainable_percent")


def task_table(a: Analysis) -> Table:
    """Every backbone with every method, a column a task."""
    tasks = list(dict.fromkeys(t for f in a.data.families for t in a.data.tasks(f)))
    scores: dict[tuple[str, str, int], dict[str, Estimate]] = {}
    trainable_percent = {}
    for p in a.budget_points:
        if p.task is not None and _is_listed(a, p.scale.name, p.method, p.num_trainable):
            cell = (p.scale.name, p.method, p.num_trainable)
            scores.setdefault(cell, {})[p.task] = p.score
            trainable_percent[cell] = p.trainable_percent
    scales = [s.name for s in a.data.scales]
    cells = sorted(scores, key=lambda c: (scales.index(c[0]), a.data.methods.index(c[1]), c[2]))
    columns = (
        Column("backbone"),
        Column("method"),
        integer_column("num_trainable", "N"),
        _TRAINABLE_PERCENT,
        *(estimate_column(snake_case(t), t, mean_and_spread) for t in tasks),
    )
    rows: list[list[Value]] = [
        [
            backbone,
            display_name(method),
            n,
            trainable_percent[backbone, method, n],
            *(scores[backbone, method, n].get(t) for t in tasks),
        ]
        for backbone, method, n in cells
    ]
    return Table("task_table", "E6: all tasks and backbones, our runs", caption(a), columns, rows)


def _is_listed(a: Analysis, backbone: str, method: str, n: int) -> bool:
    """Methods at their default sizes, and APET at any of these counts."""
    default_sizes = a.data.own_sizes
    counts = {size for (b, _), size in default_sizes.items() if b == backbone}
    return default_sizes.get((backbone, method)) == n or (method.startswith("apet") and n in counts)


def task_table_reference(a: Analysis) -> Table:
    """The paper's table 2, of the families of backbones that were run."""
    reference = reference_results.rows_of_families(set(a.data.families))
    tasks = list(dict.fromkeys(t for r in reference_results.table2() for t in r.scores))
    rows = [
        [r.backbone, display_name(r.method), r.trainable_percent, *(r.scores.get(t) for t in tasks)] for r in reference
    ]
    columns = (
        Column("backbone"),
        Column("method"),
        _TRAINABLE_PERCENT,
        *(Column(t, lambda score: f"{score:.1f}") for t in tasks),
    )
    caption = (
        f"{reference_results.SOURCE}, in percent: the paper's own numbers, on its own backbones and data, without"
        " intervals; not measured by us. Empty where it prints none or the scan is illegible."
    )
    return Table("task_table_reference", "E6: the paper's own numbers, for comparison", caption, columns, rows)


def caption(a: Analysis) -> str:
    """Caption of E6."""
    return (
        f"{a.data.split.capitalize()} score in percent, mean over seeds ± half the 95 % t-interval, or its ends where"
        f" it reaches 0 or 100; of one seed the score alone. {MISSING_RUNS} {run_summary(a)}"
    )


EXPERIMENT = Experiment(
    number="E6",
    name="task_table",
    title="All tasks",
    tables=lambda a: [task_table(a), task_table_reference(a)],
    reference_tables=frozenset({"task_table_reference"}),
)
