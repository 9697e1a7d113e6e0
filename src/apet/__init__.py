"""Arbitrary parameter-efficient tuning: exactly N trainable scalars, anywhere in a backbone.

theta = apet.plan(model, "apet", budget=4096, distribution="discrete")
handle = apet.attach(model, theta)          # exactly 4,096 scalars require gradients
...                                         # train as ever
handle.save("folder"); handle.detach()      # the backbone is what it was, bit for bit
handle = apet.load(model, "folder")
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from apet.errors import ApetError, NotMergeableError, UnknownNameError, UnreachableBudgetError

if TYPE_CHECKING:
    from apet.api import describe, list_methods, positions
    from apet.attachment import Handle, attach, attached, load
    from apet.budget import plan
    from apet.delta import DeltaSpec
    from apet.masks.mask import Mask
    from apet.studies.results import Study

# torch and transformers take seconds to import: names are fetched when they are first used.
_HOME = {
    "positions": "apet.api",
    "describe": "apet.api",
    "list_methods": "apet.api",
    "plan": "apet.budget",
    "attach": "apet.attachment",
    "attached": "apet.attachment",
    "Handle": "apet.attachment",
    "load": "apet.attachment",
    "DeltaSpec": "apet.delta",
    "Mask": "apet.masks.mask",
    "Study": "apet.studies.results",
}

__all__ = [
    "ApetError",
    "DeltaSpec",
    "Handle",
    "Mask",
    "NotMergeableError",
    "Study",
    "UnknownNameError",
    "UnreachableBudgetError",
    "attach",
    "attached",
    "describe",
    "list_methods",
    "load",
    "plan",
    "positions",
]


class _Package(types.ModuleType):
    """This package: ``apet.attach`` and ``apet.methods`` stay functions, whoever imports the modules of those names."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOME and isinstance(value, types.ModuleType):
            return
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'apet' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOME[name]), name)
        setattr(self, name, value)
        return value


sys.modules[__name__].__class__ = _Package
