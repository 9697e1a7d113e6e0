"""What makes a run's folder believable: a manifest with the digest of every file, bound to the run's identifier.

It is written last. Whoever reads a run, to report, to predict or to record it in a study, holds the files against it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import JsonValue

from apet.errors import ApetError

MANIFEST = "manifest.json"


def write_manifest(folder: Path, run_id: str) -> None:
    """Write down what the files of a run hold.

    Args:
        folder: with all its files.
        run_id: whose they are.
    """
    files: dict[str, JsonValue] = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    content: dict[str, JsonValue] = {"run_id": run_id, "files": files}
    text = json.dumps({**content, "digest": _digest(content)}, indent=1) + "\n"
    (folder / MANIFEST).write_text(text, "utf-8")


def check_manifest(folder: Path, run_id: str | None = None, only: Collection[str] | None = None) -> str:
    """Hold a run's files against its manifest.

    Args:
        folder: of a finished run.
        run_id: whose it must be; None = anyone's.
        only: files to look at; None = all.

    Returns:
        The manifest's own digest, 16 hex digits, which stands for the whole folder.

    Raises:
        ApetError: a file is missing or was changed, or the run is another one; it is named.
    """
    owner, files, digest = _read(folder)
    if run_id is not None and owner != run_id:
        raise ApetError(f"{str(folder)!r} holds run {owner}, not {run_id}: the folder was moved or copied")
    for name, (num_bytes, sha256) in files.items():
        if only is not None and name not in only:
            continue
        path = folder / name
        if not path.is_file():
            raise ApetError(f"{str(folder)!r}: {name} is gone")
        if path.stat().st_size != num_bytes or _sha256(path) != sha256:
            raise ApetError(f"{str(folder)!r}: {name} was changed after the run had ended")
    return digest


def looks_unchanged(folder: Path) -> bool:
    """Whether sizes and times say that no file was touched since the manifest was written: cheap, for many runs."""
    try:
        _, files, _ = _read(folder)
        written = (folder / MANIFEST).stat().st_mtime
        there = {name: (folder / name).stat() for name in files}
    except (ApetError, OSError):
        return False
    # A copy of a folder writes its files anew, in any order, within moments.
    return all(there[n].st_size == size and there[n].st_mtime <= written + 2 for n, (size, _) in files.items())


def _read(folder: Path) -> tuple[str, dict[str, tuple[int, str]], str]:
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
        # Its own digest comes first: what it says is not believed before, so that nothing of it can be left out either.
        digest = content.pop("digest")
        if digest != _digest(content):
            raise ValueError("it was changed after the run had ended")
        files = {name: (f["bytes"], f["sha256"]) for name, f in content["files"].items()}
        return content["run_id"], files, hashlib.sha256(raw).hexdigest()[:16]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        why = e.strerror if isinstance(e, OSError) else str(e) if type(e) is ValueError else f"{type(e).__name__}: {e}"
        raise ApetError(f"{str(folder)!r}: {MANIFEST} cannot be read ({why})") from e


def _digest(content: Mapping[str, JsonValue]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
