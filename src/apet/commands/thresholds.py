"""The low and the high threshold, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from apet.analysis.curve_values import Reach
from apet.commands.settings import default_output, run_config
from apet.display import html_notes, html_table
from apet.search.stored_runs import ThresholdSearcher
from apet.search.thresholds import KINDS, ThresholdRules, num_grid_runs, search_summary
from apet.studies.executors import ExecutorOptions, running_executor
from apet.studies.held_store import open_store
from apet.studies.scheduler import Scheduler
from apet.tasks.metrics import TaskType
from apet.training.config import RunConfig, TrackerName
from apet.training.progress import Progress


class Thresholds:
    """Both thresholds of one backbone, task and method.

    Attributes:
        summary: everything about the search as plain data.
        sentences: threshold -> what is known of it.
        subject: backbone, task and method.
        rules: what counts as a threshold, in a sentence.
        num_runs: that were measured.
        grid: what a full grid would have taken, in words.
    """

    def __init__(
        self,
        subject: Mapping[str, str],
        summary: Mapping[str, JsonValue],
        sentences: Mapping[str, str],
        rules: str,
        num_runs: int,
        grid: str,
    ) -> None:
        self.subject, self.summary, self.sentences, self.rules = subject, summary, sentences, rules
        self.num_runs, self.grid = num_runs, grid

    def __repr__(self) -> str:
        return f"Thresholds({'; '.join(f'{kind}: {text}' for kind, text in self.sentences.items())})"

    def _repr_html_(self) -> str:
        rows = [(kind, text) for kind, text in self.sentences.items()]
        return html_table(", ".join(self.subject.values()), ("threshold", "N"), rows) + html_notes([self.rules])


def thresholds(
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
    max_steps: int | None = None,
    track: TrackerName | None = None,
    output: str | Path | None = None,
    config: RunConfig | Mapping[str, JsonValue] | str | Path | None = None,
    share: float = 95.0,
    margin: float | None = None,
    confidence: float = 95.0,
    spacing: float = 2.0,
    max_runs: int = 20,
    max_seeds: int = 5,
    full_seeds: int = 3,
    min_params: int = 1,
    max_params: int | None = None,
    full_learning_rate: float | None = None,
    executor: str = "local",
    workers: int = 0,
    ray_address: str | None = None,
    gpus: float = 0,
    slurm: Mapping[str, str] | None = None,
    quiet: bool = False,
    **settings: JsonValue,
) -> Thresholds:
    """Search the smallest N above chance and the smallest that reaches full fine-tuning, in few runs.

    Args:
        backbone: packaged name, folder or hub id.
        task: name or YAML file; not needed beside ``data``, ``text`` and ``label``.
        data: file, or folder with train.* and validation.*, in place of the task's own.
        text: column or columns to read, for data without a task.
        label: column with the answer, for data without a task.
        test: file with the test rows; they are measured once, at the end.
        task_type: what is asked, for data without a task; None = what the values tell.
        metric: that scores the answers; None = the task's own.
        method: whose N is searched; None = apet.
        max_steps: optimizer steps to train for.
        track: tracker that losses and scores also go to, offline, in a folder of its name beside the runs.
        output: folder of the study, in which the same call goes on; None = ``runs/TASK-thresholds-N``.
        config: settings, or a YAML file with some; what is given beside goes over it.
        share: of the way to full fine-tuning that counts as reaching it, percent.
        margin: points below full fine-tuning that count as reaching it, instead of a share.
        confidence: of every interval, percent.
        spacing: ratio of neighboring N.
        max_runs: runs, at most, those of full fine-tuning included.
        max_seeds: seeds of one N, at most.
        full_seeds: seeds of full fine-tuning, to begin with.
        min_params: smallest N.
        max_params: largest N; None = the most that the method can have.
        full_learning_rate: of full fine-tuning; None = that of the others.
        executor: what runs the runs: local, ray or slurm.
        workers: of them; 0 = one for each GPU, else as many as the cores allow.
        ray_address: of a Ray cluster; None = Ray's own search.
        gpus: that each worker of Ray or Slurm holds; of Ray maybe a fraction.
        slurm: settings of Slurm jobs, as sbatch calls them: ``{"partition": "gpu"}``.
        quiet: show no progress.
        **settings: of the runs (`apet.training.config.RunConfig`), such as ``learning_rate``, or of the method.

    Returns:
        Both thresholds, with everything that was measured.

    Raises:
        ApetError: bad settings or data.

    Examples:
        >>> import apet
        >>> try:
        ...     apet.thresholds("microworld-bert-small", "microworld-sst2", method="fine-tuning", output="searched")
        ... except apet.ApetError as error:
        ...     print(str(error).split(",")[0])
        full fine-tuning has no thresholds
    """
    # Values are not kept: a search looks at scores alone. One thread a run, since several run beside each other.
    defaults: dict[str, JsonValue] = {"save_delta": False, "num_threads": 1}
    given: dict[str, object] = {"backbone": backbone, "task": task, "data": data, "text": text, "label": label}
    given |= {"test": test, "task_type": task_type, "metric": metric, "method": method}
    given |= {"max_steps": max_steps, "track": track}
    base = run_config(config, given | settings, defaults)
    reach = Reach(share / 100, None if margin is None else margin / 100)
    rules = ThresholdRules(reach, confidence / 100, spacing, max_seeds, full_seeds, max_runs)
    folder = Path(output) if output is not None else default_output(base.axes.task, "thresholds")
    options = ExecutorOptions(
        num_workers=workers,
        num_threads=base.num_threads or 1,
        num_gpus=gpus,
        slurm=slurm or {},
        folder=folder,
        ray_address=ray_address,
        devices=frozenset({base.device}),
        device_maps=frozenset({base.device_map}),
    )
    with open_store(folder) as store, running_executor(executor, options) as opened:
        searcher = ThresholdSearcher(base, store, Scheduler(store, opened, Progress(quiet)), rules, full_learning_rate)
        search = searcher.search(min_params, max_params)
        curve = search.run()
    return Thresholds(
        {"backbone": base.backbone, "task": base.task_name, "method": searcher.label},
        search_summary(search, curve),
        {kind: search.answer(curve, kind).describe() for kind in KINDS},
        rules.describe(),
        len(search.measured),
        f"a full grid of {len(search.grid)} N x {rules.max_seeds} seeds has {num_grid_runs(search)}",
    )
