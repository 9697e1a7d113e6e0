"""Words that a shell completes: methods, backbones, tasks, folders of runs; what is slow to ask is left to typing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from apet.errors import ApetError, UnknownNameError

SHELLS = ("bash", "fish", "powershell", "pwsh", "zsh")
_VARIABLE = "_APET_COMPLETE"
"""Environment variable by which a shell asks for words."""

MOST_FOLDERS = 200
"""Folders that are looked through: a key press must be answered at once."""


def answer_completion(words: Sequence[str]) -> str | None:
    """The answer to ``--show-completion [SHELL]`` and ``--install-completion [SHELL]``.

    typer's own options take the shell that they are typed in, which a script or a container may not have.

    Args:
        words: the command line, without the program's name.

    Returns:
        What to print; None where the line asks for something else.

    Raises:
        UnknownNameError: a shell that has no completion.
        ApetError: none is named, and the one that it is typed in cannot be told.
    """
    option, _, shell = words[0].partition("=") if words else ("", "", "")
    if option not in ("--show-completion", "--install-completion"):
        return None
    from typer import _completion_shared as shells

    shell = shell or (words[1] if len(words) > 1 else shells._get_shell_name() or "")
    if not shell:
        raise ApetError(f"the shell that this runs in cannot be told; name it, such as apet {option} bash")
    if shell not in SHELLS:
        raise UnknownNameError("shell", shell, SHELLS)
    if option == "--show-completion":
        return shells.get_completion_script(prog_name="apet", complete_var=_VARIABLE, shell=shell)
    _, path = shells.install(shell, prog_name="apet", complete_var=_VARIABLE)
    return f"{shell} completion is in {path}; it works in shells started from now on"


def complete_methods(incomplete: str) -> list[str]:
    """Names of methods, as `apet methods` has kept them."""
    from apet.cli.listing import methods_in_words

    return [name for name in methods_in_words()["methods"] if name.startswith(incomplete)]


def complete_method_list(incomplete: str) -> list[str]:
    """Names with commas: the last of them is completed."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in complete_methods(last)]


def complete_tasks(incomplete: str) -> list[str]:
    """Names of registered tasks."""
    from apet.tasks.task import registered_tasks

    return [name for name in registered_tasks() if name.startswith(incomplete)]


def complete_backbones(incomplete: str) -> list[str]:
    """Names of registered backbones, and folders that hold one."""
    from apet.backbones.registry import packaged_backbones, published_shapes

    names = [name for name in (*packaged_backbones(), *published_shapes()) if name.startswith(incomplete)]
    return names + _folders(incomplete, "config.json")


def complete_runs(incomplete: str) -> list[str]:
    """Folders of finished runs, below the current folder or the one that was begun."""
    return _folders(incomplete, "result.json") + _folders(incomplete, "study.sqlite")


def _folders(incomplete: str, file: str) -> list[str]:
    begun = Path(incomplete)
    parent = begun if incomplete.endswith("/") else begun.parent
    try:
        candidates = [p for p in sorted(parent.iterdir())[:MOST_FOLDERS] if p.is_dir()]
    except OSError:
        return []
    # One level further: results lie in runs/NAME, which nobody has typed yet.
    inner = [q for p in candidates for q in sorted(p.glob(f"*/{file}"))[:MOST_FOLDERS]]
    found = [p for p in candidates if (p / file).is_file()] + [q.parent for q in inner]
    return [str(p) for p in found if str(p).startswith(incomplete.removeprefix("./"))]
