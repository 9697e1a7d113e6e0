"""The cells of a study's grid: every run, with the settings that defaults and overrides give it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from apet.errors import ApetError
from apet.studies.study_config import DECIDED_BY_AXES, StudyConfig, split_method
from apet.training.config import DEFAULT_BUDGET, RunConfig, method_label, validate_config


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        config: of the run; its budget is as the study gives it.
        label: the method with its settings, as figures and overrides call it.
        budget: as the study gives it.
    """

    config: RunConfig
    label: str
    budget: str


def cells(study: StudyConfig) -> Iterator[Cell]:
    """Every run, in the order backbone, task, method, budget, seed.

    Yields:
        The cells that no override excludes.

    Raises:
        ApetError: a method or a setting that does not fit.
    """
    for backbone in study.backbones:
        for task in study.tasks:
            # Folders of data are named after Python modules, so that one folder serves tasks of either spelling.
            data = study.data.replace("{task}", Path(task).stem.replace("-", "_")) if study.data else None
            for method in study.methods:
                name, settings = split_method(method)
                base: dict[str, JsonValue] = {"method": name, "method_settings": settings, "imports": [*study.imports]}
                label = method_label(name, settings)
                axes = {"backbone": backbone, "task": task, "method": label}
                for budget in _budgets(study, axes):
                    for seed in _seeds(study, {**axes, "budget": budget}):
                        cell_axes = {**axes, "budget": budget, "seed": str(seed)}
                        matching = [o for o in study.overrides if o.matches(cell_axes)]
                        if any(o.exclude for o in matching):
                            continue
                        run_settings = dict(study.run_defaults)
                        for override in matching:
                            run_settings.update(override.set_)
                        config = _config(backbone, task, data, base, run_settings)
                        # model_copy skips validation: both values come from fields that were validated already.
                        budget_given = None if budget == DEFAULT_BUDGET else budget
                        yield Cell(config.model_copy(update={"budget": budget_given, "seed": seed}), label, budget)


def _budgets(study: StudyConfig, axes: Mapping[str, str]) -> tuple[str, ...]:
    """Budgets of a cell: those of the last override that gives some, else the study's."""
    budgets = study.budgets
    for override in study.overrides:
        # An override that asks for an axis not known yet would match every cell; it is refused when a file is read.
        if override.budgets is not None and override.axes <= set(axes) and override.matches(axes):
            budgets = override.budgets
    return budgets


def _seeds(study: StudyConfig, axes: Mapping[str, str]) -> tuple[int, ...]:
    """Seeds of a cell: those of the last override that gives some, else the study's."""
    seeds = study.seeds
    for override in study.overrides:
        if override.seeds is not None and override.axes <= set(axes) and override.matches(axes):
            seeds = override.seeds
    return seeds


_validated: dict[str, RunConfig] = {}


def _config(
    backbone: str, task: str, data: str | None, base: Mapping[str, JsonValue], run_settings: Mapping[str, JsonValue]
) -> RunConfig:
    """Config of all cells that differ in budget and seed alone.

    Validating takes longer than everything else here, and a grid may have 100,000 cells: it is done once for each
    combination of everything but budget and seed.

    Returns:
        The config, without budget and seed.

    Raises:
        ApetError: a setting that the axes decide, or one that does not fit.
    """
    if run_settings.get("text") or run_settings.get("label"):
        if data is not None:
            raise ApetError(
                f"text and label say how data files are read; give these under tasks, without data={data!r}"
            )
        axes: dict[str, JsonValue] = {"backbone": backbone, "data": task}
    else:
        axes = {"backbone": backbone, "task": task, "data": data}
    axes |= base
    key = repr((axes, run_settings))
    if key not in _validated:
        decided = sorted(DECIDED_BY_AXES & set(run_settings))
        if decided:
            raise ApetError(f"{decided[0]} is decided by the study's axes; it cannot stand under run_defaults or set")
        # One thread each: a study runs many runs at a time, and results must not depend on how many. Nor, to the last
        # bit, on which runs are left after it was stopped: side by side only where the study says so.
        _validated[key] = validate_config({"num_threads": 1, "side_by_side": 1, **axes, **run_settings}, "study")
    return _validated[key]
