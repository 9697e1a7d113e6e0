"""Commands that run: tune, evaluate, predict, compare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from apet.cli import defaults
from apet.cli import output as show
from apet.errors import ApetError

Pairs = Annotated[
    list[str] | None, typer.Argument(help="key=value: of the run (dtype=float32) or the method (rank=4).")
]
Backbone = Annotated[
    str | None,
    typer.Option(help=f"Name (apet backbones), folder or hub id; for embedded tasks {defaults.BACKBONE} if none."),
]
TaskName = Annotated[
    str | None, typer.Option(help=f"A task that ships (apet tasks), or a YAML file; {defaults.TASK} if none.")
]
DataPath = Annotated[str | None, typer.Option(help="Data file, or folder with train.* and validation.*.")]
TextColumn = Annotated[list[str] | None, typer.Option("--text", help="With --data alone: column to read.")]
LabelColumn = Annotated[str | None, typer.Option("--label", help="With --data alone: column with the class.")]
Budget = Annotated[str | None, typer.Option(help="4096, 0.3%, =lora; none = the method's own size.")]
Steps = Annotated[int | None, typer.Option(help="Optimizer steps.")]
Config = Annotated[Path | None, typer.Option(help="YAML file with settings; words on this line go over it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run, from apet tune.")]


def tune(
    settings: Pairs = None,
    backbone: Backbone = None,
    task: TaskName = None,
    data: DataPath = None,
    text: TextColumn = None,
    label: LabelColumn = None,
    method: Annotated[str | None, typer.Option(help="See apet methods.")] = None,
    budget: Budget = None,
    seed: Annotated[int | None, typer.Option(help="Of mask, initial values and data.")] = None,
    steps: Steps = None,
    output: Annotated[Path | None, typer.Option(help="New folder for the result.")] = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tune a backbone on a task with an exact number of parameters."""
    from apet.training.run import tune as run

    if output is None:
        raise ApetError("where shall the result go? Give --output FOLDER")
    flags = {
        "backbone": backbone,
        "task": task,
        "data": data,
        "text": text,
        "label": label,
        "method": method,
        "budget": budget,
        "seed": seed,
        "max_steps": steps,
    }
    s = _settings(config, settings, flags)
    outcome = run(s, output, _shop(quiet))
    if outcome.folder is None:  # another process of the same launch writes and speaks
        return
    if json:
        show.as_json(outcome.result)
        return
    r = outcome.result
    v = r["validation"]
    print(
        f"{s.method}: {r['num_trainable']:,} trained ({r['trainable_percent']:.4g} %)"
        f"  {v['measure']} {100 * v['value']:.1f} % [{100 * v['low']:.1f}, {100 * v['high']:.1f}] on {v['n']}"
        f" validation items, best at step {r['best_step']} of {r['steps']}"
        + (f"  test {100 * r['test']['value']:.1f} %" if r["test"] else "")
    )
    print(output)


def evaluate(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="validation, test or train.")] = "validation",
    task: Annotated[str | None, typer.Option(help="Another task: zero-shot transfer by unified labels.")] = None,
    data: DataPath = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many examples.")] = None,
    json: Json = False,
) -> None:
    """Measure a finished run again, on other data, or zero-shot on another task."""
    from apet.tasks.task import load_task
    from apet.training.inference import TunedModel

    target = load_task(task) if task else None
    tuned = TunedModel(run)
    transferred = target is not None and target.name != tuned.task.name
    if target is not None and transferred:
        score = tuned.transfer(target, data, limit, split)
    else:
        score = tuned.evaluate(split, data, limit)
    name = target.name if target else tuned.task.name
    if json:
        show.as_json({"task": name, "zero_shot": transferred, **score.as_dict()})
        return
    print(
        f"{name}{' (zero-shot)' if transferred else f' {split}'}: {score.metric} {100 * score.score:.1f} %"
        f" [{100 * score.ci_low:.1f}, {100 * score.ci_high:.1f}] on {score.num_examples} items"
    )


def predict(
    run: RunFolder,
    text: Annotated[
        list[str] | None, typer.Argument(help="Texts; none or - reads lines; tabs separate columns.")
    ] = None,
    json: Json = False,
) -> None:
    """Answer new texts with a finished run."""
    from apet.training.inference import TunedModel, parse_columns
    from apet.training.run_dir import read_run

    lines = [t for t in text or ["-"] if t != "-"]
    if not text or "-" in text:
        lines += [line.rstrip("\r\n") for line in sys.stdin]
    task = read_run(run)[1]
    inputs = [parse_columns(task, line) for line in lines]
    answers = TunedModel(run).predict(inputs)
    if json:
        show.as_json([{**x, "answer": a} for x, a in zip(inputs, answers, strict=True)])
        return
    for line, answer in zip(lines, answers, strict=True):
        print(f"{answer if answer is not None else '(no label word)'}\t{line}")


def compare(
    settings: Pairs = None,
    backbone: Backbone = None,
    task: TaskName = None,
    data: DataPath = None,
    text: TextColumn = None,
    label: LabelColumn = None,
    methods: Annotated[str | None, typer.Option(help="Names with commas; none = all and both kinds of APET.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="For every method but fine-tuning; none = each its own size.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Numbers with commas.")] = "0",
    steps: Steps = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder; the same command finishes what is missing in it, more methods or seeds are added."),
    ] = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Several methods on one task side by side: a table, a picture, and the folder of a study (apet report)."""
    from apet.report import comparison as report
    from apet.studies.comparison import METHODS, comparison_study
    from apet.studies.comparison import compare as run
    from apet.studies.results import Study

    if output is None:
        raise ApetError("where shall the results go? Give --output FOLDER")
    try:
        numbers = [int(s) for s in seeds.split(",")]
    except ValueError as e:
        raise ApetError(f"seeds={seeds!r} are no whole numbers; write such as 0,1,2") from e
    names = [m.strip() for m in methods.split(",")] if methods else list(METHODS)
    flags: dict[str, Any] = {"backbone": backbone, "task": task, "data": data, "text": text, "label": label}
    flags |= {"budget": budget, "max_steps": steps}
    base = _settings(config, settings, flags)
    keys = run(comparison_study(base, names, numbers), output, _shop(quiet))
    shown = report.method_runs(Study(output), keys)
    failed = [(m.method, s, why) for m in shown for s, why in m.failed.items()]
    if all(m.runs.empty for m in shown):
        raise ApetError("every run failed: " + "; ".join(dict.fromkeys(why for _, _, why in failed)))
    report.save_figure(shown, output / report.FIGURE_FILE)
    if json:
        show.as_json(report.as_json(shown))
        return
    show.as_table(*report.table(shown), title=report.caption(shown))
    for name, s, why in failed:
        print(f"failed: {name}, seed {s}: {why}")
    print(f"\npicture: {output / report.FIGURE_FILE}")


def _settings(config: Path | None, words: list[str] | None, flags: dict[str, Any]) -> Any:
    """Settings file, then flags, then key=value words."""
    from apet.cli.overrides import parse_pairs
    from apet.training.config import apply_overrides, read_config, validate_config

    given = {k: v for k, v in flags.items() if v not in (None, [])}
    pairs = parse_pairs(words or ())
    twice = sorted(set(given) & set(pairs))
    if twice:
        raise ApetError(f"{twice[0]} came twice, as --{twice[0]} and as {twice[0]}=…; give it once")
    base = read_config(config) if config else {}
    return validate_config(defaults.completed(apply_overrides(base, {**given, **pairs})))


def _shop(quiet: bool) -> Any:
    from apet.training.progress import Progress
    from apet.training.resources import Resources

    return Resources(Progress(quiet))
