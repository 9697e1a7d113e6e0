"""What attached deltas leave in a model's tree, so that devices, optimizers, copies and checkpoints see them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from apet.attached_delta import AttachedDelta, StateDict
from apet.backbones.describe import OWN_PREFIX, describe
from apet.backbones.fingerprint import weights_fingerprint
from apet.backbones.positions import Backbone
from apet.delta import CarrierChoice
from apet.delta_header import Header, require_same_backbone, unpack
from apet.errors import ApetError
from apet.kernels.in_place import Fp32Module, ParameterDeltas
from apet.kernels.outside_graphs import outside_graphs
from apet.kernels.sharding import AveragedGradients, is_sharded_whole, sharded_mesh
from apet.kernels.storage import logical_shape
from apet.layers.base import Host
from apet.model_changes import EditedParameter, ModelWatch, watch
from apet.parameter_holder import ParameterHolder

STATE_NAME = OWN_PREFIX.rstrip(".")
"""The model's submodule that holds the state."""

Place = tuple[nn.Module, Literal["before", "after"]]


class Routing(Protocol):
    """Deltas that are routed to the rows of a batch (see `apet.routing`)."""

    def close(self) -> None:
        """Let each delta act on every row again."""


class LeftOut(NamedTuple):
    """Keys that a state dict leaves out on purpose: all with a prefix, but for those with another."""

    prefix: str
    but: str | None = None

    def covers(self, key: str) -> bool:
        """Whether the key may be missing."""
        return key.startswith(self.prefix) and not (self.but is not None and key.startswith(self.but))


class AttachmentState(Fp32Module):
    """``model.apet``: everything this library put into a model, and the backbone's state before it came.

    Args:
        backbone: description of the model as it came.
        fingerprint: of its weights as they are.
        required_grad: parameter name -> whether it required a gradient.

    Attributes:
        was_quantized: whether transformers held the model for one that cannot be trained, being quantized.
        attached: the attached deltas, in order.
        parameter_deltas: position -> all in-place deltas of its parameter.
        edited: position -> the parameter that they are written into.
        created_biases: position of a bias -> linear layer that had none before a merge.
        hook_handles: of the model's own hooks.
        routing: of deltas to the rows of a batch, where there is one.
        kept_apart: places where examples are known not to mix.
    """

    def __init__(self, backbone: Backbone, fingerprint: str, required_grad: dict[str, bool]) -> None:
        super().__init__()
        self.backbone = backbone
        self.fingerprint = fingerprint
        self.required_grad = required_grad
        self.was_quantized = False
        self.attached = nn.ModuleList()
        self.parameter_deltas: dict[str, ParameterDeltas] = {}
        self.edited: dict[str, EditedParameter] = {}
        self.created_biases: dict[str, str] = {}
        self.hook_handles: list[RemovableHandle] = []
        self.routing: Routing | None = None
        self.kept_apart: set[Place] = set()
        self._left_out: LeftOut | None = None
        self._watch: ModelWatch | None = None
        self._in_forward = False

    def attached_deltas(self) -> list[AttachedDelta]:
        """All attached deltas, in order."""
        return [a for a in self.attached if isinstance(a, AttachedDelta)]

    def deltas_of(self, host: Host, position: str, parameter: str) -> ParameterDeltas:
        """All in-place deltas of one parameter; made where there are none yet."""
        edited = self.edited.get(position)
        if edited is not None and edited.deltas.deltas:
            return edited.deltas
        if edited is not None:  # of deltas that are gone: the parameter may be another one by now
            _unhook(edited)
        tensor, deltas = host.model.get_parameter(parameter), ParameterDeltas()
        holders = [(owner.module, owner.name) for owner in host.owners_of(tensor)]
        hook_handles = [h for module, leaf in holders for h in ParameterHolder(deltas, leaf).register(module)]
        self.edited[position] = EditedParameter(parameter, tensor, tensor.shape, holders, deltas, hook_handles)
        self.parameter_deltas[position] = deltas
        return deltas

    def unhook(self) -> None:
        """Take off every hook that is not a delta layer's."""
        for handle in self.hook_handles:
            handle.remove()
        for edited in self.edited.values():
            _unhook(edited)

    def forget_watch(self) -> None:
        """Examine the model again before it is used: deltas have come or gone."""
        self._watch = None

    def check(self, model: nn.Module) -> None:
        """Notice what was changed in the model where deltas act, and follow it where that is possible.

        Raises:
            ApetError: a module or a parameter that a delta acts on is gone, or is another one.
        """
        if self._watch is not None and self._watch.model is model and self._watch.is_unchanged():
            return
        if model._modules.get(STATE_NAME) is not self:
            raise ApetError(
                "the deltas of this model belong to another copy of it, as of torch.nn.DataParallel; use"
                " DistributedDataParallel, or copy the model by copy.deepcopy"
            )
        acts_on: dict[str, nn.Module] = {}
        for attached in self.attached:
            acts_on |= getattr(attached, "acts_on")
        edited = {position: e for position, e in self.edited.items() if e.deltas.deltas}
        watched = watch(model, acts_on, list(edited.values()))
        self._follow_shapes(model, edited)
        if not is_sharded_whole(model):  # else the values are sharded with it
            self.average_gradients(model)
        self._watch = watched

    def average_gradients(self, model: nn.Module) -> None:
        """Keep the values of all deltas equal on all processes, where ``fully_shard`` does not see to it.

        It does for those that were attached before the whole model was sharded.

        Raises:
            ApetError: the model is sharded otherwise than by ``fully_shard``.
        """
        mesh = sharded_mesh(model)
        for attached in self.attached_deltas():
            if mesh is not None and not attached.gradients_averaged:
                values = [v for layer in attached.all_layers() for _, v in layer.values()]
                attached.hook_handles += AveragedGradients(values, mesh).register()
                attached.gradients_averaged = True

    def _follow_shapes(self, model: nn.Module, edited: Mapping[str, EditedParameter]) -> None:
        """Describe a model anew whose parameters have other shapes, as when its vocabulary has grown.

        Raises:
            ApetError: a delta cannot follow.
        """
        resized = {position: e for position, e in edited.items() if e.parameter.shape != e.shape}
        for e in resized.values():
            e.require_same_rows()
        if not resized and not _has_other_shapes(model, self.backbone):
            return
        self.backbone = describe(model)
        for attached in self.attached:
            assert isinstance(attached, AttachedDelta)
            attached.fit({position: tuple(e.parameter.shape) for position, e in resized.items()}, self.backbone)
        for e in resized.values():
            e.shape = e.parameter.shape

    def pre_part(self, part: nn.Module, args: Any) -> None:
        """Check the model also when a part of it is called alone, such as an encoder by ``generate``."""
        if not torch.compiler.is_compiling() and not self._in_forward and self._watch is not None:
            self.check(self._watch.model)

    def update_fingerprint(self, model: nn.Module) -> str:
        """Fingerprint of the backbone's own values as they are now: without attached deltas, with merged ones.

        Args:
            model: that it is attached to.

        Returns:
            16 hex digits; of sharded or quantized weights, whose entries cannot be read one by one, those of the last
            time that they could be.
        """
        self.check(model)
        self._follow_shapes(model, {})  # of parameters on which no delta acts: nothing watches these
        parameters = _parameters(model, self.backbone)
        if parameters and all(type(p) in (nn.Parameter, Tensor) and p.is_floating_point() for p in parameters):
            self.fingerprint = weights_fingerprint(model, self.backbone, self.own_values)
        for attached in self.attached:
            setattr(attached, "fingerprint", self.fingerprint)
        return self.fingerprint

    def own_values(self, position: str, parameter: Tensor) -> Tensor:
        """The backbone's own values of a parameter: itself, or a copy where a delta is written into it."""
        deltas = self.parameter_deltas.get(position)
        return parameter if deltas is None else deltas.own_values(parameter)

    def before_save(self, model: nn.Module, prefix: str, keep_vars: bool) -> None:
        """Name in the headers the backbone as it is saved beside them."""
        self.update_fingerprint(model)

    def before_load(self, model: nn.Module, state_dict: StateDict, prefix: str, *_: object) -> None:
        """Check the deltas among what is loaded, before anything is.

        Raises:
            ApetError: they are not those that are attached, or were trained on another backbone; or the model was
                changed where deltas act.
        """
        self.check(model)
        self._left_out = None
        own_prefix = prefix + OWN_PREFIX
        own = {key[len(own_prefix) :] for key in state_dict if key.startswith(own_prefix)}
        if not own:
            self._left_out = LeftOut(own_prefix)
            return
        headers = self._check_headers({key: state_dict[own_prefix + key] for key in own})
        if len(own) == sum(key.startswith(prefix) for key in state_dict):
            # Nothing but deltas: the backbone stays, and has to be the one that they were trained on.
            self._left_out = LeftOut(prefix, but=own_prefix)
            for header in headers:
                require_same_backbone(header, self.backbone, self.update_fingerprint(model), "this state dict")

    def _check_headers(self, saved: StateDict) -> list[Header]:
        """The headers of saved deltas, each that of the delta that is attached in its place."""
        headers = []
        numbers = {int(m[1]) for key in saved if (m := re.match(r"attached\.(\d+)\.", key))}
        if any(n >= len(self.attached) for n in numbers):
            raise ApetError(
                f"the state dict holds delta {max(numbers)}, counted from 0, and this model has {len(self.attached)}"
                " attached; attach the same ones before, or use apet.load"
            )
        for n, attached in enumerate(self.attached):
            assert isinstance(attached, AttachedDelta)
            packed = saved.get(f"attached.{n}._extra_state")
            if packed is None:
                continue
            header = unpack(packed)[0]
            if attached.is_merged or header.get("delta") != attached.spec.fingerprint:
                came = header.get("recipe") or header.get("custom") or {}
                raise ApetError(
                    f"delta {n} of the state dict ({came.get('method', came.get('name'))},"
                    f" {header.get('num_trainable')} parameters) is not the one attached here ({attached.spec!r}"
                    f"{', merged' if attached.is_merged else ''}); attach the same one before, or use apet.load"
                )
            headers.append(header)
        return headers

    def after_load(self, model: nn.Module, incompatible_keys: Any) -> None:
        """Write what was loaded into the backbone; a state dict without one of the two lacks nothing."""
        if self._left_out is not None:
            missing = incompatible_keys.missing_keys
            missing[:] = [key for key in missing if not self._left_out.covers(key)]
            self._left_out = None
        self.write_all(model)

    def pre_forward(self, model: nn.Module, args: Any) -> None:
        """Write all in-place deltas: compiled layers, and models compiled whole, cannot do it themselves."""
        if self.parameter_deltas:
            self.write_all(model)
        elif not torch.compiler.is_compiling():
            self.check(model)
        if not torch.compiler.is_compiling():
            self._set_in_forward(True)

    def post_forward(self, model: nn.Module, args: Any, output: Any) -> None:
        """Let layers that are called by themselves write for themselves again, also after a forward that failed."""
        if not torch.compiler.is_compiling():
            self._set_in_forward(False)

    def _set_in_forward(self, in_forward: bool) -> None:
        self._in_forward = in_forward
        for deltas in self.parameter_deltas.values():
            deltas.in_forward = in_forward

    @outside_graphs
    def write_all(self, model: nn.Module) -> None:
        """Bring every edited parameter up to date. Not compiled: it mutates what a graph takes for a constant."""
        self.check(model)
        for edited in self.edited.values():
            if edited.deltas.deltas:
                edited.deltas.write(edited.parameter)


def _unhook(edited: EditedParameter) -> None:
    for handle in edited.hook_handles:
        handle.remove()


def _parameters(model: nn.Module, backbone: Backbone) -> list[nn.Parameter] | None:
    """The parameters of all positions; None where the model no longer has them, or has them flattened."""
    positions = [p for p in backbone.positions if p.parameter != "output"]
    try:
        parameters = [model.get_parameter(f"{p.module}.{p.parameter}") for p in positions]
    except AttributeError:
        return None
    return (
        parameters
        if all(len(p.shape) == len(logical_shape(q)) for p, q in zip(positions, parameters, strict=True))
        else None
    )


def _has_other_shapes(model: nn.Module, backbone: Backbone) -> bool:
    """Whether a parameter has other rows or columns than its description says."""
    shapes = [p.shape for p in backbone.positions if p.parameter != "output"]
    parameters = _parameters(model, backbone) or []
    return any(logical_shape(p) != shape for p, shape in zip(parameters, shapes, strict=bool(parameters)))


def state_of(model: nn.Module) -> AttachmentState | None:
    """What this library put into a model, or None."""
    state = getattr(model, STATE_NAME, None)
    return state if isinstance(state, AttachmentState) else None


def host_of(model: nn.Module, state: AttachmentState, carrier: CarrierChoice = "auto") -> Host:
    """The model as delta layers see it; made anew each time, since a layer must not keep the model in its own tree."""
    return Host(model, state.backbone, state.deltas_of, carrier)
