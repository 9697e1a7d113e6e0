"""Several methods on one backbone and one task: a small study, run in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apet.errors import ApetError
from apet.studies.executors.base import InProcessExecutor
from apet.studies.planning import PlannedRun, Planner, axes_of
from apet.studies.results import Study
from apet.studies.run_id import backbone_fingerprint, common_settings
from apet.studies.scheduler import Scheduler
from apet.studies.store import FILE, open_store
from apet.studies.study_config import DECIDED_BY_AXES, DEFAULT_BUDGET, Override, StudyConfig
from apet.training.config import RunConfig, validate_config
from apet.training.resolve import resolve_task
from apet.training.resources import Resources
from apet.training.run import prefetch

METHODS = ("fine-tuning", "prompt", "bitfit", "lora", "adapter", "apet-adjacent", "apet-discrete")
"""Full fine-tuning, the paper's four, and both distributions of APET (at LoRA's count unless a budget is given)."""


def comparison_study(base: RunConfig, methods: Sequence[str], seeds: Sequence[int]) -> StudyConfig:
    """The study that holds every method against every other.

    Args:
        base: all other settings. Its budget holds for every method but full fine-tuning.
        methods: names, with suffixes where wanted (``apet-discrete``).
        seeds: of the runs.

    Raises:
        ApetError: the settings name no task and no data with text and label, or data that do not fit.
    """
    resolve_task(base)
    own = base.method_settings
    given = base.model_dump(mode="json", exclude_unset=True, exclude=DECIDED_BY_AXES)
    return StudyConfig(
        name=f"{base.backbone} on {base.task_name}",
        backbones=(base.backbone,),
        tasks=(base.task_name,),
        methods=tuple({"method": m, **own} if own else m for m in methods),
        budgets=(DEFAULT_BUDGET if base.budget is None else str(base.budget),),
        seeds=tuple(seeds),
        data=None if base.task is None else base.data,
        run_defaults={"num_threads": None, **given},  # one run at a time has all the cores
        overrides=(Override(match={"method": "fine-tuning*"}, budgets=(DEFAULT_BUDGET,)),),
    )


def compare(study: StudyConfig, folder: Path, shop: Resources) -> list[str]:
    """Run what is missing of it, also what failed before. A run that fails is recorded and stops nobody.

    Args:
        study: from `definition`.
        folder: of a new study, or of one whose runs have the same settings.
        shop: what the runs share.

    Returns:
        Keys of its runs, in the study's order.

    Raises:
        ApetError: a cell that cannot be planned, bad data, missing weights, or a folder of other runs; all of it before
            the first run starts, and nothing is written.
    """
    runs = Planner().study(study)
    if any(p.missing for p in runs):  # fetched first: data and weights are a part of every key
        prefetch(runs[0].config, shop)
        backbone_fingerprint.cache_clear()
        runs = Planner().study(study)
    done: set[str] = set()
    if (folder / FILE).is_file():
        there = Study(folder)
        _refuse_other(there, runs)
        done = set(there.results())
    if not done.issuperset(p.run_id for p in runs):
        prefetch(runs[0].config, shop)
    with open_store(folder) as store:
        store.describe(study.name, study.to_yaml(), len(runs))
        Scheduler(store, InProcessExecutor(shop), shop.watch).run(runs, retry=True, aloud=True)
    return [p.run_id for p in runs]


def _refuse_other(there: Study, runs: Sequence[PlannedRun]) -> None:
    """Pass where stored runs and these may stand side by side: only what a study's axes name may differ."""
    advice = "give a new output folder"
    ours = _shared(runs[0].config)
    for result in there.results().values():
        theirs = _shared(
            validate_config(result["settings"], str(there.folder))
        )  # settings that came later have their defaults
        other = [k for k in ours if theirs[k] != ours[k]]
        if other:
            raise ApetError(f"{str(there.folder)!r} holds runs with other settings ({', '.join(other)}); {advice}")
    stored = {tuple(axes.items()): key for key, axes in there.axes().items() if key in there.results()}
    for p in runs:
        if stored.get(tuple(axes_of(p).items()), p.run_id) != p.run_id:
            raise ApetError(
                f"{str(there.folder)!r} holds {p.cell.label}, seed {p.config.seed}, with other data, weights or seeds"
                f" of mask, values or data; {advice}"
            )


def _shared(s: RunConfig) -> dict[str, Any]:
    return {k: v for k, v in common_settings(s).items() if k not in DECIDED_BY_AXES}
