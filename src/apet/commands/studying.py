"""Grids of runs, planned and run: what `apet.Study` and ``apet study`` have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from pydantic import JsonValue

from apet.display import html_notes, html_table
from apet.errors import ApetError
from apet.studies.executors import ExecutorOptions, running_executor
from apet.studies.held_store import open_store
from apet.studies.planning import Cost, CostEstimate, Patterns, estimate, missing_reasons, plan_study, select_runs
from apet.studies.scheduler import Scheduler, Summary
from apet.studies.store import Store
from apet.studies.store_schema import FILE
from apet.studies.study_config import StudyConfig
from apet.studies.study_file import load_study
from apet.training.progress import Progress
from apet.training.run_plan import RunPlan

Settings = Mapping[str, JsonValue]


@dataclass(frozen=True)
class StudyPlan:
    """Every run of a study with its exact count; nothing is run.

    Attributes:
        study: as its file and the settings have it.
        runs: that were selected, in the study's order.
        num_planned: runs of the whole study.
        states: run_id -> complete or failed, of runs that the output folder knows.
        costs: (backbone, task, method) -> what finished runs took.
        tflops: that the machine of the runs sustains; None = this one, which is timed.
    """

    study: StudyConfig
    runs: tuple[RunPlan, ...]
    num_planned: int
    states: Mapping[str, str]
    costs: Mapping[tuple[str, str, str], Cost]
    tflops: float | None = None

    @property
    def waiting(self) -> list[RunPlan]:
        """Runs that are not complete."""
        return [run for run in self.runs if self.states.get(run.run_id) != "complete"]

    @property
    def num_complete(self) -> int:
        """Runs that are done."""
        return len(self.runs) - len(self.waiting)

    @property
    def num_failed(self) -> int:
        """Runs that were tried and failed."""
        return sum(self.states.get(run.run_id) == "failed" for run in self.runs)

    @property
    def cannot_run(self) -> dict[str, int]:
        """Why runs cannot be made on this machine -> how many."""
        return dict(missing_reasons(self.runs))

    @cached_property
    def cost(self) -> CostEstimate:
        """What the waiting runs will take."""
        return self._cost(self.waiting)

    def cost_by_backbone(self) -> dict[str, CostEstimate]:
        """What the waiting runs of each backbone will take."""
        names = dict.fromkeys(run.axes.backbone for run in self.waiting)
        return {name: self._cost([r for r in self.waiting if r.axes.backbone == name]) for name in names}

    def _cost(self, runs: Sequence[RunPlan]) -> CostEstimate:
        return estimate(runs, self.costs, None if self.tflops is None else 1e12 * self.tflops)

    def table(self) -> pd.DataFrame:
        """One row a run: its axes, exact count and state.

        Returns:
            The columns run_id, backbone, task, method, budget, seed, num_trainable, state.
        """
        return pd.DataFrame(self.records())

    def records(self) -> list[dict[str, JsonValue]]:
        """The runs as plain data, for JSON."""
        return [
            {
                "run_id": run.run_id,
                **asdict(run.axes),
                "num_trainable": run.num_trainable,
                "state": self.states.get(run.run_id) or ("missing" if run.missing else "waiting"),
            }
            for run in self.runs
        ]

    def groups(self) -> dict[tuple[str, str, str], list[RunPlan]]:
        """Runs by backbone, method and count, as tables show them."""
        groups: dict[tuple[str, str, str], list[RunPlan]] = {}
        for run in self.runs:
            groups.setdefault((run.axes.backbone, run.axes.method, f"{run.num_trainable:,}"), []).append(run)
        return groups

    def __repr__(self) -> str:
        return f"StudyPlan({self.study.name!r}, {len(self.runs):,} runs, {self.num_complete:,} done)"

    def _repr_html_(self) -> str:
        rows = [(*key, len(group)) for key, group in self.groups().items()]
        title = f"{self.study.name}: {len(self.runs):,} runs, {self.num_complete:,} done, {self.num_failed:,} failed"
        notes = [f"{count:,} runs cannot run here: {reason}" for reason, count in self.cannot_run.items()]
        return html_table(title, ("backbone", "method", "trainable", "runs"), rows) + html_notes(notes)


def plan_runs(
    name: str,
    settings: Settings,
    output: Path | None = None,
    filters: Patterns | None = None,
    limit: int | None = None,
    imports: Sequence[str] = (),
    tflops: float | None = None,
) -> StudyPlan:
    """Plan a study.

    Args:
        name: file or registered name.
        settings: of the study or of its runs, over the file's.
        output: folder of the study, whose finished runs are known; None = none are.
        filters: axis -> pattern, of the runs that are meant.
        limit: number of runs, at most.
        imports: guests beside those of the file: workers, and whoever runs the stored study again, import them, too.
        tflops: that the machine of the runs sustains; None = this one, which is timed.

    Returns:
        The study with the runs that were selected.

    Raises:
        ApetError: the study has no run, or none that matches.
    """
    study = load_study(name, settings)
    if imports:
        study = study.model_copy(update={"imports": tuple(dict.fromkeys([*study.imports, *imports]))})
    runs = plan_study(study)
    if not runs:
        raise ApetError(f"study {name!r} has no run: its overrides exclude them all; exclude fewer")
    states, costs = _stored(output)
    return StudyPlan(study, tuple(select_runs(runs, filters or {}, limit)), len(runs), states, costs, tflops)


def _stored(output: Path | None) -> tuple[dict[str, str], dict[tuple[str, str, str], Cost]]:
    """State of every run that a folder knows, and what runs took: the last one's time, the highest peak."""
    if output is None or not (output / FILE).is_file():
        return {}, {}
    store = Store(output)
    costs: dict[tuple[str, str, str], Cost] = {}
    for stored in store.rows():
        if stored.result is not None:
            key = stored.axes.backbone, stored.axes.task, stored.axes.method
            peak = max(stored.result.peak_memory_bytes, costs[key].peak if key in costs else 0)
            costs[key] = Cost(1 / max(1e-9, stored.result.steps_per_second), peak)
    states = store.states()
    store.close()
    return states, costs


def make_runs(
    plan: StudyPlan,
    folder: Path,
    progress: Progress,
    *,
    executor: str = "local",
    workers: int = 0,
    ray_address: str | None = None,
    gpus: float = 0,
    slurm: Mapping[str, str] | None = None,
    retry: bool = False,
) -> Summary:
    """Make the runs of a plan that are missing in a folder.

    Args:
        plan: of the study.
        folder: of its results.
        progress: is told how far it is.
        executor: what runs the runs: local, ray or slurm.
        workers: of them; 0 = one for each GPU, else as many as the cores allow.
        ray_address: of a Ray cluster; None = Ray's own search.
        gpus: that each worker of Ray or Slurm holds; of Ray maybe a fraction.
        slurm: settings of Slurm jobs, as sbatch calls them: ``{"partition": "gpu"}``.
        retry: whether what failed before is run, too.

    Returns:
        What was done, what failed, and what cannot run here.
    """
    configs = [run.config for run in plan.runs]
    options = ExecutorOptions(
        num_workers=workers,
        # All runs of a study have the number of threads that its defaults give; the first run stands for them.
        num_threads=configs[0].num_threads or 1,
        num_gpus=gpus,
        slurm=slurm or {},
        folder=folder,
        ray_address=ray_address,
        devices=frozenset(config.device for config in configs),
        device_maps=frozenset(config.device_map for config in configs),
    )
    with open_store(folder) as store:
        store.describe(plan.study.name, plan.study.to_yaml(), plan.num_planned)
        with running_executor(executor, options) as opened:
            return Scheduler(store, opened, progress).run(list(plan.runs), retry=retry, opening=True)
