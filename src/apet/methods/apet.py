"""APET: any number of entries, anywhere, by any of the three operations."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from apet.backbones.positions import Backbone, Layer
from apet.delta import Operation
from apet.errors import ApetError
from apet.layers.adapter import adapter_target
from apet.layers.base import Target
from apet.layers.bias import output_target
from apet.layers.lora import lora_target
from apet.layers.prompt import prompt_target
from apet.layers.weight import weight_target
from apet.masks.concentration import DEFAULT_RUN_LENGTH, draw_sites
from apet.methods.method import Method

_LORA_ALPHA = 16.0


class Apet(Method):
    """Arbitrary parameter-efficient tuning (paper section 5.1, eq. 14-17): N entries over operations and positions."""

    name: ClassVar[str] = "apet"
    description: ClassVar[str] = "exactly N entries over any operations and positions (Su et al. 2023)"
    default_budget: ClassVar[str | None] = "=lora"
    takes_distributions: ClassVar[bool] = True

    operations: tuple[Operation, ...] = Field(default=("add", "concatenate", "plugin"), min_length=1)
    """Which of the three take part."""
    roles: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Layers that take part. Default: all of the backbone, and a prompt at its input where ``prompt`` is set."""
    prompt: bool = False
    """Whether soft tokens take part too. They change the output before the first step, so they must be asked for."""
    allocation: Literal["equal", "proportional"] = "equal"
    """Shares of a budget: the same for every target, or in proportion to its size."""
    sites: Annotated[int, Field(ge=1)] | Literal["all"] | None = None
    """How many weights a budget falls on. Default: as few as give each ``run_length`` entries; all = spread thin."""
    run_length: int = Field(default=DEFAULT_RUN_LENGTH, ge=1)
    """Entries of each weight that a budget falls on, where ``sites`` is not given; the rest is shared out evenly."""

    def targets(self, backbone: Backbone) -> list[Target]:
        """Every operation at every layer where its entries have a gradient.

        Returns:
            The targets, in model order, a prompt last.

        Raises:
            UnknownNameError: a role matches nothing.
            ApetError: the operations have no place at these roles.
        """
        layers = backbone.select(self.roles) if self.roles else backbone.layers
        targets = [t for layer in layers for t in self._targets_of(layer)]
        if self.prompt:
            targets.append(prompt_target(backbone, None))
        if not targets:
            raise ApetError(
                f"apet has nothing to train: operations {', '.join(self.operations)}"
                f" at roles {', '.join(self.roles or ())}; give more of either"
            )
        return targets

    def _targets_of(self, layer: Layer) -> list[Target]:
        """Targets at one layer."""
        targets = []
        constant_is_dead = not layer.constant_has_effect
        # What a layer of relative positions returns is added to attention scores.
        is_hidden_state = layer.kind != "other" and layer.role != "attn.relative_bias"
        if "add" in self.operations:
            for p in layer.positions:
                if p.parameter == "output":
                    # Beside an existing bias, a vector added to the output would be a second one of the same effect.
                    if is_hidden_state and not constant_is_dead and layer.position("bias") is None:
                        targets.append(output_target(p))
                elif p.parameter != "bias" or not constant_is_dead:
                    targets.append(weight_target(p))
        if "concatenate" in self.operations and layer.kind == "linear":
            targets.append(lora_target(layer, None, _LORA_ALPHA))
        # With the smallest budget an adapter is a constant, so that it is held to what holds for constants.
        if "plugin" in self.operations and is_hidden_state and not constant_is_dead:
            targets.append(adapter_target(layer, None))
        return targets

    @field_validator("run_length")
    @classmethod
    def _follows_from_sites(cls, run_length: int, given: ValidationInfo) -> int:
        if given.data.get("sites") is not None:
            raise ValueError(f"sites={given.data['sites']} decides it already; give one of the two")
        return run_length

    def sites_of(self, targets: list[Target], budget: int, mask_seed: int) -> list[int]:
        """Few enough weights for each to get a run of entries.

        Returns:
            Their numbers.

        Raises:
            ApetError: so many sites as are given do not exist, or cannot hold the budget.
        """
        everywhere = list(range(len(targets)))
        if self.sites == "all":
            return everywhere
        lowest, highest = [t.min_params for t in targets], [t.max_params for t in targets]
        drawn = draw_sites(budget, lowest, highest, mask_seed, self.run_length, self.sites)
        if drawn is None and self.sites is not None:
            most = sum(sorted(highest)[-self.sites :])
            raise ApetError(
                f"sites={self.sites} cannot share out {budget:,} parameters: there are {len(targets):,} weights to"
                f" train here, and {self.sites:,} of them hold {min(lowest)} each to {most:,} in all; give another"
                " number of sites, or sites=all"
            )
        return everywhere if drawn is None else drawn

    def shares(self, targets: list[Target]) -> list[float]:
        """Equal shares, or shares by size."""
        return [1.0] * len(targets) if self.allocation == "equal" else [float(t.max_params) for t in targets]
