"""LoRA delta: a masked low-rank pair beside a linear layer; W̃₃, W̃₄ of *concatenate* (eq. 16; Hu et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from apet.backbones.positions import Backbone, Layer
from apet.delta import Init, Insertion, Operation, TrainableWeight
from apet.errors import ApetError
from apet.kernels.factors import Factor, PairSum, is_fusible, without_autocast
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
    first_input,
    fixed_delta,
    require_mergeable,
    tied_weight_obstacle,
)
from apet.layers.stack import Stack
from apet.masks.allocation import allocate_budget
from apet.masks.distributions import draw_mask
from apet.masks.mask import dense_mask

DEFAULT_RANK = 8
"""The paper's (table 1 and appendix B.2)."""


def smallest_rank(count: int, d_in: int, d_out: int) -> int:
    """Smallest rank whose two factors hold ``count`` entries."""
    return max(1, math.ceil(count / (d_in + d_out)))


def lora_target(layer: Layer, rank: int | None, alpha: float) -> Target:
    """A low-rank pair beside a linear layer; a given rank stays, else a budget gets the smallest that holds it.

    Args:
        layer: a linear one.
        rank: of the pair, or None.
        alpha: the scale is alpha / rank, and alpha / 8 where no rank is given.

    Returns:
        The target.

    Raises:
        ApetError: the layer is not linear, or the rank exceeds its smaller side.
    """
    d_in, d_out = layer.d_in, layer.d_out
    if layer.kind != "linear":
        raise ApetError(f"a low-rank pair needs a linear layer; {layer.name!r} is a {layer.kind}")
    if rank is not None and rank > min(d_in, d_out):
        raise ApetError(
            f"rank={rank} exceeds the smaller side of {layer.name!r} ({d_out} x {d_in}); give at most"
            f" {min(d_in, d_out)}"
        )
    # Where a budget decides the rank, the scale stays that of the default: else runs at two N would differ in both.
    scale = alpha / (rank or DEFAULT_RANK)

    def build(count: int, distribution: str, mask_seed: int) -> Insertion:
        return lora_insertion(layer.name, d_in, d_out, count, distribution, mask_seed, scale, rank)

    return Target(
        min_params=2 * rank if rank else 2,
        max_params=(rank or min(d_in, d_out)) * (d_in + d_out),
        default_params=(rank or min(DEFAULT_RANK, d_in, d_out)) * (d_in + d_out),
        build=build,
    )


def lora_insertion(
    layer: str,
    d_in: int,
    d_out: int,
    count: int,
    distribution: str,
    mask_seed: int,
    scale: float,
    rank: int | None = None,
) -> Insertion:
    """Low-rank pair lora_A (d_in, r), lora_B (r, d_out) with exactly ``count`` entries.

    Every rank has an entry in both factors: one alone would be multiplied by masked entries only and have no gradient.
    lora_B starts at zero, lora_A uniform in ±1/√(entries of its column), as LoRA's does.

    Args:
        layer: name of the linear layer.
        d_in: size of its input.
        d_out: size of its output.
        count: trained entries of both factors together.
        distribution: how they lie in a factor.
        mask_seed: which they are.
        scale: factor of the product.
        rank: of the pair; None = the smallest that holds ``count``.

    Returns:
        The insertion.
    """
    r = rank or smallest_rank(count, d_in, d_out)
    # Shares by size, so that both factors are equally dense; r each at least, one entry for every rank.
    split = allocate_budget(count, [r, r], [d_in * r, d_out * r], [d_in, d_out], mask_seed)
    assert split is not None
    # A rank is a column of lora_A and a row of lora_B: an empty one would multiply its partner's entries by zero.
    down = draw_mask((d_in, r), split[0], distribution, mask_seed, layer, "lora_A", cover="columns")
    up = draw_mask((r, d_out), split[1], distribution, mask_seed, layer, "lora_B", cover="rows")
    weights = (TrainableWeight("lora_A", down, Init("uniform", fan_in=True)), TrainableWeight("lora_B", up))
    return Insertion("lora", layer, weights, scale)


class LoraDelta(DeltaLayer):
    """LoRA layer with a masked, exactly counted pair of factors (Hu et al. 2021, section 4.1)."""

    form: ClassVar[str] = "lora"
    operation: ClassVar[Operation] = "concatenate"
    peft_name: ClassVar[str | None] = "LORA"
    _cached: tuple[object, tuple[Factor, Factor]] | None = None

    @classmethod
    def expected_shapes(cls, insertion: Insertion, backbone: Backbone) -> dict[str, Shape]:
        """Factors of any rank between the layer's two sides."""
        layer = backbone.layer(insertion.position)
        return {"lora_A": (layer.d_in, None), "lora_B": (None, layer.d_out)}

    def hooks(self, host: Host) -> Iterator[Hook]:
        """After the layer."""
        layer = host.backbone.layer(self.insertion.position)
        yield Hook(
            host.model.get_submodule(layer.module),
            "after",
            self.add_low_rank_product,
            stacked=add_low_rank_products,
            term=Term("pair", self, ("lora_A", "lora_B"), self.insertion.scale),
        )

    def add_low_rank_product(self, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
        """Compute ``f(h_in) + s · h_in W̃₃ W̃₄``, (…, d_out)."""
        # Where a backbone lies over several devices, the input may come from another one than the layer's.
        x = first_input(args, kwargs).to(output.device)
        if is_fusible(output):
            a, b = self.get_parameter("lora_A"), self.get_parameter("lora_B")
            flat_x, flat_y = x.reshape(-1, x.shape[-1]), output.reshape(-1, output.shape[-1])
            with without_autocast(output):
                added: Tensor = PairSum.apply(
                    flat_y, flat_x.to(output.dtype), a, b, self._factors, self.insertion.scale
                )
            return added.view(output.shape)
        # Down to r first, then up: the product of the two factors would be as large as the layer's weight.
        return output + (x @ self.dense("lora_A", x.dtype)) @ self.dense("lora_B", x.dtype) * self.insertion.scale

    @property
    def _factors(self) -> tuple[Factor, Factor]:
        a, b, device = self.mask("lora_A"), self.mask("lora_B"), self.get_parameter("lora_A").device
        if self._cached is None or self._cached[0] != (a, b, device):
            self._cached = (a, b, device), (Factor([a], "rows", device), Factor([b], "columns", device))
        return self._cached[1]

    @property
    def acts_by(self) -> ActsBy | None:
        """A summand, computed from the input."""
        return "sum"

    @classmethod
    def merge_obstacle(cls, insertion: Insertion, layer: Layer) -> str | None:
        """A weight that another layer computes with, too."""
        return tied_weight_obstacle(layer)

    def merged_deltas(self, host: Host) -> list[MergedDelta]:
        """The product ``s · W̃₃ W̃₄``, added to the layer's weight.

        Returns:
            One edit, of the whole weight.

        Raises:
            NotMergeableError: the layer's weight is quantized or sharded.
        """
        layer = host.backbone.layer(self.insertion.position)
        position = layer.position("weight")
        assert position is not None  # or there had been an obstacle
        require_mergeable(self.insertion, host, f"{position.module}.{position.parameter}")
        # The product stays fp32; the sum with the weight is rounded once, when it is written.
        with torch.no_grad():
            product = self.dense("lora_A", torch.float32) @ self.dense("lora_B", torch.float32) * self.insertion.scale
        if not isinstance(host.model.get_submodule(layer.module), Conv1D):  # nn.Linear stores (d_out, d_in)
            product = product.t()
        return [MergedDelta(position.name, fixed_delta(dense_mask(tuple(product.shape)), product.reshape(-1)))]


def add_low_rank_products(stack: Stack, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
    """Add each run's own product to its rows of a layer's output."""
    x = first_input(args, kwargs).to(output.device)
    down, up, scale = stack.dense("lora_A", x.dtype), stack.dense("lora_B", x.dtype), stack.scale
    assert down is not None
    assert up is not None
    inner = stack.apart(x) @ down
    if isinstance(scale, Tensor):
        inner, scale = inner * scale.to(inner.dtype), 1.0
    return torch.baddbmm(stack.apart(output), inner, up, alpha=scale).view_as(output)
