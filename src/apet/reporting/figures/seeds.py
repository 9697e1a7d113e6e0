"""What stands behind a point of a figure: which seeds, and of a single run its id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apet.analysis.frames import complete
from apet.analysis.intervals import Estimate
from apet.analysis.study import Analysis
from apet.analysis.study_data import Scale
from apet.reporting.captions import CellKey, plural
from apet.reporting.figures.figure import Row


@dataclass(frozen=True)
class SeedsByCell:
    """The complete runs, to look them up by point.

    Attributes:
        runs: (backbone, method, N) -> task -> seed -> run id.
    """

    runs: Mapping[CellKey, Mapping[str, Mapping[int, str]]]

    @classmethod
    def of(cls, a: Analysis) -> SeedsByCell:
        """The runs of all experiments."""
        runs: dict[CellKey, dict[str, dict[int, str]]] = {}
        done = complete(a.data.runs)
        columns = (done[c] for c in ("backbone", "method", "num_trainable", "task", "seed", "run_id"))
        for backbone, method, n, task, seed, run_id in zip(*columns, strict=True):
            by_task = runs.setdefault((str(backbone), str(method), int(n)), {})
            by_task.setdefault(str(task), {})[int(seed)] = str(run_id)
        return cls(runs)

    def row(self, scale: Scale, method: str, n: int, task: str | None, e: Estimate) -> Row:
        """Seeds and, of one run, its id, as a point says them.

        Args:
            scale: the cell's backbone.
            method: of the cell.
            n: the cell's count.
            task: None = the mean over tasks.
            e: the number.

        Returns:
            ``seeds`` in words, such as ``0, 1``, ``1 of 0, 1`` or ``0, run 3f2a…``.
        """
        cell = self.runs.get((scale.name, method, n), {})
        by_task = {t: by_seed for t, by_seed in cell.items() if task in (None, t)}
        seeds = sorted({s for by_seed in by_task.values() for s in by_seed})
        numbers = ", ".join(map(str, seeds))
        # a mean may leave seeds out that not every task has
        used = numbers if e.num_seeds == len(seeds) else f"{e.num_seeds} of {numbers}"
        over = f"{used}; {plural(e.num_tasks, 'task')}" if task is None else used
        run_ids = [run_id for by_seed in by_task.values() for run_id in by_seed.values()]
        missing = f"; † {e.num_missing} planned numbers missing" if e.num_missing else ""
        one_run = len(run_ids) == 1 and e.num_seeds == e.num_tasks == 1
        return {"seeds": over + (f", run {run_ids[0]}" if one_run else "") + missing}
