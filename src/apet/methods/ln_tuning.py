"""LN-tuning: the scales and biases of the norms."""

from __future__ import annotations

from typing import ClassVar

from apet.backbones.positions import Backbone
from apet.layers.base import Target
from apet.layers.weight import weight_target
from apet.methods.method import Method


class LNTuning(Method):
    """Scales and biases of every LayerNorm or RMSNorm (Zhao et al. 2023, "Tuning LayerNorm in Attention")."""

    name: ClassVar[str] = "ln-tuning"
    description: ClassVar[str] = "scales and biases of the norms (Zhao et al. 2023)"

    def targets(self, backbone: Backbone) -> list[Target]:
        """Every parameter of every norm."""
        norms = (x for x in backbone.layers if x.kind == "norm")
        return [weight_target(p) for x in norms for p in x.positions if p.parameter != "output"]
