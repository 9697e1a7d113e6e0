"""All commands, in the order of `apet --help`."""

from __future__ import annotations

from importlib.metadata import version

import typer

from apet.cli import inspect as looking
from apet.cli import microworld as world
from apet.cli import run as running
from apet.cli import study as studying

app = typer.Typer(
    name="apet",
    help="Arbitrary parameter-efficient tuning: exactly N trainable scalars, anywhere in a backbone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(version("apet"))
        raise typer.Exit


@app.callback()
def _root(
    show_version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print it and leave."),
) -> None:
    """Arbitrary parameter-efficient tuning: exactly N trainable scalars, anywhere in a backbone."""


for command in (
    running.tune,
    running.evaluate,
    running.predict,
    running.compare,
    studying.thresholds,
    studying.transfer,
    studying.report,
    looking.inspect,
    looking.positions,
    looking.methods,
    looking.tasks,
    looking.backbones,
):
    app.command()(command)
app.add_typer(studying.study, name="study")
app.add_typer(world.world, name="microworld")
