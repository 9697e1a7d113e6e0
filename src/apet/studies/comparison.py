"""Several methods on one backbone and one task: a small study, run in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apet.errors import ApetError
from apet.studies.definition import GIVEN, OWN, Definition, Rule
from apet.studies.driver import Driver
from apet.studies.engine import InProcess
from apet.studies.keys import backbone_print, common_of
from apet.studies.planning import Planned, Planner, axes_of
from apet.studies.results import Study
from apet.studies.store import FILE, opened
from apet.training.choices import task_of
from apet.training.run import gather
from apet.training.settings import RunSettings, made
from apet.training.workshop import Workshop

METHODS = ("fine-tuning", "prompt", "bitfit", "lora", "adapter", "apet-adjacent", "apet-discrete")
"""Full fine-tuning, the paper's four, and both distributions of APET (at LoRA's count unless a budget is given)."""


def definition(base: RunSettings, methods: Sequence[str], seeds: Sequence[int]) -> Definition:
    """The study that holds every method against every other.

    Args:
        base: all other settings. Its budget holds for every method but full fine-tuning.
        methods: names, with suffixes where wanted (``apet-discrete``).
        seeds: of the runs.

    Raises:
        ApetError: the settings name no task and no data with text and label, or data that do not fit.
    """
    task_of(base)
    own = base.method_settings
    given = base.model_dump(mode="json", exclude_unset=True, exclude=GIVEN)
    return Definition(
        name=f"{base.backbone} on {base.learnt}",
        backbones=(base.backbone,),
        tasks=(base.learnt,),
        methods=tuple({"method": m, **own} if own else m for m in methods),
        budgets=(OWN if base.budget is None else str(base.budget),),
        seeds=tuple(seeds),
        data=None if base.task is None else base.data,
        defaults={"threads": None, **given},  # one run at a time has all the cores
        rules=(Rule(where={"method": "fine-tuning*"}, budgets=(OWN,)),),
    )


def compare(study: Definition, folder: Path, shop: Workshop) -> list[str]:
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
        gather(runs[0].settings, shop)
        backbone_print.cache_clear()
        runs = Planner().study(study)
    done: set[str] = set()
    if (folder / FILE).is_file():
        there = Study(folder)
        _refuse_other(there, runs)
        done = set(there.results())
    if not done.issuperset(p.key for p in runs):
        gather(runs[0].settings, shop)
    with opened(folder) as store:
        store.describe(study.name, study.as_yaml(), len(runs))
        Driver(store, InProcess(shop), shop.watch).run(runs, retry=True, aloud=True)
    return [p.key for p in runs]


def _refuse_other(there: Study, runs: Sequence[Planned]) -> None:
    """Pass where stored runs and these may stand side by side: only what a study's axes name may differ."""
    advice = "give a new output folder"
    ours = _shared(runs[0].settings)
    for result in there.results().values():
        theirs = _shared(made(result["settings"], str(there.folder)))  # settings that came later have their defaults
        other = [k for k in ours if theirs[k] != ours[k]]
        if other:
            raise ApetError(f"{str(there.folder)!r} holds runs with other settings ({', '.join(other)}); {advice}")
    stored = {tuple(axes.items()): key for key, axes in there.axes().items() if key in there.results()}
    for p in runs:
        if stored.get(tuple(axes_of(p).items()), p.key) != p.key:
            raise ApetError(
                f"{str(there.folder)!r} holds {p.cell.label}, seed {p.settings.seed}, with other data, weights or seeds"
                f" of mask, values or data; {advice}"
            )


def _shared(s: RunSettings) -> dict[str, Any]:
    return {k: v for k, v in common_of(s).items() if k not in GIVEN}
