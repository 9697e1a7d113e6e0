"""Descriptions by name, kept between processes: what reads them off a model takes seconds to import.

Those of the published shapes come with the package, for the versions of torch and transformers that it was made with.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import zlib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from apet import backbones, kernels
from apet.backbones.family import families
from apet.backbones.positions import Backbone
from apet.backbones.registry import BACKBONES, PublishedShape, locate_backbone, published_shapes
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
    for file in (shipped_file(str(model_or_config)), kept) if kept is not None else ():
        with suppress(OSError, EOFError, zlib.error, ValidationError):  # what is damaged is read off the model again
            return _BACKBONE.validate_json(gzip.decompress(file.read_bytes()))
    from apet.backbones.loading import read_backbone

    backbone = read_backbone(model_or_config)
    if kept is not None:
        write_cached(kept, lambda path: path.write_bytes(_packed(backbone)))
    return backbone


def shipped_file(name: str) -> Path:
    """Where the package would hold a description for the installed versions; it does for the published shapes.

    A test holds what it says against what is read off the model, so the describing code is no part of its name.

    Args:
        name: of a backbone.

    Returns:
        The file, whether or not it is there.
    """
    return SHIPPED / f"{_key(_architecture(name), _versions(), repr(families()))}.json.gz"


def ship() -> None:
    """Write the descriptions of all published shapes into the package, in place of those of earlier versions."""
    from apet.backbones.loading import read_backbone

    SHIPPED.mkdir(exist_ok=True)
    for old in SHIPPED.glob("*.json.gz"):
        old.unlink()
    for name in published_shapes():
        shipped_file(name).write_bytes(_packed(read_backbone(name)))


def _packed(backbone: Backbone) -> bytes:
    return gzip.compress(_BACKBONE.dump_json(backbone), mtime=0)  # the same bytes at any time


def _kept_file(name: str) -> Path | None:
    """The file of a backbone's description; None where not all is known that decides what it says."""
    architecture = _architecture(name)
    if architecture is None or imported():  # a guest of this call alone may change what a model does
        return None
    machine = [platform.python_version(), platform.machine()]
    key = _key(architecture, _versions(), machine, _sources(), repr(families()))
    return cache_folder() / "backbones" / f"{key}.json.gz"


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
