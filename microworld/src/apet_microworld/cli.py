"""Commands ``apet microworld``: look at the language and its tasks, pre-train the backbones again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apet.cli.options import Json, Quiet, require_output
from apet.cli.output import print_json

commands = typer.Typer(
    name="microworld",
    no_args_is_help=True,
    help="Show and pre-train the synthetic world.",
    rich_markup_mode=None,
)
PREFIX = "microworld-"


@commands.command()
def show(
    task: Annotated[
        str | None, typer.Argument(help="Task such as sst2; without it, documents of the pre-training corpus.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the task: train, validation or test.")] = "train",
    limit: Annotated[int, typer.Option(min=1, help="Number of documents or rows, at most.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of what is said; the world's facts are the same for every seed.")] = 0,
    json: Json = False,
) -> None:
    """Show documents, or rows of a task.

    Documents are what the backbones were pre-trained on. All of it is made up.
    """
    from apet_microworld import corpus, rows

    if task is None:
        documents = corpus(seed, limit)
        if json:
            print_json(documents)
        else:
            print("\n\n".join(documents))
        return
    name = task.removeprefix(PREFIX).replace("-", "_")
    shown = rows(name, split, seed)[:limit]
    if json:
        print_json(shown)
        return
    _print_rows(name, shown)


def _print_rows(name: str, shown: list[dict[str, str | int | list[str]]]) -> None:
    """Rows of a task, a line for each column; labels with their words."""
    from apet.tasks.task import registered_tasks

    registered = registered_tasks().get(PREFIX + name.replace("_", "-"))
    label_words = registered.labels if registered is not None else {}
    width = max(len(column) for column in shown[0]) + 2
    for n, row in enumerate(shown):
        print(end="\n" if n else "")
        for column, value in row.items():
            text = " · ".join(value) if isinstance(value, list) else str(value)
            text += f" ({label_words[text]})" if column == "label" and text in label_words else ""
            print(f"{column:<{width}}" + text.replace("\n", "\n" + " " * width))


@commands.command()
def pretrain(
    scale: Annotated[str, typer.Option(help="Scale to pre-train, such as microworld-t5-small (see apet backbones).")],
    output: Annotated[Path | None, typer.Option(help="New folder for the backbone.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, corpus, order and masking.")] = 0,
    max_steps: Annotated[
        int | None, typer.Option(help="Optimizer steps of 32 documents; without it, as many as the scale's own took.")
    ] = None,
    documents: Annotated[int | None, typer.Option(help="Documents of the corpus; without it, 100,000.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pre-train a backbone of the ladder.

    From its seed; the folder is an ordinary transformers folder with an account of how it went. Where it was cut, the
    same command goes on: what it needs lies in OUTPUT.partial until it is done.
    """
    from transformers.utils import logging as hf_logging

    from apet.training.output_folder import new_folder
    from apet.training.progress import Progress
    from apet_microworld.pretrain import MAX_STEPS
    from apet_microworld.pretrain import pretrain as run
    from apet_microworld.scales import get_scale

    output = require_output(output, "backbone")
    hf_logging.disable_progress_bar()  # the one of saving would write over ours
    total = max_steps or round(get_scale(scale).reads * MAX_STEPS)
    state = output.with_name(f"{output.name}.partial")
    with new_folder(output) as folder, Progress(quiet).begin(scale, total) as bar:

        def report(step: int, loss: float, seconds: float) -> None:
            bar.update(step, f"held-out loss {loss:.3f}")

        account = run(scale, folder, seed=seed, max_steps=max_steps, documents=documents, state=state, report=report)
    if json:
        print_json(account)
        return
    first, last = account["held_out_loss"][0][1], account["held_out_loss"][-1][1]
    print(
        f"{scale}: {account['parameters']:,} parameters, {account['steps']:,} steps in {account['seconds']:.0f} s,"
        f" held-out loss {first:.2f} to {last:.2f} nats a masked word"
    )
    print(output)
