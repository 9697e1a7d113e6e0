"""Options of the user's own data: described once, and handed to a command as one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import wraps
from typing import Annotated, get_type_hints

import typer

Command = Callable[..., None]


@dataclass(frozen=True)
class OwnData:
    """What the options say of the user's own data; None and empty lists = not given.

    Fields are called as those of `apet.training.config.RunConfig`. Their order is that of ``--help``.
    """

    data: Annotated[
        str | None,
        typer.Option(help="Data file, or folder with train.* and validation.*, in place of the task's own."),
    ] = None
    test: Annotated[str | None, typer.Option(help="File with the test rows; they are measured once, at the end.")] = (
        None
    )
    text: Annotated[
        list[str] | None, typer.Option("--text", help="Column to read, for --data without --task; repeatable.")
    ] = None
    label: Annotated[str | None, typer.Option("--label", help="Column with the answer, for --data without --task.")] = (
        None
    )
    task_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="What is asked: single-label, multi-label, regression, token-classification, multiple-choice or"
            " text-generation; without it, what the values tell.",
        ),
    ] = None
    metric: Annotated[str | None, typer.Option(help="What scores the answers; without it, the task's own.")] = None
    encoding: Annotated[
        str | None, typer.Option(help="Of text files, such as cp1252; without it, found out and said.")
    ] = None
    separator: Annotated[
        str | None, typer.Option(help="Between cells of CSV files; without it, found out and said.")
    ] = None
    on_missing: Annotated[
        str | None, typer.Option(metavar="refuse|drop", help="What happens to rows without a text or a label.")
    ] = None
    on_overlap: Annotated[
        str | None, typer.Option(metavar="refuse|drop", help="What happens to training rows that are held out, too.")
    ] = None

    @property
    def settings(self) -> dict[str, object]:
        """Settings of a run, those alone that were given."""
        return {name: value for name, value in asdict(self).items() if value not in (None, [])}


def takes_own_data(command: Command) -> Command:
    """Give a command the options of `OwnData`, in place of its parameter ``own``.

    Args:
        command: a function with a parameter ``own: OwnData`` that has a default.

    Returns:
        The function, with a signature from which typer reads the single options.
    """
    hints = get_type_hints(OwnData, include_extras=True)
    options = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(OwnData)
    ]
    parameters: list[inspect.Parameter] = []
    of_command = get_type_hints(command, include_extras=True)
    for p in inspect.signature(command).parameters.values():
        p = p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=of_command[p.name])
        parameters += options if p.name == "own" else [p]

    @wraps(command)
    def with_options(**given: object) -> None:
        names = {p.name for p in options}
        own = OwnData(**{name: value for name, value in given.items() if name in names})  # type: ignore[arg-type]
        command(**{name: value for name, value in given.items() if name not in names}, own=own)

    # typer reads the signature, and the types beside it.
    setattr(with_options, "__signature__", inspect.Signature(parameters))
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options
