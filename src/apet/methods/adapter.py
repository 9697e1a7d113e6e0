"""Adapter: a bottleneck after self-attention and after feed-forward."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from apet.backbones.positions import Backbone
from apet.layers.adapter import adapter_target
from apet.layers.base import Target
from apet.methods.method import Method


class Adapter(Method):
    """Bottlenecks ``f(h_in) + σ(f(h_in) W̃₅ + b₅) W̃₆ + b₆`` (Houlsby et al. 2019; paper table 1: width 24)."""

    name: ClassVar[str] = "adapter"
    description: ClassVar[str] = "bottlenecks after attention and feed-forward (Houlsby et al. 2019)"

    bottleneck: int | None = Field(default=None, ge=1)
    """Width. Default: 24, or with a budget the smallest that holds it."""
    roles: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Layers after which one sits. Default: attn.out and mlp.down."""

    def targets(self, backbone: Backbone) -> list[Target]:
        """An adapter at each chosen layer."""
        if self.roles:
            return [adapter_target(x, self.bottleneck) for x in backbone.select(self.roles)]
        return [adapter_target(x, self.bottleneck) for x in self.default_layers(backbone, ("attn.out", "mlp.down"))]
