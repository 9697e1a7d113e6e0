"""Several methods on one backbone and one task: a small study, run in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from apet.errors import ApetError
from apet.studies.executors.base import InProcessExecutor
from apet.studies.held_store import open_store
from apet.studies.planning import plan_study
from apet.studies.results import Study
from apet.studies.scheduler import Scheduler
from apet.studies.store_schema import FILE
from apet.studies.study_config import DECIDED_BY_AXES, Override, StudyConfig
from apet.training.config import DEFAULT_BUDGET, RunConfig
from apet.training.resources import Resources
from apet.training.run import prefetch
from apet.training.run_id import shared_settings
from apet.training.run_plan import RunPlan


def comparison_study(
    base: RunConfig, methods: Sequence[str], seeds: Sequence[int], resources: Resources
) -> StudyConfig:
    """The study that holds every method against every other.

    Args:
        base: all other settings. Its budget holds for every method but full fine-tuning.
        methods: names, with suffixes where wanted (``apet-discrete``).
        seeds: of the runs.
        resources: that the runs will share.

    Returns:
        The study; an override keeps the budget of full fine-tuning at its own full size.

    Raises:
        ApetError: the settings name no task and no data with text and label, or data that do not fit.
    """
    resources.cache.task(base)  # a fault of the task is not one of the first method's: it is told by itself
    given = base.model_dump(mode="json", exclude_unset=True, exclude=DECIDED_BY_AXES)
    settings = base.method_settings
    study = StudyConfig(
        name=f"{base.backbone} on {base.task_name}",
        backbones=(base.backbone,),
        tasks=(base.task_name,),
        methods=tuple({"method": m, **settings} if settings else m for m in methods),
        budgets=(DEFAULT_BUDGET if base.budget is None else str(base.budget),),
        seeds=tuple(seeds),
        data=base.data_folder,
        run_defaults={"num_threads": None, **given},  # one run at a time has all the cores
        overrides=(Override(match={"method": "fine-tuning*"}, budgets=(DEFAULT_BUDGET,)),),
    )
    return study.model_copy(update={"imports": base.imports})


def compare(study: StudyConfig, folder: Path, resources: Resources) -> list[str]:
    """Run what is missing of a comparison, also what failed before. A run that fails is recorded and stops nobody.

    Args:
        study: from `comparison_study`.
        folder: of a new study, or of one whose runs have the same settings.
        resources: what the runs share.

    Returns:
        run_id of its runs, in the study's order.

    Raises:
        ApetError: a cell that cannot be planned, bad data, missing weights, or a folder of other runs; all of it before
            the first run starts, and nothing is written.
    """
    plans = plan_study(study, resources.cache)
    if any(p.missing for p in plans):  # downloaded first: data and weights are a part of every run_id
        prefetch(plans[0], resources)
        resources.cache.forget_missing()
        plans = plan_study(study, resources.cache)
    complete: set[str] = set()
    if (folder / FILE).is_file():
        stored = Study(folder)
        _refuse_other(stored, plans)
        complete = set(stored.results())
    if not complete.issuperset(p.run_id for p in plans):
        prefetch(plans[0], resources)  # what is wrong with data or weights is known before the store exists
    with open_store(folder) as store:
        store.describe(study.name, study.to_yaml(), len(plans))
        Scheduler(store, InProcessExecutor(resources), resources.progress).run(plans, retry=True, aloud=True)
    return [p.run_id for p in plans]


def _refuse_other(stored: Study, plans: Sequence[RunPlan]) -> None:
    """Pass where stored runs and these may stand side by side: only what a study's axes name may differ."""
    advice = "give a new output folder"
    settings = _settings_in_common(plans[0].config, plans[0].dtype)
    for result in stored.results().values():
        stored_settings = _settings_in_common(result.config, result.dtype)
        different = [name for name in settings if stored_settings[name] != settings[name]]
        if different:
            raise ApetError(f"{str(stored.folder)!r} holds runs with other settings ({', '.join(different)}); {advice}")
    run_ids = {axes: run_id for run_id, axes in stored.axes().items() if run_id in stored.results()}
    for p in plans:
        if run_ids.get(p.axes, p.run_id) != p.run_id:
            raise ApetError(
                f"{str(stored.folder)!r} holds {p.axes.method}, seed {p.axes.seed}, with other data, weights or seeds"
                f" of mask, values or data; {advice}"
            )


def _settings_in_common(config: RunConfig, dtype: str) -> dict[str, JsonValue]:
    """What all runs of a comparison share; a dtype that was left open as what it came to."""
    settings = shared_settings(config) | {"dtype": dtype}
    return {name: value for name, value in settings.items() if name not in DECIDED_BY_AXES}
