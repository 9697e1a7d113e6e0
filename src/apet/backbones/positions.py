"""Description of a backbone: its layers and positions, the places where something can be trained, as plain values."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from apet.backbones.family import BackboneKind, PromptInsertion
from apet.errors import UnknownNameError

LayerKind = Literal["linear", "norm", "embedding", "other"]


@dataclass(frozen=True)
class Position:
    """One addressable place: a parameter of a layer, or the layer's output.

    Attributes:
        name: ``stack.layer.role.parameter`` (the layer number is absent outside the blocks); of role ``other`` the
            parameter's path in the model.
        parameter: a parameter that exists, such as ``"weight"`` or ``"bias"``; ``"output"`` is the hidden state the
            layer returns, ``(batch, seq, d_out)``, addressed by its last axis.
        shape: of the parameter as PyTorch stores it; ``(d_out,)`` for an output.
        tied: other names of the same tensor. It is listed and counted once.
        unused: flat entries ``[first, last)`` that no input reaches or no gradient: the first rows where positions are
            counted from row 2 (RoBERTa, OPT); a padding token's row, unless an output projection shares it; the
            encoder's bucket of T5 for "zero steps ahead".
        carrier: how a delta of this parameter gets its gradient where nothing else is asked for: ``in_place``, from the
            layer's input and output gradient, which is certified for the modules that use it; else ``substituted``,
            out of its dense gradient.
    """

    name: str
    stack: str
    layer: int | None
    role: str
    parameter: str
    shape: tuple[int, ...]
    kind: LayerKind
    module: str
    tied: tuple[str, ...] = ()
    unused: tuple[int, int] = (0, 0)
    carrier: Literal["in_place", "substituted"] = "in_place"

    @property
    def size(self) -> int:
        """Number of entries."""
        n = 1
        for s in self.shape:
            n *= s
        return n

    @property
    def num_unused(self) -> int:
        """Number of unused entries."""
        return self.unused[1] - self.unused[0]

    @property
    def layer_name(self) -> str:
        """The layer's name, without the parameter: ``encoder.0.attn.q``."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Layer:
    """One layer f of the paper (eq. 1): ``h_out (batch, seq, d_out) = f(h_in (batch, seq, d_in))``.

    Attributes:
        name: such as ``encoder.0.attn.q``.
        stack: ``encoder``, ``decoder`` or ``lm_head``.
        index: of its block; None outside the blocks.
        role: what it does there, such as ``attn.q``; ``other`` where neither a family nor its path tells.
        module: its path in the model.
        kind: what it computes; ``other`` where that is none of the three, and nothing can be added to its output.
        d_in: size of its input; 0 of kind ``other``.
        d_out: size of its output; 0 of kind ``other``.
        positions: its parameters and, unless it is of kind ``other``, its output.
        can_hold_bias: whether its module adds a bias of its own, or would if it were given one.
        constant_has_effect: whether a constant added to its output changes what the model computes. One on all keys
            shifts a query's scores alike, which the softmax cannot see, unless positions rotate the keys.
    """

    name: str
    stack: str
    index: int | None
    role: str
    module: str
    kind: LayerKind
    d_in: int
    d_out: int
    positions: tuple[Position, ...]
    can_hold_bias: bool
    constant_has_effect: bool = True

    def position(self, parameter: str) -> Position | None:
        """The position of this parameter, or None where the layer has none (or shares one listed elsewhere)."""
        return next((p for p in self.positions if p.parameter == parameter), None)


@dataclass(frozen=True)
class Backbone:
    """What is known of a model without looking at one weight.

    Attributes:
        family: name of the family that names its roles; the model type where no family's file does.
        kind: which stacks there are, and so which objective fits.
        prompt_insertion: where soft prompts enter and leave; None where they cannot.
        prompt_obstacle: why not.
        num_parameters: every parameter of the model as given, tied tensors once, the task head included: the number
            that the paper divides by.
        num_head_parameters: those of a task head (a classifier that pre-training did not make).
        width: entries of one input embedding, and so of one soft prompt token.
        head: names of the task head's parameters in the model.
        unreached: names of parameters that get no gradient: they are no positions.
        unprobed: why the architecture, which no family of this package describes, could not be tried; '' = it was.
    """

    family: str
    kind: BackboneKind
    model_class: str
    model_type: str
    layers: tuple[Layer, ...]
    num_parameters: int
    num_head_parameters: int
    width: int
    head: tuple[str, ...]
    prompt_insertion: PromptInsertion | None
    prompt_obstacle: str = ""
    unreached: tuple[str, ...] = ()
    unprobed: str = ""

    @property
    def positions(self) -> tuple[Position, ...]:
        """All positions, in the order of the layers."""
        return tuple(p for layer in self.layers for p in layer.positions)

    # Looked up for each of thousands of insertions: walking through all layers each time would take minutes.
    @cached_property
    def positions_by_name(self) -> dict[str, Position]:
        """All positions by their names, in the order of the layers."""
        return {p.name: p for layer in self.layers for p in layer.positions}

    @cached_property
    def _layers_by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    def layer(self, name: str) -> Layer:
        """Look up a layer by its name.

        Returns:
            The layer.

        Raises:
            UnknownNameError: there is none; the nearest names are given.
        """
        layer = self._layers_by_name.get(name)
        if layer is None:
            raise UnknownNameError(f"layer of {self.model_class}", name, self._layers_by_name)
        return layer

    def position(self, name: str) -> Position:
        """Look up a position by its name.

        Returns:
            The position.

        Raises:
            UnknownNameError: there is none; the nearest names are given.
        """
        position = self.positions_by_name.get(name)
        if position is None:
            raise UnknownNameError(f"position of {self.model_class}", name, self.positions_by_name)
        return position

    def select(self, patterns: Sequence[str]) -> tuple[Layer, ...]:
        """Layers whose role or name matches a pattern, each once, in model order.

        A pattern is a role (``attn.q``), the beginning of one up to a dot (``attn``), a layer's name
        (``encoder.0.attn.q``) or either with wildcards (``encoder.*.mlp.*``).

        Returns:
            The layers.

        Raises:
            UnknownNameError: a pattern matches nothing.
        """
        chosen: set[str] = set()
        for pattern in patterns:
            hits = {x.name for x in self.layers if _matches(pattern, x)}
            if not hits:
                known = {x.role for x in self.layers} | {x.name for x in self.layers if x.index in (None, 0)}
                raise UnknownNameError(f"role of {self.model_class}", pattern, known)
            chosen |= hits
        return tuple(x for x in self.layers if x.name in chosen)


def _matches(pattern: str, layer: Layer) -> bool:
    return any(
        name == pattern or name.startswith(pattern + ".") or fnmatch.fnmatchcase(name, pattern)
        for name in (layer.role, layer.name)
    )


def layer_name(stack: str, index: int | None, role: str) -> str:
    """``stack.layer.role``; the role alone where it begins with the stack's name (``lm_head.norm``)."""
    if role == stack or role.startswith(stack + "."):
        return role
    return ".".join([stack, role] if index is None else [stack, str(index), role])
