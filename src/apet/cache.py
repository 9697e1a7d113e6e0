"""The user's cache folder: what can be made again, each file written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def cache_folder() -> Path:
    """The folder of the cache: ``APET_CACHE``, or ``apet`` in the user's cache folder."""
    folder = os.environ.get("APET_CACHE")
    return Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apet"


def write_cached(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file of the cache written. A cache that cannot be written is done without: its content can be made again.

    Args:
        path: of the file.
        write: writes it to the path that it is given.
    """
    # The process's number: two workers may make the same file at once, each under a name that nobody else reads.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
