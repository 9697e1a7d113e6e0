"""What an attached θ leaves in a model's tree, so that devices, optimizers, copies and checkpoints see it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from apet.backbones.positions import OWN_PREFIX, Backbone
from apet.kernels.edit import Edit, Group, OwnPrecision
from apet.modules.theta import Theta

CONTAINER = OWN_PREFIX.rstrip(".")


class Attached(OwnPrecision):
    """One attached θ in the model's tree: its carriers, and what detaching needs to know."""

    def __init__(self, theta: Theta, head: str) -> None:
        super().__init__()
        self.theta = theta
        self.head_use = head
        self.carriers = nn.ModuleDict()
        self.head = nn.ModuleDict()
        self.statics = nn.ModuleDict()
        self.hook_handles: list[Any] = []
        self.groups_of: list[tuple[str, str, Edit]] = []  # (group key, parameter name, edit)
        self.merged = False


class Container(OwnPrecision):
    """``model.apet``: everything this library put into a model, and the backbone's state before it came."""

    def __init__(self, backbone: Backbone, fingerprint: str, required_grad: dict[str, bool]) -> None:
        super().__init__()
        self.backbone = backbone
        self.fingerprint = fingerprint
        self.required_grad = required_grad
        self.modules_attached = nn.ModuleList()
        self.groups: dict[str, Group] = {}
        self.parameter_of: dict[str, str] = {}
        self.made_biases: dict[str, str] = {}  # group key -> linear layer that had none before a merge
        self.doors: list[Any] = []

    def enter(self, model: nn.Module, args: Any) -> None:
        """Before a forward, write all edits: compiled layers, and models compiled whole, cannot do it themselves."""
        if self.groups:
            self.write_all(model)
        if not torch.compiler.is_compiling():
            self._written(True)

    def leave(self, model: nn.Module, args: Any, output: Any) -> None:
        """After a forward, also a failed one, layers that are called by themselves write for themselves again."""
        if not torch.compiler.is_compiling():
            self._written(False)

    def _written(self, now: bool) -> None:
        for group in self.groups.values():
            group.written = now

    @torch.compiler.disable
    def write_all(self, model: nn.Module) -> None:
        """Bring every edited parameter up to date."""
        for key, group in self.groups.items():
            if group.edits:
                group.write(model.get_parameter(self.parameter_of[key]))


def container_of(model: nn.Module) -> Container | None:
    """What this library put into a model, or None."""
    box = getattr(model, CONTAINER, None)
    return box if isinstance(box, Container) else None
