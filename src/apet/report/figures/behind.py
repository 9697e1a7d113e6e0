"""What stands behind a point of the page: tasks, seeds, and of a single run its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apet.analysis.frames import complete
from apet.analysis.intervals import Estimate
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.report.captions import plural
from apet.report.figures import plot

Cell = tuple[str, str, int]
"""Backbone, method, N."""


@dataclass(frozen=True)
class Behind:
    """The complete runs, to look them up by point.

    Attributes:
        runs: cell -> task -> seed -> key.
    """

    runs: Mapping[Cell, Mapping[str, Mapping[int, str]]]

    @classmethod
    def of(cls, a: Analysis) -> Behind:
        """Of all experiments."""
        found: dict[Cell, dict[str, dict[int, str]]] = {}
        done = complete(a.data.runs)
        columns = (done[c] for c in ("backbone", "method", "num_trainable", "task", "seed", "run_id"))
        for backbone, method, n, task, seed, key in zip(*columns, strict=True):
            cell = found.setdefault((str(backbone), str(method), int(n)), {})
            cell.setdefault(str(task), {})[int(seed)] = str(key)
        return cls(found)

    def text(self, head: str, scale: Scale, method: str, n: int, task: str | None, e: Estimate, unit: str = "%") -> str:
        """Head, number, both intervals, tasks and seeds; of one run its key."""
        cell = self.runs.get((scale.name, method, n), {})
        mine = {t: seeds for t, seeds in cell.items() if task in (None, t)}
        seeds = sorted({s for by_seed in mine.values() for s in by_seed})
        where = task or f"{plot.MEAN}: {plural(e.num_tasks, 'task')}"
        return f"{plot.hover(head, e, unit)}\n{where}\n{_seeds(seeds, e.num_seeds)}{_key(mine, e)}"


def _seeds(found: list[int], used: int) -> str:
    """Which seeds; where a mean leaves some out, how many of which."""
    named = ", ".join(map(str, found))
    if used != len(found):
        return f"{plural(used, 'seed')} of {named}"
    return f"seed{'' if used == 1 else 's'} {named}"


def _key(runs: Mapping[str, Mapping[int, str]], e: Estimate) -> str:
    keys = [k for by_seed in runs.values() for k in by_seed.values()]
    return f"\nrun {keys[0]}" if len(keys) == 1 and e.num_seeds == e.num_tasks == 1 else ""
