"""Options and arguments that several commands take, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from apet.cli import defaults
from apet.cli.completion import complete_backbones, complete_methods, complete_runs, complete_tasks
from apet.errors import ApetError

if TYPE_CHECKING:  # commands that need no model start without torch
    from pydantic import JsonValue

    from apet.training.config import RunConfig
    from apet.training.progress import Progress

RunOverrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the run (dtype=float32) or of the method (rank=4)."),
]
BackboneOption = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_backbones,
        help="Name (see apet backbones), folder or hub id of the backbone; without it,"
        f" {defaults.BACKBONE} for the microworld's tasks.",
    ),
]
MovedBackbone = Annotated[
    str | None, typer.Option("--backbone", help="Where the run's backbone is by now, if it moved.")
]
TaskName = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_tasks,
        help=f"Name (see apet tasks) or YAML file of the task; without it, {defaults.TASK}.",
    ),
]
DataPath = Annotated[
    str | None, typer.Option(help="Data file, or folder with train.* and validation.*, in place of the task's own.")
]
NewFolder = Annotated[
    Path | None, typer.Option("--output", help="New folder for the result; without it, runs/TASK-METHOD-N.")
]
MethodOption = Annotated[
    str | None, typer.Option(help="Name of the method (see apet methods).", autocompletion=complete_methods)
]
BudgetOption = Annotated[
    str | None, typer.Option(help="Exact number of parameters: 4096, 0.3%, =lora; without it, the method's default.")
]
MaxSteps = Annotated[int | None, typer.Option(help="Optimizer steps to train for.")]
Track = Annotated[
    str | None,
    typer.Option(
        metavar="tensorboard|wandb|mlflow|trackio",
        help="Tracker that losses and scores also go to, offline, in a folder of its name beside the runs.",
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option(help="YAML file with settings; what stands on the command line goes over it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
RunFolderArgument = Annotated[
    Path, typer.Argument(help="Folder of a run, from apet tune.", autocompletion=complete_runs)
]
StudyFolder = Annotated[
    Path, typer.Argument(help="Folder of a study, from apet study run or compare.", autocompletion=complete_runs)
]
OutputFolder = Annotated[Path | None, typer.Option("--output", help="Folder of the study; made if it is not there.")]
Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="AXIS=PATTERN", help="Only these runs, such as backbone='bert-*'; repeatable."),
]
RunLimit = Annotated[int | None, typer.Option(min=1, help="Number of runs, at most.")]
ExampleLimit = Annotated[int | None, typer.Option(min=1, help="Number of examples, at most.")]
ExecutorOption = Annotated[
    str, typer.Option(help="What runs a study's runs: local (processes), ray (a cluster) or slurm (jobs).")
]
Workers = Annotated[
    int, typer.Option(min=0, help="Number of workers; 0 = one for each GPU, else as many as the cores allow.")
]
RayAddress = Annotated[str | None, typer.Option("--ray-address", help="Address of the Ray cluster.")]
Gpus = Annotated[
    float, typer.Option(min=0, help="GPUs that each worker of Ray or Slurm holds; of Ray maybe a fraction.")
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Setting of Slurm jobs, as sbatch calls it: partition=gpu; repeatable."),
]


def require_output(output: Path | None, purpose: str = "results") -> Path:
    """The folder of ``--output``.

    Args:
        output: as given.
        purpose: what is written to it, for the message.

    Raises:
        ApetError: none was given.
    """
    if output is None:
        raise ApetError(f"--output is required: give the folder for the {purpose}")
    return output


def parse_seeds(text: str) -> list[int]:
    """Seeds of ``--seeds 0,1,2``.

    Raises:
        ApetError: something other than integers with commas.
    """
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as e:
        raise ApetError(f"--seeds {text!r} is not a valid list of integers; write such as 0,1,2") from e


def build_run_config(
    config: Path | None,
    pairs: list[str] | None,
    options: dict[str, object],
    command_defaults: dict[str, JsonValue] | None = None,
) -> RunConfig:
    """Settings of a run: a file's, then options, then ``key=value`` words; and the guests that the line imports.

    Args:
        config: YAML file, or None.
        pairs: ``key=value`` words.
        options: by field of `RunConfig`; None and empty lists count as not given.
        command_defaults: what the command sets where nobody says otherwise.

    Returns:
        The settings, validated.

    Raises:
        ApetError: a setting that is given as an option and as a word, is unknown, or does not fit.
    """
    from apet.cli.guests import command_line_imports
    from apet.cli.overrides import parse_pairs
    from apet.training.config import RunConfig, apply_overrides, read_config, validate_config

    # Texts, numbers and lists of texts are JSON values; a list of texts is no list of JSON values to mypy.
    given = cast("dict[str, JsonValue]", {key: value for key, value in options.items() if value not in (None, [])})
    overrides = parse_pairs(pairs or ())
    for key in sorted(set(given) & set(overrides)):
        raise ApetError(f"{key} came twice, as --{key.replace('_', '-')} and as {key}=…; give it once")
    settings: dict[str, JsonValue] = {**(command_defaults or {}), **(read_config(config) if config else {})}
    if "imports" in RunConfig.model_fields and command_line_imports():
        in_file = settings.get("imports")
        settings["imports"] = [*(in_file if isinstance(in_file, list) else ()), *command_line_imports()]
    completed = defaults.with_defaults(apply_overrides(settings, {**given, **overrides}))
    if completed.get("data") is not None and completed.get("backbone") is None:
        raise ApetError(
            "--backbone is required beside --data: give a name (apet backbones lists them, all-minilm-l6-v2 is small),"
            " a folder made by save_pretrained, or a hub id"
        )
    return validate_config(completed)


def open_progress(quiet: bool) -> Progress:
    """Progress on the standard error: a bar on a terminal, lines elsewhere, nothing if quiet."""
    from apet.training.progress import Progress

    return Progress(quiet)
