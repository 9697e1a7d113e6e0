"""Arbitrary parameter-efficient tuning: exactly N trainable parameters, anywhere in a backbone.

spec = apet.plan(model, "apet", budget=4096, distribution="discrete")
handle = apet.attach(model, spec)           # exactly 4,096 parameters require gradients
...                                         # train as ever
handle.save("folder"); handle.detach()      # the backbone is what it was, bit for bit
handle = apet.load(model, "folder")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from apet.errors import ApetError, CannotWriteError, NotMergeableError, UnknownNameError, UnreachableBudgetError

if TYPE_CHECKING:
    from apet.api import describe, list_methods, positions
    from apet.attachment import attach, attached, load
    from apet.commands.compare import compare
    from apet.commands.inspect import inspect
    from apet.commands.listing import list_backbones, list_tasks
    from apet.commands.predict import predict
    from apet.commands.recommend import recommend
    from apet.commands.report import report
    from apet.commands.run import Run, evaluate, tune
    from apet.commands.study import Study, transfer
    from apet.commands.thresholds import thresholds
    from apet.costs import estimate
    from apet.delta import DeltaSpec
    from apet.deployment.export import export
    from apet.deployment.hub import push
    from apet.deployment.import_adapter import import_adapter
    from apet.handle import Handle
    from apet.interop.lightning import lightning_callback
    from apet.interop.peft_import import import_peft
    from apet.interop.transformers import trainer_callback
    from apet.mask_scores import task_scores
    from apet.masks.mask import Mask
    from apet.planning import plan
    from apet.routing import route

    __version__: str

# torch and transformers take seconds to import: names are fetched when they are first used.
_MODULES = {
    "positions": "apet.api",
    "describe": "apet.api",
    "list_methods": "apet.api",
    "plan": "apet.planning",
    "attach": "apet.attachment",
    "attached": "apet.attachment",
    "Handle": "apet.handle",
    "load": "apet.attachment",
    "trainer_callback": "apet.interop.transformers",
    "lightning_callback": "apet.interop.lightning",
    "route": "apet.routing",
    "task_scores": "apet.mask_scores",
    "estimate": "apet.costs",
    "DeltaSpec": "apet.delta",
    "Mask": "apet.masks.mask",
    "Run": "apet.commands.run",
    "Study": "apet.commands.study",
    "compare": "apet.commands.compare",
    "evaluate": "apet.commands.run",
    "inspect": "apet.commands.inspect",
    "list_backbones": "apet.commands.listing",
    "list_tasks": "apet.commands.listing",
    "predict": "apet.commands.predict",
    "transfer": "apet.commands.study",
    "report": "apet.commands.report",
    "thresholds": "apet.commands.thresholds",
    "tune": "apet.commands.run",
    "export": "apet.deployment.export",
    "import_peft": "apet.interop.peft_import",
    "push": "apet.deployment.hub",
    "import_adapter": "apet.deployment.import_adapter",
    "recommend": "apet.commands.recommend",
}

__all__ = [
    "ApetError",
    "CannotWriteError",
    "DeltaSpec",
    "Handle",
    "Mask",
    "NotMergeableError",
    "Run",
    "Study",
    "UnknownNameError",
    "UnreachableBudgetError",
    "attach",
    "attached",
    "compare",
    "describe",
    "estimate",
    "evaluate",
    "export",
    "import_adapter",
    "import_peft",
    "inspect",
    "lightning_callback",
    "list_backbones",
    "list_methods",
    "list_tasks",
    "load",
    "plan",
    "positions",
    "predict",
    "push",
    "recommend",
    "report",
    "route",
    "task_scores",
    "thresholds",
    "trainer_callback",
    "transfer",
    "tune",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("apet")
    if name not in _MODULES:
        raise AttributeError(f"module 'apet' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # the next look-up finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, "__version__"})
