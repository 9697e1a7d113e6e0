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

from apet.errors import ApetError, NotMergeable, UnknownName, UnreachableBudget

if TYPE_CHECKING:
    from apet.api import describe, methods, positions
    from apet.attach import Handle, attach, attached, load
    from apet.budget import plan
    from apet.modules.support import Support
    from apet.modules.theta import Theta
    from apet.studies.results import Study

# torch and transformers take seconds to import: names are fetched when they are first used.
_HOME = {
    "positions": "apet.api",
    "describe": "apet.api",
    "methods": "apet.api",
    "plan": "apet.budget",
    "attach": "apet.attach",
    "attached": "apet.attach",
    "Handle": "apet.attach",
    "load": "apet.attach",
    "Theta": "apet.modules.theta",
    "Support": "apet.modules.support",
    "Study": "apet.studies.results",
}

__all__ = [
    "ApetError",
    "Handle",
    "NotMergeable",
    "Study",
    "Support",
    "Theta",
    "UnknownName",
    "UnreachableBudget",
    "attach",
    "attached",
    "describe",
    "load",
    "methods",
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
