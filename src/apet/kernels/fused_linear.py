"""When the deltas of a linear layer act in one pass, and how it is put around the layer's forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from apet.kernels.layer_sum import Carry, LayerSum
from apet.kernels.term_matrices import Term, TermMatrices

After = Callable[..., Tensor]
"""What runs after a layer: (module, args, kwargs, output) -> the output."""


class InputTap(torch.autograd.Function):
    """Identity on a layer's input that adds what the deltas read of it to the gradient that the layer gave."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, carry: Carry) -> Tensor:
        """Hand the input on."""
        ctx.carry = carry
        return x.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        """Add the product, into the gradient itself: it was made by this layer's own backward for nobody else."""
        grad, product = grads[0], ctx.carry.product
        if product is None:
            return grad, None
        change, reads = product
        ctx.carry.product = None
        flat = grad.reshape(-1, grad.shape[-1])
        if ctx.carry.in_place and flat.data_ptr() == grad.data_ptr():
            flat.addmm_(change.t(), reads)
            return grad, None
        return torch.addmm(flat, change.t(), reads).view_as(grad), None


@dataclass
class FusedLinear:
    """Deltas of one linear layer that act in one pass where it computes what they do one after another.

    Attributes:
        terms: of the deltas, in their order.
    """

    terms: tuple[Term, ...]
    _call: Literal["one by one", "one pass", "done"] = "one by one"
    _carry: Carry | None = None
    _input: Tensor | None = None
    _matrices: TermMatrices | None = None

    def before(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Decide for this call, and tap the layer's input."""
        name = None if args else next(iter(kwargs))
        x = args[0] if name is None else kwargs[name]
        self._call, self._carry = "one by one", None
        # Hooks of others, also another delta's, may read the layer's own output or ask for its gradient.
        if len(module._forward_hooks) > len(self.terms) or not _fits(module, x):
            return None
        self._call, self._input = "one pass", x
        if not x.requires_grad:
            return None
        # A backward hook may have kept the gradient.
        self._carry = Carry(in_place=not module._backward_hooks and not module._backward_pre_hooks)
        self._input = tapped = InputTap.apply(x, self._carry)
        return ((tapped, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: tapped})

    def after(
        self, run: After, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Tensor:
        """Add everything to the layer's output, (…, d_out), in the turn of the first delta; or one of them in its turn.

        Args:
            run: what the delta whose turn it is does by itself.
            module: the layer.
            args: it was called with.
            kwargs: it was called with.
            output: (…, d_out).

        Returns:
            Of the output's shape.
        """
        if self._call == "done":
            return output
        x = args[0] if args else next(iter(kwargs.values()))
        # A hook that came later may have handed the layer another input, such as the masked tokens' alone.
        if self._call == "one by one" or self._input is None or x is not self._input:
            self._call, self._input = "one by one", None
            return run(module, args, kwargs, output)
        assert isinstance(module, nn.Linear)
        if self._matrices is None or not self._matrices.fits(self.terms):
            self._matrices = TermMatrices(self.terms, module.in_features, module.out_features)
        added: Tensor = LayerSum.apply(
            output, self._input.detach(), self.terms, self._matrices, module, self._carry, *self._matrices.values()
        )
        self._call, self._carry, self._input = "done", None, None
        return added


def _fits(module: nn.Module, x: object) -> bool:
    """Whether a call is one that a fused pass computes: of plain numbers, in one precision, with gradients."""
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and isinstance(module, nn.Linear)
        and isinstance(x, Tensor)
        and x.dim() > 1
        and x.is_floating_point()
        and x.dtype == module.weight.dtype
        and x.device == module.weight.device
        and not module.weight.requires_grad
        and not torch.is_autocast_enabled(x.device.type)
    )
