"""The ways of another version of the library, beside those of this one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from speed_ways import PAIRED, Case, Prepared, Way
from transformers import PreTrainedModel

OURS = ("apet", "speed_ways")
"""Packages and modules of which there are two."""


def ways_before(folder: str) -> dict[str, Way]:
    """The library's own ways, by its other version.

    Args:
        folder: that holds the other version's package, such as ``src`` of another checkout.

    Returns:
        ``before NAME`` -> way.
    """
    theirs: dict[str, ModuleType] = {}

    def way(name: str) -> Way:
        def prepare(model: PreTrainedModel, case: Case) -> Prepared:
            with _in_their_place(theirs, folder):
                prepared: Prepared = importlib.import_module("speed_ways").WAYS[name](model, case)
                return prepared

        return prepare

    return {f"before {name}": way(name) for name in PAIRED}


@contextmanager
def _in_their_place(theirs: dict[str, ModuleType], folder: str) -> Iterator[None]:
    """Let `import apet` mean the other version; what it has imported is kept for the next time."""
    ours = _loaded()
    for name in ours:
        del sys.modules[name]
    sys.modules.update(theirs)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        theirs.update(_loaded())
        for name in _loaded():
            del sys.modules[name]
        sys.modules.update(ours)


def _loaded() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in OURS}
