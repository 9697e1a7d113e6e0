"""What can be made again is kept on this machine, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def cache_folder() -> Path:
    """``APET_CACHE``, or ``apet`` in the user's cache folder."""
    own = os.environ.get("APET_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apet"


def write_cached(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file of the cache written; a cache that cannot be written is done without."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
