"""The rows of a recommendation, parted: to train, to race on, to choose by, and to test, which nothing is chosen by.

They lie as files in the output folder: what is in which part can be looked at, and the commands of the answer use them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from apet.errors import ApetError, CannotWriteError
from apet.tasks.examples import Example, check_overlap, hold_out, sample
from apet.tasks.sources import TaskData
from apet.tasks.task import Task
from apet.training.output_folder import partial_path

MAX_TRAIN, MAX_RACE_TRAIN = 32_000, 8_000
"""Rows to train on, at most: a thousand steps of 32 see no more, and reading them takes time, too."""
MAX_RACE, MAX_VALIDATION, MAX_TEST = 200, 500, 2_000
"""Rows that heats, whole runs and the answer are measured on, at most."""


@dataclass(frozen=True)
class Parts:
    """The rows by what they are for.

    Attributes:
        train: whole runs train on these.
        validation: whole runs are measured on these, and arms chosen by them.
        race_train, race: of the training rows, those that heats train on, and are measured on.
        test: the recommended arm alone is measured on these, once.
        notes: what was held out of what.
    """

    train: list[Example]
    validation: list[Example]
    race_train: list[Example]
    race: list[Example]
    test: list[Example]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PartFiles:
    """Where they lie.

    Attributes:
        choosing: folder with ``train.jsonl`` and ``validation.jsonl``.
        racing: folder of the same two for heats.
        test: file.
        num_validation: rows there are to choose by.
        num_test: rows there are to test on.
        num_race: rows that heats are measured on.
        notes: what was held out of what.
    """

    choosing: Path
    racing: Path
    test: Path
    num_validation: int
    num_test: int
    num_race: int
    notes: tuple[str, ...]


def part(
    task: Task,
    data: TaskData,
    test: Sequence[Example] | None = None,
    max_train: int | None = None,
    max_eval: int | None = None,
    max_test: int | None = None,
) -> Parts:
    """Part a task's examples.

    Args:
        task: whose examples.
        data: with train and validation, and maybe test.
        test: in place of the data's own.
        max_train: rows to train on, at most; None = `MAX_TRAIN`.
        max_eval: rows to choose by, at most; None = `MAX_VALIDATION`.
        max_test: rows to test on, at most; None = `MAX_TEST`.

    Returns:
        The parts; no text is in two of them.

    Raises:
        ApetError: too few rows, or texts of a given test are in train, too, and the task says to refuse that.
    """
    notes = list(data.notes)
    train, validation = data.splits["train"], data.splits["validation"]
    given = list(test) if test is not None else data.splits.get("test")
    if given is None:
        train, given = hold_out(task, train)
        notes.append(f"test: {len(given)} examples held out of train by a hash of their text")
    elif test is not None:
        train, num_dropped = check_overlap(task, train, given)
        if num_dropped:
            notes.append(f"train: {num_dropped} examples left out, their text is in the test, too")
    tested = {e.normalized_text for e in given}
    kept = [e for e in validation if e.normalized_text not in tested]
    if len(kept) < len(validation):
        notes.append(f"validation: {len(validation) - len(kept)} examples left out, their text is in the test, too")
    if max_train is None and len(train) > MAX_TRAIN:
        notes.append(f"train: {MAX_TRAIN:,} of {len(train):,} examples, chosen by a hash of their text")
    train = sample(train, max_train or MAX_TRAIN)
    race_train, race = hold_out(task, train, 0.2, MAX_RACE)
    parts = Parts(
        train,
        sample(kept, max_eval or MAX_VALIDATION),
        sample(race_train, MAX_RACE_TRAIN),
        sample(race, MAX_RACE),
        sample(given, max_test or MAX_TEST),
        tuple(notes),
    )
    for name in ("train", "validation", "race_train", "race", "test"):
        if not getattr(parts, name):
            raise ApetError(
                f"{len(data.splits['train']):,} training and {len(validation):,} validation rows are too few to choose"
                " by some of them and to test on others; give more, or a file of its own to test on: --test FILE"
            )
    return parts


def write_parts(parts: Parts, task: Task, folder: Path, name: str) -> PartFiles:
    """Write the parts as JSON lines; files that hold the same already are left alone.

    Args:
        parts: to write.
        task: whose columns and labels the rows have.
        folder: to write into.
        name: of the data, which tasks made of them are called by.

    Returns:
        Where they lie.

    Raises:
        CannotWriteError: the folder takes no files.
    """
    choosing, racing = folder / "choosing" / name, folder / "racing" / name
    test = folder / "test" / f"{name}.jsonl"
    files = {
        choosing / "train.jsonl": parts.train,
        choosing / "validation.jsonl": parts.validation,
        racing / "train.jsonl": parts.race_train,
        racing / "validation.jsonl": parts.race,
        test: parts.test,
    }
    values = {word: value for value, word in task.labels.items()}
    try:
        for path, examples in files.items():
            text = "".join(json.dumps(_row(task, values, e), ensure_ascii=False) + "\n" for e in examples)
            _write(path, text)
    except OSError as e:
        raise CannotWriteError(f"cannot write to {str(folder)!r}: {e.strerror}; the same command goes on") from e
    return PartFiles(choosing, racing, test, len(parts.validation), len(parts.test), len(parts.race), parts.notes)


def _row(task: Task, values: dict[str, str], example: Example) -> dict[str, JsonValue]:
    """An example as a row of the task's columns."""
    target: JsonValue = (
        values[example.references[0]]
        if task.is_classification
        else example.references[0]
        if len(example.references) == 1
        else list(example.references)
    )
    return {**example.texts, task.target: target}


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text("utf-8") == text:
        return  # the same command again: files that runs were made with stay as they are
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = partial_path(path)
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)
