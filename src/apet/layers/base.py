"""What every carrier of a trainable weight is and owes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from apet.backbones.describe import Backbone
from apet.delta import Insertion
from apet.errors import NotMergeableError
from apet.kernels.in_place import Fp32Module, InPlaceDelta


@dataclass(frozen=True)
class Hook:
    """A function to run ``before`` or ``after`` the forward of one module of the model, with keyword arguments."""

    module: nn.Module
    when: Literal["before", "after"]
    run: Callable[..., Any]


@dataclass(frozen=True)
class MergedDelta:
    """What a merge asks for: these values, for good, in that parameter.

    Attributes:
        position: name of the parameter's position.
        edit: the static edit.
    """

    position: str
    delta: InPlaceDelta


class DeltaLayer(Fp32Module, ABC):
    """One insertion at work: its trainable weights as flat fp32 parameters, one scalar for each unmasked entry.

    Attributes:
        insertion: what it carries.
    """

    def __init__(self, insertion: Insertion, values: dict[str, Tensor], device: torch.device) -> None:
        super().__init__()
        self.insertion = insertion
        for w in insertion.weights:
            holder, name = self._holder(w.name)
            holder.register_parameter(name, nn.Parameter(values[w.name].to(device, torch.float32)))
            whole = w.mask.slice is not None
            indices = None if whole else torch.from_numpy(w.mask.indices).to(device)
            holder.register_buffer(f"{name}_indices", indices, persistent=False)

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """The trainable weights' entries, each (k,), in the order of the insertion."""
        for w in self.insertion.weights:
            yield w.name, self.get_parameter(w.name)

    def _holder(self, name: str) -> tuple[nn.Module, str]:
        """The module that holds a weight, such as ``down_proj`` for ``down_proj.bias``, and the name it has there."""
        path, _, leaf = name.rpartition(".")
        if path and path not in self._modules:
            self.add_module(path, Fp32Module())
        return (self.get_submodule(path) if path else self), leaf

    def dense(self, name: str, dtype: torch.dtype) -> Tensor:
        """``W ⊙ m`` in its own shape; masked entries are zero and get no gradient."""
        support = next(w.mask for w in self.insertion.weights if w.name == name)
        values: Tensor = self.get_parameter(name)
        holder, leaf = self._holder(name)
        indices: Tensor | None = getattr(holder, f"{leaf}_indices")
        if support.kind == "full":
            flat = values
        elif indices is None:
            assert support.slice is not None
            flat = nn.functional.pad(values, (support.slice.start, support.size - support.slice.stop))
        else:
            flat = values.new_zeros(support.size).scatter(0, indices, values)
        return flat.view(support.shape).to(dtype)

    def has_weight(self, name: str) -> bool:
        """Whether the insertion has a weight of this name."""
        return any(w.name == name for w in self.insertion.weights)

    @abstractmethod
    def hooks(self, model: nn.Module, backbone: Backbone) -> Iterator[Hook]:
        """Where it acts."""

    def merged_delta(self, model: nn.Module, backbone: Backbone) -> MergedDelta:
        """Its lasting form.

        Raises:
            NotMergeableError: no existing parameter can hold it.
        """
        raise NotMergeableError(
            f"{self.insertion.form} at {self.insertion.position!r} cannot be merged: no parameter of the backbone computes it"
        )


def first_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What a layer was called with, by place or by keyword."""
    return args[0] if args else next(iter(kwargs.values()))


def flat_tokens(x: Tensor) -> Tensor:
    """(…, d) as (tokens, d)."""
    return x.reshape(-1, x.shape[-1])
