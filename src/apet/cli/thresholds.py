"""Command thresholds: the smallest N above chance and the smallest that reaches full fine-tuning, in few runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from apet.cli.options import (
    BackboneOption,
    DataPath,
    Encoding,
    ExecutorOption,
    Gpus,
    Json,
    LabelColumn,
    OnMissing,
    OnOverlap,
    OutputFolder,
    Quiet,
    RayAddress,
    RunOverrides,
    Separator,
    TaskName,
    TextColumns,
    Workers,
    build_run_config,
    default_output,
    open_progress,
)
from apet.cli.output import print_json
from apet.cli.stopping import keeps_runs

if TYPE_CHECKING:
    from apet.training.config import RunConfig


def thresholds(
    settings: RunOverrides = None,
    backbone: BackboneOption = None,
    task: TaskName = None,
    data: DataPath = None,
    text: TextColumns = None,
    label: LabelColumn = None,
    encoding: Encoding = None,
    separator: Separator = None,
    on_missing: OnMissing = None,
    on_overlap: OnOverlap = None,
    method: Annotated[str, typer.Option(help="Name of the method (see apet methods).")] = "apet",
    output: OutputFolder = None,
    margin: Annotated[float, typer.Option(help="Points below full fine-tuning that still count as reaching it.")] = 1.0,
    confidence: Annotated[float, typer.Option(help="Confidence of every interval, percent.")] = 95.0,
    spacing: Annotated[float, typer.Option(help="Ratio of neighboring N.")] = 2.0,
    max_seeds: Annotated[int, typer.Option(min=1, help="Seeds of one N, at most.")] = 5,
    full_seeds: Annotated[int, typer.Option(min=1, help="Seeds of full fine-tuning.")] = 3,
    forecast: Annotated[
        float, typer.Option(help="How sure some seeds of an N must be of what all would say, percent.")
    ] = 90.0,
    min_params: Annotated[int, typer.Option(min=1, help="Smallest N.")] = 1,
    max_params: Annotated[
        int | None, typer.Option(min=1, help="Largest N; without it, the most that the method can have.")
    ] = None,
    full_learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Learning rate of full fine-tuning; without it, that of the others.")
    ] = None,
    executor: ExecutorOption = "local",
    workers: Workers = 0,
    ray_address: RayAddress = None,
    gpus: Gpus = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search the low and the high threshold.

    The smallest N above chance, and the smallest that reaches full fine-tuning; as ranges, in few runs.
    """
    from apet.cli.execution import open_executor
    from apet.studies.scheduler import Scheduler
    from apet.studies.store import open_store
    from apet.studies.threshold_search import ThresholdSearcher
    from apet.studies.thresholds import ThresholdRules, search_summary

    options: dict[str, object] = {"backbone": backbone, "task": task, "data": data, "text": text, "label": label}
    options |= {"encoding": encoding, "separator": separator, "on_missing": on_missing, "on_overlap": on_overlap}
    base = _base_config(settings, {**options, "method": method})
    folder = output or default_output(base.axes.task, "thresholds")
    keeps_runs(folder)
    rules = ThresholdRules(margin / 100, confidence / 100, forecast / 100, spacing, max_seeds, full_seeds)
    with open_store(folder) as store, open_executor(executor, workers, ray_address, gpus, [base]) as opened:
        scheduler = Scheduler(store, opened, open_progress(quiet))
        searcher = ThresholdSearcher(base, store, scheduler, rules, full_learning_rate)
        search, grid = searcher.search(min_params, max_params)
        low, high = search.run()
    num_grid_runs = len(grid) * rules.max_seeds + rules.reference_seeds
    if json:
        subject = {"backbone": base.backbone, "task": base.task_name, "method": searcher.label}
        print_json({**subject, **search_summary(low, high, search, num_grid_runs)})
        return
    print(f"{base.backbone}, {base.task_name}, {searcher.label}")
    print(low.describe())
    print(high.describe())
    print(f"{search.num_runs} runs; a full grid of {len(grid)} N x {rules.max_seeds} seeds has {num_grid_runs}")
    print(rules.describe())


def _base_config(settings: list[str] | None, options: dict[str, object]) -> RunConfig:
    """Settings that all runs of a search share."""
    # Values are not kept: a search looks at scores alone. One thread a run, since several run beside each other.
    return build_run_config(None, settings, options, {"save_delta": False, "num_threads": 1})
