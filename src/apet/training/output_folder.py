"""The folder of a run's result: held before anything is loaded, and a run's only when all is on the disk."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from apet.errors import ApetError, CannotWriteError, shortened

RESULT = "result.json"
"""The file by which a run counts as finished; the last one to get its name."""
UNFINISHED = "unfinished.pt"
"""The state of a run that has not ended; see `apet.training.resume`."""
LOCK = ".lock"
_OURS = {LOCK, UNFINISHED}


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder to write into; it takes its name when all is on the disk, and is gone if anything goes wrong.

    Yields:
        The folder under its temporary name.

    Raises:
        ApetError: the place is taken.
        CannotWriteError: it cannot be written.
    """
    require_free(output)
    part = partial_path(output)
    try:
        part.mkdir(parents=True)
        handle = os.open(part, os.O_RDONLY)
    except OSError as e:
        raise CannotWriteError(_why(output, e)) from e
    try:
        yield part
        _to_disk(part, handle)
        if output.is_dir():  # held by this process, or empty: by the name of the last file the run is there
            for path in sorted(part.iterdir(), key=lambda p: p.name == RESULT):
                os.replace(path, output / path.name)
            _sync(output)
            (output / UNFINISHED).unlink(missing_ok=True)
        else:
            os.replace(part, output)
            _sync(output.parent)  # the new name stands in the parent: unflushed, a power cut could take it back
    except OSError as e:
        raise CannotWriteError(_why(output, e)) from e
    finally:
        os.close(handle)
        shutil.rmtree(part, ignore_errors=True)


def partial_path(output: Path) -> Path:
    """Where a folder is while it is written.

    Returns:
        A place beside it that nobody else has, not even a later process of the same number.
    """
    return output.with_name(f"{output.name}.{os.getpid()}-{uuid4().hex[:12]}.part")


_PARTIAL = re.compile(r".+\.[0-9]+-[0-9a-f]{12}\.part")


def left_half_written(folder: Path) -> list[Path]:
    """What processes that were killed left under the names of `partial_path`: nothing of anybody else, and no link."""
    return [p for p in folder.glob("*.part") if _PARTIAL.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]


def _to_disk(folder: Path, handle: int) -> None:
    """Flush a folder before it takes its name: a power cut would keep the name and lose the content."""
    # A folder that somebody took away meanwhile, as a study's next scheduler does, may have been made again by the
    # last file that was written; the others are lost. The open handle still names the first one.
    if not os.path.samestat(folder.stat(), os.fstat(handle)):
        raise FileNotFoundError(errno.ENOENT, "it was removed while it was written", str(folder))
    for path in folder.rglob("*"):
        _sync(path)
    os.fsync(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_free(output: Path) -> None:
    """Pass where a run may be written.

    Raises:
        ApetError: there is a file, another run, or any other content.
    """
    try:
        exists = output.exists()
    except OSError as e:
        raise ApetError(f"output {str(output)[:60]!r}… cannot be a folder's name: {e.strerror}") from e
    if exists and not output.is_dir():
        raise ApetError(f"output {str(output)!r} is a file; give a folder")
    if (output / RESULT).exists():
        raise ApetError(f"output folder {str(output)!r} holds another run; give a new folder, or remove it")
    if output.is_dir() and any(f.name not in _OURS for f in output.iterdir()):
        raise ApetError(f"output folder {str(output)!r} is not empty; give a new folder")


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Hold the place of a result for this process: better refused now than after an hour of training.

    Folders that were made for it are gone again if nothing was left in them.

    Args:
        output: the folder; made if it is not there.

    Yields:
        Nothing.

    Raises:
        ApetError: the place is taken, or another process holds it.
        CannotWriteError: it cannot be written.
    """
    require_free(output)
    made = [p for p in (output, *output.parents) if not p.exists()]
    lock = FileLock(output / LOCK)
    try:
        output.mkdir(parents=True, exist_ok=True)
        # A lock of the system, which ends with the process: a file left by one that was killed holds nobody up.
        lock.acquire(timeout=0)
    except Timeout as e:
        raise ApetError(f"another apet is writing to {str(output)!r}; wait for it, or give another folder") from e
    except (OSError, ValueError) as e:
        _remove_empty(made)
        raise CannotWriteError(_why(output, e)) from e
    try:
        yield
    finally:
        (output / LOCK).unlink(missing_ok=True)
        lock.release()
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty: the result is in it, or what a stopped run left
            folder.rmdir()


def require_space(output: Path, num_bytes: int) -> None:
    """Pass where so many bytes can be written.

    Raises:
        CannotWriteError: the disk has less left.
    """
    existing = next(p for p in (output, *output.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        raise CannotWriteError(
            f"cannot write to {shortened(str(output))!r}: the run needs {num_bytes / 1e6:,.1f} MB there and"
            f" {free / 1e6:,.1f} MB are left; free some space, or give a folder on another disk"
        )


def bytes_needed(num_trainable: int) -> int:
    """Bytes that a run of so many parameters may need: the values, twice AdamW's moments and the best values, text."""
    return 4 * 5 * num_trainable + (4 << 20)


def _why(output: Path, error: OSError | ValueError) -> str:
    """What a place says that takes no files, and what to do: only a full disk is helped by space."""
    code = getattr(error, "errno", None)
    why = getattr(error, "strerror", None) or str(error)
    full = code in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space, or give a folder on another disk" if full else "give another output folder"
    return f"cannot write to {shortened(str(output))!r}: {why}; {remedy}"


def require_writable(output: Path) -> None:
    """Pass where a folder can be made: better known before an hour of training than after it.

    Raises:
        CannotWriteError: it cannot.
    """
    probe = partial_path(output)
    try:
        existing = next(p for p in probe.parents if p.exists())
        probe.mkdir(parents=True)
        probe.rmdir()
        # Parents that were made for the probe go, too: a run that is refused later leaves no empty folders behind.
        for made in probe.parents:
            if made == existing:
                break
            made.rmdir()
    except (OSError, ValueError) as e:
        raise CannotWriteError(_why(output, e)) from e
