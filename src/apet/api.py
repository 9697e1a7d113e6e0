"""Looking at a backbone and at the methods, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from apet.backbones.described import resolve_backbone
from apet.backbones.positions import Backbone, Position
from apet.methods import Method, registered_methods

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig


def describe(model_or_config: nn.Module | PreTrainedConfig | str) -> Backbone:
    """Describe a backbone: its layers, positions, head and counts. No weight is read.

    Args:
        model_or_config: a transformers model, its configuration, or a backbone's name.

    Returns:
        The description.

    Raises:
        ApetError: a name that leads nowhere, or a model without a configuration of transformers.

    Examples:
        >>> import apet
        >>> backbone = apet.describe("t5-v1.1-small")
        >>> backbone.num_parameters, len(backbone.layers)
        (76961152, 191)
    """
    return resolve_backbone(model_or_config)


def positions(
    model_or_config: nn.Module | PreTrainedConfig | str, pattern: str | Sequence[str] = ()
) -> tuple[Position, ...]:
    """List the positions of a backbone: every parameter (tied tensors once) and every layer's output.

    Args:
        model_or_config: a transformers model, its configuration, or a backbone's name.
        pattern: only positions of these roles or names, such as ``attn.q`` or ``encoder.*.mlp.*``.

    Returns:
        All positions, in the order of the layers.

    Raises:
        ApetError: a name that leads nowhere, or a model without a configuration of transformers.
        UnknownNameError: a pattern that matches nothing.

    Examples:
        >>> import apet
        >>> apet.positions("bert-small")[0].name
        'encoder.embed.tokens.weight'
    """
    backbone = resolve_backbone(model_or_config)
    if not pattern:
        return backbone.positions
    layers = backbone.select([pattern] if isinstance(pattern, str) else list(pattern))
    return tuple(position for layer in layers for position in layer.positions)


def list_methods() -> dict[str, type[Method]]:
    """List the registered methods by name: in the paper's order, then the others.

    Returns:
        Name -> class; its fields are its settings.

    Examples:
        >>> import apet
        >>> list(apet.list_methods())[:6]
        ['fine-tuning', 'prompt', 'bitfit', 'lora', 'adapter', 'apet']
    """
    return registered_methods()
