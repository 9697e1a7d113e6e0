"""Scale delta: entries of a hidden state multiplied by trained factors (IA)³ (Liu et al. 2022, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from apet.backbones.positions import Backbone, Layer
from apet.delta import Insertion, Operation, TrainableWeight
from apet.errors import ApetError, NotMergeableError
from apet.layers.base import (
    ActsBy,
    Args,
    DeltaLayer,
    Hook,
    Host,
    Kwargs,
    MergedDelta,
    Shape,
    Target,
    fixed_delta,
    require_mergeable,
    tied_weight_obstacle,
)
from apet.masks.distributions import draw_mask
from apet.masks.mask import dense_mask

Side = Literal["input", "output"]


def scale_target(layer: Layer, side: Side) -> Target:
    """Factors on the input or the output of a linear layer.

    Args:
        layer: a linear one.
        side: which of its hidden states is scaled.

    Returns:
        The target.

    Raises:
        ApetError: the layer is not linear.
    """
    if layer.kind != "linear":
        raise ApetError(f"scaling factors need a linear layer; {layer.name!r} is a {layer.kind}")
    d = layer.d_in if side == "input" else layer.d_out
    position = f"{layer.name}.{side}"

    def build(count: int, distribution: str, mask_seed: int) -> Insertion:
        mask = draw_mask((d,), count, distribution, mask_seed, position, "ia3_l")
        return Insertion("scale", position, (TrainableWeight("ia3_l", mask),))

    return Target(1, d, d, build)


class ScaleDelta(DeltaLayer):
    """(IA)³ layer: ``h ⊙ l`` with l = 1 + ``ia3_l``, on a linear layer's input or output.

    The entries are stored as the offset from one, so that a masked factor is exactly one, they start from zero like
    every delta here, and bf16 keeps small steps that it would round away beside a one. In the paper's terms Δh = h ⊙ W̃
    is added.
    """

    form: ClassVar[str] = "scale"
    operation: ClassVar[Operation] = "add"
    peft_name: ClassVar[str | None] = "IA3"

    @classmethod
    def layer_name(cls, insertion: Insertion) -> str:
        """Name of the layer whose input or output is scaled."""
        return insertion.position.rpartition(".")[0]

    @classmethod
    def expected_shapes(cls, insertion: Insertion, backbone: Backbone) -> dict[str, Shape]:
        """One factor for each entry of the hidden state."""
        layer = backbone.layer(cls.layer_name(insertion))
        return {"ia3_l": (layer.d_in if insertion.position.endswith(".input") else layer.d_out,)}

    def hooks(self, host: Host) -> Iterator[Hook]:
        """Before or after the layer."""
        module = host.model.get_submodule(host.backbone.layer(self.layer_name(self.insertion)).module)
        if self._scales_input:
            yield Hook(module, "before", self.scale_input)
        else:
            yield Hook(module, "after", self.scale_output)

    @property
    def _scales_input(self) -> bool:
        return self.insertion.position.endswith(".input")

    def scale_input(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Scale ``h_in``, (…, d_in)."""
        if args:
            return (self._scaled(args[0]), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: self._scaled(kwargs[name])}

    def scale_output(self, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
        """Scale ``f(h_in)``, (…, d_out)."""
        return self._scaled(output)

    def _scaled(self, h: Tensor) -> Tensor:
        # Not h * (1 + l): in bf16 a small offset would be lost in the sum with one before it is multiplied.
        return h + h * self.dense("ia3_l", h.dtype).to(h.device)

    @property
    def acts_by(self) -> ActsBy | None:
        """Factors."""
        return "input" if self._scales_input else "product"

    @classmethod
    def merge_obstacle(cls, insertion: Insertion, layer: Layer) -> str | None:
        """A weight that another layer computes with, too."""
        return tied_weight_obstacle(layer)

    def merged_deltas(self, host: Host) -> list[MergedDelta]:
        """Rows (or columns) of the weight, and the bias, multiplied by the factors.

        Returns:
            An edit of the weight and, for factors on the output, one of the bias.

        Raises:
            NotMergeableError: the weight is quantized or sharded, or another delta edits it or the bias, which is known
                only now.
        """
        layer = host.backbone.layer(self.layer_name(self.insertion))
        position = layer.position("weight")
        assert position is not None  # or there had been an obstacle
        # A factor on the output multiplies the bias, too; one on the input never meets it.
        changed = [position] if self._scales_input else [p for p in (position, layer.position("bias")) if p is not None]
        module = host.model.get_submodule(layer.module)
        # Rows of nn.Linear's (d_out, d_in) are outputs; transformers' Conv1D stores (d_in, d_out).
        by_rows = self._scales_input == isinstance(module, Conv1D)
        edits = []
        for p in changed:
            parameter = f"{p.module}.{p.parameter}"
            require_mergeable(self.insertion, host, parameter)
            if host.parameter_deltas(p.name, parameter).deltas:
                # The factors multiply the other delta, too: once merged they could no longer follow it.
                raise NotMergeableError(
                    f"scale at {self.insertion.position!r} cannot be merged while another delta writes into"
                    f" {p.name!r}; merge or detach that one first"
                )
            with torch.no_grad():
                weight = host.model.get_parameter(parameter).float()
                offset = self.dense("ia3_l", torch.float32).to(weight.device)
                # A bias has one axis, that of the outputs, which the offset fits as it is.
                change = weight * (offset[:, None] if by_rows and weight.dim() == 2 else offset)
            edits.append(MergedDelta(p.name, fixed_delta(dense_mask(tuple(change.shape)), change.reshape(-1))))
        return edits
