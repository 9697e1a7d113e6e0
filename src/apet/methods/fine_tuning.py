"""Full fine-tuning: every entry of every pre-trained parameter."""

from __future__ import annotations

from typing import ClassVar

from apet.backbones.positions import Backbone
from apet.errors import UnreachableBudget
from apet.methods.method import Method
from apet.methods.slot import Slot
from apet.modules import insertions as make
from apet.modules.theta import Theta


class FineTuning(Method):
    """All of Φ is trained (paper section 2). The same carrier as any other *add*, with full supports."""

    name: ClassVar[str] = "fine-tuning"
    about: ClassVar[str] = "every pre-trained parameter (all of Φ)"

    def slots(self, backbone: Backbone) -> list[Slot]:
        """Every parameter, whole."""
        return [
            Slot(p.size, p.size, p.size, lambda k, how, seed, p=p: make.parameter(p.name, p.shape, k, how, seed))  # type: ignore[misc]
            for p in backbone.positions
            if p.parameter != "output"
        ]

    def plan(self, backbone: Backbone, budget: int | None, mask_seed: int, init_seed: int) -> Theta:
        """θ with every scalar; a part of them is another method's business."""
        everything = sum(s.natural for s in self.slots(backbone))
        if budget not in (None, everything):
            why = "fine-tuning trains all of them (apet with operations=['add'] trains any number)"
            raise UnreachableBudget(budget, [everything], why)
        return super().plan(backbone, None, mask_seed, init_seed)
