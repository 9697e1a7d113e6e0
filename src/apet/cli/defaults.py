"""Defaults of commands that name no backbone or no task: those of the microworld, a package of its own."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping

from apet.errors import ApetError

BACKBONE = "microworld-t5-small"
TASK = "microworld-sst2"
_PREFIX = "microworld-"
_PACKAGE, _MODULE = "apet-microworld", "apet_microworld"
_ITS_NAMES = re.compile(r"'(microworld(-[\w-]+)?|quick)'")
"""Backbones, tasks, suites and commands of that package, as messages quote them."""

Settings = dict[str, object]


def with_defaults(settings: Mapping[str, object]) -> Settings:
    """Settings of a run, completed by the microworld's task and backbone.

    Its task stands where no task and no data are named, its backbone where its tasks come without a backbone.
    Other texts get no default backbone: the microworld's know none of their words.

    Args:
        settings: by field of `RunConfig`; None and empty lists count as not given.

    Returns:
        The settings and the defaults.

    Raises:
        ApetError: a default is needed, and the package that brings it is not installed.
    """
    given = {key for key, value in settings.items() if value not in (None, [], ())}
    completed = dict(settings)
    if not given & {"task", "data", "text", "label"}:
        _require_package("task")
        completed["task"] = TASK
    if str(completed.get("task")).startswith(_PREFIX) and not given & {"backbone", "data"}:
        _require_package("backbone")
        completed["backbone"] = BACKBONE
    return completed


def default_backbone(name: str | None) -> str:
    """The backbone of a command that takes any: the one that is named, else the microworld's.

    Raises:
        ApetError: none is named, and the package that brings the default is not installed.
    """
    if name is None:
        _require_package("backbone")
        return BACKBONE
    return name


def with_package_hint(message: str) -> str:
    """A message about an unknown name, with the package that brings the name where that is not installed."""
    unknown = "unknown " in message or "No such command" in message
    if unknown and "pip install" not in message and _ITS_NAMES.search(message) and not _installed():
        return f"{message.rstrip('.')}; the package {_PACKAGE} brings it: pip install {_PACKAGE}"
    return message


def _require_package(what: str) -> None:
    if not _installed():
        raise ApetError(
            f"--{what} is required: the default {what} comes with the package {_PACKAGE}, which is not installed"
            f" (pip install {_PACKAGE}); apet {what}s lists the others"
        )


def _installed() -> bool:
    return importlib.util.find_spec(_MODULE) is not None
