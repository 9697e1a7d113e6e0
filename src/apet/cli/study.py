"""Commands on grids of runs: study plan, run, export, diff."""

from __future__ import annotations

from collections.abc import Iterable
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
    Slurm,
    StudyFolder,
    Track,
    Workers,
    open_progress,
    require_output,
)
from apet.cli.output import format_bytes, format_duration, print_json, print_table
from apet.cli.overrides import split_pairs
from apet.cli.own_data import OwnData, takes_own_data
from apet.cli.stopping import keeps_runs
from apet.errors import ApetError

if TYPE_CHECKING:
    from apet.commands.studying import StudyPlan
    from apet.studies.planning import CostEstimate
    from apet.studies.scheduler import Summary

study = typer.Typer(no_args_is_help=True, help="Plan, run, export and compare grids of runs.", rich_markup_mode=None)

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
    tflops: Annotated[
        float | None,
        typer.Option(min=0.001, help="Trillions of operations a second of the machine of the runs; else this one's."),
    ] = None,
    json: Json = False,
) -> None:
    """List every run with its exact count.

    What is complete, what is missing, and what the rest will take; nothing is run.
    """
    found = _planned(name, settings, own, filters, limit, output, tflops=tflops)
    cost = found.cost
    if json:
        print_json(
            {
                "runs": found.records(),
                "num_runs": len(found.runs),
                "num_complete": found.num_complete,
                "num_failed": found.num_failed,
                "cannot_run": found.cannot_run,
                "seconds_of_one_worker": cost.seconds,
                "measured_share": cost.measured,
                "peak_bytes": cost.peak_bytes,
                "by_backbone": {
                    name: {"seconds_of_one_worker": c.seconds, "peak_bytes": c.peak_bytes}
                    for name, c in found.cost_by_backbone().items()
                },
            }
        )
        return
    _print_plan(found)
    _print_costs(found)
    print(
        f"\n{len(found.runs):,} runs: {found.num_complete:,} done, {found.num_failed:,} failed,"
        f" {len(found.waiting):,} to run"
    )
    if found.waiting:
        _print_estimate(cost, found.tflops)
    _print_cannot_run(found.cannot_run.items())


def _print_plan(found: StudyPlan) -> None:
    """A row for each backbone, method and count."""
    print_table(
        ["backbone", "method", "trainable#", "tasks#", "seeds#", "runs#", "done#"],
        [
            [
                *key,
                str(len({run.axes.task for run in group})),
                str(len({run.axes.seed for run in group})),
                str(len(group)),
                str(sum(found.states.get(run.run_id) == "complete" for run in group)),
            ]
            for key, group in found.groups().items()
        ],
    )


def _print_costs(found: StudyPlan) -> None:
    """A row for each backbone, where there are several."""
    costs = found.cost_by_backbone()
    if len(costs) < 2:
        return
    runs = [run.axes.backbone for run in found.waiting]
    print()
    print_table(
        ["backbone", "to run#", "one worker#", "largest run#"],
        [
            [name, f"{runs.count(name):,}", format_duration(c.seconds), format_bytes(c.peak_bytes)]
            for name, c in costs.items()
        ],
    )


def _print_estimate(cost: CostEstimate, tflops: float | None) -> None:
    speed = "this machine's speed" if tflops is None else f"{tflops:g} TFLOP/s"
    basis = f"{100 * cost.measured:.0f} % of the runs from measured rates, the rest from {speed}"
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
    slurm: Slurm = None,
    track: Track = None,
    retry: Annotated[bool, typer.Option("--retry", help="Also run what failed before.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run what is missing of a study.

    The same command goes on after whatever stopped it.
    """
    from apet.commands.studying import make_runs

    folder = require_output(output)
    found = _planned(name, settings, own, filters, limit, None, track)
    keeps_runs(folder)
    summary = make_runs(
        found,
        folder,
        open_progress(quiet),
        executor=executor,
        workers=workers,
        ray_address=ray_address,
        gpus=gpus,
        slurm=split_pairs(slurm or (), "partition=gpu"),
        retry=retry,
    )
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
    _print_summary_table(folder, [run.run_id for run in found.runs])
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
    file_format: Annotated[str, typer.Option("--format", help="csv, csv.gz, parquet or json.")] = "csv",
) -> None:
    """Write runs, curves and item scores as files.

    Transfers, too, where some were measured. Scores of items are NumPy arrays, by run.
    """
    from apet.commands.study import Study

    for path in Study(folder).export(output, file_format):  # type: ignore[arg-type]  # it refuses other words itself
        print(path)


@study.command()
def diff(
    first: StudyFolder,
    second: Annotated[Path, typer.Argument(help="Folder of the study to hold against it.")],
    json: Json = False,
) -> None:
    """Hold one study against another, cell by cell.

    What is higher or lower in the second, paired by seed and item, and what was set otherwise; cells that only one has.
    """
    from apet.commands.study import Study
    from apet.reporting.study_difference import caption, table

    found = Study(first).diff(second)
    if json:
        print_json(
            {
                "cells": [cell.as_dict() for cell in found.cells],
                "only_first": [list(key) for key in found.only_first],
                "only_second": [list(key) for key in found.only_second],
                "apart": [{"cell": list(key), "why": why} for key, why in found.apart.items()],
            }
        )
        return
    if found.cells:
        print_table(*table(found))
    for line in caption(found):
        print(line)


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


def _planned(
    name: str,
    settings: list[str] | None,
    own: OwnData,
    filters: list[str] | None,
    limit: int | None,
    output: Path | None,
    track: str | None = None,
    tflops: float | None = None,
) -> StudyPlan:
    """Plan a study as a command line describes it."""
    from apet.cli.guests import command_line_imports
    from apet.cli.overrides import parse_filters, parse_pairs
    from apet.commands.settings import study_settings
    from apet.commands.studying import plan_runs

    given = study_settings({**own.settings, "track": track}) | parse_pairs(settings or ())
    return plan_runs(name, given, output, parse_filters(filters or ()), limit, command_line_imports(), tflops)
