"""Commands of the microworld: look at its language and tasks, pre-train its backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apet.cli import output as shown
from apet.cli.run import Json, Quiet

world = typer.Typer(
    name="microworld",
    no_args_is_help=True,
    help="The embedded synthetic world: its texts, its tasks, the pre-training of its backbones.",
    rich_markup_mode=None,
)
Seed = Annotated[int, typer.Option(help="What is said; the facts of the world are the same for every seed.")]


@world.command()
def show(
    task: Annotated[str | None, typer.Argument(help="Such as sst2; none = documents of the corpus.")] = None,
    split: Annotated[str, typer.Option(help="Of the task: train, validation or test.")] = "train",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 5,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Documents that the backbones were pre-trained on, or rows of a task. All of it is made up."""
    from apet.microworld import corpus, rows
    from apet.tasks.task import registered_tasks

    if task is None:
        documents = corpus(seed, limit)
        if json:
            shown.as_json(documents)
        else:
            print("\n\n".join(documents))
        return
    name = task.removeprefix("microworld-").replace("-", "_")
    found = rows(name, split, seed)[:limit]
    if json:
        shown.as_json(found)
        return
    words = next((t.labels for t in registered_tasks().values() if t.source.arguments.get("task") == name), {})
    width = max(len(column) for column in found[0]) + 2
    for n, row in enumerate(found):
        print(end="\n" if n else "")
        for column, value in row.items():
            text = " · ".join(value) if isinstance(value, list) else str(value)
            text += f" ({words[text]})" if column == "label" and text in words else ""
            print(f"{column:<{width}}" + text.replace("\n", "\n" + " " * width))


@world.command()
def pretrain(
    scale: Annotated[str, typer.Option(help="Of the ladder, such as microworld-t5-small; see apet backbones.")],
    output: Annotated[Path | None, typer.Option(help="New folder for the backbone.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, corpus, order and what is hidden.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Of 32 documents; none = as the scale says.")] = None,
    documents: Annotated[int | None, typer.Option(help="Size of the corpus; none = 60,000.")] = None,
    smaller: Annotated[
        Path | None, typer.Option(help="Of a scale that grows from another: that one's folder; none = what ships.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a backbone of the ladder again from its seed: an ordinary transformers folder with an account.

    microworld-t5-base grows from microworld-t5-small, and microworld-t5-large from microworld-t5-base.
    """
    from transformers.utils import logging as hf_logging

    from apet.errors import ApetError
    from apet.microworld.pretrain import DOCUMENTS
    from apet.microworld.pretrain import pretrain as run
    from apet.microworld.scales import scale as named
    from apet.training.progress import Progress
    from apet.training.run_dir import new_folder

    if output is None:
        raise ApetError("where shall the backbone go? Give --output FOLDER")
    hf_logging.disable_progress_bar()  # of saving, which would write over ours
    total = steps or named(scale).steps
    size = DOCUMENTS if documents is None else documents
    with new_folder(output) as folder, Progress(quiet).begin(scale, total) as bar:

        def report(step: int, loss: float, seconds: float) -> None:
            bar.update(step, f"held-out loss {loss:.3f}")

        account = run(scale, folder, seed=seed, steps=steps, documents=size, smaller=smaller, report=report)
    if json:
        shown.as_json(account)
        return
    first, last = account["held_out_loss"][0][1], account["held_out_loss"][-1][1]
    print(
        f"{scale}: {account['parameters']:,} parameters, {account['steps']:,} steps in {account['seconds']:.0f} s,"
        f" held-out loss {first:.2f} to {last:.2f} nats a hidden word"
    )
    print(output)
