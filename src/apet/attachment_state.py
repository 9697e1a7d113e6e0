"""What an attached θ leaves in a model's tree, so that devices, optimizers, copies and checkpoints see it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from apet.backbones.describe import OWN_PREFIX, Backbone
from apet.delta import DeltaSpec
from apet.kernels.in_place import Fp32Module, InPlaceDelta, ParameterDeltas

STATE_NAME = OWN_PREFIX.rstrip(".")


class AttachedDelta(Fp32Module):
    """One attached θ in the model's tree: its carriers, and what detaching needs to know."""

    def __init__(self, spec: DeltaSpec, head: str) -> None:
        super().__init__()
        self.theta = spec
        self.head_use = head
        self.layers = nn.ModuleDict()
        self.head = nn.ModuleDict()
        self.merged_deltas = nn.ModuleDict()
        self.hook_handles: list[Any] = []
        self.in_place_deltas: list[tuple[str, str, InPlaceDelta]] = []  # (group key, parameter name, edit)
        self.merged = False


class AttachmentState(Fp32Module):
    """``model.apet``: everything this library put into a model, and the backbone's state before it came."""

    def __init__(self, backbone: Backbone, fingerprint: str, required_grad: dict[str, bool]) -> None:
        super().__init__()
        self.backbone = backbone
        self.fingerprint = fingerprint
        self.required_grad = required_grad
        self.attached = nn.ModuleList()
        self.parameter_deltas: dict[str, ParameterDeltas] = {}
        self.parameter_names: dict[str, str] = {}
        self.made_biases: dict[str, str] = {}  # group key -> linear layer that had none before a merge
        self.hook_handles: list[Any] = []

    def pre_forward(self, model: nn.Module, args: Any) -> None:
        """Before a forward, write all edits: compiled layers, and models compiled whole, cannot do it themselves."""
        if self.parameter_deltas:
            self.write_all(model)
        if not torch.compiler.is_compiling():
            self._set_in_forward(True)

    def post_forward(self, model: nn.Module, args: Any, output: Any) -> None:
        """After a forward, also a failed one, layers that are called by themselves write for themselves again."""
        if not torch.compiler.is_compiling():
            self._set_in_forward(False)

    def _set_in_forward(self, now: bool) -> None:
        for group in self.parameter_deltas.values():
            group.in_forward = now

    @torch.compiler.disable
    def write_all(self, model: nn.Module) -> None:
        """Bring every edited parameter up to date."""
        for key, group in self.parameter_deltas.items():
            if group.deltas:
                group.write(model.get_parameter(self.parameter_names[key]))


def state_of(model: nn.Module) -> AttachmentState | None:
    """What this library put into a model, or None."""
    box = getattr(model, STATE_NAME, None)
    return box if isinstance(box, AttachmentState) else None
