"""Weight delta: entries added to an existing parameter of the backbone in place; W̃₁ of *add* (eq. 14)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from apet.backbones.positions import Backbone, Layer, Position
from apet.delta import Insertion, Operation, TrainableWeight
from apet.errors import ApetError
from apet.kernels.in_place import InPlaceDelta, ParameterDeltas
from apet.kernels.sparse_gradients import (
    Gradient,
    SparseGradientTap,
    embedding_weight_grad,
    linear_weight_grad,
    norm_scale_grad,
)
from apet.layers.base import (
    ActsBy,
    Args,
    DeltaLayer,
    Hook,
    Host,
    Kwargs,
    MergedDelta,
    Shape,
    Target,
    first_input,
    fixed_delta,
    flat_tokens,
)
from apet.masks.distributions import draw_mask


def weight_target(position: Position) -> Target:
    """Entries of an existing parameter; any number from one to all that an input reaches."""

    def build(count: int, distribution: str, mask_seed: int) -> Insertion:
        mask = draw_mask(position.shape, count, distribution, mask_seed, position.name, unused=position.unused)
        return Insertion("weight", position.name, (TrainableWeight("delta", mask),))

    # Entries that no input reaches would take a share of N and never get a gradient.
    reached = position.size - position.num_unused
    return Target(1, reached, reached, build, has_scores=True)


def full_target(position: Position) -> Target:
    """All entries of an existing parameter, also those that no input reaches: as full fine-tuning counts them."""

    def build(count: int, distribution: str, mask_seed: int) -> Insertion:
        mask = draw_mask(position.shape, count, distribution, mask_seed, position.name)
        return Insertion("weight", position.name, (TrainableWeight("delta", mask),))

    return Target(position.size, position.size, position.size, build, has_scores=True)


class WeightDelta(DeltaLayer):
    """Delta added to k entries of a parameter in place; the layer itself runs as it is.

    Before the layer runs, the entries are written. After it ran, its output is tapped: in backward the gradient of the
    k entries is formed from the layer's input and its output's gradient, at a fraction of a dense gradient. A tensor
    that several modules use (tied embeddings) is tapped at each of them.

    Args:
        insertion: what it carries out.
        values: initial entries, (k,).
        position: name of the parameter's position.
        parameter: its name in the model.
        parameter_deltas: all in-place deltas of that parameter.
        replaces: the values are the entries themselves, as those of a trained task head, not what is added to them.
    """

    form: ClassVar[str] = "weight"
    operation: ClassVar[Operation] = "add"

    def __init__(
        self,
        insertion: Insertion,
        values: Tensor,
        position: str,
        parameter: str,
        parameter_deltas: ParameterDeltas,
        replaces: bool = False,
    ) -> None:
        nn.Module.__init__(self)  # its one weight lives in the in-place delta, which knows how to write it
        self.insertion = insertion
        self.delta = InPlaceDelta(insertion.weights[0].mask, values.float().requires_grad_(), replaces)
        self.position, self.parameter = position, parameter
        self.parameter_deltas = parameter_deltas

    @classmethod
    def create(cls, insertion: Insertion, values: dict[str, Tensor], host: Host) -> DeltaLayer:
        """Write the entries into the parameter and keep the original ones.

        Returns:
            The layer.

        Raises:
            ApetError: the parameter is quantized, sharded or not contiguous.
        """
        position = host.backbone.position(insertion.position)
        return cls.on_parameter(
            insertion, values["delta"], host, position.name, f"{position.module}.{position.parameter}"
        )

    @classmethod
    def on_parameter(
        cls, insertion: Insertion, values: Tensor, host: Host, position: str, parameter: str, replaces: bool = False
    ) -> WeightDelta:
        """Create the layer on a parameter by its name in the model, also one that is not a position (a task head's).

        Returns:
            The layer.

        Raises:
            ApetError: the parameter is quantized, sharded or not contiguous.
        """
        tensor = require_editable(host.model.get_parameter(parameter), parameter)
        deltas = host.parameter_deltas(position, parameter)
        layer = cls(insertion, values.to(tensor.device), position, parameter, deltas, replaces)
        # Written at once, so that the weight is right for whoever reads it before the first forward.
        deltas.add(layer.delta, tensor)
        return layer

    @classmethod
    def layer_name(cls, insertion: Insertion) -> str:
        """Name of the layer whose parameter it is."""
        return insertion.position.rpartition(".")[0]

    @classmethod
    def expected_shapes(cls, insertion: Insertion, backbone: Backbone) -> dict[str, Shape]:
        """The parameter's own shape."""
        return {"delta": backbone.position(insertion.position).shape}

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """The entries, (k,)."""
        yield "delta", self.delta.values

    def in_place(self) -> list[tuple[str, str, InPlaceDelta]]:
        """Its one in-place delta."""
        return [(self.position, self.parameter, self.delta)]

    @property
    def acts_by(self) -> ActsBy | None:
        """Entries of the parameter."""
        return "weight"

    @classmethod
    def merge_obstacle(cls, insertion: Insertion, layer: Layer) -> str | None:
        """None: the parameter holds its entries already."""
        return None

    def merged_deltas(self, host: Host) -> list[MergedDelta]:
        """Its own entries with the values that they have now, which no optimizer sees."""
        fixed = fixed_delta(self.delta.mask, self.delta.values)
        fixed.replaces = self.delta.replaces
        return [MergedDelta(self.position, fixed, self.parameter)]

    def hooks(self, host: Host) -> Iterator[Hook]:
        """Before and after every module that computes with the tensor."""
        # By identity, not by name: each module that uses a tied tensor contributes a part of its gradient.
        tensor = host.model.get_parameter(self.parameter)
        for module in host.model.modules():
            names = [name for name, p in module.named_parameters(recurse=False) if p is tensor]
            if names and _computes_with_its_parameter(module):
                yield Hook(module, "before", self.write_weight if names == ["weight"] else self.write_bias)
                yield Hook(module, "after", self.tap_weight if names == ["weight"] else self.tap_bias)

    def write_weight(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        """Write the weight before a layer that is called by itself (a recomputed block, `generate`'s encoder)."""
        # In a forward of the whole model everything is written before it starts, and compiled code cannot write at all.
        if not torch.compiler.is_compiling() and not self.parameter_deltas.in_forward:
            self.parameter_deltas.write(getattr(module, "weight"))

    def write_bias(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        """Write the bias before a layer that is called by itself."""
        if not torch.compiler.is_compiling() and not self.parameter_deltas.in_forward:
            self.parameter_deltas.write(getattr(module, "bias"))

    def tap_weight(self, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
        """Tie the k values to the gradient of the output, (…, d_out)."""
        # Evaluation and generation have no backward: they go without the tap, and keep no input for it.
        if not torch.is_grad_enabled():
            return output
        source = first_input(args, kwargs)
        if isinstance(module, nn.Embedding):
            if "position_ids" in kwargs and hasattr(module, "offset"):  # OPT counts its positions from row 2
                source = kwargs["position_ids"] + getattr(module, "offset")
            self.padding = module.padding_idx
            return _tap(output, self.delta.values, source, self._embedding_grad)
        if isinstance(module, nn.Linear):
            return _tap(output, self.delta.values, source, self._linear_grad)
        if isinstance(module, Conv1D):
            return _tap(output, self.delta.values, source, self._conv1d_grad)
        self.eps = float(next(getattr(module, n) for n in ("eps", "variance_epsilon") if hasattr(module, n)))
        subtracts_mean = isinstance(module, nn.LayerNorm)
        return _tap(output, self.delta.values, source, self._layer_norm_grad if subtracts_mean else self._rms_norm_grad)

    def tap_bias(self, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
        """Tie the k values to the gradient of the output; a bias needs no input."""
        if not torch.is_grad_enabled():
            return output
        return _tap(output, self.delta.values, output.new_empty(0), self._bias_grad)

    # Bound methods instead of closures, so that a deep copy of the model taps its own values.

    def _linear_grad(self, x: Tensor, grad: Tensor) -> Tensor:
        return linear_weight_grad(flat_tokens(grad), flat_tokens(x), self.delta.mask, self.delta.indices)

    def _conv1d_grad(self, x: Tensor, grad: Tensor) -> Tensor:
        return linear_weight_grad(flat_tokens(x), flat_tokens(grad), self.delta.mask, self.delta.indices)

    def _embedding_grad(self, ids: Tensor, grad: Tensor) -> Tensor:
        ids = ids.expand(grad.shape[:-1]).reshape(-1)  # position ids come as (1, seq), for the whole batch
        return embedding_weight_grad(ids, flat_tokens(grad), self.delta.mask, self.delta.indices, self.padding)

    def _layer_norm_grad(self, x: Tensor, grad: Tensor) -> Tensor:
        return self._entries(norm_scale_grad(flat_tokens(x), flat_tokens(grad), self.eps, centered=True))

    def _rms_norm_grad(self, x: Tensor, grad: Tensor) -> Tensor:
        return self._entries(norm_scale_grad(flat_tokens(x), flat_tokens(grad), self.eps, centered=False))

    def _bias_grad(self, _: Tensor, grad: Tensor) -> Tensor:
        # Summed in fp32: over thousands of tokens, bf16 would drop whatever is small beside the sum so far.
        return self._entries(flat_tokens(grad).float().sum(0))

    def _entries(self, whole: Tensor) -> Tensor:
        return whole[self.delta.mask.slice] if self.delta.indices is None else whole[self.delta.indices]


def _tap(y: Tensor, values: Tensor, source: Tensor, gradient: Gradient) -> Tensor:
    source = source.detach().to(y.device)  # in a backbone laid over devices, the input may come from another one
    tapped: Tensor = SparseGradientTap.apply(y, values, source, gradient)
    return tapped


def _computes_with_its_parameter(module: nn.Module) -> bool:
    """Whether a module's forward uses its parameter; some, such as BERT's prediction head, only hold a tied bias."""
    return isinstance(module, nn.Linear | Conv1D | nn.Embedding) or type(module).__name__.endswith("Norm")


def require_editable(tensor: Tensor, name: str) -> Tensor:
    """Pass a tensor whose entries can be written.

    Returns:
        The tensor.

    Raises:
        ApetError: it is quantized, sharded or not contiguous.
    """
    if not tensor.is_floating_point() or type(tensor) not in (nn.Parameter, Tensor) or not tensor.is_contiguous():
        raise ApetError(
            f"parameter {name!r} is {tensor.dtype} ({type(tensor).__name__}); entries can be added to plain"
            " floating-point tensors only. Load the backbone unquantized, or use a method that leaves weights alone"
            " (lora, prompt, adapter)"
        )
    return tensor
