"""BitFit: the biases, and where a backbone has none, added ones that start from zero."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from apet.backbones.positions import Backbone
from apet.layers.base import Target
from apet.layers.bias import bias_target
from apet.methods.method import Method

_ATTENTION = ("attn.q", "attn.k", "attn.v", "attn.qkv", "attn.out")
_ENCODER = (*_ATTENTION, "attn.norm", "mlp.down", "mlp.norm")
_DECODER = (*_ATTENTION, "attn.norm", "mlp.gate", "mlp.up", "mlp.down", "mlp.norm", "norm")
DEFAULT_ROLES = {
    "encoder": _ENCODER,
    "decoder": _DECODER,
    "encoder-decoder": (*_DECODER, "cross_attn.norm", "lm_head"),
}
"""Where the counts behind the paper's table 2 have their biases, by the backbone's kind."""


class BitFit(Method):
    """Biases ``f(h_in) + W̃₁`` (Ben Zaken et al. 2022; paper table 1)."""

    name: ClassVar[str] = "bitfit"
    description: ClassVar[str] = "biases, added where there are none (Ben Zaken et al. 2022)"

    roles: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Layers that take part. Default: the paper's."""

    def targets(self, backbone: Backbone) -> list[Target]:
        """A bias at each chosen layer."""
        if self.roles:
            return [bias_target(x) for x in backbone.select(self.roles)]
        # Not by `select`, which refuses a role that matches nothing: not every backbone has each of the default ones.
        chosen = [x for x in backbone.layers if x.role in DEFAULT_ROLES[backbone.kind]]
        return [bias_target(x) for x in chosen if x.kind != "other"]
