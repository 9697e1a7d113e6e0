"""Command thresholds: the smallest N above chance and the smallest that reaches full fine-tuning, in few runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from apet.cli.options import (
    BackboneOption,
    ConfigFile,
    ExecutorOption,
    Gpus,
    Json,
    MaxSteps,
    MethodOption,
    OutputFolder,
    Quiet,
    RayAddress,
    RunOverrides,
    Slurm,
    TaskName,
    Track,
    Workers,
    build_run_config,
)
from apet.cli.output import print_json
from apet.cli.overrides import split_pairs
from apet.cli.own_data import OwnData, takes_own_data
from apet.cli.stopping import keeps_runs
from apet.commands.settings import default_output

if TYPE_CHECKING:
    from pydantic import JsonValue


@takes_own_data
def thresholds(
    settings: RunOverrides = None,
    backbone: BackboneOption = None,
    task: TaskName = None,
    own: OwnData = OwnData(),  # noqa: B008, frozen
    method: MethodOption = None,
    max_steps: MaxSteps = None,
    track: Track = None,
    output: OutputFolder = None,
    share: Annotated[
        float, typer.Option(help="Share of the way to full fine-tuning that counts as reaching it, percent.")
    ] = 95.0,
    margin: Annotated[
        float | None, typer.Option(help="Points below full fine-tuning that count as reaching it, instead of a share.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Confidence of every interval, percent.")] = 95.0,
    spacing: Annotated[float, typer.Option(help="Ratio of neighboring N.")] = 2.0,
    max_runs: Annotated[int, typer.Option(min=1, help="Runs, at most, those of full fine-tuning included.")] = 20,
    max_seeds: Annotated[int, typer.Option(min=1, help="Seeds of one N, at most.")] = 5,
    full_seeds: Annotated[int, typer.Option(min=1, help="Seeds of full fine-tuning, to begin with.")] = 3,
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
    slurm: Slurm = None,
    config: ConfigFile = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search the low and the high threshold.

    The smallest N a tenth of the way from guessing to full fine-tuning, and the smallest that reaches it, with 95 %
    intervals, in few runs: each is the one that is expected to tell most.
    """
    from apet.commands.thresholds import thresholds as search

    options: dict[str, object] = {"backbone": backbone, "task": task, "method": method, "max_steps": max_steps}
    # Values are not kept: a search looks at scores alone. One thread a run, since several run beside each other.
    defaults: dict[str, JsonValue] = {"save_delta": False, "num_threads": 1}
    base = build_run_config(config, settings, {**options, "track": track, **own.settings}, defaults)
    folder = output or default_output(base.axes.task, "thresholds")
    keeps_runs(folder)
    found = search(
        config=base,
        output=folder,
        share=share,
        margin=margin,
        confidence=confidence,
        spacing=spacing,
        max_runs=max_runs,
        max_seeds=max_seeds,
        full_seeds=full_seeds,
        min_params=min_params,
        max_params=max_params,
        full_learning_rate=full_learning_rate,
        executor=executor,
        workers=workers,
        ray_address=ray_address,
        gpus=gpus,
        slurm=split_pairs(slurm or (), "partition=gpu"),
        quiet=quiet,
    )
    if json:
        print_json({**found.subject, **found.summary})
        return
    print(", ".join(found.subject.values()))
    for kind, sentence in found.sentences.items():
        print(f"{kind} threshold: {sentence}")
    print(f"{found.num_runs} runs; {found.grid}")
    print(found.rules)
