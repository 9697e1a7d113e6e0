"""Looking at a backbone and at the methods, from Python."""

from __future__ import annotations

from typing import Any

from apet.backbones.describe import Backbone, Position
from apet.backbones.loading import resolve_backbone
from apet.methods import Method, registered_methods


def describe(model_or_config: Any) -> Backbone:
    """Layers, positions, head and counts of a model, a configuration or a backbone's name; no weight is read.

    Raises:
        ApetError: an architecture that no family describes.
    """
    return resolve_backbone(model_or_config)


def positions(model_or_config: Any) -> tuple[Position, ...]:
    """Every place where something can be trained: each parameter (tied tensors once) and each layer's output.

    Raises:
        ApetError: as `describe`.
    """
    return resolve_backbone(model_or_config).positions


def list_methods() -> dict[str, type[Method]]:
    """The registered methods by name."""
    return registered_methods()
