"""Add (eq. 14): ``h_out = f(h_in) + W̃₁`` on a hidden state, and W̃ added to any existing parameter of the backbone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from apet.backbones.describe import Backbone
from apet.delta import Insertion
from apet.errors import ApetError, NotMergeableError
from apet.kernels.in_place import InPlaceDelta, ParameterDeltas
from apet.kernels.sparse_gradients import SparseGradientTap, embedding_weight_grad, linear_weight_grad, norm_scale_grad
from apet.layers.base import DeltaLayer, Hook, MergedDelta, first_input, flat_tokens
from apet.masks.mask import Mask


class WeightDelta(InPlaceDelta):
    """W̃ added to a parameter in place; the layer runs as it is.

    Before the layer runs, the entries are written. After it ran, its output is tapped: in backward the gradient of
    the k entries is formed from the layer's input and its output's gradient, at a fraction of a dense gradient.
    A tensor used by several modules (tied embeddings) is tapped at each of them.
    """

    def __init__(
        self, insertion: Insertion, values: Tensor, parameter: str, group: ParameterDeltas, replaces: bool = False
    ) -> None:
        super().__init__(insertion.weights[0].mask, values.float().requires_grad_(), replaces)
        self.insertion = insertion
        self.parameter = parameter
        self.group = group
        self.padding: int | None = None  # of the embedding that holds it

    def hooks(self, model: nn.Module) -> Iterator[Hook]:
        """At every module that computes with the tensor."""
        tensor = model.get_parameter(self.parameter)
        for module in model.modules():
            own = [name for name, p in module.named_parameters(recurse=False) if p is tensor]
            if own and _runs(module):
                yield Hook(module, "before", self.write_weight if own == ["weight"] else self.write_bias)
                yield Hook(module, "after", self.tap_weight if own == ["weight"] else self.tap_bias)

    def write_weight(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Write before the layer runs where it is called by itself, as a recomputed block or `generate`'s encoder."""
        if not torch.compiler.is_compiling() and not self.group.in_forward:
            self.group.write(getattr(module, "weight"))

    def write_bias(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """As `write_weight`."""
        if not torch.compiler.is_compiling() and not self.group.in_forward:
            self.group.write(getattr(module, "bias"))

    def tap_weight(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
        """Tie the k values to the output's gradient."""
        if not torch.is_grad_enabled():
            return output
        source = first_input(args, kwargs)
        if isinstance(module, nn.Embedding):
            if "position_ids" in kwargs and hasattr(module, "offset"):  # OPT counts its positions from row 2
                source = kwargs["position_ids"] + getattr(module, "offset")
            self.padding = module.padding_idx
            return _tap(output, self.values, source, self._of_embedding)
        if isinstance(module, nn.Linear):
            return _tap(output, self.values, source, self._of_linear)
        if isinstance(module, Conv1D):
            return _tap(output, self.values, source, self._of_conv1d)
        eps = next(getattr(module, n) for n in ("eps", "variance_epsilon") if hasattr(module, n))
        self.eps = float(eps)
        return _tap(output, self.values, source, self._of_mean_free if _centred(module) else self._of_root_mean_square)

    def tap_bias(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
        """As `tap_weight`."""
        if not torch.is_grad_enabled():
            return output
        return _tap(output, self.values, output.new_empty(0), self._of_bias)

    def _of_linear(self, x: Tensor, grad: Tensor) -> Tensor:
        return linear_weight_grad(flat_tokens(grad), flat_tokens(x), self.support, self.indices)

    def _of_conv1d(self, x: Tensor, grad: Tensor) -> Tensor:
        return linear_weight_grad(flat_tokens(x), flat_tokens(grad), self.support, self.indices)

    def _of_embedding(self, ids: Tensor, grad: Tensor) -> Tensor:
        ids = ids.expand(grad.shape[:-1]).reshape(-1)
        return embedding_weight_grad(ids, flat_tokens(grad), self.support, self.indices, self.padding)

    def _of_mean_free(self, x: Tensor, grad: Tensor) -> Tensor:
        return self._entries(norm_scale_grad(flat_tokens(x), flat_tokens(grad), self.eps, centred=True))

    def _of_root_mean_square(self, x: Tensor, grad: Tensor) -> Tensor:
        return self._entries(norm_scale_grad(flat_tokens(x), flat_tokens(grad), self.eps, centred=False))

    def _of_bias(self, _: Tensor, grad: Tensor) -> Tensor:
        return self._entries(flat_tokens(grad).float().sum(0))

    def _entries(self, whole: Tensor) -> Tensor:
        return whole[self.support.slice] if self.indices is None else whole[self.indices]


def _tap(y: Tensor, values: Tensor, source: Tensor, gradient: Any) -> Tensor:
    source = source.detach().to(y.device)  # in a spread backbone, a layer's input may come from another device
    return SparseGradientTap.apply(y, values, source, gradient)


def _runs(module: nn.Module) -> bool:
    """Whether the module computes with its parameter itself (some only hold a tied bias)."""
    return isinstance(module, nn.Linear | Conv1D | nn.Embedding) or type(module).__name__.endswith("Norm")


def _centred(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm)


def require_editable(tensor: Tensor, name: str) -> Tensor:
    """The tensor, if entries can be written into it.

    Raises:
        ApetError: it is quantised, sharded or not contiguous.
    """
    if not tensor.is_floating_point() or type(tensor) not in (nn.Parameter, Tensor) or not tensor.is_contiguous():
        raise ApetError(
            f"parameter {name!r} is {tensor.dtype} ({type(tensor).__name__}); entries can be added to plain"
            " floating-point tensors only. Load the backbone unquantised, or use a method that leaves weights alone"
            " (lora, prompt, adapter)"
        )
    return tensor


class BiasDelta(DeltaLayer):
    """A vector added to a layer's output: a bias for layers that have none."""

    def hooks(self, model: nn.Module, backbone: Backbone) -> Iterator[Hook]:
        """After the layer."""
        position = next(p for p in backbone.positions if p.name == self.insertion.position)
        yield Hook(model.get_submodule(position.module), "after", self.after)

    def after(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
        """``f(h_in) + W̃₁``, (…, d_out)."""
        return output + self.dense("delta", output.dtype)

    def merged_delta(self, model: nn.Module, backbone: Backbone) -> MergedDelta:
        """As the bias the layer has, or could have."""
        position = next(p for p in backbone.positions if p.name == self.insertion.position)
        module = model.get_submodule(position.module)
        if not isinstance(module, nn.Linear):
            raise NotMergeableError(
                f"output at {self.insertion.position!r} cannot be merged: a {type(module).__name__} gets no bias to hold it"
            )
        return MergedDelta(
            f"{position.layer_name}.bias", fixed_delta(self.insertion.weights[0].mask, self.get_parameter("delta"))
        )


def fixed_delta(support: Mask, values: Tensor) -> InPlaceDelta:
    """An edit that no optimizer sees."""
    return InPlaceDelta(support, values.detach().float())
