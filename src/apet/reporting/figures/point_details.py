"""Hover texts of the page: the tasks, seeds and, of a single run, the run id that a point rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apet.analysis.frames import complete
from apet.analysis.intervals import Estimate
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.reporting.captions import CellKey, plural
from apet.reporting.figures import plotly_data
from apet.reporting.formatting import MEAN_OVER_TASKS


@dataclass(frozen=True)
class PointDetails:
    """The complete runs, to look them up by point.

    Attributes:
        runs: (backbone, method, N) -> task -> seed -> run id.
    """

    runs: Mapping[CellKey, Mapping[str, Mapping[int, str]]]

    @classmethod
    def of(cls, a: Analysis) -> PointDetails:
        """The runs of all experiments."""
        runs: dict[CellKey, dict[str, dict[int, str]]] = {}
        done = complete(a.data.runs)
        columns = (done[c] for c in ("backbone", "method", "num_trainable", "task", "seed", "run_id"))
        for backbone, method, n, task, seed, run_id in zip(*columns, strict=True):
            by_task = runs.setdefault((str(backbone), str(method), int(n)), {})
            by_task.setdefault(str(task), {})[int(seed)] = str(run_id)
        return cls(runs)

    def text(self, head: str, scale: Scale, method: str, n: int, task: str | None, e: Estimate, unit: str = "%") -> str:
        """Hover text of a point: head, number, both intervals, tasks and seeds; of one run its run id.

        Args:
            head: the first line.
            scale: the cell's backbone.
            method: of the cell.
            n: the cell's count.
            task: None = the mean over tasks.
            e: the number.
            unit: of the number.

        Returns:
            The text, one fact a line.
        """
        cell = self.runs.get((scale.name, method, n), {})
        by_task = {t: by_seed for t, by_seed in cell.items() if task in (None, t)}
        seeds = sorted({s for by_seed in by_task.values() for s in by_seed})
        over = task or f"{MEAN_OVER_TASKS}: {plural(e.num_tasks, 'task')}"
        return f"{plotly_data.hover_text(head, e, unit)}\n{over}\n{_seeds(seeds, e.num_seeds)}{_run_id(by_task, e)}"


def _seeds(seeds: Sequence[int], num_used: int) -> str:
    """Which seeds there are; where a mean leaves some out, how many of which it uses."""
    numbers = ", ".join(map(str, seeds))
    if num_used != len(seeds):
        return f"{plural(num_used, 'seed')} of {numbers}"
    return f"seed{'' if num_used == 1 else 's'} {numbers}"


def _run_id(by_task: Mapping[str, Mapping[int, str]], e: Estimate) -> str:
    run_ids = [run_id for by_seed in by_task.values() for run_id in by_seed.values()]
    return f"\nrun {run_ids[0]}" if len(run_ids) == 1 and e.num_seeds == e.num_tasks == 1 else ""
