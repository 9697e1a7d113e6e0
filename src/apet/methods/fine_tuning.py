"""Full fine-tuning: every entry of every pre-trained parameter."""

from __future__ import annotations

from typing import ClassVar

from apet.backbones.describe import Backbone
from apet.delta import DeltaSpec
from apet.errors import UnreachableBudgetError
from apet.layers import building as make
from apet.methods.method import Method
from apet.methods.target import Target


class FineTuning(Method):
    """All of Φ is trained (paper section 2). The same carrier as any other *add*, with full supports."""

    name: ClassVar[str] = "fine-tuning"
    description: ClassVar[str] = "every pre-trained parameter (all of Φ)"

    def targets(self, backbone: Backbone) -> list[Target]:
        """Every parameter, whole."""
        return [
            Target(p.size, p.size, p.size, lambda k, how, seed, p=p: make.parameter(p.name, p.shape, k, how, seed))  # type: ignore[misc]
            for p in backbone.positions
            if p.parameter != "output"
        ]

    def plan(self, backbone: Backbone, budget: int | None, mask_seed: int, init_seed: int) -> DeltaSpec:
        """θ with every scalar; a part of them is another method's business."""
        everything = sum(s.default_params for s in self.targets(backbone))
        if budget not in (None, everything):
            why = "fine-tuning trains all of them (apet with operations=['add'] trains any number)"
            raise UnreachableBudgetError(budget, [everything], why)
        return super().plan(backbone, None, mask_seed, init_seed)
