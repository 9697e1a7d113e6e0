"""Methods side by side, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from pydantic import JsonValue

from apet.commands.settings import default_output, run_config
from apet.commands.study import Study
from apet.display import html_image, html_notes, html_table
from apet.errors import ApetError
from apet.reporting import comparison
from apet.tasks.metrics import TaskType
from apet.training.config import RunConfig, TrackerName
from apet.training.progress import Progress


class Comparison:
    """Methods side by side on one backbone and task.

    Args:
        folder: of the study that holds their runs.
        run_ids: of the runs, in the order of the methods.

    Attributes:
        folder: of the study.
        study: that holds the runs.
        methods: each with its runs, curves and failures.

    Raises:
        ApetError: not one run was completed.
    """

    def __init__(self, folder: Path, run_ids: Sequence[str]) -> None:
        self.folder, self.study, self._run_ids = folder, Study(folder), frozenset(run_ids)
        self.methods = comparison.method_runs(self.study, run_ids)
        if all(entry.runs.empty for entry in self.methods):
            raise ApetError("every run failed: " + "; ".join(dict.fromkeys(error for _, _, error in self.failures)))

    @property
    def failures(self) -> list[tuple[str, int, str]]:
        """Method, seed and reason of every run that failed."""
        return [(entry.method, seed, error) for entry in self.methods for seed, error in entry.failed.items()]

    @property
    def caption(self) -> str:
        """What was run, in a sentence."""
        return comparison.caption(self.methods)

    @property
    def notes(self) -> list[str]:
        """What the runs say of themselves, each once."""
        results = self.study.results().items()
        return list(dict.fromkeys(note for run_id, r in results if run_id in self._run_ids for note in r.notes))

    @property
    def cautions(self) -> list[str]:
        """What a reader of the table must not miss, a line each."""
        return comparison.cautions(self.study, self.methods)

    def table(self) -> pd.DataFrame:
        """One row a method: mean score with its 95 % interval, counts, scores by seed.

        Returns:
            The numbers as they are, scores in [0, 1].
        """
        return pd.DataFrame(comparison.as_json(self.methods))

    def figure(self) -> Path:
        """Draw score over trained parameters and over steps.

        Returns:
            The picture, in the study's folder.
        """
        comparison.save_figure(self.methods, self.folder / comparison.FIGURE_FILE)
        return self.folder / comparison.FIGURE_FILE

    def __repr__(self) -> str:
        return f"Comparison({', '.join(m.method for m in self.methods)}, {str(self.folder)!r})"

    def _repr_html_(self) -> str:
        header, rows = comparison.table(self.methods)
        table = html_table(self.caption, [h.rstrip("#") for h in header], rows)
        picture = html_image(self.figure().read_bytes(), "score over trained parameters and over steps, by method")
        return table + html_notes([*self.cautions, *self.notes]) + picture


def compare(
    backbone: str | None = None,
    task: str | None = None,
    *,
    data: str | Path | None = None,
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    test: str | Path | None = None,
    task_type: TaskType | None = None,
    metric: str | None = None,
    methods: str | Sequence[str] | None = None,
    budget: int | str | None = None,
    seeds: Sequence[int] = (0,),
    max_steps: int | None = None,
    track: TrackerName | None = None,
    output: str | Path | None = None,
    config: RunConfig | Mapping[str, JsonValue] | str | Path | None = None,
    quiet: bool = False,
    **settings: JsonValue,
) -> Comparison:
    """Compare methods on one backbone and one task; what is missing in the output folder is run.

    Args:
        backbone: packaged name, folder or hub id.
        task: name or YAML file; not needed beside ``data``, ``text`` and ``label``.
        data: file, or folder with train.* and validation.*, in place of the task's own.
        text: column or columns to read, for data without a task.
        label: column with the answer, for data without a task.
        test: file with the test rows; they are measured once, at the end.
        task_type: what is asked, for data without a task; None = what the values tell.
        metric: that scores the answers; None = the task's own.
        methods: names, with commas or as a list; None = all methods and both kinds of APET.
        budget: of every method but fine-tuning; None = each method's default.
        seeds: of the runs.
        max_steps: optimizer steps to train for.
        track: tracker that losses and scores also go to, offline, in a folder of its name beside the runs.
        output: folder of the study; None = ``runs/TASK-compare-N``.
        config: settings, or a YAML file with some; what is given beside goes over it.
        quiet: show no progress.
        **settings: of the runs (`apet.training.config.RunConfig`), such as ``learning_rate``, or of the methods.

    Returns:
        Table, cautions, picture, and the study.

    Raises:
        ApetError: bad settings or data, a folder of other runs, or not one run that was completed.

    Examples:
        >>> import apet
        >>> both = apet.compare("microworld-bert-small", "microworld-sst2", methods="bitfit,lora", max_steps=2,
        ...                     max_train_samples=64, max_eval_samples=16, quiet=True)
        >>> both.table()[["method", "num_trainable"]].values.tolist()
        [['bitfit', 672], ['lora', 3072]]
    """
    from apet.methods import method_variants
    from apet.studies.comparison import compare as run
    from apet.studies.comparison import comparison_study
    from apet.training.resources import Resources

    given: dict[str, object] = {"backbone": backbone, "task": task, "data": data, "text": text, "label": label}
    given |= {"test": test, "task_type": task_type, "metric": metric, "budget": budget}
    given |= {"max_steps": max_steps, "track": track}
    base = run_config(config, given | settings)
    names = [n.strip() for n in methods.split(",")] if isinstance(methods, str) else list(methods or method_variants())
    folder = Path(output) if output is not None else default_output(base.axes.task, "compare")
    resources = Resources(Progress(quiet))
    return Comparison(folder, run(comparison_study(base, names, seeds, resources), folder, resources))
