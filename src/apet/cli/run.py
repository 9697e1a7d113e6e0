"""Commands on runs: tune, evaluate, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apet.cli.completion import complete_method_list
from apet.cli.options import (
    BackboneOption,
    BudgetOption,
    ConfigFile,
    DataPath,
    ExampleLimit,
    Json,
    MaxSteps,
    MethodOption,
    MovedBackbone,
    NewFolder,
    Quiet,
    RunFolderArgument,
    RunOverrides,
    TaskName,
    Track,
    build_run_config,
    open_progress,
    parse_seeds,
)
from apet.cli.output import print_cautions, print_json, print_table
from apet.cli.own_data import OwnData, takes_own_data
from apet.cli.stopping import keeps_run, keeps_runs
from apet.commands.settings import default_output
from apet.errors import shortened

if TYPE_CHECKING:
    from apet.commands.compare import Comparison
    from apet.training.result import RunResult


@takes_own_data
def tune(
    settings: RunOverrides = None,
    backbone: BackboneOption = None,
    task: TaskName = None,
    own: OwnData = OwnData(),  # noqa: B008, frozen
    method: MethodOption = None,
    budget: BudgetOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the mask, the initial values and the data.")] = None,
    max_steps: MaxSteps = None,
    track: Track = None,
    output: NewFolder = None,
    config: ConfigFile = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tune a backbone on a task.

    Exactly as many parameters are trained as the budget says. The result, the measurements and the trained values go
    to the output folder, which evaluate, predict and report read.
    """
    from apet.commands.run import train

    options: dict[str, object] = {
        "backbone": backbone,
        "task": task,
        **own.settings,
        "method": method,
        "budget": budget,
        "seed": seed,
        "max_steps": max_steps,
        "track": track,
    }
    run_config = build_run_config(config, settings, options)
    axes = run_config.axes
    folder = output or default_output(axes.task, axes.method)
    keeps_run(folder)
    run = train(run_config, folder, open_progress(quiet))
    if run is None:  # another process of the same launch writes and prints
        return
    print_cautions(run.result.cautions)
    if json:
        print_json(run.result.model_dump(mode="json"))
        return
    _print_result(run.result)
    print(folder)


def _print_result(result: RunResult) -> None:
    from apet.tasks.score_text import score_range, score_text

    print(
        f"{result.method}: {result.num_trainable:,} trained ({result.trainable_percent:.4g} %)"
        f"  {result.metric} {score_text(result.metric, result.score)}"
        f" {score_range(result.metric, result.ci_low, result.ci_high).removesuffix(' %')}"
        f" on {result.num_examples} validation items, best at step {result.best_step} of {result.max_steps}"
        + (f"  test {score_text(result.metric, result.test_score)}" if result.test_score is not None else "")
    )
    for line in _particulars(result):
        print(line)


def _particulars(result: RunResult) -> list[str]:
    """What a reader of the score must know beside it: one line of sizes and seeds, and one for each note."""
    seeds = {name: getattr(result, name) for name in ("mask_seed", "init_seed", "data_seed")}
    others = ", ".join(f"{name} {seed}" for name, seed in seeds.items() if seed != result.seed)
    cut = ", ".join(
        f"{n:,} of {result.split_sizes[split]:,} ({split})" for split, n in result.num_truncated.items() if n
    )
    scoring = f", labels scored by {result.scoring}" if result.scoring else ""
    lines = [
        f"task type {result.task_type}; objective {result.objective}{scoring}",
        f"seed {result.seed}{f' ({others})' if others else ''}; head: {result.num_head_parameters:,} parameters"
        f" {result.head}; texts cut at {result.max_input_length} tokens: {cut or 'none'}",
    ]
    lines += _class_lines(result)
    return [*lines, *result.notes, *(f"data: {note}" for note in result.data_notes)]


MOST_CLASSES = 6
"""Classes named on the screen; result.json has all."""


def _class_lines(result: RunResult) -> list[str]:
    """How the classes fare, the worst first, and how many answers are no label: what an accuracy does not tell."""
    if result.macro_f1 is None:
        return []
    worst = sorted(result.class_counts, key=lambda c: c.f1)[:MOST_CLASSES]
    classes = ", ".join(f"{shortened(c.label)} {c.right} of {c.examples}" for c in worst)
    rest = len(result.class_counts) - len(worst)
    lines = [
        f"macro-F1 {100 * result.macro_f1:.1f} %; right by class: {classes}{f', {rest} better ones' if rest else ''}"
    ]
    if result.num_other_answers:
        lines.append(f"{result.num_other_answers:,} of {result.num_examples:,} answers are none of the labels: wrong")
    return lines


def evaluate(
    run: RunFolderArgument,
    split: Annotated[str, typer.Option(help="Split to measure on: validation, test or train.")] = "validation",
    task: Annotated[str | None, typer.Option(help="Another task: zero-shot transfer by its transfer labels.")] = None,
    data: DataPath = None,
    limit: ExampleLimit = None,
    backbone: MovedBackbone = None,
    json: Json = False,
) -> None:
    """Measure a finished run again.

    On another split, on other data, or zero-shot on another task; nothing is trained.
    """
    from apet.commands.run import Run
    from apet.commands.run import evaluate as measure
    from apet.tasks.score_text import score_range, score_text
    from apet.tasks.task import load_task

    finished = Run(run)
    score = measure(finished, split, task=task, data=data, limit=limit, backbone=backbone)
    own = finished.model(backbone).task.name
    name = load_task(task).name if task else own
    zero_shot = name != own
    if json:
        print_json({"task": name, "zero_shot": zero_shot, **score.as_dict()})
        return
    interval = score_range(score.metric, score.ci_low, score.ci_high)
    print(
        f"{name}{' (zero-shot)' if zero_shot else f' {split}'}: {score.metric}"
        f" {score_text(score.metric, score.score)} {interval.removesuffix(' %')} on {score.num_examples} items"
    )


@takes_own_data
def compare(
    settings: RunOverrides = None,
    backbone: BackboneOption = None,
    task: TaskName = None,
    own: OwnData = OwnData(),  # noqa: B008, frozen
    methods: Annotated[
        str | None,
        typer.Option(
            help="Names with commas; without it, all methods and both kinds of APET.",
            autocompletion=complete_method_list,
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Budget of every method but fine-tuning; without it, each method's default.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds with commas, such as 0,1,2.")] = "0",
    max_steps: MaxSteps = None,
    track: Track = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results; what is missing in it is run, more methods and seeds are added. Without it,"
            " runs/TASK-compare-N."
        ),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods on one task.

    A table, a picture, and the folder of a study, which apet report reads.
    """
    from apet.commands.compare import compare as run

    seed_list = parse_seeds(seeds)
    options: dict[str, object] = {"backbone": backbone, "task": task, "budget": budget, "max_steps": max_steps}
    options |= {"track": track, **own.settings}
    base = build_run_config(config, settings, options)
    folder = output or default_output(base.axes.task, "compare")
    keeps_runs(folder)
    _print_comparison(run(config=base, methods=methods or None, seeds=seed_list, output=folder, quiet=quiet), json)


def _print_comparison(compared: Comparison, json: bool) -> None:
    """Table, failures and picture of a comparison."""
    from apet.reporting.comparison import as_json, table

    picture = compared.figure()
    print_cautions(compared.cautions)
    if json:
        print_json(as_json(compared.methods))
        return
    print_table(*table(compared.methods), title=compared.caption)
    for note in compared.notes:
        print(note)
    for name, seed, error in compared.failures:
        print(f"failed: {name}, seed {seed}: {error}")
    print(f"\npicture: {picture}")
