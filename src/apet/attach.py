"""Putting θ on a backbone and taking it off again: the only file that changes a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from apet import checkpoint
from apet.backbones.digest import digest
from apet.backbones.positions import OWN_PREFIX, Backbone, describe
from apet.errors import ApetError, UnknownName
from apet.kernels.edit import Edit, Group, OwnPrecision
from apet.modules.support import full
from apet.modules.theta import Insertion, Theta, TrainableWeight, initial
from apet.operations.add import OutputCarrier, ParameterCarrier, editable
from apet.operations.carrier import Carrier, Merged
from apet.operations.concatenate import PairCarrier, TokensCarrier
from apet.operations.plugin import BottleneckCarrier

CONTAINER = OWN_PREFIX.rstrip(".")

_CARRIERS: dict[str, type[Carrier]] = {
    "output": OutputCarrier,
    "tokens": TokensCarrier,
    "pair": PairCarrier,
    "bottleneck": BottleneckCarrier,
}

HeadUse = Literal["frozen", "trained"]


class _Module(OwnPrecision):
    """One attached θ in the model's tree: its carriers, and what detaching needs to know."""

    def __init__(self, theta: Theta, head: HeadUse) -> None:
        super().__init__()
        self.theta = theta
        self.head_use = head
        self.carriers = nn.ModuleDict()
        self.head = nn.ModuleDict()
        self.statics = nn.ModuleDict()
        self.hook_handles: list[Any] = []
        self.groups_of: list[tuple[str, str, Edit]] = []  # (group key, parameter name, edit)
        self.made_biases: list[str] = []
        self.merged = False


class _Container(OwnPrecision):
    """``model.apet``: everything this library put into a model, and the backbone's state before it came."""

    def __init__(self, backbone: Backbone, fingerprint: str, required_grad: dict[str, bool]) -> None:
        super().__init__()
        self.backbone = backbone
        self.fingerprint = fingerprint
        self.required_grad = required_grad
        self.modules_attached = nn.ModuleList()
        self.groups: dict[str, Group] = {}
        self.parameter_of: dict[str, str] = {}
        self.door: Any = None

    def write_when_compiled(self, model: nn.Module, args: Any) -> None:
        """Before a compiled forward, write all edits outside of the graph; eager layers do it themselves."""
        if torch.compiler.is_compiling():
            self.write_all(model)

    @torch.compiler.disable
    def write_all(self, model: nn.Module) -> None:
        """Bring every edited parameter up to date."""
        for key, group in self.groups.items():
            if group.edits:
                group.write(model.get_parameter(self.parameter_of[key]))


class Handle:
    """An attached θ.

    Attributes:
        model: the backbone it sits on.
        theta: what was attached.
    """

    def __init__(self, model: nn.Module, module: _Module) -> None:
        self.model = model
        self._module = module

    def __repr__(self) -> str:
        return f"Handle({self.theta!r}{', merged' if self._module.merged else ''})"

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_attached:
            self.detach()

    @property
    def theta(self) -> Theta:
        """What was attached."""
        return self._module.theta

    @property
    def is_attached(self) -> bool:
        """Whether the model still carries it, attached or merged."""
        box = _container(self.model)
        return box is not None and any(m is self._module for m in box.modules_attached)

    @property
    def is_merged(self) -> bool:
        """Whether its values have become part of the backbone's parameters."""
        return self._module.merged

    @property
    def backbone_digest(self) -> str:
        """Fingerprint of the backbone as it was before anything was attached."""
        return self._box().fingerprint

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """Every trainable weight's entries, ``(position/weight, (k,) fp32)``, in the order of θ."""
        self._live("read")
        for carrier in self._module.carriers.values():
            if isinstance(carrier, ParameterCarrier):
                yield f"{carrier.insertion.at}/W1", carrier.values
            elif isinstance(carrier, Carrier):
                for name, v in carrier.values():
                    yield f"{carrier.insertion.at}/{name}", v

    def head_values(self) -> Iterator[tuple[str, Tensor]]:
        """Entries of the trained task head by parameter name; empty where the head is frozen."""
        for carrier in self._module.head.values():
            assert isinstance(carrier, ParameterCarrier)
            yield carrier.parameter, carrier.values

    def parameters(self) -> list[Tensor]:
        """All trainable tensors: those of θ and, where it is trained, of the task head. For an optimizer."""
        return [v for _, v in self.values()] + [v for _, v in self.head_values()]

    def refresh(self) -> None:
        """Write changed values into the backbone now; a forward does so itself, reading weights directly does not."""
        self._box().write_all(self.model)

    def detach(self) -> None:
        """Take θ off: the backbone is what it was, bit for bit, and so are its ``requires_grad`` flags."""
        box = self._box()
        for key, name, edit in reversed(self._module.groups_of):
            box.groups[key].remove(edit, self.model.get_parameter(name))
        for path in self._module.made_biases:
            self.model.get_submodule(path).register_parameter("bias", None)
        self._unhook()
        box.modules_attached = nn.ModuleList(m for m in box.modules_attached if m is not self._module)
        _close_if_empty(self.model, box)

    def merge(self, *, forget: bool = False) -> None:
        """Make θ part of the backbone's own parameters: no hook, no trained tensor, no extra cost remains.

        Until `detach`, the entries that were overwritten are kept, so that detaching still restores every bit.

        Args:
            forget: keep nothing; the merged backbone is then final and this handle is done.

        Raises:
            NotMergeable: an insertion that no parameter can hold (prompt, adapter, output of a norm without bias);
                the model is left as it was.
        """
        self._live("merge")
        box, module = self._box(), self._module
        becoming: list[Merged] = []
        for carrier in module.carriers.values():
            if isinstance(carrier, Carrier):
                becoming.append(carrier.merged(self.model, box.backbone))
        self._unhook()
        statics: list[tuple[str, str, Edit]] = []
        for key, name, edit in module.groups_of:
            static = Edit(edit.support, edit.values.detach(), edit.replaces)
            static.kept = edit.kept
            group = box.groups[key]
            group.edits = [static if e is edit else e for e in group.edits]
            group.write(self.model.get_parameter(name))
            statics.append((key, name, static))
        for m in becoming:
            statics.append(self._give(box, m))
        module.groups_of = statics
        module.carriers, module.head = nn.ModuleDict(), nn.ModuleDict()
        module.statics = nn.ModuleDict({str(i): e for i, (_, _, e) in enumerate(statics)})
        module.merged = True
        if forget:
            for key, name, edit in statics:
                box.groups[key].bake(edit, self.model.get_parameter(name))
            box.modules_attached = nn.ModuleList(m for m in box.modules_attached if m is not module)
            _close_if_empty(self.model, box)

    def save(self, folder: str | Path) -> Path:
        """Write θ with its values into a folder (see `apet.checkpoint`); returns the file."""
        self._live("save")
        return checkpoint.write(
            Path(folder), self.theta, self.backbone_digest, dict(self.values()), dict(self.head_values())
        )

    def _give(self, box: _Container, m: Merged) -> tuple[str, str, Edit]:
        """Write a static edit; makes the bias it asks for where a linear layer has none."""
        site, _, parameter = m.position.rpartition(".")
        layer = box.backbone.layer(site)
        name = f"{layer.module}.{parameter}"
        module = self.model.get_submodule(layer.module)
        if getattr(module, parameter) is None:
            weight = getattr(module, "weight")
            zeros = torch.zeros(layer.d_out, dtype=weight.dtype, device=weight.device)
            module.register_parameter(parameter, nn.Parameter(zeros, requires_grad=False))
            self._module.made_biases.append(layer.module)
        tensor = self.model.get_parameter(name)
        _group(box, m.position, name).add(m.edit.to(tensor.device), tensor)
        return m.position, name, m.edit

    def _unhook(self) -> None:
        for h in self._module.hook_handles:
            h.remove()
        self._module.hook_handles = []

    def _box(self) -> _Container:
        box = _container(self.model)
        if box is None or not self.is_attached:
            raise ApetError("this θ is no longer attached; attach it again with apet.attach(model, theta)")
        return box

    def _live(self, verb: str) -> None:
        self._box()
        if self._module.merged:
            raise ApetError(
                f"cannot {verb} a merged θ: its values are part of the backbone; detach() gives the backbone back"
            )


def attach(
    model: nn.Module, theta: Theta, *, head: HeadUse = "frozen", values: dict[str, Tensor] | None = None
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
        UnknownName: θ names a position that this model does not have.
        ApetError: shapes differ, the model has no head to train, or its weights are quantised.
    """
    box = _container(model)
    backbone = box.backbone if box is not None else describe(model)
    _fits(theta, backbone, head)
    if box is None:
        flags = {name: p.requires_grad for name, p in model.named_parameters()}
        box = _Container(backbone, digest(model), flags)
        model.requires_grad_(False)
        model.add_module(CONTAINER, box)
        box.door = model.register_forward_pre_hook(box.write_when_compiled)
    module = _Module(theta, head)
    box.modules_attached.append(module)
    handle = Handle(model, module)
    try:
        _fill(model, box, module, values)
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
    box = _container(model)
    backbone, fingerprint = (box.backbone, box.fingerprint) if box else (describe(model), digest(model))
    saved = checkpoint.read(folder, backbone, fingerprint)
    head = saved.head or {}
    for name, v in head.items():
        if v.numel() != model.get_parameter(name).numel():
            raise ApetError(
                f"the saved head's {name!r} has {v.numel()} values, this model's {model.get_parameter(name).numel()};"
                " load the model with the same number of labels"
            )
    handle = attach(model, saved.theta, head="trained" if head else "frozen", values=saved.values)
    with torch.no_grad():
        for name, v in handle.head_values():
            v.copy_(head[name])
    handle.refresh()
    return handle


def attached(model: nn.Module) -> list[Handle]:
    """Handles of all θs on a model, in order; also those of a deep copy."""
    box = _container(model)
    return [] if box is None else [Handle(model, m) for m in box.modules_attached if isinstance(m, _Module)]


def _fill(model: nn.Module, box: _Container, module: _Module, values: dict[str, Tensor] | None) -> None:
    backbone, theta = box.backbone, module.theta
    where = {p.name: p for p in backbone.positions}
    vocabulary = next((f"{x.module}.weight" for x in backbone.layers if x.role == "embed.tokens"), None)
    for insertion in theta.insertions:
        start = {
            w.name: values[f"{insertion.at}/{w.name}"]
            if values is not None
            else initial(w, insertion.at, theta.init_seed, model.get_parameter(vocabulary) if vocabulary else None)
            for w in insertion.weights
        }
        key = re.sub(r"\W", "_", f"{insertion.form}_{insertion.at}")
        if insertion.form == "parameter":
            p = where[insertion.at]
            carrier = _edit(model, box, module, insertion, start["W1"], p.name, f"{p.module}.{p.parameter}")
            module.carriers[key] = carrier
            hooks = carrier.hooks(model)
        else:
            layer_name = where[insertion.at].site if insertion.form == "output" else insertion.at
            device = next(model.get_submodule(backbone.layer(layer_name).module).parameters()).device
            plain = _CARRIERS[insertion.form](insertion, start, device)
            module.carriers[key] = plain
            hooks = plain.hooks(model, backbone)
        _hook(module, hooks)
    if module.head_use == "trained":
        for name in backbone.head:
            tensor = model.get_parameter(name)
            insertion = Insertion("parameter", name, (TrainableWeight("W1", full(tuple(tensor.shape))),))
            start_head = tensor.detach().float().reshape(-1).clone()
            carrier = _edit(model, box, module, insertion, start_head, f"head {name}", name, replaces=True)
            module.head[re.sub(r"\W", "_", name)] = carrier
            _hook(module, carrier.hooks(model))


def _edit(
    model: nn.Module,
    box: _Container,
    module: _Module,
    insertion: Insertion,
    values: Tensor,
    key: str,
    name: str,
    replaces: bool = False,
) -> ParameterCarrier:
    tensor = editable(model.get_parameter(name), name)
    group = _group(box, key, name)
    carrier = ParameterCarrier(insertion, values.to(tensor.device), name, group, replaces)
    group.add(carrier, tensor)
    module.groups_of.append((key, name, carrier))
    return carrier


def _hook(module: _Module, hooks: Iterator[Any]) -> None:
    for hook in hooks:
        register = hook.module.register_forward_pre_hook if hook.when == "before" else hook.module.register_forward_hook
        module.hook_handles.append(register(hook.run, with_kwargs=True))


def _group(box: _Container, key: str, name: str) -> Group:
    box.parameter_of[key] = name
    return box.groups.setdefault(key, Group())


def _container(model: nn.Module) -> _Container | None:
    box = getattr(model, CONTAINER, None)
    return box if isinstance(box, _Container) else None


def _close_if_empty(model: nn.Module, box: _Container) -> None:
    if len(box.modules_attached):
        return
    box.door.remove()
    delattr(model, CONTAINER)
    for name, p in model.named_parameters():
        p.requires_grad_(box.required_grad.get(name, False))


def _fits(theta: Theta, backbone: Backbone, head: HeadUse) -> None:
    """Refuse a θ that was made for another architecture, with the first place that does not fit."""
    if head not in ("frozen", "trained"):
        raise UnknownName("head use", head, ["frozen", "trained"])
    if head == "trained" and not backbone.head:
        raise ApetError(f"{backbone.model_class} has no task head to train; every part of it was pre-trained")
    positions = {p.name: p for p in backbone.positions}
    layers = {x.name: x for x in backbone.layers}
    made_for = f"θ was planned for {theta.backbone}, this is {backbone.model_class}"
    for i in theta.insertions:
        known = positions if i.form in ("parameter", "output") else layers
        if i.at not in known:
            raise ApetError(f"{UnknownName('position', i.at, known)} ({made_for})")
        expected: dict[str, tuple[int | None, ...]]
        if i.form in ("parameter", "output"):
            expected = {"W1": positions[i.at].shape}
        else:
            x = layers[i.at]
            expected = {
                "W2": (None, backbone.width),
                "W3": (x.d_in, None),
                "W4": (None, x.d_out),
                "W5": (x.d_out, None),
                "b5": (None,),
                "W6": (None, x.d_out),
                "b6": (x.d_out,),
            }
        for w in i.weights:
            want = expected[w.name]
            if len(want) != len(w.shape) or any(a is not None and a != b for a, b in zip(want, w.shape, strict=True)):
                raise ApetError(f"{w.name} at {i.at!r} has shape {w.shape}, the backbone asks for {want} ({made_for})")


__all__ = ["Handle", "attach", "attached", "load"]
