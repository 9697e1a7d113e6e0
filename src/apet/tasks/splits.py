"""Which files hold which split: by the names that people use, in shards or whole, beside one another in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from apet.errors import ApetError
from apet.tasks.files import SUFFIXES, data_suffix, read_table
from apet.tasks.rows import Reading, Row, Table

SPLIT_WORDS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "valid", "val", "dev", "eval", "development"),
    "test": ("test", "testing", "tst"),
}
"""Our names of the splits, and the words by which files are called, in any case."""

_SHARD = re.compile(r"^(?P<stem>.+?)[-_.](?P<number>\d+)-of-(?P<total>\d+)$", re.IGNORECASE)


@dataclass(frozen=True)
class SplitFiles:
    """Files by split.

    Attributes:
        files: split -> its files, shards in their order; ``train`` is there.
        unused: data files that lie beside them and are not read.
    """

    files: dict[str, tuple[Path, ...]]
    unused: tuple[Path, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What a result says: which file is which split, and which ones were not read."""
        notes = [
            f"{split}: {files[0].name}" + (f" and {len(files) - 1} more shards" if len(files) > 1 else "")
            for split, files in self.files.items()
            if len(self.files) > 1 or len(files) > 1
        ]
        if self.unused:
            shown = ", ".join(f.name for f in self.unused[:10]) + (" …" if len(self.unused) > 10 else "")
            notes.append(f"not read: {shown} ({len(self.unused)} beside what is read)")
        return notes


@dataclass
class LocalData:
    """Rows of local files.

    Attributes:
        rows: by split.
        notes: what a result says about the reading.
    """

    rows: dict[str, list[Row]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Name:
    """What a file's name says: ``reviews-train-00001-of-00003.csv`` is shard 1 of 3 of split train of reviews."""

    split: str | None
    rest: str
    shard: tuple[int, int] | None


def read_splits(path: Path, reading: Reading = Reading()) -> LocalData:  # noqa: B008, frozen
    """Rows by split of a folder, of a file with its neighbors, or of one file as train.

    Args:
        path: a data file, a folder with files called by their splits, or one that ``save_to_disk`` of datasets made.
        reading: how text is read.

    Returns:
        Rows by split, and notes.

    Raises:
        ApetError: no such place, no training file, two files for one split, a shard that is missing, or bad data.
    """
    if _is_saved_dataset(path):
        return _read_saved_dataset(path)
    found = find_splits(path)
    tables = {split: _read_shards(files, reading) for split, files in found.files.items()}
    notes = [*found.notes, *(note for t in tables.values() for note in t.notes)]
    return LocalData({split: t.rows for split, t in tables.items()}, tuple(notes))


def find_splits(path: Path) -> SplitFiles:
    """Which files hold which split.

    Args:
        path: a folder, or a file. A file that is called by a split (``train.csv``, ``reviews_train.csv``) stands for
            its neighbors of the same name, too (``val.csv``, ``reviews_val.csv``); any other file is the training data.

    Returns:
        The files.

    Raises:
        ApetError: no training file, two files for one split, or a shard that is missing.
    """
    if not path.is_dir():
        name = _parse(path)
        if name.split is None or not path.is_file():
            return SplitFiles({"train": (path,)})
        there = [f for f in _data_files(path.parent) if _parse(f).split and _parse(f).rest == name.rest]
        if name.split == "train":
            return _assign(there, path.parent, path)
        return SplitFiles({"train": (path,)}, tuple(f for f in there if f != path))
    files = _data_files(path)
    rests = {_parse(f).rest for f in files if _parse(f).split == "train"}
    rest = "" if "" in rests else next(iter(rests), None)
    if rest is None:
        shown = ", ".join(f.name for f in files[:8]) or "no data files"
        raise ApetError(
            f"folder {str(path)!r} has no training file; expected such as train.csv ({', '.join(SUFFIXES)}); it has"
            f" {shown}"
        )
    if len(rests) > 1 and rest != "":
        raise ApetError(f"folder {str(path)!r} has training files of {', '.join(sorted(rests))}; give one of the files")
    mine = [f for f in files if _parse(f).split and _parse(f).rest == rest]
    found = _assign(mine, path, None)
    used = {f for group in found.files.values() for f in group}
    return SplitFiles(found.files, tuple(f for f in files if f not in used))


def _assign(files: Iterable[Path], folder: Path, given: Path | None) -> SplitFiles:
    """Files of one name by their splits."""
    groups: dict[str, list[Path]] = {}
    for f in files:
        groups.setdefault(str(_parse(f).split), []).append(f)
    if given is not None and _parse(given).shard is None:
        groups["train"] = [given]  # what was asked for by name, whatever else is called train
        # And of the others those that are saved as it is.
        alike = {name: [f for f in there if data_suffix(f) == data_suffix(given)] for name, there in groups.items()}
        groups = {name: alike[name] or there for name, there in groups.items()}
    assigned = {split: _shards(split, groups[split], folder) for split in SPLIT_WORDS if split in groups}
    used = {f for group in assigned.values() for f in group}
    return SplitFiles(assigned, tuple(f for f in files if f not in used))


def _shards(split: str, files: list[Path], folder: Path) -> tuple[Path, ...]:
    """The files of one split: one, or all shards of one set."""
    by_number = {shard[0]: f for f in files if (shard := _parse(f).shard)}
    totals = {shard[1] for f in files if (shard := _parse(f).shard)}
    if len(files) == 1 and not totals:
        return tuple(files)
    if len(totals) != 1 or len(by_number) != len(files):
        names = ", ".join(f.name for f in files)
        raise ApetError(f"folder {str(folder)!r} has several files for split {split}: {names}; keep one of them there")
    (total,) = totals
    missing = sorted(set(range(total)) - set(by_number))
    if missing:
        # As the files are called: shards are counted from 0.
        shown = ", ".join(f"{n:05}-of-{total:05}" for n in missing[:5])
        raise ApetError(f"folder {str(folder)!r}: shard {shown} of split {split} is missing; download it, too")
    return tuple(by_number[n] for n in sorted(by_number))


def _parse(path: Path) -> _Name:
    suffix = data_suffix(path)
    stem = path.name.lower().removesuffix(".gz").removesuffix(suffix or "")
    match = _SHARD.match(stem)
    shard = (int(match["number"]), int(match["total"])) if match else None
    words = re.split(r"[-_. ]+", match["stem"] if match else stem)
    splits = [(i, split) for i, w in enumerate(words) for split, names in SPLIT_WORDS.items() if w in names]
    if not splits:
        return _Name(None, "", shard)
    # The last such word: dev-train.csv is the training part of a development set.
    index, split = splits[-1]
    return _Name(split, "-".join(words[:index] + words[index + 1 :]), shard)


def _data_files(folder: Path) -> list[Path]:
    try:
        return sorted(f for f in folder.iterdir() if data_suffix(f) and f.is_file() and not f.name.startswith("."))
    except OSError as e:
        raise ApetError(f"cannot read data folder {str(folder)!r}: {e.strerror}") from e


def _read_shards(files: Iterable[Path], reading: Reading) -> Table:
    tables = [read_table(f, reading) for f in files]
    return Table([row for t in tables for row in t.rows], [note for t in tables for note in t.notes])


def _is_saved_dataset(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file()


def _read_saved_dataset(path: Path) -> LocalData:
    import datasets

    try:
        saved = datasets.load_from_disk(str(path))
        parts = dict(saved.items()) if isinstance(saved, datasets.DatasetDict) else {"train": saved}
        splits: dict[str, list[Row]] = {}
        unused = []
        for name, part in parts.items():
            split = _parse(Path(f"{name}.csv")).split
            if split is None or split in splits:
                unused.append(name)
                continue
            splits[split] = [Row(dict(v), f"{path.name}/{name}:row {n}") for n, v in enumerate(part, start=1)]
    except Exception as e:  # datasets raises errors of many libraries
        raise ApetError(f"{str(path)!r} does not load as a dataset ({(str(e).splitlines() or [''])[0]})") from e
    if "train" not in splits:
        raise ApetError(f"dataset {str(path)!r} has no split train; it has {', '.join(parts)}")
    notes = (f"not read: {', '.join(unused)} ({len(unused)} splits beside what is read)",) if unused else ()
    return LocalData(splits, notes)
