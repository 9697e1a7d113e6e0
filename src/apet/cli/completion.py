"""Words that a shell completes: methods, backbones, tasks, folders of runs; what is slow to ask is left to typing."""

from __future__ import annotations

from pathlib import Path

MOST_FOLDERS = 200
"""Folders that are looked through: a key press must be answered at once."""


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
