"""The recommendation from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from apet.commands.settings import run_config
from apet.recommendation.answer import Recommendation
from apet.recommendation.answering import answer
from apet.recommendation.asked import ask
from apet.recommendation.live import DeadlineProgress
from apet.reporting.recommendation import write_recommendation
from apet.tasks.metrics import TaskType
from apet.training.config import RunConfig, TrackerName


def recommend(
    backbone: str | None = None,
    task: str | None = None,
    *,
    data: str | Path | None = None,
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    test: str | Path | None = None,
    task_type: TaskType | None = None,
    metric: str | None = None,
    within: str = "30m",
    reach: str = "95%",
    max_params: int | None = None,
    max_memory: str | None = None,
    deploy: Literal["attached", "merged"] = "attached",
    max_steps: int | None = None,
    track: TrackerName | None = None,
    output: str | Path | None = None,
    config: RunConfig | Mapping[str, JsonValue] | str | Path | None = None,
    quiet: bool = False,
    **settings: JsonValue,
) -> Recommendation:
    """Recommend how few parameters to train, where, in what structure, to reach full fine-tuning.

    Args:
        backbone: packaged name, folder or hub id.
        task: name or YAML file; not needed beside ``data``, ``text`` and ``label``.
        data: file, or folder with train.* and validation.*, in place of the task's own.
        text: column or columns to read, for data without a task.
        label: column with the answer, for data without a task.
        test: file of rows to test on; None = the data's own, else some are held out.
        task_type: what is asked, for data without a task; None = what the values tell.
        metric: that scores the answers; None = the task's own.
        within: time that it may take, such as ``30m``.
        reach: what counts as reaching full fine-tuning: ``95%`` of the way to it, or ``-1pt`` below it.
        max_params: largest number of parameters that may be recommended.
        max_memory: that training may take, such as ``8GB``.
        deploy: ``merged`` = only what can be merged into the backbone's own parameters.
        max_steps: of a whole run; None = what fits into the time.
        track: tracker that losses and scores also go to, offline, in a folder of its name beside the runs.
        output: folder for runs, page and picture; one that holds runs of the same question goes on. None =
            ``runs/TASK-recommend``.
        config: settings, or a YAML file with some; what is given beside goes over it.
        quiet: show no progress.
        **settings: other settings of runs (`apet.training.config.RunConfig`), such as ``batch_size``.

    Returns:
        The answer; its ``headline`` is one sentence, and the page lies in its ``folder``.

    Raises:
        ApetError: settings or data that do not fit, or a folder that takes no files.

    Examples:
        >>> import apet
        >>> apet.recommend("bert-small", "sst2", within="soon")
        Traceback (most recent call last):
        ...
        apet.errors.ApetError: within='soon' is not a duration; give such as 30m, 90s or 1h30m
    """
    given: dict[str, object] = {"backbone": backbone, "task": task, "data": data, "text": text, "label": label}
    given |= {"test": test, "task_type": task_type, "metric": metric, "max_steps": max_steps, "track": track}
    base = run_config(config, given | settings)
    asked = ask(
        # Its runs must not see the test rows, which are measured once the answer is known.
        base.model_copy(update={"test": None}),
        Path(output) if output is not None else recommendation_folder(base),
        within=within,
        reach=reach,
        test=base.test,
        max_params=max_params,
        max_memory=max_memory,
        deploy=deploy,
    )
    found = answer(asked, DeadlineProgress(quiet))
    write_recommendation(found, asked.folder)
    return found


def recommendation_folder(base: RunConfig) -> Path:
    """The folder of a question where none is given: the same for the same task, so that it goes on."""
    return Path("runs") / f"{Path(base.task_name).stem}-recommend"
