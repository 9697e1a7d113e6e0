"""Delta layers: the forms that a delta takes at a layer of the backbone. One file each knows all about its form."""

from __future__ import annotations

from apet.layers.base import LAYERS, DeltaLayer, Target

__all__ = ["LAYERS", "DeltaLayer", "Target"]
