"""All commands, in the order of ``apet --help``."""

from __future__ import annotations

from typing import Annotated

import typer

from apet.cli.dashboard import dashboard
from apet.cli.deploy import export, import_, push
from apet.cli.doctor import doctor
from apet.cli.guests import RootGroup
from apet.cli.inspect import backbones, inspect, methods, positions, tasks
from apet.cli.predict import predict
from apet.cli.recommend import recommend
from apet.cli.report import report
from apet.cli.run import compare, evaluate, tune
from apet.cli.study import study
from apet.cli.thresholds import thresholds
from apet.cli.transfer import transfer

app = typer.Typer(
    cls=RootGroup,
    name="apet",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("apet"))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    # `main` takes --import out of the line before it is parsed, wherever it stands; here it is only listed.
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="FILE|MODULE",
            help="Import a guest that registers methods, tasks or others; anywhere on the line, repeatable.",
        ),
    ] = None,
) -> None:
    """Arbitrary parameter-efficient tuning: exactly N trainable parameters, anywhere in a backbone."""


for command in (
    recommend,
    tune,
    evaluate,
    predict,
    export,
    push,
    compare,
    thresholds,
    transfer,
    report,
    dashboard,
    inspect,
    positions,
    methods,
    tasks,
    backbones,
    doctor,
):
    app.command()(command)
app.command("import")(import_)
app.add_typer(study, name="study")
