"""Command recommend: how few parameters, where, in what structure, reach full fine-tuning, within a given time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apet.cli.options import (
    BackboneOption,
    ConfigFile,
    Json,
    MaxSteps,
    Quiet,
    RunOverrides,
    TaskName,
    Track,
    build_run_config,
)
from apet.cli.output import print_json, print_table
from apet.cli.own_data import OwnData, takes_own_data
from apet.cli.stopping import keeps_runs

if TYPE_CHECKING:
    from apet.recommendation.answer import Recommendation

INTERRUPTED = 130
"""Exit code after Ctrl-C."""
STOPPED = "stopped"
"""What an answer says of a search that Ctrl-C ended."""


@takes_own_data
def recommend(
    settings: RunOverrides = None,
    backbone: BackboneOption = None,
    task: TaskName = None,
    own: OwnData = OwnData(),  # noqa: B008, frozen
    within: Annotated[str, typer.Option(help="Time that it may take: 30m, 90s, 1h30m.")] = "30m",
    reach: Annotated[
        str,
        typer.Option(help="What counts as reaching full fine-tuning: 95% of the way to it, or -1pt below it."),
    ] = "95%",
    max_params: Annotated[int | None, typer.Option(min=1, help="Most parameters that may be recommended.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Memory that training may take, such as 8GB.")] = None,
    deploy: Annotated[
        str, typer.Option(metavar="attached|merged", help="Whether the answer must merge into the backbone.")
    ] = "attached",
    max_steps: MaxSteps = None,
    track: Track = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for runs, page and picture, in which the same command goes on; without it,"
            " runs/TASK-recommend."
        ),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Recommend what to train.

    How few parameters, where, in what structure, to reach full fine-tuning on this backbone and these data, within a
    given time: one sentence, a picture, and the commands that train it. Test rows are used for nothing else. The same
    command goes on where it ended.
    """
    from apet.commands.recommend import recommend as search
    from apet.commands.recommend import recommendation_folder
    from apet.reporting.recommendation import PAGE

    options: dict[str, object] = {"backbone": backbone, "task": task, "max_steps": max_steps, "track": track}
    base = build_run_config(config, settings, options | own.settings)
    folder = output or recommendation_folder(base)
    keeps_runs(folder)
    found = search(
        config=base,
        within=within,
        reach=reach,
        max_params=max_params,
        max_memory=max_memory,
        deploy=deploy,  # type: ignore[arg-type]  # it refuses other words itself
        output=folder,
        quiet=quiet,
    )
    page = folder / PAGE
    if json:
        print_json(found.as_dict())
    else:
        _print(found, page)
    if found.ended == STOPPED:
        raise typer.Exit(INTERRUPTED)  # as after any Ctrl-C: the last line says how it goes on


def _print(found: Recommendation, page: Path) -> None:
    """The answer, and below it the table, what became of each way to tune, and the commands."""
    from apet.recommendation.wording import clock, method_name, number

    print(found.headline)
    if found.tried:
        headings = ("method", "parameters#", "learning rate#", f"{found.metric}#", "seeds#", "step ×#", "memory ×#", "")
        rows = [
            [
                method_name(p.family),
                f"{p.num_trainable:,}",
                f"{p.learning_rate:g}",
                number(found.metric, p.score),
                str(p.num_seeds),
                "" if p.relative_time is None else f"{p.relative_time:.2f}",
                "" if p.relative_memory is None else f"{p.relative_memory:.2f}",
                "recommended" if p == found.use else "best for its size" if p.is_best_for_size else "",
            ]
            for p in found.tried
        ]
        print()
        print_table(headings, rows, title=f"on {found.num_validation:,} validation rows, {found.steps} steps each")
    lines = []
    for fate in found.fates:
        when = "" if fate.seconds is None else f" (at {clock(fate.seconds)})"
        lines.append(f"{fate.what}: {method_name(fate.family)}{when}: {fate.why}")
    commands = [f"{purpose}: {command}" for purpose, command in found.commands.items()]
    for part in filter(None, (lines, commands)):
        print("", *part, sep="\n")
    print(f"\n{found.ended} after {clock(found.seconds)} and {found.num_runs} runs; page: {page}")
