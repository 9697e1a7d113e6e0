"""A study's folder in the hands of one writer: locked, without links out of it, without what killed workers left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from apet.errors import ApetError
from apet.studies.store import Store, require_study
from apet.studies.store_errors import clear_errors
from apet.studies.store_schema import FILE, LOCK, RUNS
from apet.training import output_folder


@contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Hold a study's folder for one scheduler; the system lets go when the process ends, however it ends.

    Raises:
        ApetError: another scheduler holds it.
    """
    # A lock of the system, not a file that is there or not: it ends with the process, also when that is killed.
    lock = FileLock(folder / LOCK)
    with clear_errors(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout as e:
            raise ApetError(
                f"another apet is running the study in {str(folder)!r}; wait for it, or give another folder"
            ) from e
    try:
        yield
    finally:
        lock.release()


@contextmanager
def open_store(folder: Path, *, create: bool = True) -> Iterator[Store]:
    """The store of a folder, held alone from before it is made until it is closed.

    Yields:
        The store, open for writing; what killed workers left half written is gone, before and after.

    Raises:
        ApetError: as `Store` and `study_lock`.
    """
    if create:
        with clear_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)  # before the lock, which is a file in it; all else under it
    else:
        require_study(folder)
    with study_lock(folder):
        refuse_links(folder)
        store = Store(folder, create=create, write=True)
        try:
            remove_partial_runs(folder)  # under the lock: no scheduler that is alive has workers writing here
            yield store
        finally:
            remove_partial_runs(folder)  # Ctrl-C stops workers wherever they are, also in the middle of a write
            store.close()


def refuse_links(folder: Path) -> None:
    """Pass where nothing of a study leads out of its folder: a study writes, moves and removes inside it alone.

    Raises:
        ApetError: a part of it is a link.
    """
    for name in (FILE, RUNS):
        if (folder / name).is_symlink():
            raise ApetError(
                f"{str(folder / name)!r} is a link, and a study writes into its own folder alone;"
                " give the folder where it leads, or link the study's whole folder"
            )


def remove_partial_runs(folder: Path) -> None:
    """Remove what killed workers left half written."""
    for half in output_folder.left_half_written(folder / RUNS):
        with suppress(OSError):  # it took its name just now, or cannot be removed: it is in nobody's way
            # A worker that outlived its scheduler may still write: by the new name it fails instead of finishing.
            renamed = output_folder.partial_path(half.with_name(half.name.partition(".")[0]))
            os.replace(half, renamed)
            shutil.rmtree(renamed, ignore_errors=True)
