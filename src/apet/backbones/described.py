"""Descriptions by name, kept between processes: what reads them off a model takes seconds to import."""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from apet import backbones, kernels
from apet.backbones.family import families
from apet.backbones.positions import Backbone
from apet.backbones.registry import BACKBONES, PublishedShape, locate_backbone
from apet.cache import cache_folder, write_cached
from apet.registry import imported

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig

_BACKBONE = TypeAdapter(Backbone)


def resolve_backbone(model_or_config: nn.Module | PreTrainedConfig | str) -> Backbone:
    """Describe a model, a configuration or a backbone's name.

    Args:
        model_or_config: of a name alone, the description is taken from the user's cache where it was kept.

    Returns:
        Layers, positions and counts.

    Raises:
        ApetError: it is none of the three, or a name that leads nowhere.
    """
    kept = _kept_file(model_or_config) if isinstance(model_or_config, str) else None
    if kept is not None:
        with suppress(OSError, ValidationError):
            return _BACKBONE.validate_json(kept.read_bytes())
    from apet.backbones.loading import read_backbone

    backbone = read_backbone(model_or_config)
    if kept is not None:
        write_cached(kept, lambda path: path.write_bytes(_BACKBONE.dump_json(backbone)))
    return backbone


def _kept_file(name: str) -> Path | None:
    """The file of a backbone's description; None where not all is known that decides what it says."""
    architecture = _architecture(name)
    if architecture is None or imported():  # a guest of this call alone may change what a model does
        return None
    versions = {package: version(package) for package in ("torch", "transformers")}
    decides = [architecture, versions, platform.python_version(), platform.machine(), _sources(), repr(families())]
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:24]
    return cache_folder() / "backbones" / f"{key}.json"


def _architecture(name: str) -> list[object] | None:
    """What a backbone's configuration says; None where it must be asked for, or comes with code of its own."""
    shape = BACKBONES.entries().get(name)
    if isinstance(shape, PublishedShape):
        return [shape.model_type, shape.settings]
    location = locate_backbone(name)
    if not isinstance(location.source, Path) or location.gguf is not None:
        return None
    try:
        config = json.loads((location.source / "config.json").read_bytes())
    except (OSError, ValueError):  # whoever loads it says what is wrong
        return None
    return [config] if isinstance(config, dict) and "auto_map" not in config else None


def _sources() -> list[tuple[str, int, int]]:
    """The code that describes: of every file its name, size and time."""
    files = [f for package in (backbones, kernels) for folder in package.__path__ for f in Path(folder).glob("*.py")]
    return sorted((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files)
