"""Runs in a tracker: losses and scores as they come, in TensorBoard, W&B, MLflow or trackio, through accelerate.

Nothing leaves this machine: what is tracked lies in a folder beside the runs, unless the tracker's own variable says
otherwise (``WANDB_MODE``, ``MLFLOW_TRACKING_URI``, ``TRACKIO_DIR``).
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from apet.errors import ApetError
from apet.training.config import RunConfig, TrackerName
from apet.training.result import RunResult
from apet.training.run_plan import RunPlan

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

    from apet.training.evaluation import EvalPoint

Value = str | int | float | bool
"""What every tracker takes."""


def require_tracker(name: TrackerName | None) -> None:
    """Pass where a tracker's package is installed, or none is asked for.

    Raises:
        ApetError: it is not.
    """
    if name is None:
        return
    spec = importlib.util.find_spec(name)
    # A folder of that name, such as the one W&B writes, is found as a package without a file.
    if spec is None or spec.origin is None:
        raise ApetError(f"track={name} needs the package {name}, which is not installed: pip install {name}")


def tracking_folder(plan: RunPlan, output: Path) -> Path:
    """Where a run's tracker writes: beside the run, or in its study's folder, where all runs are seen together.

    Args:
        plan: of a run with a tracker.
        output: folder of the run; in a study it is called by the run's identifier.

    Returns:
        The folder, which need not be there.
    """
    above = output.parent.parent if output.name == plan.run_id else output.parent
    return above / str(plan.config.track)


def tracking_notes(plan: RunPlan, output: Path | None) -> list[str]:
    """Where losses and scores were written, for whoever reads the result; nothing where they were not."""
    name = plan.config.track
    if name is None or output is None:
        return []
    folder = tracking_folder(plan, output)
    folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    look = f"; tensorboard --logdir {folder} shows it" if name == "tensorboard" else ""
    return [f"tracked by {name} in {folder}{look}"]


class TrackedRun:
    """One run in a tracker; one that fails on the way says so once, and stops nobody.

    Args:
        tracker: of accelerate, begun; None = nobody asked for one.
        log: takes the line that says why it stopped.
    """

    def __init__(self, tracker: GeneralTracker | None, log: Callable[[str], None]) -> None:
        self._tracker, self._log = tracker, log

    def see(self, point: EvalPoint) -> None:
        """Take a measurement: the loss since the one before, and the score with its interval."""
        score = point.score
        values: dict[str, Value] = {
            f"validation/{score.metric}": score.score,
            "validation/ci_low": score.ci_low,
            "validation/ci_high": score.ci_high,
            "train/seconds": point.seconds,
        }
        if point.loss is not None:
            values["train/loss"] = point.loss
        self._try(lambda tracker: tracker.log(values, step=point.step))

    def end(self, result: RunResult) -> None:
        """Take what the run came to: the score that was kept, and that of the test rows."""
        values: dict[str, Value] = {f"best/{result.metric}": result.score, "best/step": result.best_step}
        if result.test_score is not None:
            values[f"test/{result.metric}"] = result.test_score
        self._try(lambda tracker: tracker.log(values, step=result.stopped_at or result.max_steps))

    def replay(self, points: Sequence[EvalPoint], result: RunResult) -> None:
        """Take a run that has ended."""
        for point in points:
            self.see(point)
        self.end(result)

    def close(self) -> None:
        """Let the tracker write what is left."""
        self._try(lambda tracker: tracker.finish())
        self._tracker = None

    def _try(self, call: Callable[[GeneralTracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            call(self._tracker)
        except Exception as e:
            self._tracker = None
            self._log(f"caution: tracking stopped ({_reason(e)}); the run goes on")


@contextmanager
def tracked(
    plan: RunPlan, settings: RunConfig, output: Path | None, log: Callable[[str], None]
) -> Iterator[TrackedRun]:
    """A run in its tracker, inside the block.

    Args:
        plan: of the run.
        settings: of the run, resolved; they become its hyperparameters.
        output: folder of the run; None = it writes nothing, and its tracker neither.
        log: takes the line that says why tracking stopped.

    Yields:
        The run, which takes measurements whether anybody asked for a tracker or not.

    Raises:
        ApetError: the tracker cannot begin.
    """
    tracker = None
    if settings.track is not None and output is not None:
        try:
            tracker = _tracker(settings.track, _run_name(plan), tracking_folder(plan, output))
            tracker.start()
            tracker.store_init_configuration(hyperparameters(plan, settings))
        except Exception as e:  # of a package of somebody else's
            raise ApetError(f"track={settings.track} cannot begin ({_reason(e)}); mend that, or leave it out") from e
    run = TrackedRun(tracker, log)
    try:
        yield run
    finally:
        run.close()


def hyperparameters(plan: RunPlan, settings: RunConfig) -> dict[str, Value]:
    """A run's settings as every tracker takes them: flat, and only what is set.

    Args:
        plan: of the run.
        settings: resolved.

    Returns:
        Name -> text, number or truth.
    """
    values: dict[str, Value] = {"run_id": plan.run_id, "num_trainable": plan.num_trainable}
    for name, value in settings.model_dump(mode="json").items():
        if isinstance(value, dict):
            values |= {f"{name}.{key}": _plain(v) for key, v in value.items()}
        elif value not in (None, []):
            values[name] = _plain(value)
    return values


def _plain(value: object) -> Value:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _run_name(plan: RunPlan) -> str:
    axes = plan.axes
    words = (Path(axes.backbone).name, Path(axes.task).stem, axes.method, plan.num_trainable, f"seed{axes.seed}")
    name = re.sub(r"[^\w.=-]+", "-", "-".join(map(str, words)))
    return f"{name[:100].strip('-')}-{plan.run_id[:6]}"


def _tracker(name: TrackerName, run_name: str, folder: Path) -> GeneralTracker:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    make, project = LOGGER_TYPE_TO_CLASS[name], folder.absolute().parent.name or "apet"
    folder.mkdir(parents=True, exist_ok=True)
    if name == "tensorboard":
        return make(run_name, folder)
    if name == "wandb":
        return make(project, name=run_name, dir=str(folder), mode=os.environ.get("WANDB_MODE", "offline"))
    if name == "mlflow":
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder.absolute()}/mlflow.db")
        return make(project, run_name=run_name)
    os.environ.setdefault("TRACKIO_DIR", str(folder.absolute()))
    return make(project, name=run_name)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
