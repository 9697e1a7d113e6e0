"""LoRA: a low-rank pair beside the query and value projections."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from apet.backbones.positions import Backbone
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
    """Linear layers that take part. Default: attn.q and attn.v, or attn.qkv where they are one projection."""

    def targets(self, backbone: Backbone) -> list[Target]:
        """A pair at each chosen layer."""
        # One projection of query, key and value cannot be split: a pair beside it serves all three.
        roles = self.roles or (("attn.qkv",) if backbone.has_role("attn.qkv") else ("attn.q", "attn.v"))
        return [lora_target(x, self.rank, self.alpha) for x in backbone.select(roles)]
