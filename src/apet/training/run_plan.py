"""A run before any weight is loaded: everything that can be decided, counted and refused."""

from __future__ import annotations

from dataclasses import dataclass

from apet.backbones.describe import Backbone, describe
from apet.backbones.family import ObjectiveName
from apet.backbones.loading import load_config, meta_model
from apet.budget import plan
from apet.delta import DeltaSpec
from apet.methods import make_method
from apet.tasks.objectives import check_objective
from apet.tasks.task import Task
from apet.training.config import RunConfig
from apet.training.resolve import resolve_objective, resolve_task


@dataclass(frozen=True)
class RunPlan:
    """What a run will do.

    Attributes:
        settings: as given.
        task: what is learnt.
        use: the objective.
        backbone: description of the model.
        theta: what will be trained.
    """

    config: RunConfig
    task: Task
    objective: ObjectiveName
    backbone: Backbone
    spec: DeltaSpec


def resolve(s: RunConfig) -> RunPlan:
    """Everything that can be decided, counted and refused without data or weights.

    Raises:
        ApetError: settings that do not fit the backbone, the task or the method.
    """
    task = resolve_task(s)
    config = load_config(s.backbone)
    use = resolve_objective(s, config)
    check_objective(use, task)
    backbone = describe(meta_model(config, use, max(2, len(task.labels))))
    method = make_method(s.method, **s.method_settings)
    theta = plan(
        backbone, method, s.budget, mask_seed=s.resolved_seed("mask_seed"), init_seed=s.resolved_seed("init_seed")
    )
    return RunPlan(s, task, use, backbone, theta)
