"""A resolved run: everything that can be decided, counted and refused before data or weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from apet.backbones.family import ObjectiveName
from apet.backbones.positions import Backbone
from apet.delta import DeltaSpec
from apet.methods import make_method
from apet.planning import plan
from apet.tasks.objectives import is_generative, num_outputs
from apet.tasks.task import Task
from apet.training.config import RunAxes, RunConfig
from apet.training.lr_search import paper_learning_rate


@dataclass(frozen=True)
class RunPlan:
    """What a run will do, as a value: `apet.training.resolve.resolve` makes it, workers receive it pickled.

    Attributes:
        config: the settings as given, in the user's words.
        task: what is learned.
        objective: how the backbone solves it.
        backbone: description of the model that is trained.
        dtype: of the frozen weights.
        num_trainable: N, exact; a task head is not among them.
        run_id: what determines the run's numbers, 16 hex digits; its folder's name in a study.
        missing: why it cannot run on this machine (data or weights are not here), or None.
        notes: what was decided where the settings left it open, for whoever reads the result.
    """

    config: RunConfig
    task: Task
    objective: ObjectiveName
    backbone: Backbone
    dtype: Literal["float32", "bfloat16"]
    num_trainable: int
    run_id: str
    missing: str | None
    notes: tuple[str, ...] = ()

    @property
    def axes(self) -> RunAxes:
        """The run in a study's words."""
        return self.config.axes

    @property
    def num_labels(self) -> int:
        """Outputs of a classification head, were there one."""
        return num_outputs(self.objective, self.task)

    @property
    def scoring(self) -> Literal["generate", "likelihood"] | None:
        """How a backbone that writes answers with a label; None for one that does not, or where there are none."""
        writes = is_generative(self.objective) and self.task.is_classification
        return self.task.scoring if writes else None

    # Both are worked out when they are asked for: a study plans 100,000 runs and keeps all of them in memory.
    @cached_property
    def delta(self) -> DeltaSpec:
        """What will be trained, where: the masks with exactly `num_trainable` entries."""
        c = self.config
        return plan(
            self.backbone,
            c.method,
            c.budget,
            mask_seed=c.resolved_seed("mask_seed"),
            init_seed=c.resolved_seed("init_seed"),
            **c.method_settings,
        )

    @cached_property
    def resolved(self) -> RunConfig:
        """The settings with everything filled in that is known without data: the same numbers come out of them."""
        c = self.config
        learning_rate = self.default_learning_rate if c.learning_rate == "paper" else c.learning_rate
        return c.model_copy(
            update={
                "mask_seed": c.resolved_seed("mask_seed"),
                "init_seed": c.resolved_seed("init_seed"),
                "data_seed": c.resolved_seed("data_seed"),
                "budget": self.num_trainable,
                "learning_rate": learning_rate,
                "eval_steps": c.resolved_eval_steps,
                "objective": self.objective,
                "dtype": self.dtype,
            }
        )

    @property
    def default_learning_rate(self) -> float:
        """The paper's learning rate for the method and the task."""
        return paper_learning_rate(type(make_method(self.config.method)), self.task)
