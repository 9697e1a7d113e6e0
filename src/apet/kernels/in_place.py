"""Entries written into a frozen parameter, with the old ones kept: added by assignment, taken back bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from apet.masks.mask import Mask


class Fp32Module(nn.Module):
    """A module whose tensors follow the model to a device but not to a dtype: trained values stay fp32."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Fp32Module:
        def moved(t: Tensor) -> Tensor:
            out = fn(t)
            return out if out.dtype == t.dtype else t.to(out.device)

        super()._apply(moved, recurse)
        return self


class InPlaceDelta(Fp32Module):
    """``values`` (k,), fp32, to be added to k entries of one parameter.

    Attributes:
        values: trainable while attached; a plain buffer once merged.
        kept: the entries as they were, in the parameter's own dtype, (k,).
        indices: flat indices (k,), or None where the support is a slice.
        replaces: the values stand for the entries themselves, not for what is added to them.
    """

    values: Tensor
    original_values: Tensor | None
    indices: Tensor | None

    def __init__(self, support: Mask, values: Tensor, replaces: bool = False) -> None:
        super().__init__()
        self.support = support
        self.replaces = replaces
        self.register_buffer("kept", None, persistent=False)
        indices = None if support.slice is not None else torch.from_numpy(support.indices).to(values.device)
        self.register_buffer("indices", indices, persistent=False)
        if values.requires_grad:
            self.values = nn.Parameter(values.detach())
        else:
            self.register_buffer("values", values, persistent=False)

    def read(self, flat: Tensor) -> Tensor:
        """The edited entries of a flat tensor, as a copy."""
        return flat[self.support.slice].clone() if self.indices is None else flat[self.indices]

    def write(self, flat: Tensor, entries: Tensor) -> None:
        """Assign the edited entries of a flat tensor."""
        if self.indices is None:
            flat[self.support.slice].copy_(entries)
        else:
            flat.index_copy_(0, self.indices, entries.to(flat.dtype))

    def updated(self, entries: Tensor) -> Tensor:
        """What the entries become."""
        return self.values.detach() if self.replaces else entries.float() + self.values.detach()


class ParameterDeltas:
    """All edits of one parameter, in the order they were attached. Where they overlap, they add up.

    Writes go past autograd's version counter (`Tensor.data`): a weight may be written again between forward and
    backward with the same values, as gradient checkpointing and tied weights do.
    """

    def __init__(self) -> None:
        self.deltas: list[InPlaceDelta] = []
        self.in_forward = False  # for the forward that is running

    @torch.no_grad()
    def write(self, parameter: Tensor) -> None:
        """Make the parameter hold kept + values. Called before every use, so it follows the optimizer."""
        flat = parameter.data.view(-1)
        if len(self.deltas) == 1:
            edit = self.deltas[0]
            assert edit.original_values is not None
            edit.write(flat, edit.updated(edit.original_values))
            return
        self.restore(parameter)
        for edit in self.deltas:
            edit.write(flat, edit.updated(edit.read(flat)))

    @torch.no_grad()
    def restore(self, parameter: Tensor) -> None:
        """Put the kept entries back."""
        flat = parameter.data.view(-1)
        for edit in self.deltas:
            assert edit.original_values is not None
            edit.write(flat, edit.original_values)

    def add(self, edit: InPlaceDelta, parameter: Tensor) -> None:
        """Take an edit in; it keeps the entries that the backbone had before any edit."""
        self.restore(parameter)
        edit.original_values = edit.read(parameter.data.view(-1))
        self.deltas.append(edit)
        self.write(parameter)

    def remove(self, edit: InPlaceDelta, parameter: Tensor) -> None:
        """Let an edit go; the others stay."""
        self.restore(parameter)
        self.deltas = [e for e in self.deltas if e is not edit]
        self.write(parameter)

    def make_permanent(self, edit: InPlaceDelta, parameter: Tensor) -> None:
        """Make an edit part of the backbone for good: what it replaced is forgotten."""
        self.restore(parameter)
        flat = parameter.data.view(-1)
        with torch.no_grad():
            edit.write(flat, edit.updated(edit.read(flat)))
        self.deltas = [e for e in self.deltas if e is not edit]
        for other in self.deltas:
            other.original_values = other.read(flat)
        self.write(parameter)
