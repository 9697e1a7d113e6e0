"""APET: any number of entries, anywhere, by any of the three operations."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from apet.backbones.describe import Backbone, Layer
from apet.delta import Operation
from apet.errors import ApetError
from apet.methods.method import Method
from apet.methods.target import Target, adapter_target, lora_target, output_target, prompt_target, weight_target

_PAIR_ALPHA = 16.0


class Apet(Method):
    """Arbitrary parameter-efficient tuning (paper section 5.1, eq. 14–17): N entries over operations and positions."""

    name: ClassVar[str] = "apet"
    description: ClassVar[str] = "exactly N entries over any operations and positions (Su et al. 2023)"
    identity_at_start: ClassVar[bool] = True
    default_budget: ClassVar[str | None] = "=lora"

    operations: tuple[Operation, ...] = Field(default=("add", "concatenate", "plugin"), min_length=1)
    """Which of the three take part."""
    roles: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Layers that take part. Default: all of the backbone, and a prompt at its input where ``prompt`` is set."""
    prompt: bool = False
    """Whether soft tokens take part too. They change the output before the first step, so they must be asked for."""
    allocation: Literal["equal", "proportional"] = "equal"
    """Shares of a budget: the same for every place, or in proportion to its size."""

    def targets(self, backbone: Backbone) -> list[Target]:
        """Every operation at every place where its entries can matter."""
        layers = backbone.select(self.roles) if self.roles else backbone.layers
        slots = [
            s for layer in layers for s in self._at(layer, constant_has_no_gradient=_has_no_gradient(layer, backbone))
        ]
        if self.prompt:
            slots.append(prompt_target(backbone, None))
        if not slots:
            raise ApetError(
                f"apet finds nothing to train: operations {', '.join(self.operations)}"
                f" at roles {', '.join(self.roles or ())}; give more of either"
            )
        return slots

    def _at(self, layer: Layer, constant_has_no_gradient: bool) -> list[Target]:
        """The slots of one layer. ``blind``: a constant added to its output changes nothing, so it would be dead."""
        slots = []
        hidden = layer.role != "attn.relative_bias"  # its output are attention scores, no hidden state
        if "add" in self.operations:
            for p in layer.positions:
                own_bias = p.parameter == "output" and layer.position("bias") is not None
                if p.parameter == "weight" or not (
                    constant_has_no_gradient or own_bias or (p.parameter == "output" and not hidden)
                ):
                    slots.append(output_target(p) if p.parameter == "output" else weight_target(p))
        if "concatenate" in self.operations and layer.kind == "linear":
            slots.append(lora_target(layer, None, _PAIR_ALPHA))
        if "plugin" in self.operations and hidden and not constant_has_no_gradient:
            slots.append(adapter_target(layer, None))
        return slots

    def shares(self, slots: list[Target]) -> list[float]:
        """Equal, or by size."""
        return [1.0] * len(slots) if self.allocation == "equal" else [float(s.max_params) for s in slots]


def _has_no_gradient(layer: Layer, backbone: Backbone) -> bool:
    """A constant on all keys shifts a query's scores alike, unseen by the softmax, unless positions rotate keys."""
    return layer.role.endswith((".k", ".qkv")) and not backbone.family.rotary_embeddings
