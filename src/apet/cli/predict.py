"""Command predict: answers to new texts, from the line, the standard input or a file, with their probabilities."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from apet.cli.options import Json, MovedBackbone, RunFolderArgument
from apet.cli.output import print_cautions, print_json
from apet.errors import ApetError


def predict(
    run: RunFolderArgument,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...",
            help="Texts to answer; without any, or with -, lines are read; tabs separate columns.",
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data file whose rows are answered: CSV, TSV, JSONL, JSON, Parquet or Excel.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="File for rows and answers: .csv, .tsv, .jsonl, .json or .parquet; all columns stay."),
    ] = None,
    backbone: MovedBackbone = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of the file, found out without it; of the standard input, else UTF-8.")
    ] = None,
    separator: Annotated[str | None, typer.Option(help="Between cells of a CSV file; found out without it.")] = None,
    json: Json = False,
) -> None:
    """Answer new texts with a finished run."""
    from apet.commands.predict import answer_rows
    from apet.training.run_dir import read_setup

    if data is not None and texts:
        raise ApetError("texts and --data came together; give one of them")
    read_setup(run)  # a folder that is no run is told before the standard input is waited for
    lines = None if data is not None else _lines(texts, encoding or "utf-8")
    answered = answer_rows(
        run, lines, data=data, output=output, backbone=backbone, encoding=encoding, separator=separator
    )
    print_cautions(answered.cautions)
    if json:
        # Rows of a file may hold what JSON does not, such as dates: what was read of them stands beside the answers.
        print_json([{**row, **record} for row, record in zip(answered.inputs, answered.records, strict=True)])
    elif output is not None:
        print(output)
    else:
        for row, answer in zip(answered.inputs, answered.answers, strict=True):
            line = "\t".join(row.values())
            print(f"{answer.text}{'' if answer.is_valid else ' (no label word)'}\t{line}")


def _lines(words: list[str] | None, encoding: str) -> list[str]:
    """Texts of the line, and of the standard input where that is asked for."""
    from apet.tasks.decoding import decode

    lines = [word for word in words or ["-"] if word != "-"]
    if not words or "-" in words:
        # As bytes: what is not of the encoding is refused with its line, not replaced in silence.
        try:
            read, _ = decode(sys.stdin.buffer.read() if sys.stdin else b"", "standard input", encoding)
        except ApetError as e:
            raise ApetError(
                str(e).partition(";")[0] + "; give the input's own encoding, such as --encoding cp1252"
            ) from e
        lines += [line.rstrip("\r") for line in read.removesuffix("\n").split("\n")] if read else []
    return lines
