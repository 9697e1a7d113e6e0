"""In-place deltas: entries written into a frozen parameter, whose original values come back bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from apet.masks.mask import Mask


class Fp32Module(nn.Module):
    """Module whose tensors follow the model to a device but not to a dtype.

    Trained values stay fp32 beside a bf16 backbone: an optimizer's small steps would be lost in bf16's eight bits.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Fp32Module:
        def moved(t: Tensor) -> Tensor:
            out = fn(t)
            return out if out.dtype == t.dtype else t.to(out.device)

        super()._apply(moved, recurse)
        return self


class InPlaceDelta(Fp32Module):
    """Values (k,), fp32, that are added to k entries of one parameter, or stand in their place.

    Args:
        mask: the entries.
        values: (k,); trainable where they require a gradient, a plain buffer once they are merged.
        replaces: the values stand for the entries themselves, not for what is added to them.

    Attributes:
        original_values: the entries as they were, in the parameter's own dtype, (k,); None before the first write.
        is_merged: its values are part of the backbone now, and no optimizer sees them.
        indices: flat indices (k,), or None where the mask is a slice.
    """

    values: Tensor
    original_values: Tensor | None
    indices: Tensor | None

    def __init__(self, mask: Mask, values: Tensor, replaces: bool = False) -> None:
        super().__init__()
        self.mask = mask
        self.replaces = replaces
        self.is_merged = not values.requires_grad
        self.register_buffer("original_values", None, persistent=False)
        self.register_buffer("indices", _flat_indices(mask, values.device), persistent=False)
        if values.requires_grad:
            self.values = nn.Parameter(values.detach())
        else:
            self.register_buffer("values", values, persistent=False)

    def move_to(self, mask: Mask) -> None:
        """Stand for the same entries under another mask, since their tensor has another shape now."""
        self.mask = mask
        self.indices = _flat_indices(mask, self.values.device)

    def read(self, flat: Tensor) -> Tensor:
        """Copy the masked entries out of a flat tensor, (k,)."""
        return flat[self.mask.slice].clone() if self.indices is None else flat[self.indices]

    def write(self, flat: Tensor, entries: Tensor) -> None:
        """Assign the masked entries of a flat tensor."""
        if self.indices is None:
            flat[self.mask.slice].copy_(entries)
        else:
            flat.index_copy_(0, self.indices, entries.to(flat.dtype))

    def updated(self, entries: Tensor) -> Tensor:
        """What the entries become, (k,), fp32: the sum is rounded once, when it is written."""
        return self.values.detach() if self.replaces else entries.float() + self.values.detach()


def _flat_indices(mask: Mask, device: torch.device) -> Tensor | None:
    return None if mask.slice is not None else torch.from_numpy(mask.indices).to(device)


class SubstitutedGradient(torch.autograd.Function):
    """Alias of a weight whose backward hands the k masked entries of the weight's gradient to the values.

    For modules whose computation no formula describes: the weight's whole gradient is formed by autograd, and lives
    until its entries are taken out.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, values: Tensor, delta: InPlaceDelta) -> Tensor:
        """Hand the weight on; the values are written into it already."""
        ctx.delta = delta
        return weight.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Take the k entries out of the dense gradient, (k,), fp32."""
        return grads[0] if ctx.needs_input_grad[0] else None, ctx.delta.read(grads[0].reshape(-1)).float(), None


class ParameterDeltas:
    """All in-place deltas of one parameter, in the order they were attached. Where they overlap, they add up.

    Attributes:
        owners: (module, name in it) of every place where the parameter hangs in the model.

    Writes go past autograd's version counter (``Tensor.data``): a weight may be written again between forward and
    backward with the same values, as gradient checkpointing and tied weights do, and autograd would take that for an
    error.
    """

    def __init__(self) -> None:
        self.deltas: list[InPlaceDelta] = []
        self.owners: list[tuple[nn.Module, str]] = []
        self.in_forward = False  # written for the forward that is running: layers need not write again
        self._substituted: list[InPlaceDelta] = []
        self._depth = 0  # modules around an owner whose forward is running

    def substitute(self, delta: InPlaceDelta) -> None:
        """Give a delta its gradient through an alias in the parameter's place, from the next forward on."""
        self._substituted.append(delta)

    def enter(self) -> None:
        """Put the alias in the parameter's place before the outermost module around an owner runs.

        Into the instance's own dictionary, where Python looks before PyTorch's ``__getattr__`` finds the parameter:
        `parameters()` and `state_dict()` never see the alias.
        """
        self._depth += 1
        if self._depth > 1 or not torch.is_grad_enabled():
            return
        module, name = self.owners[0]
        alias = module._parameters[name]
        assert alias is not None
        for delta in self._substituted:
            alias = SubstitutedGradient.apply(alias, delta.values, delta)
        for module, name in self.owners:
            module.__dict__[name] = alias

    def exit(self) -> None:
        """Take the alias away after the outermost module, also after a forward that failed."""
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            for module, name in self.owners:
                module.__dict__.pop(name, None)

    @torch.no_grad()
    def write(self, parameter: Tensor) -> None:
        """Make the parameter hold original + values. Called before every use, so it follows the optimizer."""
        flat = parameter.data.view(-1)
        if len(self.deltas) == 1:  # the common case: one assignment, nothing to restore first
            delta = self.deltas[0]
            assert delta.original_values is not None
            delta.write(flat, delta.updated(delta.original_values))
            return
        # Several may share entries: each adds to what the ones before it left, from the original values up.
        self.restore(parameter)
        for delta in self.deltas:
            delta.write(flat, delta.updated(delta.read(flat)))

    @torch.no_grad()
    def restore(self, parameter: Tensor) -> None:
        """Put the original values back. By assignment: subtracting would not return the same bits."""
        flat = parameter.data.view(-1)
        for delta in self.deltas:
            assert delta.original_values is not None
            delta.write(flat, delta.original_values)

    def own_values(self, parameter: Tensor) -> Tensor:
        """Copy the parameter without the attached deltas; merged ones are part of the backbone, and stay in it."""
        copy = parameter.detach().clone()
        self.keep_own_values(copy)
        return copy

    @torch.no_grad()
    def keep_own_values(self, parameter: Tensor) -> list[Tensor]:
        """Leave in the parameter what `own_values` says, until `adopt` or the next write.

        Args:
            parameter: that the deltas are written into, or a copy of it.

        Returns:
            Entries of each merged delta, (k,): `adopt` compares them.
        """
        self.restore(parameter)
        flat = parameter.data.view(-1)
        merged = [d for d in self.deltas if d.is_merged]
        for delta in merged:
            delta.write(flat, delta.updated(delta.read(flat)))
        return [d.read(flat) for d in merged]

    @torch.no_grad()
    def adopt(self, parameter: Tensor, merged_entries: list[Tensor]) -> None:
        """Take what the parameter holds for the backbone's own values, and write the attached deltas again.

        Args:
            parameter: with new values in it.
            merged_entries: what `keep_own_values` returned before they came.
        """
        flat = parameter.data.view(-1)
        merged = [d for d in self.deltas if d.is_merged]
        if all(torch.equal(d.read(flat), e) for d, e in zip(merged, merged_entries, strict=True)):
            for delta in merged:  # a merge that is still in there can still be undone
                assert delta.original_values is not None
                delta.write(flat, delta.original_values)
        else:
            self.deltas = [d for d in self.deltas if not d.is_merged]
        for delta in self.deltas:
            delta.original_values = delta.read(flat)
        self.write(parameter)

    def add(self, delta: InPlaceDelta, parameter: Tensor) -> None:
        """Take a delta in; it keeps the values that the backbone had before any delta."""
        self.restore(parameter)
        delta.original_values = delta.read(parameter.data.view(-1))
        self.deltas.append(delta)
        self.write(parameter)

    def remove(self, delta: InPlaceDelta, parameter: Tensor) -> None:
        """Let a delta go; the others stay."""
        self.restore(parameter)
        self.deltas = [d for d in self.deltas if d is not delta]
        self._substituted = [d for d in self._substituted if d is not delta]
        self.write(parameter)

    def make_permanent(self, delta: InPlaceDelta, parameter: Tensor) -> None:
        """Make a delta part of the backbone for good: what it replaced is forgotten."""
        self.restore(parameter)
        flat = parameter.data.view(-1)
        with torch.no_grad():
            delta.write(flat, delta.updated(delta.read(flat)))
        self.deltas = [d for d in self.deltas if d is not delta]
        self._substituted = [d for d in self._substituted if d is not delta]
        for other in self.deltas:  # what they restore is now the backbone with the permanent delta in it
            other.original_values = other.read(flat)
        self.write(parameter)
