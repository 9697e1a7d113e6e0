"""LoRA: a low-rank pair beside the query and value projections."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from apet.backbones.positions import Backbone, Layer
from apet.errors import ApetError
from apet.layers.base import Target
from apet.layers.lora import lora_target
from apet.methods.method import Method


class LoRA(Method):
    """Low-rank pairs ``f(h_in) + (α/r) h_in W̃₃ W̃₄`` (Hu et al. 2021; paper table 1: r 8, α 16, on q and v)."""

    name: ClassVar[str] = "lora"
    description: ClassVar[str] = "low-rank pairs beside query and value (Hu et al. 2021)"

    rank: int | None = Field(default=None, ge=1)
    """Default: 8, or with a budget the smallest that holds it (then scaled as rank 8)."""
    alpha: float = Field(default=16.0, gt=0)
    """Scale is alpha / rank."""
    roles: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Linear layers that take part. Default: attn.q and attn.v, or attn.qkv; without either, all but the output one."""

    def targets(self, backbone: Backbone) -> list[Target]:
        """A pair at each chosen layer.

        Returns:
            The targets, in model order.

        Raises:
            UnknownNameError: a role matches nothing.
            ApetError: a chosen layer is not linear, or there is no linear layer at all.
        """
        layers = backbone.select(self.roles) if self.roles else self._default_layers(backbone)
        if not layers:
            raise ApetError(f"lora needs linear layers; {backbone.model_class} has none outside its output projection")
        return [lora_target(x, self.rank, self.alpha) for x in layers]

    @staticmethod
    def _default_layers(backbone: Backbone) -> tuple[Layer, ...]:
        linear = {x.role for x in backbone.layers if x.kind == "linear"}
        # One projection of query, key and value cannot be split: a pair beside it serves all three.
        if "attn.qkv" in linear:
            return backbone.select(("attn.qkv",))
        if {"attn.q", "attn.v"} <= linear:
            return backbone.select(("attn.q", "attn.v"))
        return tuple(x for x in backbone.layers if x.kind == "linear" and x.role != "lm_head")
