"""Commands on grids of runs: study plan, run, export."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apet.cli.options import (
    ExecutorOption,
    Filters,
    Gpus,
    Json,
    OutputFolder,
    Quiet,
    RayAddress,
    RunLimit,
    StudyFolder,
    Workers,
    open_progress,
    require_output,
)
from apet.cli.output import format_bytes, format_duration, print_json, print_table
from apet.cli.own_data import OwnData, takes_own_data
from apet.cli.stopping import keeps_runs
from apet.errors import ApetError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from apet.studies.planning import Cost, CostEstimate
    from apet.studies.scheduler import Summary
    from apet.studies.study_config import StudyConfig
    from apet.training.run_plan import RunPlan

study = typer.Typer(no_args_is_help=True, help="Plan, run and export grids of runs.", rich_markup_mode=None)

StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="YAML file, or name of a registered study: paper, quick, microworld.")
]
StudyOverrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the study (seeds=[0]) or of its runs (max_steps=50)."),
]
SHOWN_FAILURES = 5
"""Failed runs that are listed with their reason; the report has all."""


@study.command()
@takes_own_data
def plan(
    name: StudyName,
    settings: StudyOverrides = None,
    own: OwnData = OwnData(),  # noqa: B008, frozen
    output: OutputFolder = None,
    filters: Filters = None,
    limit: RunLimit = None,
    json: Json = False,
) -> None:
    """List every run with its exact count.

    What is complete, what is missing, and what the rest will take; nothing is run.
    """
    from apet.studies.planning import estimate, missing_reasons

    _, runs, _ = _planned_runs(name, settings, own, filters, limit)
    states, costs = _stored_runs(output)
    waiting = [run for run in runs if states.get(run.run_id) != "complete"]
    cost = estimate(waiting, costs)
    num_complete = sum(states.get(run.run_id) == "complete" for run in runs)
    num_failed = sum(states.get(run.run_id) == "failed" for run in runs)
    if json:
        print_json(
            {
                "runs": [_run_record(run, states.get(run.run_id)) for run in runs],
                "num_runs": len(runs),
                "num_complete": num_complete,
                "num_failed": num_failed,
                "cannot_run": dict(missing_reasons(runs)),
                "seconds_of_one_worker": cost.seconds,
                "measured_share": cost.measured,
                "peak_bytes": cost.peak_bytes,
            }
        )
        return
    _print_plan(runs, states)
    print(f"\n{len(runs):,} runs: {num_complete:,} done, {num_failed:,} failed, {len(waiting):,} to run")
    if waiting:
        _print_estimate(cost)
    _print_cannot_run(missing_reasons(runs))


def _print_plan(runs: Sequence[RunPlan], states: dict[str, str]) -> None:
    """A row for each backbone, method and count."""
    groups: dict[tuple[str, str, str], list[RunPlan]] = {}
    for run in runs:
        groups.setdefault((run.axes.backbone, run.axes.method, f"{run.num_trainable:,}"), []).append(run)
    print_table(
        ["backbone", "method", "trainable#", "tasks#", "seeds#", "runs#", "done#"],
        [
            [
                *key,
                str(len({run.axes.task for run in group})),
                str(len({run.axes.seed for run in group})),
                str(len(group)),
                str(sum(states.get(run.run_id) == "complete" for run in group)),
            ]
            for key, group in groups.items()
        ],
    )


def _print_estimate(cost: CostEstimate) -> None:
    basis = f"{100 * cost.measured:.0f} % of the runs from measured rates, the rest from this machine's speed"
    print(
        f"about {format_duration(cost.seconds)} of one worker ({basis});"
        f" largest run about {format_bytes(cost.peak_bytes)}"
    )


@study.command()
@takes_own_data
def run(
    name: StudyName,
    settings: StudyOverrides = None,
    own: OwnData = OwnData(),  # noqa: B008, frozen
    output: OutputFolder = None,
    filters: Filters = None,
    limit: RunLimit = None,
    executor: ExecutorOption = "local",
    workers: Workers = 0,
    ray_address: RayAddress = None,
    gpus: Gpus = 0,
    retry: Annotated[bool, typer.Option("--retry", help="Also run what failed before.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run what is missing of a study.

    The same command goes on after whatever stopped it.
    """
    from apet.cli.execution import open_executor
    from apet.studies.held_store import open_store
    from apet.studies.scheduler import Scheduler

    folder = require_output(output)
    definition, runs, num_planned = _planned_runs(name, settings, own, filters, limit)
    keeps_runs(folder)
    with open_store(folder) as store:
        store.describe(definition.name, definition.to_yaml(), num_planned)
        with open_executor(executor, workers, ray_address, gpus, [run.config for run in runs]) as opened:
            summary = Scheduler(store, opened, open_progress(quiet)).run(runs, retry=retry, opening=True)
    if json:
        print_json(
            {
                "num_planned": summary.num_planned,
                "num_already_complete": summary.num_already_complete,
                "num_completed": summary.num_completed,
                "failed": summary.failed,
                "cannot_run": dict(summary.cannot_run),
                "changed": summary.changed,
            }
        )
        return
    _print_summary_table(folder, [run.run_id for run in runs])
    _print_summary(folder, summary)


def _print_summary(folder: Path, summary: Summary) -> None:
    print(
        f"{summary.num_planned:,} runs: {summary.num_already_complete:,} were done, {summary.num_completed:,} done now,"
        f" {len(summary.failed):,} failed, {summary.cannot_run.total():,} cannot run here  {folder}"
    )
    for run_id, reason in list(summary.failed.items())[:SHOWN_FAILURES]:
        print(
            f"failed {run_id}: {reason}"
            + (" (before; --retry runs it again)" if run_id in summary.failed_before else "")
        )
    for run_id, what in list(summary.changed.items())[:SHOWN_FAILURES]:
        print(f"changed {run_id}: {what}; its score is as it was recorded, its files are not")
    _print_cannot_run(summary.cannot_run.items())


def _print_cannot_run(reasons: Iterable[tuple[str, int]]) -> None:
    for reason, count in reasons:
        print(f"{count:,} runs cannot run here: {reason}")


def _print_summary_table(folder: Path, run_ids: list[str]) -> None:
    """The measured methods of the runs."""
    from apet.reporting.summary_table import study_summary
    from apet.studies.results import Study

    try:
        table = study_summary(Study(folder), run_ids)
    except ApetError as e:  # the runs are stored; a table that cannot be made must not look like a failed study
        print(f"no table: {e}")
        return
    if table is not None:
        caption, header, rows = table
        print_table(header, rows, title=caption)
        print()


@study.command()
def export(
    folder: StudyFolder,
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("export"),
    file_format: Annotated[str, typer.Option("--format", help="Format of the files: csv, parquet or json.")] = "csv",
) -> None:
    """Write runs and curves as files."""
    from apet.studies.results import Study
    from apet.studies.results import export as write

    for path in write(Study(folder), output, file_format):
        print(path)


@study.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/results-schema.md.")] = False,
) -> None:
    """Print the JSON schema of a run's record."""
    from apet.training.result import RunResult, schema_markdown

    if markdown:
        print(schema_markdown(), end="")
    else:
        print_json(RunResult.model_json_schema())


def _planned_runs(
    name: str, settings: list[str] | None, own: OwnData, filters: list[str] | None, limit: int | None
) -> tuple[StudyConfig, list[RunPlan], int]:
    """Plan a study.

    Args:
        name: file or registered name.
        settings: ``key=value`` words.
        own: data in place of the study's.
        filters: ``axis=pattern`` words.
        limit: number of runs, at most.

    Returns:
        The study, the runs that were selected, and how many the whole study has.

    Raises:
        ApetError: the study has no run, or none that matches.
    """
    from apet.cli.guests import command_line_imports
    from apet.cli.overrides import parse_filters, parse_pairs
    from apet.studies.planning import plan_study, select_runs
    from apet.studies.study_file import load_study

    definition = load_study(name, own.study_settings | parse_pairs(settings or ()))
    if command_line_imports():
        # Kept in the study, so that workers, and whoever runs the stored study again, import the same guests.
        guests = dict.fromkeys([*definition.imports, *command_line_imports()])
        definition = definition.model_copy(update={"imports": tuple(guests)})
    runs = plan_study(definition)
    if not runs:
        raise ApetError(f"study {name!r} has no run: its overrides exclude them all; exclude fewer")
    return definition, select_runs(runs, parse_filters(filters or ()), limit), len(runs)


def _stored_runs(output: Path | None) -> tuple[dict[str, str], dict[tuple[str, str, str], Cost]]:
    """What the record of a study says about runs that were run.

    Args:
        output: the study's folder; None, or one without a record, has no runs.

    Returns:
        Run id -> state; and (backbone, task, method) -> cost, with the last run's time and the highest peak.
    """
    from apet.studies.planning import Cost
    from apet.studies.store import Store
    from apet.studies.store_schema import FILE

    if output is None or not (output / FILE).is_file():
        return {}, {}
    store = Store(output)
    costs: dict[tuple[str, str, str], Cost] = {}
    for stored in store.rows():
        if stored.result is not None:
            key = stored.axes.backbone, stored.axes.task, stored.axes.method
            peak = max(stored.result.peak_memory_bytes, costs[key].peak if key in costs else 0)
            costs[key] = Cost(1 / max(1e-9, stored.result.steps_per_second), peak)
    states = store.states()
    store.close()
    return states, costs


def _run_record(run: RunPlan, state: str | None) -> dict[str, JsonValue]:
    return {
        "run_id": run.run_id,
        **asdict(run.axes),
        "num_trainable": run.num_trainable,
        "state": state or ("missing" if run.missing else "waiting"),
    }
