"""A study before a second is spent: every run, its exact count, its key, what it needs and what it will take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apet.backbones.describe import Backbone, describe
from apet.backbones.family import ObjectiveName
from apet.backbones.loading import has_local_weights, load_config, meta_model
from apet.budget import parse_budget
from apet.cli.overrides import parse_pairs
from apet.errors import ApetError, UnknownNameError
from apet.methods import make_method
from apet.studies.grid import Cell, cells
from apet.studies.run_id import backbone_fingerprint, common_settings, run_id, task_fingerprint
from apet.studies.study_config import AXES, Override, StudyConfig
from apet.tasks.objectives import check_objective
from apet.tasks.task import Task
from apet.training.config import RunConfig
from apet.training.resolve import resolve_dtype, resolve_objective, resolve_task


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan.

    Attributes:
        key: what determines its numbers; its folder's name.
        cell: the run in the study's words.
        settings: resolved as far as its numbers need: the exact count, the dtype.
        parameters: trainable scalars, exactly; a task head not among them.
        missing: why it cannot run here (data or weights are not at hand), or None.
    """

    run_id: str
    cell: Cell
    config: RunConfig
    num_trainable: int
    missing: str | None


class Planner:
    """Plans runs; everything that several of them share is worked out once.

    Weights are never loaded: backbones are described on the meta device, fingerprints are taken of files.
    """

    def __init__(self) -> None:
        self._uses: dict[tuple[str, str], ObjectiveName] = {}
        self._backbones: dict[tuple[str, ObjectiveName, int], Backbone] = {}
        self._counts: dict[tuple[Any, ...], int] = {}
        self._tasks: dict[tuple[Any, ...], tuple[Task, str | None]] = {}
        self._commons: dict[str, dict[str, Any]] = {}
        self._there: dict[str, bool] = {}

    def study(self, study: StudyConfig) -> list[PlannedRun]:
        """Every run, each once: cells that mean the same run are one.

        Raises:
            ApetError: a cell that can never run, named: an unreachable budget, a task the backbone cannot serve.
        """
        found: dict[str, PlannedRun] = {}
        for cell in cells(study):
            planned = self.cell(cell)
            found.setdefault(planned.run_id, planned)
        return list(found.values())

    def cell(self, cell: Cell) -> PlannedRun:
        """One run; raises as `study`."""
        s = cell.config
        try:
            task, print_ = self._task(s)
            use = self._use(s)
            check_objective(use, task)
            n = self._count(s, cell.budget, task, use)
        except ApetError as e:
            raise ApetError(f"{s.backbone}, {s.task_name}, {cell.label}, budget {cell.budget}: {e}") from e
        s = s.model_copy(update={"budget": n, "dtype": _dtype(s)})
        missing = None
        if print_ is None:
            missing = f"data of {task.name} are not at hand; give data=FOLDER/{{task}}, or let it be downloaded first"
        elif not self._at_hand(s.backbone):
            missing = (
                f"weights of {s.backbone} are not at hand; give a local folder that holds them, or let them be"
                " downloaded first"
            )
        key = run_id(s, print_ or task.name, backbone_fingerprint(s.backbone), n, self._common(s))
        return PlannedRun(key, cell, s, n, missing)

    def _at_hand(self, backbone: str) -> bool:
        if backbone not in self._there:
            self._there[backbone] = has_local_weights(backbone)
        return self._there[backbone]

    def backbone(self, s: RunConfig) -> Backbone:
        """Description of the model that a run trains."""
        task, _ = self._task(s)
        use = self._use(s)
        labels = max(2, len(task.labels)) if use == "classification-head" else 2
        key = (s.backbone, use, labels)
        if key not in self._backbones:
            self._backbones[key] = describe(meta_model(load_config(s.backbone), use, labels))
        return self._backbones[key]

    def task(self, s: RunConfig) -> Task:
        """What a run learns."""
        return self._task(s)[0]

    def _task(self, s: RunConfig) -> tuple[Task, str | None]:
        key = (s.task, s.data, s.text, s.label)
        if key not in self._tasks:
            task = resolve_task(s)
            self._tasks[key] = task, task_fingerprint(task, None if s.task is None else s.data)
        return self._tasks[key]

    def _use(self, s: RunConfig) -> ObjectiveName:
        key = (s.backbone, s.objective)
        if key not in self._uses:
            self._uses[key] = resolve_objective(s, load_config(s.backbone))
        return self._uses[key]

    def _count(self, s: RunConfig, budget: str, task: Task, use: ObjectiveName) -> int:
        labels = len(task.labels) if use == "classification-head" else 0
        key = (s.backbone, use, labels, s.method, repr(s.method_settings), budget)
        if key not in self._counts:
            method = make_method(s.method, **s.method_settings)
            backbone = self.backbone(s)
            wanted = parse_budget(method.default_budget if s.budget is None else s.budget, backbone)
            self._counts[key] = method.count_trainable(backbone, wanted)
        return self._counts[key]

    def _common(self, s: RunConfig) -> dict[str, Any]:
        shared = s.model_copy(update={"seed": 0, "budget": None, "backbone": "", "task": None, "data": None})
        key = repr(shared)
        if key not in self._commons:
            self._commons[key] = common_settings(s)
        return self._commons[key]


def _dtype(s: RunConfig) -> str:
    """`auto` as this machine means it: every worker, also on another machine, then computes the same."""
    from accelerate import PartialState
    from torch import device

    if s.dtype != "auto":
        return s.dtype
    where = device("cpu") if s.device == "cpu" else PartialState().device
    return str(resolve_dtype(s, where)).removeprefix("torch.")


def select_runs(runs: Sequence[PlannedRun], patterns: Sequence[str], limit: int | None) -> list[PlannedRun]:
    """Runs that match all ``axis=pattern`` words, at most ``limit``.

    Raises:
        ApetError: a word that is no ``axis=pattern``, an unknown axis, or nothing left.
    """
    rule = parse_filter(patterns)
    kept = [p for p in runs if rule.matches(axes_of(p))][:limit]
    if runs and not kept:
        raise ApetError(f"no run matches {', '.join(patterns)}; the study has {len(runs)} runs")
    return kept


def parse_filter(patterns: Sequence[str]) -> Override:
    """The rule of ``axis=pattern`` words; raises as `only`."""
    where = parse_pairs(patterns)
    for axis in where:
        if axis not in AXES:
            raise UnknownNameError("axis", axis, AXES)
    return Override(match={k: v if isinstance(v, list) else str(v) for k, v in where.items()})


def axes_of(p: PlannedRun) -> dict[str, str]:
    """A run by the study's axes."""
    s = p.config
    axes = {"backbone": s.backbone, "task": s.task_name, "method": p.cell.label}
    return {**axes, "budget": p.cell.budget, "seed": str(s.seed)}


@dataclass(frozen=True)
class Estimate:
    """What a plan will take.

    Attributes:
        seconds: of one worker, all runs one after another.
        measured: share of the runs whose backbone and task were timed before; the others are scaled from a product
            of matrices timed on this machine.
        peak_bytes: of the largest run: the highest that was measured with its backbone and task, else weights, values
            with gradients and optimizer, activations.
    """

    seconds: float
    measured: float
    peak_bytes: float


@dataclass(frozen=True)
class Cost:
    """What a finished run took: seconds a step, and bytes at its peak."""

    step: float
    peak: float


def estimate(runs: Sequence[PlannedRun], costs: Mapping[tuple[str, str, str], Cost], planner: Planner) -> Estimate:
    """Time and memory of runs.

    Args:
        runs: those that are to be run.
        costs: (backbone, task, method) -> what finished runs took.
        planner: for the backbones' sizes.
    """
    speed = _flops() if runs else 1.0
    seconds, known, peak = 0.0, 0, 0.0
    by_pair: dict[tuple[str, str], list[Cost]] = {}
    for (name, learnt, _), cost in costs.items():
        by_pair.setdefault((name, learnt), []).append(cost)
    for p in runs:
        s = p.config
        pair = by_pair.get((s.backbone, s.task_name))
        exact = costs.get((s.backbone, s.task_name, p.cell.label))
        if exact is None and pair:
            exact = Cost(sum(c.step for c in pair) / len(pair), max(c.peak for c in pair))
        known += exact is not None
        took = exact or _foreseen(p, planner, speed)
        seconds += took.step * s.max_steps * 1.2  # measuring on the way
        peak = max(peak, took.peak)
    return Estimate(seconds, known / len(runs) if runs else 1.0, peak)


def _foreseen(p: PlannedRun, planner: Planner, speed: float) -> Cost:
    """From the sizes of backbone, input and θ."""
    s = p.config
    backbone = planner.backbone(s)
    tokens = s.batch_size * planner.task(s).max_input_length
    width = 2 if s.dtype == "bfloat16" else 4
    layers = 1 + max((x.index or 0) for x in backbone.layers)
    activations = 16 * tokens * backbone.width * layers * width
    step = 4 * backbone.num_parameters * tokens / 2 / speed  # forward 2, input gradients 2; half is padding
    return Cost(step, width * backbone.num_parameters + 16 * p.num_trainable + activations)


def _flops() -> float:
    """Products a second, floating-point operations, timed once on one thread."""
    import time

    import torch

    a = torch.randn(512, 512)
    a @ a
    began = time.perf_counter()
    for _ in range(8):
        a @ a
    return 8 * 2 * 512**3 / (time.perf_counter() - began)


def missing_reasons(runs: Sequence[PlannedRun]) -> Iterator[tuple[str, int]]:
    """Each reason why runs cannot run here, and how many."""
    reasons = [p.missing for p in runs if p.missing is not None]
    for reason in dict.fromkeys(reasons):
        yield reason, reasons.count(reason)
