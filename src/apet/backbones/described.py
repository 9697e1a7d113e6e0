"""Descriptions by name, kept between processes: what reads them off a model takes seconds to import.

Those of the published shapes come with the package, for the versions of torch and transformers that it was made with.
"""

from __future__ import annotations

import gzip
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
SHIPPED = Path(__file__).parent / "described"
"""Descriptions that come with the package; `python benchmarks/describe_published.py` writes them."""


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
    if kept is not None and isinstance(model_or_config, str):
        shipped = shipped_file(model_or_config)
        if shipped is not None and shipped.is_file():
            return _BACKBONE.validate_json(gzip.decompress(shipped.read_bytes()))
        with suppress(OSError, ValidationError):
            return _BACKBONE.validate_json(kept.read_bytes())
    from apet.backbones.loading import read_backbone

    backbone = read_backbone(model_or_config)
    if kept is not None:
        write_cached(kept, lambda path: path.write_bytes(_BACKBONE.dump_json(backbone)))
    return backbone


def shipped_file(name: str) -> Path | None:
    """Where the package holds a published shape's description by the installed versions, if it holds one.

    A test holds what it says against what is read off the model, so the describing code is no part of its name.

    Args:
        name: of a backbone.

    Returns:
        The file, whether or not it is there; None for any other backbone.
    """
    if not isinstance(BACKBONES.entries().get(name), PublishedShape):
        return None
    return SHIPPED / f"{_key(_architecture(name), _versions(), repr(families()))}.json.gz"


def ship(folder: Path = SHIPPED) -> None:
    """Write the descriptions of all published shapes, in place of those of earlier versions.

    Args:
        folder: whose files they become.
    """
    from apet.backbones.loading import read_backbone

    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.json.gz"):
        old.unlink()
    for name, entry in BACKBONES.entries().items():
        file = shipped_file(name)
        if isinstance(entry, PublishedShape) and file is not None:
            (folder / file.name).write_bytes(gzip.compress(_BACKBONE.dump_json(read_backbone(name)), mtime=0))


def _kept_file(name: str) -> Path | None:
    """The file of a backbone's description; None where not all is known that decides what it says."""
    architecture = _architecture(name)
    if architecture is None or imported():  # a guest of this call alone may change what a model does
        return None
    machine = [platform.python_version(), platform.machine()]
    key = _key(architecture, _versions(), machine, _sources(), repr(families()))
    return cache_folder() / "backbones" / f"{key}.json"


def _key(*decides: object) -> str:
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:24]


def _versions() -> list[str]:
    # Without the local part: a build for a GPU describes as the one for processors does.
    return [version(package).partition("+")[0] for package in ("torch", "transformers")]


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
