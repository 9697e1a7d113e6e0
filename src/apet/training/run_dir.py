"""A run on disk: result.json, curve.csv, predictions.csv, config.yaml, task.yaml, the saved delta, manifest.json."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, ValidationError

from apet.errors import ApetError
from apet.tasks.task import Task, load_task
from apet.training.config import RunConfig, import_guests, read_config, validate_config
from apet.training.manifest import check_manifest
from apet.training.output_folder import RESULT
from apet.training.result import CurvePoint, Prediction, Record, RunResult, explain, read_result
from apet.yaml_text import write_yaml

if TYPE_CHECKING:  # reading a run needs no torch
    from apet.tasks.answers import Answer
    from apet.tasks.examples import Example
    from apet.training.evaluation import EvalPoint

CONFIG, TASK, CURVE, PREDICTIONS, TEST_PREDICTIONS = (
    "config.yaml",
    "task.yaml",
    "curve.csv",
    "predictions.csv",
    "test_predictions.csv",
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


class Setup(NamedTuple):
    """What answers texts: a finished run, or a delta that was imported with its task.

    Attributes:
        config: its settings, nothing left open.
        task: what it learned.
        result: what it recorded; None of an import.
    """

    config: RunConfig
    task: Task
    result: RunResult | None


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


def write_predictions(path: Path, task: Task, examples: Sequence[Example], predictions: Sequence[Answer]) -> None:
    """Write one line an example: where it stands, what was answered, what was accepted, its score.

    Args:
        path: of the file.
        task: its metric scores the examples.
        examples: in the order of the data.
        predictions: answers to them.
    """
    from apet.tasks.metrics import item_scores

    scores = item_scores(task.metric, [p.scored for p in predictions], [e.references for e in examples], task.tokenizer)
    with path.open("w", encoding="utf-8", newline="") as f:
        out = csv.writer(f)
        out.writerow(Prediction.model_fields)
        for e, prediction, score in zip(examples, predictions, scores, strict=True):
            accepted = e.references[0] if len(e.references) == 1 else json.dumps(e.references, ensure_ascii=False)
            cell = "" if np.isnan(score) else round(float(score), 6)
            out.writerow([e.location, prediction.text, accepted, cell])


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
    require_agreement(result, curve, read_scores(folder / PREDICTIONS))
    if (folder / TEST_PREDICTIONS).is_file():
        _require_mean(
            TEST_PREDICTIONS, read_scores(folder / TEST_PREDICTIONS), result.test_score, result.test_num_examples
        )
    return result, curve, digest


def require_agreement(result: RunResult, curve: Sequence[CurvePoint], scores: NDArray[np.float64]) -> None:
    """Pass where a run's record says what its predictions and its curve say.

    Args:
        result: the record.
        curve: the measurements.
        scores: of the predictions, (examples,).

    Raises:
        ApetError: they contradict each other.
    """
    _require_mean(PREDICTIONS, scores, result.score, result.num_examples)
    if result.task_type != "regression" and any(p.score < 0 for p in curve):
        raise ApetError(f"{CURVE} has a score below 0")
    if not any(p.step == result.best_step and p.score == result.score for p in curve):
        raise ApetError(f"{CURVE} has no measurement of {result.score} at step {result.best_step}")


def _require_mean(name: str, scores: NDArray[np.float64], score: float | None, num_examples: int | None) -> None:
    """Pass where a record's score is that of a file of predictions, (examples,)."""
    if len(scores) != num_examples:
        raise ApetError(f"{RESULT} is of {num_examples} examples, {name} holds {len(scores)}")
    # A metric of the whole split has no scores of single examples that could be its mean.
    if score is None or (not np.isnan(scores).all() and abs(float(scores.mean()) - score) > 1e-5):
        raise ApetError(f"{RESULT} has score {score}, the mean of {name} is {scores.mean():.6f}")


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
        Score of each example in the order of the data, (examples,); all NaN where the metric has none of examples.

    Raises:
        ApetError: the file cannot be read, or holds something that is not a score.
    """
    try:
        with path.open(encoding="utf-8", newline="") as f:
            scores = np.array([float(row["score"] or "nan") for row in csv.DictReader(f)])
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as e:
        raise ApetError(f"{str(path)!r} is damaged ({e}); remove it to go on without the scores of its items") from e
    is_of_split = np.isnan(scores).all()
    if not scores.size or not (is_of_split or ((scores >= 0) & (scores <= 1)).all()):  # NaN is neither
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


def read_setup(folder: Path) -> Setup:
    """Settings and task of a finished run, or of a delta that was imported with its task.

    Returns:
        The two of them, and what a run recorded.

    Raises:
        ApetError: neither is there, or it is damaged.
    """
    if (folder / RESULT).is_file() or not ((folder / CONFIG).is_file() and (folder / TASK).is_file()):
        return Setup(*read_run(folder))
    try:
        check_manifest(folder)
    except ApetError as e:
        raise ApetError(f"the delta at {str(folder)!r} cannot be used: {e}; import it again") from e
    config = validate_config(read_config(folder / CONFIG), str(folder / CONFIG))
    import_guests(config)
    return Setup(config, load_task(str(folder / TASK)), None)


def require_run(folder: Path) -> None:
    """Pass where a finished run lies.

    Raises:
        ApetError: none does.
    """
    if not (folder / RESULT).is_file():
        raise ApetError(f"there is no finished run at {str(folder)!r}; give a folder written by apet tune")
