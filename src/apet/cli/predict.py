"""Command predict: answers to new texts, from the line, the standard input or a file, with their probabilities."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apet.cli.options import Json, MovedBackbone, RunFolderArgument
from apet.cli.output import print_cautions, print_json
from apet.errors import ApetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from apet.tasks.task import Task


def predict(
    run: RunFolderArgument,
    text: Annotated[
        list[str] | None,
        typer.Argument(help="Texts to answer; without any, or with -, lines are read; tabs separate columns."),
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
    from apet.tasks.answer_table import answer_record, require_writable, write_answers
    from apet.training.cautions import chance_caution, truncation_caution
    from apet.training.inference import TunedModel
    from apet.training.run_dir import read_setup

    if data is not None and text:
        raise ApetError("texts and --data came together; give one of them")
    # The task is read before the backbone is loaded: a row that does not fit is told at once.
    task = read_setup(run).task
    if data is not None:
        rows: Sequence[Mapping[str, object]]
        rows, inputs = _file_rows(task, data, encoding, separator)
        shown = ["\t".join(row.values()) for row in inputs]
    else:
        shown = _lines(text, encoding or "utf-8")
        inputs = _line_rows(task, shown)
        rows = inputs
    if output is not None:
        require_writable(output, list(rows[0]) if rows else [], [data] if data else [])
    tuned = TunedModel(run, backbone=backbone)
    answers = tuned.predict(inputs)
    length = tuned.objective.max_input_length
    print_cautions(
        [
            chance_caution(tuned.result) if tuned.result else "",
            truncation_caution({"given": tuned.num_truncated}, {"given": len(inputs)}, length),
        ]
    )
    records: list[dict[str, JsonValue]] = [answer_record(task, answer) for answer in answers]
    if output is not None:
        write_answers(output, rows, records)
        if not json:
            print(output)
            return
    if json:
        # Rows of a file may hold what JSON does not, such as dates: what was read of them stands beside the answers.
        print_json([{**row, **record} for row, record in zip(inputs, records, strict=True)])
        return
    for line, answer in zip(shown, answers, strict=True):
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


def _line_rows(task: Task, lines: Sequence[str]) -> list[dict[str, str]]:
    from apet.training.inference import parse_columns

    return [parse_columns(task, line) for line in lines]


def _file_rows(
    task: Task, data: Path, encoding: str | None, separator: str | None
) -> tuple[list[Mapping[str, object]], list[dict[str, str]]]:
    """Rows of a file, and what of them is read.

    Raises:
        ApetError: a file or a row that cannot be read; rows are named, all together.
    """
    from apet.tasks.files import read_table
    from apet.tasks.rows import Reading
    from apet.tasks.targets import new_inputs

    table = read_table(data, Reading(encoding, separator))
    return [row.values for row in table.rows], new_inputs(task, table.rows)
