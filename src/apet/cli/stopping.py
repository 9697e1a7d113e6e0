"""What a command says when it is stopped, by Ctrl-C or by a scheduler's SIGTERM: what is kept, and how to go on."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_kept: list[Callable[[], str | None]] = []
_output: list[Path] = []


def stop_at_sigterm() -> None:
    """Let SIGTERM end a command as Ctrl-C does: what is half done is cleaned up, what is done is kept."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def keeps_run(folder: Path) -> None:
    """The command trains one run, whose state at its last measurement is kept in its folder."""
    from apet.training.output_folder import UNFINISHED

    def what() -> str | None:
        there = (folder / UNFINISHED).is_file()
        return f"the run up to its last measurement is kept in {folder}" if there else None

    _kept[:] = [what]
    _output[:] = [folder]


def keeps_runs(folder: Path) -> None:
    """The command makes many runs, of which the finished ones are kept in a folder."""
    _kept[:] = [lambda: f"finished runs are kept in {folder}" if folder.is_dir() else None]
    _output[:] = [folder]


def stopped_message() -> str:
    """One line: what is kept, and the command that goes on."""
    kept = next((text for what in _kept if (text := what())), None)
    if kept is None:
        return "stopped; nothing is left behind" if _kept else "stopped"
    words = sys.argv[1:]
    if not any(w == "--output" or w.startswith("--output=") for w in words):
        words = [*words, "--output", str(_output[0])]
    return f"stopped; {kept}; it goes on with: {shlex.join(['apet', *words])}"
