"""Studies from Python: planned, run, exported, transferred; and a stored study in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from apet.analysis.frames import complete
from apet.analysis.study_difference import StudyDifference, study_difference
from apet.commands.settings import study_settings
from apet.display import html_notes, html_table
from apet.studies.export import export
from apet.studies.reported import tasks_with_test, with_reported_scores
from apet.studies.results import OUTDATED
from apet.studies.results import Study as StoredStudy
from apet.tasks.score_text import score_text
from apet.training.progress import Progress
from apet.training.result import RunResult
from apet.training.run_id import shared_settings

if TYPE_CHECKING:  # a stored study is looked at without torch
    from pydantic import JsonValue

    from apet.commands.studying import StudyPlan

Filters = Mapping[str, str | list[str]]
"""Axis -> pattern, or patterns of which one must match."""

MOST_ROWS = 40
"""Rows of a study that a notebook shows."""


class Study(StoredStudy):
    """A stored study, finished or still running; notebooks show its table.

    Args:
        folder: from ``apet study run --output``.

    Raises:
        ApetError: no study there, a damaged one, or one of another version.

    Attributes:
        damaged: run_id -> why, of runs whose rows or files are not what was recorded; they are left out.

    Examples:
        >>> import apet, pathlib, tempfile
        >>> from apet.studies.held_store import open_store
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_store(pathlib.Path(folder)) as store:
        ...         store.describe("empty", definition="", planned=0)  # `apet study run` records its runs here
        ...     study = apet.Study(folder)
        >>> study.notes["study"], len(study.runs())
        ('empty', 0)
    """

    @staticmethod
    def plan(
        name: str | Path,
        *,
        output: str | Path | None = None,
        filters: Filters | None = None,
        limit: int | None = None,
        tflops: float | None = None,
        **settings: JsonValue,
    ) -> StudyPlan:
        """List every run of a study with its exact count; nothing is run.

        Args:
            name: YAML file, or name of a registered study: paper, quick, microworld.
            output: folder of the study, whose finished runs are known; None = none are.
            filters: only these runs, such as ``{"backbone": "bert-*"}``.
            limit: number of runs, at most.
            tflops: trillions of operations a second that the machine of the runs sustains; None = this one is timed.
            **settings: of the study (``seeds=[0]``) or of its runs (``max_steps=50``, and ``data``, ``text``,
                ``label`` in place of its tasks).

        Returns:
            The runs, what is done, and what the rest will take.

        Raises:
            ApetError: no such study, a wrong setting, or not one run that is meant.
        """
        from apet.commands.studying import plan_runs

        folder = None if output is None else Path(output)
        return plan_runs(str(name), study_settings(settings), folder, filters, limit, tflops=tflops)

    @classmethod
    def run(
        cls,
        name: str | Path,
        output: str | Path,
        *,
        filters: Filters | None = None,
        limit: int | None = None,
        executor: str = "local",
        workers: int = 0,
        ray_address: str | None = None,
        gpus: float = 0,
        slurm: Mapping[str, str] | None = None,
        retry: bool = False,
        quiet: bool = False,
        **settings: JsonValue,
    ) -> Study:
        """Run what is missing of a study; the same call goes on after whatever stopped it.

        Args:
            name: YAML file, or name of a registered study: paper, quick, microworld.
            output: folder of the study; made if it is not there.
            filters: only these runs, such as ``{"backbone": "bert-*"}``.
            limit: number of runs, at most.
            executor: what runs the runs: local (processes), ray (a cluster) or slurm (jobs).
            workers: of them; 0 = one for each GPU, else as many as the cores allow.
            ray_address: of a Ray cluster; None = Ray's own search.
            gpus: that each worker of Ray or Slurm holds; of Ray maybe a fraction.
            slurm: settings of Slurm jobs, as sbatch calls them: ``{"partition": "gpu"}``.
            retry: also run what failed before.
            quiet: show no progress.
            **settings: of the study (``seeds=[0]``) or of its runs (``max_steps=50``, ``track="tensorboard"``).

        Returns:
            The stored study; runs that failed are in its table with their reasons.

        Raises:
            ApetError: no such study, a wrong setting, not one run that is meant, or a folder of another study.
        """
        from apet.commands.studying import make_runs, plan_runs

        folder = Path(output)
        plan = plan_runs(str(name), study_settings(settings), None, filters, limit)
        make_runs(
            plan,
            folder,
            Progress(quiet),
            executor=executor,
            workers=workers,
            ray_address=ray_address,
            gpus=gpus,
            slurm=slurm,
            retry=retry,
        )
        return cls(folder)

    def export(
        self, output: str | Path = "export", file_format: Literal["csv", "csv.gz", "parquet", "json"] = "csv"
    ) -> list[Path]:
        """Write runs, curves, transfers, the plan and item scores as files; `apet.report` reads them, too.

        Args:
            output: folder for the files.
            file_format: of the files.

        Returns:
            The files.

        Raises:
            ApetError: another format, or the folder cannot be written.
        """
        return export(self, Path(output), file_format)

    def diff(self, other: str | Path | StoredStudy) -> StudyDifference:
        """Hold its runs against those of another study, cell by cell, as after a change of code, data or settings.

        Args:
            other: the second study, or its folder.

        Returns:
            Cells of both with the difference (other − this), its intervals, and what was set otherwise; cells that only
            one has.

        Raises:
            ApetError: no study there.
        """
        return difference_of(self, other if isinstance(other, StoredStudy) else StoredStudy(other))

    @staticmethod
    def schema() -> dict[str, JsonValue]:
        """The JSON schema of a run's record."""
        return RunResult.model_json_schema()

    def transfer(
        self,
        target_tasks: Sequence[str] = (),
        *,
        limit: int | None = None,
        filters: Filters | None = None,
        quiet: bool = False,
    ) -> pd.DataFrame:
        """Measure its runs on other tasks, as `apet.transfer`."""
        return transfer(self.folder, target_tasks, limit=limit, filters=filters, quiet=quiet)

    def __repr__(self) -> str:
        return f"Study({self.notes.get('study', '')!r}, {len(self.results()):,} runs, {str(self.folder)!r})"

    def _repr_html_(self) -> str:
        runs = self.runs()
        done = complete(runs)
        keys = ["backbone", "task", "method", "num_trainable"]
        rows = [
            (*key, len(group), score_text(str(group["metric"].iloc[0]), group["score"].mean()), group["metric"].iloc[0])
            for key, group in done.groupby(keys, sort=False)
        ]
        notes = [f"{len(rows) - MOST_ROWS:,} more rows: runs()"] if len(rows) > MOST_ROWS else []
        failed = len(runs) - len(done)
        notes += [f"{failed:,} runs failed: runs() has the reasons"] if failed else []
        notes += (
            [f"{len(self.damaged):,} runs are left out as damaged: damaged has the reasons"] if self.damaged else []
        )
        columns = ("backbone", "task", "method", "trained", "seeds", "mean score", "metric")
        title = f"{self.notes.get('study', 'study')}: {len(done):,} runs"
        return html_table(title, columns, rows[:MOST_ROWS]) + html_notes(notes)


def difference_of(first: StoredStudy, second: StoredStudy) -> StudyDifference:
    """Cell by cell what two stored studies differ in."""
    sides = {"first": first, "second": second}
    tables: list[pd.DataFrame] = []
    for side, study in sides.items():
        runs = study.runs()
        runs = runs[~runs[OUTDATED]]  # a seed that was run again with other settings counts once
        # One run of two versions of the code has one identifier in both studies.
        tables.append(runs.assign(run_id=side + runs["run_id"]))
    tested = tasks_with_test(pd.concat(tables))  # of both: a test score is not held against one of validation
    items: dict[str, NDArray[np.float64]] = {}
    settings: dict[str, dict[str, JsonValue]] = {}
    for side, study in sides.items():
        items |= {side + run_id: scores for run_id, scores in study.items(tested).items()}
        for run_id, result in study.results().items():
            seen: dict[str, JsonValue] = {
                "dtype": result.dtype,
                "data": result.data_fingerprint[:8],
                "weights": result.backbone_fingerprint[:8],
            }
            settings[side + run_id] = shared_settings(result.config) | seen
    reported = [with_reported_scores(runs, tested) for runs in tables]
    return study_difference(reported[0], reported[1], items, settings)


def transfer(
    folder: str | Path,
    target_tasks: Sequence[str] = (),
    *,
    limit: int | None = None,
    filters: Filters | None = None,
    quiet: bool = False,
) -> pd.DataFrame:
    """Measure a study's runs on other tasks, zero-shot (paper section 6.3); nothing is trained again.

    Args:
        folder: of the study; its runs kept their deltas.
        target_tasks: to measure on; without any, those of the study.
        limit: number of examples, at most.
        filters: only these runs, such as ``{"method": "lora"}``.
        quiet: show no progress.

    Returns:
        One row a run and target: run_id, source, target, backbone, method, budget, num_trainable, seed, score with
        its interval, num_examples.

    Raises:
        ApetError: no study there, no delta was kept, or no target is of the kind of the runs' tasks.

    Examples:
        >>> import apet
        >>> try:
        ...     apet.transfer("runs/no-study")
        ... except apet.ApetError as error:
        ...     print(str(error).split(";")[0])
        no study at 'runs/no-study'
    """
    from apet.studies.held_store import open_store
    from apet.studies.transfer import transfer as measure
    from apet.training.resources import Resources

    folder = Path(folder)
    with open_store(folder, create=False) as store:
        pairs = set(measure(store, target_tasks, Resources(Progress(quiet)), limit, filters))
    study = StoredStudy(folder)
    table = study.transfers()
    # The record may hold more, measured by an earlier call with other filters or targets.
    table = table[[pair in pairs for pair in zip(table["run_id"], table["target"], strict=True)]]
    axes = study.axes()
    table.insert(5, "budget", [axes[run_id].budget for run_id in table["run_id"]])
    return table
