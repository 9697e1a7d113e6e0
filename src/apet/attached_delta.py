"""One attached delta in a model's tree: its layers, what detaching needs to know, and what it saves of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from apet.backbones.positions import Backbone
from apet.delta import DeltaSpec
from apet.delta_header import header_of, listed_indices, pack
from apet.kernels.fused_linear import FusedLinear
from apet.kernels.in_place import Fp32Module, InPlaceDelta
from apet.kernels.storage import storage_of
from apet.layers.base import Args, DeltaLayer, Hook
from apet.masks.mask import reshaped

StateDict = dict[str, Any]


@dataclass(frozen=True)
class LayerHook:
    """A delta layer's function around the forward of one module, as it was hooked in.

    Attributes:
        hook: where and when it runs.
        handle: takes it off the module.
        layer: whose it is.
    """

    hook: Hook
    handle: RemovableHandle
    layer: DeltaLayer | None = None

    @classmethod
    def add(cls, hook: Hook, layer: DeltaLayer | None = None) -> LayerHook:
        """Hook a function in."""
        if hook.when == "before":
            return cls(hook, hook.module.register_forward_pre_hook(hook.run, with_kwargs=True), layer)
        always = hook.also_after_failure
        handle = hook.module.register_forward_hook(hook.run, with_kwargs=True, always_call=always, prepend=hook.prepend)
        return cls(hook, handle, layer)

    def replace(self, run: Callable[..., Any]) -> None:
        """Let another function run in its place, in its turn among the module's hooks."""
        hooks = self.handle.hooks_dict_ref()
        if hooks is not None and self.handle.id in hooks:  # else it was taken off
            hooks[self.handle.id] = run


def pass_by(module: nn.Module, args: Args, *_: object) -> None:
    """Do nothing, in a hook's place."""


class AttachedDelta(Fp32Module):
    """One attached delta in the model's tree: its layers, and what detaching needs to know.

    In a state dict it is what a saved delta is: ``_extra_state``, the header that plans it again (see
    `apet.delta_header`), ``values``, (N,), and ``head`` where a task head is trained. One tensor for all layers, so
    that tools which list keys that they do not know list three, and none that they could take for a layer of the
    backbone. A merged delta is part of the backbone, and nothing beside it.

    Attributes:
        spec: what was attached; its masks are settled.
        head_mode: whether the task head is trained with it.
        fingerprint: of the backbone's weights, as its header gives it.
        layers: the delta layers by form and position.
        head: weight deltas of the task head by parameter.
        merged_deltas: after a merge, the in-place deltas that took the layers' place.
        merged_into: of each of these, the position and the parameter's name.
        layer_hooks: all of its layers.
        hook_handles: of other hooks.
        acts_on: modules that layers act on without writing into them, by their names.
        gradients_averaged: whether hooks average its gradients over the processes that share a sharded backbone.
        is_merged: whether the layers have given way to merged deltas.
    """

    def __init__(self, spec: DeltaSpec, head_mode: str, fingerprint: str) -> None:
        super().__init__()
        self.spec = spec
        self.head_mode = head_mode
        self.fingerprint = fingerprint
        self.layers = nn.ModuleDict()
        self.head = nn.ModuleDict()
        self.merged_deltas = nn.ModuleList()
        self.merged_into: list[tuple[str, str]] = []
        self.layer_hooks: list[LayerHook] = []
        self.hook_handles: list[RemovableHandle] = []
        self.acts_on: dict[str, nn.Module] = {}
        self.gradients_averaged = False
        self.is_merged = False
        self.register_state_dict_post_hook(_join_values)

    def fuse_hooks(self) -> None:
        """Let all deltas of a linear layer act in one pass, where one of them keeps the layer's input anyway."""
        by_module: dict[int, list[LayerHook]] = {}
        for hooked in self.layer_hooks:
            if hooked.hook.when == "after":
                by_module.setdefault(id(hooked.hook.module), []).append(hooked)
        for hooks in by_module.values():
            module = hooks[0].hook.module
            terms = tuple(h.hook.term for h in hooks if h.hook.term is not None)
            kinds = {term.kind for term in terms}
            if type(module) is not nn.Linear or len(terms) < len(hooks):
                continue
            if "weight" not in kinds or kinds <= {"weight", "bias"}:
                continue
            if any(storage_of(p) != "plain" for p in module.parameters(recurse=False)):
                continue
            fused = FusedLinear(terms)
            self.hook_handles.append(module.register_forward_pre_hook(fused.before, with_kwargs=True))
            for h in hooks:
                h.replace(partial(fused.after, h.hook.run))

    def delta_layers(self) -> list[DeltaLayer]:
        """Its delta layers, without the head's; none once it is merged."""
        return [layer for layer in self.layers.values() if isinstance(layer, DeltaLayer)]

    def all_layers(self) -> Iterator[DeltaLayer]:
        """Its delta layers, the head's last."""
        for layer in (*self.layers.values(), *self.head.values()):
            assert isinstance(layer, DeltaLayer)
            yield layer

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """Trained entries of every weight: ``(position/weight, (k,) fp32)``, in the order of the spec."""
        for layer in self.layers.values():
            assert isinstance(layer, DeltaLayer)
            for name, entries in layer.values():
                yield f"{layer.insertion.position}/{name}", entries

    def in_place(self) -> list[tuple[str, str, InPlaceDelta]]:
        """Everything that it has written into parameters: (position, parameter name, delta)."""
        written = [item for layer in self.all_layers() for item in layer.in_place()]
        for (position, parameter), delta in zip(self.merged_into, self.merged_deltas, strict=True):
            assert isinstance(delta, InPlaceDelta)
            written.append((position, parameter, delta))
        return written

    def fit(self, shapes: Mapping[str, tuple[int, ...]], backbone: Backbone) -> None:
        """Take on the shapes of a backbone that was changed: the same entries are trained, by other masks.

        Args:
            shapes: of the parameters that it writes into, by position, where they are not what they were.
            backbone: description of the model as it is now.
        """
        for layer in self.all_layers():
            edits = layer.in_place()
            for position, _, delta in edits:
                if position in shapes:
                    delta.move_to(reshaped(delta.mask, shapes[position]))
                    weights = tuple(replace(w, mask=delta.mask) for w in layer.insertion.weights)
                    layer.insertion = replace(layer.insertion, weights=weights)
            if not edits:
                layer.fit(backbone)
        for (position, _), merged in zip(self.merged_into, self.merged_deltas, strict=True):
            assert isinstance(merged, InPlaceDelta)
            if position in shapes:
                merged.move_to(reshaped(merged.mask, shapes[position]))
        # Planned again on the changed backbone, it would differ: from now on its insertions describe it.
        insertions = tuple(_layer(layer).insertion for layer in self.layers.values()) or self.spec.insertions
        total, name = backbone.num_parameters, self.spec.method
        self.spec = replace(self.spec, insertions=insertions, num_backbone_parameters=total, recipe=None, name=name)

    def get_extra_state(self) -> Tensor:
        """Its header and the indices that no recipe gives back, in one tensor, (bytes,), uint8."""
        header = header_of(self.spec, self.fingerprint)
        if len(self.head):
            edits = [edit for layer in self.head.values() for edit in _layer(layer).in_place()]
            header["head"] = {parameter: delta.values.numel() for _, parameter, delta in edits}
        return pack(header, listed_indices(self.spec))

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing to do: the model compares headers before it loads anything."""

    # The two methods that PyTorch names for modules that save themselves in another form.

    def _save_to_state_dict(self, destination: StateDict, prefix: str, keep_vars: bool) -> None:
        if not self.is_merged:
            super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: StateDict,
        prefix: str,
        local_metadata: StateDict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if self.is_merged:
            return
        for name, parameters in self._joined().items():
            joined, sizes = state_dict.pop(prefix + name, None), [p.numel() for _, p in parameters]
            if joined is None:
                continue
            if joined.numel() != sum(sizes):
                error_msgs.append(f"size mismatch for {prefix}{name}: came {joined.numel()} values for {sum(sizes)}")
                continue
            # Entered under the parameters' own names, which their modules then look up.
            pieces = zip(parameters, joined.reshape(-1).split(sizes), strict=True)
            state_dict |= {prefix + key: piece for (key, _), piece in pieces}
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _joined(self) -> dict[str, list[tuple[str, Tensor]]]:
        """What goes into one tensor: its name -> names in the tree and parameters, in the order of the spec."""
        names = {id(p): name for name, p in self.named_parameters()}
        groups = {"values": self.layers, "head": self.head}
        return {
            name: [(names[id(v)], v) for layer in layers.values() for _, v in _layer(layer).values()]
            for name, layers in groups.items()
            if len(layers)
        }


def _layer(module: nn.Module) -> DeltaLayer:
    assert isinstance(module, DeltaLayer)
    return module


def _join_values(module: nn.Module, state_dict: StateDict, prefix: str, local_metadata: StateDict) -> None:
    """Join a delta's values in a state dict."""
    assert isinstance(module, AttachedDelta)
    for name, parameters in module._joined().items():
        keys = [prefix + key for key, _ in parameters]
        # Sharded values cannot be joined, and who asks with keep_vars wants the parameters themselves: both keep the
        # names that they have in the tree, and are loaded by these.
        if all(type(state_dict.get(key)) is Tensor for key in keys):
            pieces = [state_dict.pop(key) for key in keys]
            state_dict[prefix + name] = torch.cat([p.to(pieces[0].device) for p in pieces])
