"""Bias delta: a vector added to a layer's output; W̃₁ of *add* (eq. 14), the form of BitFit (Ben Zaken et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn

from apet.backbones.positions import Backbone, Layer, Position
from apet.delta import Insertion, Operation, TrainableWeight
from apet.errors import ApetError
from apet.kernels.term_matrices import Term
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
    fixed_delta,
    require_mergeable,
)
from apet.layers.stack import Stack, add_vectors
from apet.layers.weight import weight_target
from apet.masks.distributions import draw_mask


def output_target(position: Position) -> Target:
    """A vector added to a layer's output."""

    def build(count: int, distribution: str, mask_seed: int) -> Insertion:
        mask = draw_mask((position.size,), count, distribution, mask_seed, position.name)
        return Insertion("bias", position.name, (TrainableWeight("delta", mask),))

    return Target(1, position.size, position.size, build)


def bias_target(layer: Layer) -> Target:
    """The layer's existing bias, or where it has none a vector added to its output.

    Returns:
        The target.

    Raises:
        ApetError: the layer has no bias and returns no hidden state that one could be added to.
    """
    bias = layer.position("bias")
    # An existing bias is trained itself: a vector added beside it would be the same function, held twice.
    if bias is not None:
        return weight_target(bias)
    output = layer.position("output")
    if output is None:
        raise ApetError(
            f"layer {layer.name!r} ({layer.role}) has no bias, and none can be added to what it returns; leave it out"
        )
    return output_target(output)


class BiasDelta(DeltaLayer):
    """Vector added to a layer's output: a bias for layers that have none. It starts from zero."""

    form: ClassVar[str] = "bias"
    operation: ClassVar[Operation] = "add"

    @classmethod
    def layer_name(cls, insertion: Insertion) -> str:
        """Name of the layer whose output it is."""
        return insertion.position.rpartition(".")[0]

    @classmethod
    def expected_shapes(cls, insertion: Insertion, backbone: Backbone) -> dict[str, Shape]:
        """One entry for each of the output's."""
        return {"delta": backbone.position(insertion.position).shape}

    def hooks(self, host: Host) -> Iterator[Hook]:
        """After the layer."""
        layer = host.backbone.layer(self.layer_name(self.insertion))
        yield Hook(
            host.model.get_submodule(layer.module),
            "after",
            self.add_to_output,
            stacked=add_biases,
            term=Term("vector", self, ("delta",)),
        )

    def add_to_output(self, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
        """Compute ``f(h_in) + W̃₁``, (…, d_out)."""
        return output + self.dense("delta", output.dtype)

    def decays(self, host: Host) -> bool:
        """It is a bias."""
        return False

    @property
    def acts_by(self) -> ActsBy | None:
        """A summand."""
        return "sum"

    @classmethod
    def merge_obstacle(cls, insertion: Insertion, layer: Layer) -> str | None:
        """A module that adds no bias: a merge can give nn.Linear the one that it lacks, but not an RMSNorm."""
        if layer.can_hold_bias:
            return None
        return f"{'an' if layer.kind[0] in 'aeiou' else 'a'} {layer.kind} of this class has no bias that could hold it"

    def merged_deltas(self, host: Host) -> list[MergedDelta]:
        """An edit of the bias that the layer has, or gets.

        Returns:
            One edit, of the bias.

        Raises:
            NotMergeableError: the layer's weight is quantized or sharded.
        """
        layer = host.backbone.layer(self.layer_name(self.insertion))
        require_mergeable(self.insertion, host, f"{layer.module}.weight")
        delta = fixed_delta(self.insertion.weights[0].mask, self.get_parameter("delta"))
        return [MergedDelta(f"{layer.name}.bias", delta)]


def add_biases(stack: Stack, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
    """Add each run's own vector to its rows of a layer's output."""
    return add_vectors(output, stack, stack.dense("delta", output.dtype))
