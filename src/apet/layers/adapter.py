"""Adapter delta: a masked bottleneck after a layer; W̃₅, W̃₆ of *plugin* (eq. 17; Houlsby et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from apet.backbones.positions import Backbone, Layer
from apet.delta import Init, Insertion, Operation, TrainableWeight
from apet.errors import ApetError
from apet.kernels.factors import BottleneckSum, Factor, is_fusible, without_autocast
from apet.kernels.term_matrices import Term
from apet.layers.base import ActsBy, Args, DeltaLayer, Hook, Host, Kwargs, Shape, Target
from apet.layers.stack import Stack
from apet.masks.allocation import allocate_budget
from apet.masks.distributions import draw_mask
from apet.masks.mask import Lines

DEFAULT_BOTTLENECK = 24
"""The paper's (table 1 and appendix B.2)."""


def smallest_bottleneck(count: int, d: int) -> int:
    """Smallest bottleneck that holds ``count`` entries; one entry alone is a bias, two make a unit."""
    # m units have 2 m d entries of weights and m inner biases; the d output biases are there for any m.
    return 0 if count == 1 else max(1, math.ceil((count - d) / (2 * d + 1)))


def adapter_target(layer: Layer, bottleneck: int | None) -> Target:
    """A bottleneck after a layer; a given width stays, else a budget gets the smallest that holds it.

    Args:
        layer: any that returns a hidden state.
        bottleneck: its width, or None.

    Returns:
        The target.

    Raises:
        ApetError: the layer returns none.
    """
    d = layer.d_out
    if layer.kind == "other":
        raise ApetError(f"an adapter needs a hidden state; {layer.name!r} ({layer.role}) returns none; leave it out")

    def build(count: int, distribution: str, mask_seed: int) -> Insertion:
        return adapter_insertion(layer.name, d, count, distribution, mask_seed, bottleneck)

    return Target(
        min_params=2 * bottleneck if bottleneck else 1,
        max_params=(bottleneck or max(d, DEFAULT_BOTTLENECK)) * (2 * d + 1) + d,
        default_params=(bottleneck or DEFAULT_BOTTLENECK) * (2 * d + 1) + d,
        build=build,
    )


def adapter_insertion(
    layer: str, d: int, count: int, distribution: str, mask_seed: int, bottleneck: int | None = None
) -> Insertion:
    """Bottleneck adapter with exactly ``count`` entries.

    Its weights are down_proj.weight (d, m), down_proj.bias (m), up_proj.weight (m, d), up_proj.bias (d). Every unit has
    an entry of both weights, or its other entries would have no gradient. up_proj and the biases start at zero,
    down_proj.weight uniform in ±1/√(entries of its column).

    Args:
        layer: name of the layer after which it sits.
        d: size of that layer's output.
        count: trained entries of all four weights together.
        distribution: how they lie in a weight.
        mask_seed: which they are.
        bottleneck: m; None = the smallest that holds ``count``.

    Returns:
        The insertion.
    """

    def weight(name: str, shape: tuple[int, ...], entries: int, cover: Lines | None = None) -> TrainableWeight:
        init = Init("uniform", fan_in=True) if name == "down_proj.weight" else Init()
        return TrainableWeight(name, draw_mask(shape, entries, distribution, mask_seed, layer, name, cover=cover), init)

    m = smallest_bottleneck(count, d) if bottleneck is None else bottleneck
    if m == 0:
        return Insertion("adapter", layer, (weight("up_proj.bias", (d,), count),))
    # Each unit's first entry of both weights is set aside; the rest is shared over the four by their sizes.
    split = allocate_budget(count - 2 * m, [1, 1, 1, 1], [(d - 1) * m, m, m * (d - 1), d], [d, 1, d, d / m], mask_seed)
    down, down_bias, up, up_bias = split or (0, 0, 0, 0)  # None: nothing is left to share
    weights = [weight("down_proj.weight", (d, m), down + m, cover="columns")]
    if down_bias:
        weights.append(weight("down_proj.bias", (m,), down_bias))
    weights.append(weight("up_proj.weight", (m, d), up + m, cover="rows"))
    if up_bias:
        weights.append(weight("up_proj.bias", (d,), up_bias))
    return Insertion("adapter", layer, tuple(weights))


class AdapterDelta(DeltaLayer):
    """Bottleneck adapter after a layer (Houlsby et al. 2019). σ is GELU: a ReLU unit could be dead from the start."""

    form: ClassVar[str] = "adapter"
    operation: ClassVar[Operation] = "plugin"
    _cached: tuple[object, tuple[Factor, Factor]] | None = None

    @classmethod
    def expected_shapes(cls, insertion: Insertion, backbone: Backbone) -> dict[str, Shape]:
        """A bottleneck of any width between two sides of the layer's output size."""
        d = backbone.layer(insertion.position).d_out
        return {
            "down_proj.weight": (d, None),
            "down_proj.bias": (None,),
            "up_proj.weight": (None, d),
            "up_proj.bias": (d,),
        }

    @property
    def acts_by(self) -> ActsBy | None:
        """A function of the output."""
        return "output"

    def hooks(self, host: Host) -> Iterator[Hook]:
        """After the layer."""
        layer = host.backbone.layer(self.insertion.position)
        names = ("down_proj.weight", "down_proj.bias", "up_proj.weight", "up_proj.bias")
        term = Term("bottleneck", self, names) if self.has_weight(names[0]) else Term("vector", self, names[3:])
        yield Hook(
            host.model.get_submodule(layer.module), "after", self.add_bottleneck, stacked=add_bottlenecks, term=term
        )

    def add_bottleneck(self, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
        """Compute ``f(h_in) + σ(f(h_in) W̃₅ + b₅) W̃₆ + b₆``, (…, d_out)."""
        # Computed in the layer's own precision; the values are cast, not the hidden state.
        dtype = output.dtype
        if not self.has_weight("down_proj.weight"):  # a single parameter is an output bias
            return output + self.dense("up_proj.bias", dtype)
        if is_fusible(output):
            return self._fused(output)
        inner = output @ self.dense("down_proj.weight", dtype)
        if self.has_weight("down_proj.bias"):
            inner = inner + self.dense("down_proj.bias", dtype)
        delta = nn.functional.gelu(inner) @ self.dense("up_proj.weight", dtype)
        if self.has_weight("up_proj.bias"):
            delta = delta + self.dense("up_proj.bias", dtype)
        return output + delta

    def _fused(self, output: Tensor) -> Tensor:
        """The same as one function, with a gradient of its own."""
        d: Tensor = self.get_parameter("down_proj.weight")
        u: Tensor = self.get_parameter("up_proj.weight")
        c = self.dense("down_proj.bias", torch.float32) if self.has_weight("down_proj.bias") else None
        if self.has_weight("up_proj.bias"):
            u = torch.cat([u, self.get_parameter("up_proj.bias")])
        width = self.mask("down_proj.weight").shape[1]
        flat = output.reshape(-1, output.shape[-1])
        with without_autocast(output):
            added: Tensor = BottleneckSum.apply(flat, d, c, u, self._factors, width)
        return added.view(output.shape)

    @property
    def _factors(self) -> tuple[Factor, Factor]:
        device = self.get_parameter("up_proj.weight").device
        down, *up = (w.mask for w in self.insertion.weights if w.name != "down_proj.bias")
        if self._cached is None or self._cached[0] != (down, *up, device):
            self._cached = (down, *up, device), (Factor([down], "rows", device), Factor(up, "columns", device))
        return self._cached[1]


def add_bottlenecks(stack: Stack, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
    """Let each run's own adapter map its rows of a layer's output."""
    dtype, h = output.dtype, stack.apart(output)
    down, up = stack.dense("down_proj.weight", dtype), stack.dense("up_proj.weight", dtype)
    down_bias, up_bias = stack.dense("down_proj.bias", dtype), stack.dense("up_proj.bias", dtype)
    changed = h
    if down is not None and up is not None:
        inner = h @ down if down_bias is None else torch.baddbmm(down_bias[:, None], h, down)
        changed = torch.baddbmm(h, nn.functional.gelu(inner), up)
    return (changed if up_bias is None else changed + up_bias[:, None]).view_as(output)
