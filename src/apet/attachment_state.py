"""What attached deltas leave in a model's tree, so that devices, optimizers, copies and checkpoints see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from apet.backbones.describe import OWN_PREFIX
from apet.backbones.positions import Backbone
from apet.delta import CarrierChoice, DeltaSpec
from apet.kernels.in_place import Fp32Module, InPlaceDelta, ParameterDeltas
from apet.layers.base import DeltaLayer, Host

STATE_NAME = OWN_PREFIX.rstrip(".")
"""The model's submodule that holds the state."""


class AttachedDelta(Fp32Module):
    """One attached delta in the model's tree: its layers, and what detaching needs to know.

    Attributes:
        spec: what was attached; its masks are settled.
        head_mode: whether the task head is trained with it.
        layers: the delta layers by form and position.
        head: weight deltas of the task head by parameter.
        merged_deltas: after a merge, the in-place deltas that took the layers' place.
        merged_into: of each of these, the position and the parameter's name.
        hook_handles: of the layers' hooks.
        is_merged: whether the layers have given way to merged deltas.
    """

    def __init__(self, spec: DeltaSpec, head_mode: str) -> None:
        super().__init__()
        self.spec = spec
        self.head_mode = head_mode
        self.layers = nn.ModuleDict()
        self.head = nn.ModuleDict()
        self.merged_deltas = nn.ModuleList()
        self.merged_into: list[tuple[str, str]] = []
        self.hook_handles: list[RemovableHandle] = []
        self.is_merged = False

    def all_layers(self) -> Iterator[DeltaLayer]:
        """Its delta layers, the head's last."""
        for layer in (*self.layers.values(), *self.head.values()):
            assert isinstance(layer, DeltaLayer)
            yield layer

    def in_place(self) -> list[tuple[str, str, InPlaceDelta]]:
        """Everything that it has written into parameters: (position, parameter name, delta)."""
        written = [item for layer in self.all_layers() for item in layer.in_place()]
        for (position, parameter), delta in zip(self.merged_into, self.merged_deltas, strict=True):
            assert isinstance(delta, InPlaceDelta)
            written.append((position, parameter, delta))
        return written


class AttachmentState(Fp32Module):
    """``model.apet``: everything this library put into a model, and the backbone's state before it came.

    Args:
        backbone: description of the model as it came.
        fingerprint: of its weights as they came.
        required_grad: parameter name -> whether it required a gradient.

    Attributes:
        was_quantized: whether transformers held the model for one that cannot be trained, being quantized.
        attached: the attached deltas, in order.
        parameter_deltas: position -> all in-place deltas of its parameter.
        parameter_names: position -> the parameter's name in the model.
        created_biases: position of a bias -> linear layer that had none before a merge.
        hook_handles: of the model's own hooks.
    """

    def __init__(self, backbone: Backbone, fingerprint: str, required_grad: dict[str, bool]) -> None:
        super().__init__()
        self.backbone = backbone
        self.fingerprint = fingerprint
        self.required_grad = required_grad
        self.was_quantized = False
        self.attached = nn.ModuleList()
        self.parameter_deltas: dict[str, ParameterDeltas] = {}
        self.parameter_names: dict[str, str] = {}
        self.created_biases: dict[str, str] = {}
        self.hook_handles: list[RemovableHandle] = []

    def deltas_of(self, position: str, parameter: str) -> ParameterDeltas:
        """All in-place deltas of one parameter; made where there are none yet."""
        self.parameter_names[position] = parameter
        return self.parameter_deltas.setdefault(position, ParameterDeltas())

    def pre_forward(self, model: nn.Module, args: Any) -> None:
        """Write all in-place deltas: compiled layers, and models compiled whole, cannot do it themselves."""
        if self.parameter_deltas:
            self.write_all(model)
        if not torch.compiler.is_compiling():
            self._set_in_forward(True)

    def post_forward(self, model: nn.Module, args: Any, output: Any) -> None:
        """Let layers that are called by themselves write for themselves again, also after a forward that failed."""
        if not torch.compiler.is_compiling():
            self._set_in_forward(False)

    def _set_in_forward(self, in_forward: bool) -> None:
        for deltas in self.parameter_deltas.values():
            deltas.in_forward = in_forward

    @torch.compiler.disable
    def write_all(self, model: nn.Module) -> None:
        """Bring every edited parameter up to date. Not compiled: it mutates what a graph takes for a constant."""
        for position, deltas in self.parameter_deltas.items():
            if deltas.deltas:
                deltas.write(model.get_parameter(self.parameter_names[position]))


def state_of(model: nn.Module) -> AttachmentState | None:
    """What this library put into a model, or None."""
    state = getattr(model, STATE_NAME, None)
    return state if isinstance(state, AttachmentState) else None


def host_of(model: nn.Module, state: AttachmentState, carrier: CarrierChoice = "auto") -> Host:
    """The model as delta layers see it; made anew each time, since a layer must not keep the model in its own tree."""
    return Host(model, state.backbone, state.deltas_of, carrier)
