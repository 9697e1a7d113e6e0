"""A run before any weight is loaded: everything that can be decided, counted and refused."""

from __future__ import annotations

from dataclasses import dataclass

from apet.backbones.loading import Use, bare, load_config
from apet.backbones.positions import Backbone, describe
from apet.budget import plan
from apet.methods import make
from apet.modules.theta import Theta
from apet.tasks.objectives import check_objective
from apet.tasks.task import Task
from apet.training.choices import task_of, use_for
from apet.training.settings import RunSettings


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        settings: as given.
        task: what is learnt.
        use: the objective.
        backbone: description of the model.
        theta: what will be trained.
    """

    settings: RunSettings
    task: Task
    use: Use
    backbone: Backbone
    theta: Theta


def prepare(s: RunSettings) -> Plan:
    """Everything that can be decided, counted and refused without data or weights.

    Raises:
        ApetError: settings that do not fit the backbone, the task or the method.
    """
    task = task_of(s)
    config = load_config(s.backbone)
    use = use_for(s, config)
    check_objective(use, task)
    backbone = describe(bare(config, use, max(2, len(task.labels))))
    method = make(s.method, **s.method_settings)
    theta = plan(backbone, method, s.budget, mask_seed=s.seed_for("mask_seed"), init_seed=s.seed_for("init_seed"))
    return Plan(s, task, use, backbone, theta)
