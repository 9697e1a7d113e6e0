"""What a module that holds an edited parameter saves and loads: the backbone's own values, never edited ones."""

from __future__ import annotations

from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from apet.kernels.in_place import ParameterDeltas

StateDict = dict[str, Any]

_copies: WeakKeyDictionary[ParameterDeltas, ReferenceType[Tensor]] = WeakKeyDictionary()
"""The copy that each parameter's deltas last gave to a state dict. Not an attribute: a model must stay picklable."""


class ParameterHolder:
    """Hooks of one module that holds an edited parameter, on its ``state_dict`` and its ``load_state_dict``.

    They sit on the module itself, not on the model: so they act in whatever is saved, the model, a part of it, or
    something that the model is a part of.

    Args:
        deltas: all in-place deltas of the parameter.
        leaf: the parameter's name in the module.
    """

    def __init__(self, deltas: ParameterDeltas, leaf: str) -> None:
        self.deltas = deltas
        self.leaf = leaf
        self._merged_entries: list[Tensor] = []

    def register(self, module: nn.Module) -> list[RemovableHandle]:
        """Hook into the module; returns what takes the hooks off again."""
        return [
            module.register_state_dict_post_hook(self),
            module.register_load_state_dict_pre_hook(self.before_load),
            module.register_load_state_dict_post_hook(self.after_load),
        ]

    # The object itself is the hook: PyTorch marks this kind of hook by an attribute, which a bound method cannot take.
    def __call__(self, module: nn.Module, state_dict: StateDict, prefix: str, local_metadata: StateDict) -> None:
        """Replace the edited tensor in a state dict by a copy without the attached deltas."""
        key = prefix + self.leaf
        held = state_dict.get(key)
        if isinstance(held, Tensor) and any(not d.is_merged for d in self.deltas.deltas):
            state_dict[key] = self._own_values(state_dict, held)

    def _own_values(self, state_dict: StateDict, held: Tensor) -> Tensor:
        last = _copies.get(self.deltas)
        copy = None if last is None else last()
        # Tied tensors stay tied: the module that comes second gets the copy that is in the same dict already.
        if copy is not None and any(v is copy for v in state_dict.values()):
            return copy
        copy = self.deltas.own_values(held)
        if isinstance(held, nn.Parameter):  # asked for with keep_vars
            copy = nn.Parameter(copy, requires_grad=held.requires_grad)
        _copies[self.deltas] = ref(copy)
        return copy

    def before_load(self, module: nn.Module, state_dict: StateDict, prefix: str, metadata: StateDict, *_: Any) -> None:
        """Lay the backbone's own values open, so that what is not loaded stays theirs."""
        if metadata.pop("assign_to_params_buffers", False):
            # Assigned, the caller's tensor would be edited, and modules that are tied to this one left behind: take its
            # dtype, as assigning would, and let its values be copied. The device stays that of the deltas.
            for name, parameter in module._parameters.items():
                loaded = state_dict.get(prefix + name)
                if parameter is not None and isinstance(loaded, Tensor):
                    parameter.data = parameter.data.to(loaded.dtype)
        parameter = module._parameters.get(self.leaf)
        if parameter is not None:
            self._merged_entries = self.deltas.keep_own_values(parameter)

    def after_load(self, module: nn.Module, incompatible_keys: Any) -> None:
        """Take what the parameter holds now for the backbone's own, and write the attached deltas again."""
        parameter = module._parameters.get(self.leaf)
        if parameter is not None:
            self.deltas.adopt(parameter, self._merged_entries)
