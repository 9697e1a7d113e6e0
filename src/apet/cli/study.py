"""Commands over many runs: study plan, run, export; thresholds; transfer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apet.cli import defaults
from apet.cli import output as show
from apet.cli.run import Backbone, DataPath, Json, Quiet, TaskName
from apet.errors import ApetError

if TYPE_CHECKING:  # commands that need no model start without it
    from apet.training.config import RunConfig

study = typer.Typer(no_args_is_help=True, help="Grids of runs: plan, run, export.", rich_markup_mode=None)

StudyName = Annotated[str, typer.Argument(help="YAML file, or a study that ships: quick, microworld, paper.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value: of the study (seeds=[0]) or its runs (steps=50).")
]
Folder = Annotated[Path | None, typer.Option("--output", help="Folder of the study.")]
Only = Annotated[list[str] | None, typer.Option(help="axis=pattern, such as backbone='bert-*'; repeatable.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many runs.")]
Engine = Annotated[str, typer.Option(help="local (processes) or ray.")]
Workers = Annotated[int, typer.Option(min=0, help="0 = one a GPU, else as many as there are cores for.")]
Address = Annotated[str | None, typer.Option(help="Of a Ray cluster.")]
Gpus = Annotated[float, typer.Option(min=0, help="GPUs a worker holds (ray).")]


@study.command()
def plan(
    name: StudyName,
    settings: Overrides = None,
    output: Folder = None,
    only: Only = None,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """Every run with its exact count, what is done already, what is missing, what it will take; nothing is run."""
    from apet.studies.planning import estimate, missing_reasons

    _, planner, _, runs = _planned(name, settings, only, limit)
    states, costs = _stored(output)
    todo = [p for p in runs if states.get(p.key) != "complete"]
    cost = estimate(todo, costs, planner)
    done = sum(states.get(p.key) == "complete" for p in runs)
    failed = sum(states.get(p.key) == "failed" for p in runs)
    if json:
        show.as_json(
            {
                "runs": [_as_data(p, states.get(p.key)) for p in runs],
                "total": len(runs),
                "complete": done,
                "failed": failed,
                "missing": dict(missing_reasons(runs)),
                "seconds_of_one_worker": cost.seconds,
                "measured_share": cost.measured,
                "peak_bytes": cost.peak_bytes,
            }
        )
        return
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for p in runs:
        groups.setdefault((p.settings.backbone, p.cell.label, f"{p.parameters:,}"), []).append(p)
    show.as_table(
        ["backbone", "method", "trainable#", "tasks#", "seeds#", "runs#", "done#"],
        [
            [
                *key,
                str(len({p.settings.learnt for p in ps})),
                str(len({p.settings.seed for p in ps})),
                str(len(ps)),
                str(sum(states.get(p.key) == "complete" for p in ps)),
            ]
            for key, ps in groups.items()
        ],
    )
    print(f"\n{len(runs):,} runs: {done:,} done, {failed:,} failed, {len(todo):,} to run")
    if todo:
        basis = f"{100 * cost.measured:.0f} % of the runs from measured rates, the rest from this machine's speed"
        print(f"about {_hours(cost.seconds)} of one worker ({basis}); largest run about {show.size(cost.peak_bytes)}")
    _cannot_run(missing_reasons(runs))


@study.command()
def run(
    name: StudyName,
    settings: Overrides = None,
    output: Folder = None,
    only: Only = None,
    limit: Limit = None,
    engine: Engine = "local",
    workers: Workers = 0,
    address: Address = None,
    gpus: Gpus = 0,
    retry: Annotated[bool, typer.Option("--retry", help="Also runs that failed before.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run what is missing of a study. The same command goes on after whatever stopped it."""
    from apet.studies.scheduler import Scheduler
    from apet.studies.store import open_store

    folder = _required(output)
    definition, _, planned, runs = _planned(name, settings, only, limit)
    with open_store(folder) as store:
        store.describe(definition.name, definition.as_yaml(), planned)
        with _engine(engine, workers, address, gpus, [p.settings for p in runs]) as machine:
            summary = Scheduler(store, machine, _watch(quiet)).run(runs, retry=retry, opening=True)
    facts = {
        "wanted": summary.wanted,
        "already": summary.already,
        "done": summary.done,
        "failed": summary.failed,
        "missing": dict(summary.missing),
    }
    if json:
        show.as_json(facts)
        return
    _ending(folder, [p.key for p in runs])
    print(
        f"{summary.wanted:,} runs: {summary.already:,} were done, {summary.done:,} done now,"
        f" {len(summary.failed):,} failed, {summary.missing.total():,} cannot run here  {folder}"
    )
    for key, reason in list(summary.failed.items())[:5]:
        print(f"failed {key}: {reason}" + (" (before; --retry runs it again)" if key in summary.before else ""))
    _cannot_run(summary.missing.items())


def _cannot_run(reasons: Iterable[tuple[str, int]]) -> None:
    for reason, n in reasons:
        print(f"{n:,} runs cannot run here: {reason}")


def _ending(folder: Path, keys: list[str]) -> None:
    """The measured methods; a table that cannot be made takes nothing away from the runs."""
    from apet.report.summary_table import study_summary
    from apet.studies.results import Study

    try:
        found = study_summary(Study(folder), keys)
    except ApetError as e:
        print(f"no table: {e}")
        return
    if found is not None:
        caption, header, rows = found
        show.as_table(header, rows, title=caption)
        print()


@study.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder of a study.")],
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("export"),
    form: Annotated[str, typer.Option("--format", help="csv, parquet or json.")] = "csv",
) -> None:
    """Runs and curves as files."""
    from apet.studies.results import Study
    from apet.studies.results import export as write

    for path in write(Study(folder), output, form):
        print(path)


def thresholds(
    settings: Annotated[list[str] | None, typer.Argument(help="key=value of the runs or the method.")] = None,
    backbone: Backbone = None,
    task: TaskName = None,
    data: DataPath = None,
    method: Annotated[str, typer.Option(help="See apet methods.")] = "apet",
    output: Folder = None,
    margin: Annotated[float, typer.Option(help="Points below full fine-tuning that still count as reached.")] = 1.0,
    confidence: Annotated[float, typer.Option(help="Of every interval, percent.")] = 95.0,
    spacing: Annotated[float, typer.Option(help="Ratio of neighbouring N.")] = 2.0,
    most_seeds: Annotated[int, typer.Option(min=1, help="For one N.")] = 5,
    reference_seeds: Annotated[int, typer.Option(min=1, help="Of full fine-tuning.")] = 3,
    forecast: Annotated[
        float, typer.Option(help="How sure the seeds of an N must be of what all would say, percent.")
    ] = 90.0,
    least: Annotated[int, typer.Option(min=1, help="Smallest N.")] = 1,
    most: Annotated[int | None, typer.Option(min=1, help="Largest N; none = all the method can have.")] = None,
    reference_rate: Annotated[
        float | None, typer.Option(min=0, help="Learning rate of full fine-tuning; none = as the others.")
    ] = None,
    engine: Engine = "local",
    workers: Workers = 0,
    address: Address = None,
    gpus: Gpus = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The smallest N above chance and the smallest that reaches full fine-tuning, as ranges, in few runs."""
    from apet.cli.overrides import parse_pairs
    from apet.studies.scheduler import Scheduler
    from apet.studies.store import open_store
    from apet.studies.threshold_search import ThresholdSearcher
    from apet.studies.thresholds import ThresholdRules, search_summary
    from apet.training.config import apply_overrides, validate_config

    folder = _required(output)
    flags = {"backbone": backbone, "task": task, "data": data, "method": method, "save_delta": False, "num_threads": 1}
    given = {k: v for k, v in flags.items() if v is not None}
    base = validate_config(defaults.completed(apply_overrides(given, parse_pairs(settings or ()))))
    if base.task is None:
        raise ApetError("which task? Give --task; apet tasks lists them")
    rules = ThresholdRules(margin / 100, confidence / 100, forecast / 100, spacing, most_seeds, reference_seeds)
    with open_store(folder) as store, _engine(engine, workers, address, gpus, [base]) as machine:
        searcher = ThresholdSearcher(base, store, Scheduler(store, machine, _watch(quiet)), rules, reference_rate)
        search, points = searcher.search(least, most)
        low, high = search.go()
    full = len(points) * rules.max_seeds + rules.reference_seeds
    facts = {
        "backbone": base.backbone,
        "task": base.task,
        "method": searcher.label,
        **search_summary(low, high, search, full),
    }
    if json:
        show.as_json(facts)
        return
    print(f"{base.backbone}, {base.task}, {searcher.label}")
    print(low.spelt())
    print(high.spelt())
    print(f"{search.runs} runs; a full grid of {len(points)} N x {rules.max_seeds} seeds has {full}")
    print(rules.spelt())


def transfer(
    folder: Annotated[Path, typer.Argument(help="Folder of a study.")],
    to: Annotated[list[str] | None, typer.Option(help="Target tasks; none = those of the study.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many examples of a target.")] = None,
    only: Only = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Every stored θ on every other task, zero-shot; nothing is trained again."""
    from apet.studies.results import Study
    from apet.studies.store import open_store
    from apet.studies.transfer import transfer as run
    from apet.training.resources import Resources

    with open_store(folder, create=False) as store:
        meant = set(run(store, to or (), Resources(_watch(quiet)), limit, only or ()))
    study = Study(folder)
    table = study.transfers()
    table = table[[pair in meant for pair in zip(table["run_id"], table["target"], strict=True)]]
    axes = study.axes()
    table.insert(5, "budget", [axes[key]["budget"] for key in table["run_id"]])
    if json:
        show.as_json(table.to_dict(orient="records"))
        return
    rows = ["backbone", "method", "budget", "source"]
    mean = table.groupby([*rows, "target"])["score"].mean().unstack()
    show.as_table(
        [*rows, *(f"{t}#" for t in mean.columns)],
        [
            [*names, *("" if v != v else f"{100 * v:.1f}" for v in row)]
            for names, row in zip(mean.index, mean.values, strict=True)
        ],
        title="zero-shot, the mean over seeds",
    )


def _planned(
    name: str, settings: list[str] | None, only: list[str] | None, limit: int | None
) -> tuple[Any, Any, int, list[Any]]:
    """Definition, planner, how many runs the study has, and those that are wanted."""
    from apet.cli.overrides import parse_pairs
    from apet.studies.planning import Planner
    from apet.studies.planning import select_runs as kept
    from apet.studies.study_config import load_study

    definition, planner = load_study(name, parse_pairs(settings or ())), Planner()
    runs = planner.study(definition)
    if not runs:
        raise ApetError(f"study {name!r} has no run; its rules skip them all")
    return definition, planner, len(runs), kept(runs, only or (), limit)


def _stored(output: Path | None) -> tuple[dict[str, str], dict[tuple[str, str, str], Any]]:
    """States of stored runs, and what they took by backbone, task and method: the last one's time, the highest peak."""
    from apet.studies.planning import Cost
    from apet.studies.store import FILE, Store

    if output is None or not (output / FILE).is_file():
        return {}, {}
    store = Store(output)
    costs: dict[tuple[str, str, str], Cost] = {}
    for _, _, cell, result, _ in store.rows():
        if result is not None:
            key = cell["backbone"], cell["task"], cell["method"]
            peak = max(result["peak_memory_bytes"], costs[key].peak if key in costs else 0)
            costs[key] = Cost(1 / max(1e-9, result["times"]["steps_per_second"]), peak)
    states = store.states()
    store.close()
    return states, costs


def _required(output: Path | None) -> Path:
    if output is None:
        raise ApetError("where shall the results go? Give --output FOLDER")
    return output


@contextlib.contextmanager
def _engine(name: str, workers: int, address: str | None, gpus: float, settings: Sequence[RunConfig]) -> Iterator[Any]:
    """Workers for runs of these settings, ended whatever happens."""
    import os

    from apet.errors import UnknownNameError

    threads = settings[0].num_threads or 1
    if name == "local":
        from apet.studies.executors.local import LocalExecutor, default_workers, visible_gpus

        devices = {s.device for s in settings}
        size, cards = default_workers(visible_gpus(), devices, os.cpu_count() or 1, threads)
        machine: Any = LocalExecutor(workers or size, cards)
    elif name == "ray":
        from apet.studies.executors.ray import RayExecutor

        machine = RayExecutor(workers, address, threads, gpus)
    else:
        raise UnknownNameError("engine", name, ["local", "ray"])
    try:
        yield machine
    finally:
        machine.stop()


def _watch(quiet: bool) -> Any:
    from apet.training.progress import Progress

    return Progress(quiet)


def _as_data(p: Any, state: str | None) -> dict[str, Any]:
    s = p.settings
    return {
        "run_id": p.key,
        "backbone": s.backbone,
        "task": s.learnt,
        "method": p.cell.label,
        "budget": p.cell.budget,
        "num_trainable": p.parameters,
        "seed": s.seed,
        "state": state or ("missing" if p.missing else "waiting"),
    }


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a study, or of one run.")],
    output: Annotated[Path | None, typer.Option(help="Folder for the report; none = report/ in the folder.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse holes: every planned run must be there.")] = False,
    json: Json = False,
) -> None:
    """Figures, tables and one page that opens with the answer; also while a study runs, and of one run."""
    from apet.report.run import write_run_report
    from apet.report.study import write_report
    from apet.studies.results import Study, provenance
    from apet.studies.store import FILE
    from apet.training.run_dir import RESULT

    if not (folder / FILE).is_file() and not (folder / RESULT).is_file():
        raise ApetError(
            f"neither a study nor a finished run at {str(folder)!r}; give a folder of apet study run, compare or tune"
        )
    if (folder / FILE).is_file():
        study = Study(folder)
        about, gone = provenance(study), study.outdated
        runs, curves, transfers = (
            table[~table["run_id"].isin(gone)] for table in (study.runs(), study.curves(), study.transfers())
        )
        made = write_report(
            output or folder / "report",
            runs,
            curves,
            about | {"outdated": len(gone)},
            items=study.items(),
            transfer=transfers,
            planned=study.planned(),
            allow_holes=not strict,
            partial=bool(about["running"]),
        )
    else:
        made = write_run_report(folder, output)
    if json:
        show.as_json({"page": str(made.page), "headline": made.headline, "findings": [f.text for f in made.findings]})
        return
    print(made.headline)
    print(made.page)
