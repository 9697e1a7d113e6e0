"""Command report: figures, tables and a page of one study or several, of an export, or of one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from apet.cli.options import Json
from apet.cli.output import print_json


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folder of a study, of its export, or of one run; several parts of a study become one."),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report; without it, report/ in the one folder.")
    ] = None,
    require_complete: Annotated[
        bool, typer.Option("--require-complete", help="Fail if a planned run of the study is missing.")
    ] = False,
    width: Annotated[
        Literal["column", "page"], typer.Option(help="Width of printed figures: a paper's column, or its page.")
    ] = "page",
    json: Json = False,
) -> None:
    """Write figures, tables and a page.

    The page opens with the answer. It may be written while a study runs, of what study export wrote, and of one run.
    """
    from apet.commands.report import report as write

    written = write(
        folders,
        output,
        require_complete=require_complete,
        width=width,
        log=lambda line: print(f"apet: {line}", file=sys.stderr),
    )
    if json:
        print_json(
            {
                "page": str(written.page),
                "headline": written.headline,
                "findings": [finding.text for finding in written.findings],
            }
        )
        return
    print(written.headline)
    print(written.page)
