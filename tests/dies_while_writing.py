"""A guest that kills its worker at a run's rename: once before it, once after it, for each run.

Imported by the runs of a study whose environment names a folder for the marks; without it, it does nothing.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from apet.training import output_folder

_rename = os.replace


def _die(mark: Path) -> None:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _replace(source: str | Path, target: str | Path) -> None:
    marks, target = os.environ.get("DEATH_MARKS"), Path(target)
    # The scheduler imports this, too, and renames what it sweeps away: from one temporary name to another.
    at_a_run = marks and target.parent.name == "runs" and str(source).endswith(".part") and target.suffix == ""
    if at_a_run:
        _die(Path(str(marks)) / f"{target.name}.before")
    _rename(source, target)
    if at_a_run:
        _die(Path(str(marks)) / f"{target.name}.after")


if os.environ.get("DEATH_MARKS"):
    output_folder.os.replace = _replace  # type: ignore[attr-defined]
