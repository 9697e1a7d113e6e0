"""Single runs from Python: tune, evaluate; and a finished run as a value."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pydantic import JsonValue

from apet.commands.settings import default_output, run_config
from apet.display import html_image, html_notes, html_table
from apet.tasks.score_text import score_range, score_text
from apet.training import run_dir
from apet.training.config import RunConfig, TrackerName
from apet.training.output_folder import RESULT
from apet.training.progress import Progress
from apet.training.result import RunResult, read_result

if TYPE_CHECKING:  # a finished run is looked at without torch
    from apet.commands.predict import Texts
    from apet.reporting.folder import Report
    from apet.tasks.metrics import MetricScore, TaskType
    from apet.training.inference import TunedModel


class Run:
    """A finished run, by the folder that it left.

    Args:
        folder: of the run, from `apet.tune` or ``apet tune``.

    Attributes:
        folder: of the run.
        result: its record: scores with intervals, counts, seeds, times.

    Raises:
        ApetError: no finished run there, or a damaged one.

    Examples:
        >>> import apet
        >>> try:
        ...     apet.Run("runs/none")
        ... except apet.ApetError as error:
        ...     print(error)
        there is no finished run at 'runs/none'; give a folder written by apet tune
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        run_dir.require_run(self.folder)
        self.result: RunResult = read_result(self.folder / RESULT)
        self._models: dict[str | None, TunedModel] = {}

    @property
    def score(self) -> float:
        """Validation score with the values that were kept, in [0, 1]."""
        return self.result.score

    @property
    def config(self) -> RunConfig:
        """Its settings, with everything that was left open filled in."""
        return run_dir.read_run(self.folder).config

    def curve(self) -> pd.DataFrame:
        """The measurements along it.

        Returns:
            One row a measurement, with the fields of `apet.training.result.CurvePoint`.
        """
        return pd.DataFrame([p.model_dump() for p in run_dir.read_curve(self.folder)])

    def predictions(self) -> pd.DataFrame:
        """The answers to the validation examples.

        Returns:
            One row an example, with the fields of `apet.training.result.Prediction`.
        """
        return pd.DataFrame([p.model_dump() for p in run_dir.read_predictions(self.folder)])

    def predict(self, texts: Texts | None = None, *, data: str | Path | None = None) -> pd.DataFrame:
        """Answer new texts, or the rows of a file, as `apet.predict`."""
        from apet.commands.predict import predict

        return predict(self, texts, data=data)

    def evaluate(
        self, split: str = "validation", *, task: str | None = None, data: str | None = None, limit: int | None = None
    ) -> MetricScore:
        """Measure it again, as `apet.evaluate`."""
        return evaluate(self, split, task=task, data=data, limit=limit)

    def report(self, output: str | Path | None = None) -> Report:
        """Write figures, tables and a page, as `apet.report`."""
        from apet.commands.report import report

        return report(self.folder, output)

    def model(self, backbone: str | None = None) -> TunedModel:
        """The backbone with the trained delta, loaded once.

        Args:
            backbone: where the backbone is by now; None = where it was.

        Returns:
            The model with its tokenizer and task.
        """
        if backbone not in self._models:
            from apet.training.inference import TunedModel

            self._models[backbone] = TunedModel(self.folder, backbone=backbone)
        return self._models[backbone]

    @cached_property
    def _figure(self) -> bytes:
        """The curve, as the repository's reports draw it, PNG."""
        from apet.reporting import run as run_report
        from apet.reporting.figures.printing import png_bytes

        return png_bytes(run_report.figure(run_report.read(self.folder)))

    def __repr__(self) -> str:
        r = self.result
        return (
            f"Run({r.method}, {r.num_trainable:,} parameters, {r.metric} {score_text(r.metric, r.score)},"
            f" {str(self.folder)!r})"
        )

    def _repr_html_(self) -> str:
        r = self.result
        rows: list[tuple[object, ...]] = [
            (
                f"{r.metric}, validation",
                f"{score_text(r.metric, r.score)} {score_range(r.metric, r.ci_low, r.ci_high).removesuffix(' %')}",
            ),
            ("trained parameters", f"{r.num_trainable:,} = {r.trainable_percent:.4g} %"),
            ("learning rate", f"{r.learning_rate:g} ({r.learning_rate_rule})"),
            ("best step", f"{r.best_step:,} of {r.max_steps:,}"),
            ("seconds", f"{r.total_seconds:,.0f}"),
            ("folder", str(self.folder)),
        ]
        if r.test_score is not None:
            rows.insert(1, (f"{r.metric}, test", score_text(r.metric, r.test_score)))
        title = f"{r.method} on {r.backbone}, {r.task}"
        picture = html_image(self._figure, f"{title}: validation score and loss over steps")
        return html_table(title, (), rows) + html_notes(r.cautions) + picture


def tune(
    backbone: str | None = None,
    task: str | None = None,
    *,
    data: str | Path | None = None,
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    test: str | Path | None = None,
    task_type: TaskType | None = None,
    metric: str | None = None,
    method: str | None = None,
    budget: int | str | None = None,
    seed: int | None = None,
    max_steps: int | None = None,
    track: TrackerName | None = None,
    output: str | Path | None = None,
    config: RunConfig | Mapping[str, JsonValue] | str | Path | None = None,
    quiet: bool = False,
    **settings: JsonValue,
) -> Run:
    """Tune a backbone on a task, with exactly as many trained parameters as the budget says.

    Args:
        backbone: packaged name, folder or hub id.
        task: name or YAML file; not needed beside ``data``, ``text`` and ``label``.
        data: file, or folder with train.* and validation.*, in place of the task's own.
        text: column or columns to read, for data without a task.
        label: column with the answer, for data without a task.
        test: file with the test rows; they are measured once, at the end.
        task_type: what is asked, for data without a task; None = what the values tell.
        metric: that scores the answers; None = the task's own.
        method: registered name; None = apet.
        budget: exact number of parameters: 4096, ``"0.3%"``, ``"=lora"``; None = the method's default.
        seed: of the mask, the initial values and the data.
        max_steps: optimizer steps to train for.
        track: tracker that losses and scores also go to, offline, in a folder of its name beside the runs.
        output: new folder for the result; None = ``runs/TASK-METHOD-N``.
        config: settings, or a YAML file with some; what is given beside goes over it.
        quiet: show no progress.
        **settings: of the run (`apet.training.config.RunConfig`), such as ``learning_rate``, or of the method, such as
            ``rank``.

    Returns:
        The finished run.

    Raises:
        ApetError: bad settings or data, diverged training, an output folder that is taken; nothing is left behind.

    Examples:
        >>> import apet
        >>> run = apet.tune("microworld-bert-small", "microworld-sst2", method="bitfit", max_steps=2, quiet=True,
        ...                 max_train_samples=64, max_eval_samples=16)
        >>> run.result.num_examples, list(run.curve().columns[:3])
        (16, ['step', 'loss', 'score'])
    """
    given: dict[str, object] = {"backbone": backbone, "task": task, "data": data, "text": text, "label": label}
    given |= {"test": test, "task_type": task_type, "metric": metric, "method": method, "budget": budget}
    given |= {"seed": seed, "max_steps": max_steps, "track": track}
    settled = run_config(config, given | settings)
    folder = Path(output) if output is not None else default_output(settled.axes.task, settled.axes.method)
    train(settled, folder, Progress(quiet))
    if "RANK" in os.environ:  # of several processes one writes; the others see the folder when it is whole
        from accelerate import PartialState

        PartialState().wait_for_everyone()
    return Run(folder)


def train(config: RunConfig, folder: Path, progress: Progress) -> Run | None:
    """Make one run.

    Args:
        config: its settings.
        folder: for its result.
        progress: is told how far it is.

    Returns:
        The finished run; None where another process of the same launch writes it.
    """
    from apet.training.resources import Resources
    from apet.training.run import tune as make

    return Run(folder) if make(config, folder, Resources(progress)).folder is not None else None


def evaluate(
    run: Run | str | Path,
    split: str = "validation",
    *,
    task: str | None = None,
    data: str | None = None,
    limit: int | None = None,
    backbone: str | None = None,
) -> MetricScore:
    """Measure a finished run again: on another split, on other data, or zero-shot on another task.

    Args:
        run: finished run, or its folder.
        split: validation, test or train.
        task: another task, by its transfer labels; None = its own.
        data: file or folder in place of the task's own.
        limit: examples, at most.
        backbone: where its backbone is by now; None = where it was.

    Returns:
        The score, with its interval over the examples.

    Raises:
        ApetError: no run there, no such split, or data that do not fit.

    Examples:
        >>> import apet
        >>> run = apet.tune("microworld-bert-small", "microworld-sst2", method="bitfit", max_steps=2, quiet=True,
        ...                 max_train_samples=64, max_eval_samples=16)
        >>> apet.evaluate(run).score == run.score
        True
    """
    from apet.tasks.task import load_task

    target = load_task(task) if task else None  # before the backbone is loaded: a wrong name is told at once
    tuned = (run if isinstance(run, Run) else Run(run)).model(backbone)
    if target is not None and target.name != tuned.task.name:
        return tuned.transfer(target, data, limit, split)
    return tuned.evaluate(split, data, limit)
