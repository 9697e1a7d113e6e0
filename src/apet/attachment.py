"""Putting θ on a backbone and taking it off again: the only file that changes a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from apet import checkpoint
from apet.attachment_state import STATE_NAME, AttachedDelta, AttachmentState, state_of
from apet.backbones.describe import Backbone, describe
from apet.backbones.fingerprint import weights_fingerprint
from apet.delta import DeltaSpec, Insertion, TrainableWeight, initial_values
from apet.errors import ApetError, UnknownNameError
from apet.kernels.in_place import InPlaceDelta, ParameterDeltas
from apet.layers.adapter import AdapterDelta
from apet.layers.base import DeltaLayer, MergedDelta
from apet.layers.prompt import LoraDelta, PromptDelta
from apet.layers.weight import BiasDelta, WeightDelta, require_editable
from apet.masks.mask import dense_mask

_CARRIERS: dict[str, type[DeltaLayer]] = {
    "output": BiasDelta,
    "tokens": PromptDelta,
    "pair": LoraDelta,
    "bottleneck": AdapterDelta,
}

HeadMode = Literal["frozen", "trained"]


class Handle:
    """An attached θ.

    Attributes:
        model: the backbone it sits on.
        theta: what was attached.
    """

    def __init__(self, model: nn.Module, module: AttachedDelta) -> None:
        self.model = model
        self._module = module

    def __repr__(self) -> str:
        return f"Handle({self.spec!r}{', merged' if self._module.merged else ''})"

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_attached:
            self.detach()

    @property
    def spec(self) -> DeltaSpec:
        """What was attached."""
        return self._module.theta

    @property
    def is_attached(self) -> bool:
        """Whether the model still carries it, attached or merged."""
        box = state_of(self.model)
        return box is not None and any(m is self._module for m in box.attached)

    @property
    def is_merged(self) -> bool:
        """Whether its values have become part of the backbone's parameters."""
        return self._module.merged

    @property
    def backbone_fingerprint(self) -> str:
        """Fingerprint of the backbone as it was before anything was attached."""
        return self._state().fingerprint

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """Every trainable weight's entries, ``(position/weight, (k,) fp32)``, in the order of θ."""
        self._require_unmerged("read")
        for carrier in self._module.layers.values():
            if isinstance(carrier, WeightDelta):
                yield f"{carrier.insertion.position}/delta", carrier.values
            elif isinstance(carrier, DeltaLayer):
                for name, v in carrier.values():
                    yield f"{carrier.insertion.position}/{name}", v

    def head_values(self) -> Iterator[tuple[str, Tensor]]:
        """Entries of the trained task head by parameter name; empty where the head is frozen."""
        for carrier in self._module.head.values():
            assert isinstance(carrier, WeightDelta)
            yield carrier.parameter, carrier.values

    def parameters(self) -> list[Tensor]:
        """All trainable tensors: those of θ and, where it is trained, of the task head. For an optimizer."""
        return [v for _, v in self.values()] + [v for _, v in self.head_values()]

    def refresh(self) -> None:
        """Write changed values into the backbone now; a forward does so itself, reading weights directly does not."""
        self._state().write_all(self.model)

    def detach(self) -> None:
        """Take θ off: the backbone is what it was, bit for bit, and so are its ``requires_grad`` flags."""
        box = self._state()
        for key, name, edit in reversed(self._module.in_place_deltas):
            box.parameter_deltas[key].remove(edit, self.model.get_parameter(name))
        for key, path in list(box.made_biases.items()):
            if not box.parameter_deltas[key].deltas:
                self.model.get_submodule(path).register_parameter("bias", None)
                del box.made_biases[key]
        self._unhook()
        box.attached = nn.ModuleList(m for m in box.attached if m is not self._module)
        _close_if_empty(self.model, box)

    def merge(self, *, forget: bool = False) -> None:
        """Make θ part of the backbone's own parameters: no hook, no trained tensor, no extra cost remains.

        Until `detach`, the entries that were overwritten are kept, so that detaching still restores every bit.

        Args:
            forget: keep nothing; the merged backbone is then final and this handle is done.

        Raises:
            NotMergeableError: an insertion that no parameter can hold (prompt, adapter, output of a norm without bias);
                the model is left as it was.
        """
        self._require_unmerged("merge")
        box, module = self._state(), self._module
        becoming: list[MergedDelta] = []
        for carrier in module.layers.values():
            if isinstance(carrier, DeltaLayer):
                becoming.append(carrier.merged_delta(self.model, box.backbone))
        self._unhook()
        statics: list[tuple[str, str, InPlaceDelta]] = []
        for key, name, edit in module.in_place_deltas:
            static = InPlaceDelta(edit.support, edit.values.detach(), edit.replaces)
            static.original_values = edit.original_values
            group = box.parameter_deltas[key]
            group.deltas = [static if e is edit else e for e in group.deltas]
            group.write(self.model.get_parameter(name))
            statics.append((key, name, static))
        for m in becoming:
            statics.append(self._write_merged(box, m))
        module.in_place_deltas = statics
        module.layers, module.head = nn.ModuleDict(), nn.ModuleDict()
        module.merged_deltas = nn.ModuleDict({str(i): e for i, (_, _, e) in enumerate(statics)})
        module.merged = True
        if forget:
            for key, name, edit in statics:
                box.parameter_deltas[key].make_permanent(edit, self.model.get_parameter(name))
                box.made_biases.pop(key, None)
            box.attached = nn.ModuleList(m for m in box.attached if m is not module)
            _close_if_empty(self.model, box)

    def save(self, folder: str | Path) -> Path:
        """Write θ with its values into a folder (see `apet.checkpoint`); returns the file."""
        self._require_unmerged("save")
        return checkpoint.write_delta(
            Path(folder), self.spec, self.backbone_fingerprint, dict(self.values()), dict(self.head_values())
        )

    def _write_merged(self, box: AttachmentState, m: MergedDelta) -> tuple[str, str, InPlaceDelta]:
        """Write a static edit; makes the bias it asks for where a linear layer has none."""
        site, _, parameter = m.position.rpartition(".")
        layer = box.backbone.layer(site)
        name = f"{layer.module}.{parameter}"
        module = self.model.get_submodule(layer.module)
        if getattr(module, parameter) is None:
            weight = getattr(module, "weight")
            zeros = torch.zeros(layer.d_out, dtype=weight.dtype, device=weight.device)
            module.register_parameter(parameter, nn.Parameter(zeros, requires_grad=False))
            box.made_biases[m.position] = layer.module
        tensor = self.model.get_parameter(name)
        _parameter_deltas(box, m.position, name).add(m.delta.to(tensor.device), tensor)
        return m.position, name, m.delta

    def _unhook(self) -> None:
        for h in self._module.hook_handles:
            h.remove()
        self._module.hook_handles = []

    def _state(self) -> AttachmentState:
        box = state_of(self.model)
        if box is None or not self.is_attached:
            raise ApetError("this θ is no longer attached; attach it again with apet.attach(model, theta)")
        return box

    def _require_unmerged(self, verb: str) -> None:
        self._state()
        if self._module.merged:
            raise ApetError(
                f"cannot {verb} a merged θ: its values are part of the backbone; detach() gives the backbone back"
            )


def attach(
    model: nn.Module, spec: DeltaSpec, *, head: HeadMode = "frozen", values: dict[str, Tensor] | None = None
) -> Handle:
    """Put θ on a model. Afterwards exactly θ's N scalars require gradients (and the head's, if it is trained).

    Several θs may sit on one model; where they touch one parameter they add up, at one layer's output they act in
    the order of attachment.

    Args:
        model: a transformers model; its parameters are frozen.
        theta: from `apet.plan`, for this architecture.
        head: ``"trained"`` also trains the task head, the part that pre-training did not make (counted apart).
        values: initial values by ``position/weight``; by default drawn from θ's ``init_seed``.

    Returns:
        The handle to detach, merge or save it.

    Raises:
        UnknownNameError: θ names a position that this model does not have.
        ApetError: shapes differ, values are missing, the model has no head to train or another θ trains it, or its
            weights are quantised or absent.
    """
    box = state_of(model)
    backbone = box.backbone if box is not None else describe(model)
    _check_fits(spec, backbone, head)
    if any(p.is_meta for p in model.parameters()):
        raise ApetError(f"this {backbone.model_class} has no weights (meta device); load it with them to attach")
    if head == "trained" and box is not None and any(len(getattr(m, "head")) for m in box.attached):
        raise ApetError("another θ on this model trains its head already; attach this one with head='frozen'")
    if box is None:
        flags = {name: p.requires_grad for name, p in model.named_parameters()}
        box = AttachmentState(backbone, weights_fingerprint(model), flags)
        model.requires_grad_(False)
        model.add_module(STATE_NAME, box)
        box.hook_handles = [
            model.register_forward_pre_hook(box.pre_forward),
            model.register_forward_hook(box.post_forward, always_call=True),
        ]
    module = AttachedDelta(spec, head)
    box.attached.append(module)
    handle = Handle(model, module)
    try:
        _add_layers(model, box, module, values)
    except BaseException:
        handle.detach()
        raise
    return handle


def load(model: nn.Module, folder: str | Path) -> Handle:
    """Attach a saved θ, and its trained head if it has one, to the backbone it was trained on.

    Args:
        model: the pre-trained model, without anything attached or with other θs.
        folder: from `Handle.save`, or the file in it.

    Raises:
        ApetError: no θ there, a damaged file, a newer format, or another backbone; the message says which.
    """
    box = state_of(model)
    backbone, fingerprint = (box.backbone, box.fingerprint) if box else (describe(model), weights_fingerprint(model))
    saved = checkpoint.read_delta(folder, backbone, fingerprint)
    head = saved.head or {}
    for name, v in head.items():
        if v.numel() != model.get_parameter(name).numel():
            raise ApetError(
                f"the saved head's {name!r} has {v.numel()} values, this model's {model.get_parameter(name).numel()};"
                " load the model with the same number of labels"
            )
    handle = attach(model, saved.spec, head="trained" if head else "frozen", values=saved.values)
    with torch.no_grad():
        for name, v in handle.head_values():
            v.copy_(head[name])
    handle.refresh()
    return handle


def attached(model: nn.Module) -> list[Handle]:
    """Handles of all θs on a model, in order; also those of a deep copy."""
    box = state_of(model)
    return [] if box is None else [Handle(model, m) for m in box.attached if isinstance(m, AttachedDelta)]


def _add_layers(
    model: nn.Module, box: AttachmentState, module: AttachedDelta, values: dict[str, Tensor] | None
) -> None:
    backbone, theta = box.backbone, module.theta
    where = {p.name: p for p in backbone.positions}
    vocabulary = next((f"{x.module}.weight" for x in backbone.layers if x.role == "embed.tokens"), None)
    for insertion in theta.insertions:
        start = {
            w.name: _given_values(values, w, insertion.position)
            if values is not None
            else initial_values(
                w, insertion.position, theta.init_seed, model.get_parameter(vocabulary) if vocabulary else None
            )
            for w in insertion.weights
        }
        key = re.sub(r"\W", "_", f"{insertion.form}_{insertion.position}")
        if insertion.form == "parameter":
            p = where[insertion.position]
            carrier = _add_weight_delta(
                model, box, module, insertion, start["delta"], p.name, f"{p.module}.{p.parameter}"
            )
            module.layers[key] = carrier
            hooks = carrier.hooks(model)
        else:
            layer_name = where[insertion.position].layer_name if insertion.form == "output" else insertion.position
            device = next(model.get_submodule(backbone.layer(layer_name).module).parameters()).device
            plain = _CARRIERS[insertion.form](insertion, start, device)
            module.layers[key] = plain
            hooks = plain.hooks(model, backbone)
        _register_hooks(module, hooks)
    if module.head_use == "trained":
        for name in backbone.head:
            tensor = model.get_parameter(name)
            insertion = Insertion("parameter", name, (TrainableWeight("delta", dense_mask(tuple(tensor.shape))),))
            start_head = tensor.detach().float().reshape(-1).clone()
            carrier = _add_weight_delta(model, box, module, insertion, start_head, f"head {name}", name, replaces=True)
            module.head[re.sub(r"\W", "_", name)] = carrier
            _register_hooks(module, carrier.hooks(model))


def _given_values(values: dict[str, Tensor], weight: TrainableWeight, at: str) -> Tensor:
    """The caller's initial values of one trainable weight, as a copy that training may change."""
    name, k = f"{at}/{weight.name}", weight.mask.num_trainable
    found = values.get(name)
    if found is None or found.numel() != k:
        came = "nothing" if found is None else f"{found.numel()}"
        raise ApetError(f"values[{name!r}] must hold {k} scalars; came {came}")
    return found.detach().reshape(-1).to(torch.float32, copy=True)


def _add_weight_delta(
    model: nn.Module,
    box: AttachmentState,
    module: AttachedDelta,
    insertion: Insertion,
    values: Tensor,
    key: str,
    name: str,
    replaces: bool = False,
) -> WeightDelta:
    tensor = require_editable(model.get_parameter(name), name)
    group = _parameter_deltas(box, key, name)
    carrier = WeightDelta(insertion, values.to(tensor.device), name, group, replaces)
    group.add(carrier, tensor)
    module.in_place_deltas.append((key, name, carrier))
    return carrier


def _register_hooks(module: AttachedDelta, hooks: Iterator[Any]) -> None:
    for hook in hooks:
        register = hook.module.register_forward_pre_hook if hook.when == "before" else hook.module.register_forward_hook
        module.hook_handles.append(register(hook.run, with_kwargs=True))


def _parameter_deltas(box: AttachmentState, key: str, name: str) -> ParameterDeltas:
    box.parameter_names[key] = name
    return box.parameter_deltas.setdefault(key, ParameterDeltas())


def _close_if_empty(model: nn.Module, box: AttachmentState) -> None:
    if len(box.attached):
        return
    for door in box.hook_handles:
        door.remove()
    delattr(model, STATE_NAME)
    for name, p in model.named_parameters():
        p.requires_grad_(box.required_grad.get(name, False))


def _check_fits(theta: DeltaSpec, backbone: Backbone, head: HeadMode) -> None:
    """Refuse a θ that was made for another architecture, with the first place that does not fit."""
    if head not in ("frozen", "trained"):
        raise UnknownNameError("head use", head, ["frozen", "trained"])
    if head == "trained" and not backbone.head:
        raise ApetError(f"{backbone.model_class} has no task head to train; every part of it was pre-trained")
    positions = {p.name: p for p in backbone.positions}
    layers = {x.name: x for x in backbone.layers}
    made_for = f"θ was planned for {theta.backbone}, this is {backbone.model_class}"
    for i in theta.insertions:
        known = positions if i.form in ("parameter", "output") else layers
        if i.position not in known:
            raise ApetError(f"{UnknownNameError('position', i.position, known)} ({made_for})")
        expected: dict[str, tuple[int | None, ...]]
        if i.form in ("parameter", "output"):
            expected = {"delta": positions[i.position].shape}
        else:
            x = layers[i.position]
            expected = {
                "prompt_embeddings": (None, backbone.width),
                "lora_A": (x.d_in, None),
                "lora_B": (None, x.d_out),
                "down_proj.weight": (x.d_out, None),
                "down_proj.bias": (None,),
                "up_proj.weight": (None, x.d_out),
                "up_proj.bias": (x.d_out,),
            }
        for w in i.weights:
            want = expected[w.name]
            if len(want) != len(w.shape) or any(a is not None and a != b for a, b in zip(want, w.shape, strict=True)):
                raise ApetError(
                    f"{w.name} at {i.position!r} has shape {w.shape}, the backbone asks for {want} ({made_for})"
                )


__all__ = ["Handle", "attach", "attached", "load"]
