"""Noticing that a model was changed where deltas act on it: followed where they still mean something, else refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from apet.errors import ApetError
from apet.kernels.in_place import ParameterDeltas
from apet.kernels.sharding import is_sharded_whole

Holder = tuple[nn.Module, str]
"""A module that holds a parameter, and the parameter's name in it."""

Edge = tuple[nn.Module, str, nn.Module]
Held = tuple[nn.Module, str, nn.Parameter]

REMEDY = (
    "put back what was there and detach, or load the backbone again and change it before a delta is attached, or after"
    " merge(forget=True)"
)


@dataclass
class EditedParameter:
    """A parameter that deltas are written into, as it was when the first of them came.

    Attributes:
        name: in the model.
        parameter: itself.
        shape: at that time, or since a change that was followed.
        holders: the modules that hold it; several where it is tied.
        deltas: all in-place deltas of it.
        hook_handles: of what keeps the deltas out of state dicts.
    """

    name: str
    parameter: nn.Parameter
    shape: torch.Size
    holders: list[Holder]
    deltas: ParameterDeltas
    hook_handles: list[RemovableHandle]

    def require_same_rows(self) -> None:
        """Refuse another shape, unless rows came or went at its end: then the entries are still where they were.

        Raises:
            ApetError: it differs in more than its rows, or trained rows are gone.
        """
        came, shape = tuple(self.parameter.shape), tuple(self.shape)
        last = max(int(d.mask.indices[-1]) for d in self.deltas.deltas)
        if len(came) != len(shape) or came[1:] != shape[1:] or last >= self.parameter.numel():
            raise ApetError(
                f"a delta is written into {self.name!r} of shape {shape}, which has shape {came} meanwhile; {REMEDY}"
            )


class ModelWatch:
    """What has to be as it is for deltas to act as they shall, in a form that each forward can afford to compare.

    Args:
        model: that is watched.
        edges: (parent, name, child) on the way from the model to every module that a delta acts on.
        held: (module, name, parameter) of all that these modules hold.
    """

    def __init__(self, model: nn.Module, edges: Iterable[Edge], held: Iterable[Held]) -> None:
        self.model = model
        self.edges = list(edges)
        self.held = [(module, leaf, parameter, parameter.shape) for module, leaf, parameter in held]

    def is_unchanged(self) -> bool:
        """Whether every module and every parameter is where it was, in the shape that it had."""
        # Loops, not generators: this runs before every forward, over hundreds of entries.
        for parent, name, child in self.edges:
            if parent._modules.get(name) is not child:
                return False
        for module, leaf, parameter, shape in self.held:
            if module._parameters.get(leaf) is not parameter or parameter.shape != shape:
                return False
        return True


def watch(model: nn.Module, acts_on: Mapping[str, nn.Module], edited: list[EditedParameter]) -> ModelWatch:
    """Examine a model, and say what to watch in it from now on.

    Modules that others have been wrapped around (compiled, checkpointed, sharded) are still found; parameters may be
    tied to fewer modules than before, or have another shape.

    Args:
        model: that deltas are attached to.
        acts_on: the modules that deltas act on without writing into them, by the names that they had.
        edited: the parameters that deltas are written into.

    Returns:
        What to compare before each forward.

    Raises:
        ApetError: a module or a parameter is gone or was replaced, or a parameter is used elsewhere, too.
    """
    names = {id(module): name for name, module in model.named_modules()}
    for name, module in acts_on.items():
        if id(module) not in names:
            raise ApetError(f"a delta acts on module {name!r}, which {_now(model, name)} meanwhile; {REMEDY}")
    holders: defaultdict[int, list[Holder]] = defaultdict(list)
    for module in model.modules():
        for leaf, parameter in module._parameters.items():
            holders[id(parameter)].append((module, leaf))
    for e in edited:
        _examine(model, e, holders[id(e.parameter)])
    modules = {id(m): m for m in (*acts_on.values(), *(module for e in edited for module, _ in e.holders))}
    edges = {}
    for path in (names[key] for key in modules):
        parent = model
        for name in path.split(".") if path else []:
            child = parent._modules[name]
            assert child is not None
            edges[id(parent), name] = (parent, name, child)
            parent = child
    held = ((m, leaf, p) for m in modules.values() for leaf, p in m._parameters.items() if p is not None)
    return ModelWatch(model, edges.values(), held)


def _examine(model: nn.Module, edited: EditedParameter, holders: list[Holder]) -> None:
    """Follow an edited parameter to the modules that hold it now."""
    if not holders:
        if any(is_sharded_whole(module) for module in model.modules()):
            raise ApetError(
                f"a delta is written into {edited.name!r}, which was sharded meanwhile; load the backbone again, and"
                " attach the delta after fully_shard, or before it with carrier='additive'"
            )
        became = _now(model, edited.name.rpartition(".")[0])
        raise ApetError(f"a delta is written into {edited.name!r}, which {became} meanwhile; {REMEDY}")
    # A module that nothing is hooked to would use the tensor and add nothing to the gradient.
    known = {id(module) for module, _ in edited.holders}
    for module, _ in holders:
        if id(module) not in known:
            raise ApetError(
                f"a delta is written into {edited.name!r}, which was tied to another {type(module).__name__}"
                f" meanwhile; {REMEDY}"
            )
    edited.holders = holders


def _now(model: nn.Module, name: str) -> str:
    """What became of the module of this name."""
    try:
        kind = type(model.get_submodule(name))
        # With its module: a quantized layer may be called Linear, too.
        return f"was replaced (there is a {kind.__module__}.{kind.__qualname__} now)"
    except AttributeError:
        return "was taken out of the model"
