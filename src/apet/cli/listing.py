"""What `apet methods` lists, kept between calls: the methods themselves import torch, which takes seconds."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypedDict

import apet
from apet.cache import cache_folder, write_cached
from apet.registry import imported


class Described(TypedDict):
    """A method in words: what it trains, and setting -> meaning."""

    description: str
    settings: dict[str, str | None]


class Listing(TypedDict):
    """Every method, and distribution -> meaning; in their order."""

    methods: dict[str, Described]
    distributions: dict[str, str]


def methods_in_words() -> Listing:
    """Methods and distributions in words.

    Returns:
        What the registries hold; as it was kept, where no source file and no installed guest has changed since.
    """
    if list(imported()):  # guests of this call alone
        return _ask()
    kept = cache_folder() / "listings" / f"{_fingerprint()}.json"
    try:
        content: Listing = json.loads(kept.read_text("utf-8"))
        if set(content) == {"methods", "distributions"}:
            return content
    except (OSError, ValueError, TypeError):
        pass
    listing = _ask()
    write_cached(kept, lambda path: path.write_text(json.dumps(listing), "utf-8"))
    return listing


def _ask() -> Listing:
    from apet.masks.distributions import DISTRIBUTIONS
    from apet.methods import registered_methods

    methods: dict[str, Described] = {
        name: {
            "description": method.description,
            "settings": {key: field.description for key, field in method.model_fields.items()},
        }
        for name, method in registered_methods().items()
    }
    return {"methods": methods, "distributions": {n: how.description for n, how in DISTRIBUTIONS.entries().items()}}


def _fingerprint() -> str:
    """Of every source file of this package and of every guest that is installed."""
    package = Path(apet.__file__).parent
    files = [
        (str(f.relative_to(package)), f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(package.rglob("*.py"))
    ]
    guests = [
        (point.group, point.name, point.value, point.dist.version if point.dist else "")
        for group in ("apet.methods", "apet.distributions")
        for point in entry_points(group=group)
    ]
    return hashlib.sha256(json.dumps([str(package), files, guests]).encode()).hexdigest()[:24]
