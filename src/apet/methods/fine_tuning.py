"""Full fine-tuning: every entry of every pre-trained parameter."""

from __future__ import annotations

from typing import ClassVar

from apet.backbones.positions import Backbone
from apet.delta import DeltaSpec
from apet.errors import UnreachableBudgetError
from apet.layers.base import Target
from apet.layers.weight import full_target
from apet.methods.method import Method


class FineTuning(Method):
    """Full fine-tuning: all of Φ is trained (paper section 2), by weight deltas with dense masks."""

    name: ClassVar[str] = "fine-tuning"
    description: ClassVar[str] = "every pre-trained parameter (all of Φ)"

    def targets(self, backbone: Backbone) -> list[Target]:
        """Every parameter, whole."""
        # An output is a place where something can be added, not one of the pre-trained parameters.
        return [full_target(p) for p in backbone.positions if p.parameter != "output"]

    def plan(self, backbone: Backbone, budget: int | None, mask_seed: int, init_seed: int) -> DeltaSpec:
        """Plan a delta of every parameter.

        Returns:
            The spec.

        Raises:
            UnreachableBudgetError: a part of them is asked for, which is another method's business.
        """
        everything = sum(t.default_params for t in self.targets(backbone))
        if budget not in (None, everything):
            reason = "fine-tuning trains all of them (apet with operations=['add'] trains any number)"
            raise UnreachableBudgetError(budget, [everything], reason)
        return super().plan(backbone, None, mask_seed, init_seed)
