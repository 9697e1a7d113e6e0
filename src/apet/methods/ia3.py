"""(IA)³: factors on keys, values and the feed-forward's inner activations."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from apet.backbones.positions import Backbone
from apet.layers.base import Target
from apet.layers.scale import Side, scale_target
from apet.methods.method import Method

_OUTPUT_ROLES = ("attn.k", "attn.v", "attn.qkv", "cross_attn.k", "cross_attn.v")
_INPUT_ROLES = ("mlp.down",)


class IA3(Method):
    """Rescaled activations ``h ⊙ l`` of keys, values and the feed-forward (Liu et al. 2022, section 3.3)."""

    name: ClassVar[str] = "ia3"
    description: ClassVar[str] = "factors on keys, values and feed-forward (Liu et al. 2022)"
    learning_rate: ClassVar[float] = 3e-3

    roles: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Layers whose output is scaled, mlp.down by its input. Default: keys, values (or attn.qkv) and mlp.down."""

    def targets(self, backbone: Backbone) -> list[Target]:
        """Factors at each chosen layer: on what a key or value projection returns, on what the last projection gets."""
        if self.roles:
            layers = backbone.select(self.roles)
        else:
            # Not by `select`: a backbone has either keys and values or one projection of all three.
            layers = tuple(
                x for x in backbone.layers if x.role in (*_OUTPUT_ROLES, *_INPUT_ROLES) and x.kind == "linear"
            )
        sides: dict[bool, Side] = {True: "input", False: "output"}
        return [scale_target(x, sides[x.role in _INPUT_ROLES]) for x in layers]
