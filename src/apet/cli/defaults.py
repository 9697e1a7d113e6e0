"""What commands mean where no backbone or no task is given: the embedded synthetic world, which is always at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BACKBONE = "microworld-t5-small"
TASK = "microworld-sst2"
_WORLD = "microworld-"


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run with the embedded task where they name no task and no data, and its backbone for its tasks.

    Other texts get no backbone by themselves: the embedded ones know none of their words.
    """
    given = {k for k, v in settings.items() if v not in (None, [], ())}
    out = dict(settings)
    if not given & {"task", "data", "text", "label"}:
        out["task"] = TASK
    if str(out.get("task")).startswith(_WORLD) and not given & {"backbone", "data"}:
        out["backbone"] = BACKBONE
    return out
