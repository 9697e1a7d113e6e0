"""A run on disk: result.json, curve.csv, predictions.csv, config.yaml, task.yaml, the saved delta, manifest.json."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, ValidationError

from apet.errors import ApetError, CannotWriteError
from apet.tasks.task import Task, load_task
from apet.training.config import RunConfig, import_guests, read_config, validate_config
from apet.training.manifest import check_manifest
from apet.training.result import CurvePoint, Prediction, Record, RunResult, explain, read_result
from apet.yaml_text import write_yaml

if TYPE_CHECKING:  # reading a run needs no torch
    from apet.tasks.examples import Example
    from apet.training.loop import EvalPoint

RESULT, CONFIG, TASK, CURVE, PREDICTIONS = (
    "result.json",
    "config.yaml",
    "task.yaml",
    "curve.csv",
    "predictions.csv",
)
RowRecord = TypeVar("RowRecord", bound=Record)


class RunFolder(NamedTuple):
    """What the folder of a finished run holds, but for the curve, the predictions and the delta.

    Attributes:
        config: its settings, nothing left open.
        task: what it learned.
        result: what it recorded.
    """

    config: RunConfig
    task: Task
    result: RunResult


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
        raise CannotWriteError(f"cannot write to {str(output)!r}: {e.strerror}; give another output folder") from e
    try:
        yield part
        _to_disk(part, handle)
        if output.is_dir():
            output.rmdir()
        os.replace(part, output)
        _sync(output.parent)  # the new name stands in the parent: unflushed, a power cut could take it back
    except OSError as e:
        raise CannotWriteError(
            f"cannot write to {str(output)!r}: {e.strerror}; free some space or give another folder"
        ) from e
    finally:
        os.close(handle)
        shutil.rmtree(part, ignore_errors=True)


def partial_path(output: Path) -> Path:
    """Where a folder is while it is written.

    Returns:
        A place beside it that nobody else has, not even a later process of the same number.
    """
    return output.with_name(f"{output.name}.{os.getpid()}-{uuid4().hex[:12]}.part")


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
    if output.is_dir() and any(output.iterdir()):
        raise ApetError(f"output folder {str(output)!r} is not empty; give a new folder")


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
        why = getattr(e, "strerror", None) or str(e)
        raise CannotWriteError(f"cannot write to {str(output)[:200]!r}: {why}; give another output folder") from e


def write_run(folder: Path, config: RunConfig, task: Task, result: RunResult, points: Sequence[EvalPoint]) -> None:
    """Write everything of a run but the delta and the predictions.

    Args:
        folder: exists.
        config: the settings, nothing left open.
        task: what was learned.
        result: the record.
        points: the curve.
    """
    dump_yaml(folder / CONFIG, config.model_dump(mode="json"))
    dump_yaml(folder / TASK, task.model_dump(mode="json", exclude_defaults=True))
    # Not pydantic's own JSON: it writes NaN as null, and a missing number must never come from one that is none.
    (folder / RESULT).write_text(json.dumps(result.model_dump(mode="json"), indent=1, allow_nan=False) + "\n", "utf-8")
    with (folder / CURVE).open("w", encoding="utf-8", newline="") as f:
        out = csv.writer(f)
        out.writerow(CurvePoint.model_fields)
        for p in points:
            loss = "" if p.loss is None else repr(p.loss)
            out.writerow([p.step, loss, p.score.score, p.score.ci_low, p.score.ci_high, round(p.seconds, 3)])


def write_predictions(path: Path, task: Task, examples: Sequence[Example], predictions: Sequence[str | None]) -> None:
    """Write one line an example: where it stands, what was answered, what was accepted, its score.

    Args:
        path: of the file.
        task: its metric scores the examples.
        examples: in the order of the data.
        predictions: answers to them; None = none of the label words.
    """
    from apet.tasks.metrics import item_scores

    scores = item_scores(task.metric, predictions, [e.references for e in examples])
    with path.open("w", encoding="utf-8", newline="") as f:
        out = csv.writer(f)
        out.writerow(Prediction.model_fields)
        for e, prediction, score in zip(examples, predictions, scores, strict=True):
            accepted = e.references[0] if len(e.references) == 1 else json.dumps(e.references, ensure_ascii=False)
            out.writerow([e.location, "" if prediction is None else prediction, accepted, round(float(score), 6)])


def check_run(folder: Path, run_id: str) -> tuple[RunResult, list[CurvePoint], str]:
    """A run's folder as a study records it: whole, that run's, unchanged, and in agreement with itself.

    Args:
        folder: of the run.
        run_id: whose it must be.

    Returns:
        Result, curve, and the digest of its manifest.

    Raises:
        ApetError: something of it is missing, changed or another run's, or its numbers contradict each other.
    """
    digest = check_manifest(folder, run_id)
    result, curve = read_run(folder).result, read_curve(folder)
    if result.run_id != run_id:
        raise ApetError(f"{RESULT} is that of run {result.run_id}")
    scores = read_scores(folder / PREDICTIONS)
    if len(scores) != result.num_examples:
        raise ApetError(f"{RESULT} is of {result.num_examples} examples, {PREDICTIONS} holds {len(scores)}")
    if abs(float(scores.mean()) - result.score) > 1e-5:
        raise ApetError(f"{RESULT} has score {result.score}, the mean of {PREDICTIONS} is {scores.mean():.6f}")
    if not any(p.step == result.best_step and p.score == result.score for p in curve):
        raise ApetError(f"{CURVE} has no measurement of {result.score} at step {result.best_step}")
    return result, curve, digest


def read_curve(folder: Path) -> list[CurvePoint]:
    """The curve of a finished run.

    Returns:
        One point a measurement, the untrained model first.

    Raises:
        ApetError: it cannot be read, or a row does not hold what it should.
    """
    return _read_rows(folder / CURVE, CurvePoint)


def read_predictions(folder: Path) -> list[Prediction]:
    """The predictions of a finished run, in the order of the data.

    Returns:
        One prediction a validation example.

    Raises:
        ApetError: they cannot be read, or a row does not hold what it should.
    """
    return _read_rows(folder / PREDICTIONS, Prediction)


def _read_rows(path: Path, record: type[RowRecord]) -> list[RowRecord]:
    text = {name for name, field in record.model_fields.items() if field.annotation is str}
    try:
        with path.open(encoding="utf-8", newline="") as f:
            rows = list(csv.DictReader(f))
        # An empty cell of a number is a missing one; not strict, since every cell of a CSV file is text.
        return [
            record.model_validate({k: v if k in text else v or None for k, v in row.items()}, strict=False)
            for row in rows
        ]
    except ValidationError as e:
        raise ApetError(f"{path.name}: {explain(e)}") from e
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise ApetError(f"{path.name} cannot be read ({e})") from e


def read_scores(path: Path) -> NDArray[np.float64]:
    """The scores of a run's predictions alone, which is faster than reading all of them.

    Args:
        path: of predictions.csv.

    Returns:
        Score of each example in the order of the data, (examples,).

    Raises:
        ApetError: the file cannot be read, or holds something that is not a score.
    """
    try:
        with path.open(encoding="utf-8", newline="") as f:
            scores = np.array([float(row["score"]) for row in csv.DictReader(f)])
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as e:
        raise ApetError(f"{str(path)!r} is damaged ({e}); remove it to go on without the scores of its items") from e
    if not scores.size or not ((scores >= 0) & (scores <= 1)).all():  # NaN is neither
        raise ApetError(f"{str(path)!r} is damaged: its scores are not all in [0, 1]; take another copy")
    return scores


def dump_yaml(path: Path, values: Mapping[str, JsonValue]) -> None:
    """Write readable YAML, in the order given."""
    path.write_text(write_yaml(values), "utf-8")


def read_run(folder: Path) -> RunFolder:
    """Settings, task and result of a finished run; the guests that it names are imported.

    Returns:
        The three of them.

    Raises:
        ApetError: no run there, or a damaged one.
    """
    require_run(folder)
    try:
        check_manifest(folder)
        result = read_result(folder / RESULT)
    except ApetError as e:
        raise ApetError(f"the run at {str(folder)!r} cannot be used: {e}; run it again") from e
    config = validate_config(read_config(folder / CONFIG), str(folder / CONFIG))
    import_guests(config)  # before the task is read: its metric may be a guest's
    return RunFolder(config, load_task(str(folder / TASK)), result)


def require_run(folder: Path) -> None:
    """Pass where a finished run lies.

    Raises:
        ApetError: none does.
    """
    if not (folder / RESULT).is_file():
        raise ApetError(f"there is no finished run at {str(folder)!r}; give a folder written by apet tune")
