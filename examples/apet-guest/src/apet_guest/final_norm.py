"""Final-norm tuning: the scale and the bias of the last norm, nothing else."""

from __future__ import annotations

from typing import ClassVar

from apet.backbones.positions import Backbone
from apet.layers import Target
from apet.layers.weight import weight_target
from apet.methods import Method


class FinalNorm(Method):
    """Scale and bias of the last norm before the head, the smallest cousin of LN-tuning."""

    name: ClassVar[str] = "final-norm"
    description: ClassVar[str] = "scale and bias of the last norm"

    def targets(self, backbone: Backbone) -> list[Target]:
        """Every parameter of the last norm of the last stack."""
        last = [x for x in backbone.layers if x.kind == "norm" and x.stack != "lm_head"][-1]
        return [weight_target(p) for p in last.positions if p.parameter != "output"]
