"""A run on disk: result.json, curve.csv, predictions.csv, config.yaml, task.yaml and the saved θ."""

from __future__ import annotations

import csv
import errno
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from apet.errors import ApetError, CannotWriteError
from apet.tasks.metrics import item_scores
from apet.tasks.task import Task, load_task
from apet.training.config import RunConfig, read_config, validate_config
from apet.training.evaluation import Split
from apet.training.loop import EvalPoint

RESULT, SETTINGS, TASK, CURVE, PREDICTIONS = (
    "result.json",
    "config.yaml",
    "task.yaml",
    "curve.csv",
    "predictions.csv",
)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder to write into; it takes its name when all is on the disk, and is gone if anything goes wrong.

    Raises:
        ApetError: the place is taken.
        CannotWriteError: it cannot be written.
    """
    require_free(output)
    part = partial_path(output)
    try:
        part.mkdir(parents=True)
        held = os.open(part, os.O_RDONLY)
    except OSError as e:
        raise CannotWriteError(f"cannot write to {str(output)!r}: {e.strerror}; give another output folder") from e
    try:
        yield part
        _to_disk(part, held)
        if output.is_dir():
            output.rmdir()
        os.replace(part, output)
        _sync(output.parent)
    except OSError as e:
        raise CannotWriteError(
            f"cannot write to {str(output)!r}: {e.strerror}; free some space or give another folder"
        ) from e
    finally:
        os.close(held)
        shutil.rmtree(part, ignore_errors=True)


def partial_path(output: Path) -> Path:
    """Where a folder is while it is written: a place that nobody else has, not even a later process of this number."""
    return output.with_name(f"{output.name}.{os.getpid()}-{uuid4().hex[:12]}.part")


def _to_disk(folder: Path, held: int) -> None:
    """Before it takes its name: a power cut would leave the name and lose the content.

    A folder that somebody took away meanwhile, as a study's next driver does, may have been made again by the last
    file; the others are lost.
    """
    if not os.path.samestat(folder.stat(), os.fstat(held)):
        raise FileNotFoundError(errno.ENOENT, "it was removed while it was written", str(folder))
    for path in folder.rglob("*"):
        _sync(path)
    os.fsync(held)


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
        there = output.exists()
    except OSError as e:
        raise ApetError(f"output {str(output)[:60]!r}… cannot be a folder's name: {e.strerror}") from e
    if there and not output.is_dir():
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
        above = next(p for p in probe.parents if p.exists())
        probe.mkdir(parents=True)
        probe.rmdir()
        for made in probe.parents:
            if made == above:
                break
            made.rmdir()
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or str(e)
        raise CannotWriteError(f"cannot write to {str(output)[:200]!r}: {why}; give another output folder") from e


def write_run(
    folder: Path, settings: RunConfig, task: Task, result: dict[str, Any], points: Sequence[EvalPoint]
) -> None:
    """Everything but θ and the predictions."""
    dump_yaml(folder / SETTINGS, settings.model_dump(mode="json"))
    dump_yaml(folder / TASK, task.model_dump(mode="json", exclude_defaults=True))
    (folder / RESULT).write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", "utf-8")
    with (folder / CURVE).open("w", encoding="utf-8", newline="") as f:
        out = csv.writer(f)
        out.writerow(["step", "loss", "score", "ci_low", "ci_high", "seconds"])
        for p in points:
            loss = "" if p.loss is None else repr(p.loss)
            out.writerow([p.step, loss, p.score.score, p.score.ci_low, p.score.ci_high, round(p.seconds, 3)])


def write_predictions(path: Path, task: Task, split: Split, answers: Sequence[str | None]) -> None:
    """One line an item: where it stands, what was answered, what was accepted, its score."""
    scores = item_scores(task.metric, answers, [e.references for e in split.examples])
    with path.open("w", encoding="utf-8", newline="") as f:
        out = csv.writer(f)
        out.writerow(["where", "answer", "references", "score"])
        for e, answer, item in zip(split.examples, answers, scores, strict=True):
            accepted = e.references[0] if len(e.references) == 1 else json.dumps(e.references, ensure_ascii=False)
            out.writerow([e.location, "" if answer is None else answer, accepted, round(float(item), 6)])


def read_scores(path: Path) -> NDArray[np.float64]:
    """The last column of a run's predictions, the score of each item, (items,).

    Raises:
        ApetError: it cannot be read, or holds something that is no score.
    """
    try:
        with path.open(encoding="utf-8", newline="") as f:
            return np.array([float(row["score"]) for row in csv.DictReader(f)])
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as e:
        raise ApetError(f"{str(path)!r} is damaged ({e}); remove it to go on without the scores of its items") from e


def dump_yaml(path: Path, values: dict[str, Any]) -> None:
    """Readable YAML, in the order given."""
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120), "utf-8")


def read_run(folder: Path) -> tuple[RunConfig, Task, dict[str, Any]]:
    """Settings, task and result of a finished run.

    Raises:
        ApetError: no run there, or a damaged one.
    """
    if not (folder / RESULT).is_file():
        raise ApetError(f"no finished run at {str(folder)!r}; give a folder written by apet tune")
    try:
        result = json.loads((folder / RESULT).read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise ApetError(f"{str(folder / RESULT)!r} is damaged ({e}); run it again") from e
    settings = validate_config(read_config(folder / SETTINGS), str(folder / SETTINGS))
    return settings, load_task(str(folder / TASK)), result


def versions() -> dict[str, str]:
    """Of everything that a number depends on."""
    names = ("apet", "torch", "transformers", "tokenizers", "accelerate", "numpy")
    return {"python": platform.python_version(), **{n: version(n) for n in names}}


def host(devices: Sequence[torch.device]) -> dict[str, Any]:
    """Where it ran."""
    names = [torch.cuda.get_device_name(d) if d.type == "cuda" else d.type for d in devices]
    return {
        "system": platform.platform(),
        "device": ", ".join(names),
        "num_threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def reset_peak_memory() -> None:
    """Begin to measure anew, where the system can: runs share a process."""
    if torch.cuda.is_available():
        torch.cuda.init()
        for i in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(i)
    with suppress(OSError):  # Linux: 5 resets the peak of the resident set
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(devices: Sequence[torch.device]) -> int:
    """Largest use since `forget_peak_memory`, bytes: of the GPUs together, else of this process."""
    if devices[0].type == "cuda":
        return sum(int(torch.cuda.max_memory_allocated(d)) for d in devices)
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(x for x in lines if x.startswith("VmHWM")).split()[1])
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
