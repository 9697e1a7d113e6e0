"""Plugin (eq. 17): ``h_out = f(h_in) + σ(f(h_in) W̃₅) W̃₆``, the bottleneck adapter, with its biases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from apet.backbones.describe import Backbone
from apet.layers.base import DeltaLayer, Hook


class AdapterDelta(DeltaLayer):
    """A bottleneck after a layer (Houlsby et al. 2019). σ is GELU: a ReLU unit could be dead from the start."""

    def hooks(self, model: nn.Module, backbone: Backbone) -> Iterator[Hook]:
        """After the layer."""
        yield Hook(model.get_submodule(backbone.layer(self.insertion.position).module), "after", self.after)

    def after(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
        """Add what the bottleneck makes of the layer's output, (…, d_out)."""
        dtype = output.dtype
        if self.has_weight("down_proj.weight"):
            inner = output @ self.dense("down_proj.weight", dtype)
            if self.has_weight("down_proj.bias"):
                inner = inner + self.dense("down_proj.bias", dtype)
            delta = nn.functional.gelu(inner) @ self.dense("up_proj.weight", dtype)
            if self.has_weight("up_proj.bias"):
                delta = delta + self.dense("up_proj.bias", dtype)
        else:
            delta = self.dense("up_proj.bias", dtype)
        return output + delta
