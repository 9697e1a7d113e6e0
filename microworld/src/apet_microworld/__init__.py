"""The microworld: a small made-up language, eleven tasks in it, and backbones pre-trained on it. All synthetic."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apet_microworld.documents import corpus
    from apet_microworld.fingerprint import fingerprints
    from apet_microworld.tasks import TASKS, rows

__all__ = ["TASKS", "corpus", "fingerprints", "rows"]

# NumPy takes a tenth of a second to import, and the command line asks this package for its help: names are fetched when
# they are first used.
_HOME = {
    "TASKS": "apet_microworld.tasks",
    "corpus": "apet_microworld.documents",
    "fingerprints": "apet_microworld.fingerprint",
    "rows": "apet_microworld.tasks",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'apet_microworld' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
