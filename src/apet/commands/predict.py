"""Answers to new texts from Python and from the command line, each with what is known of its probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pydantic import JsonValue

from apet.commands.run import Run
from apet.errors import ApetError
from apet.tasks.answer_table import answer_record, require_writable, split_scores, write_answers
from apet.training import run_dir
from apet.training.cautions import chance_caution, truncation_caution

if TYPE_CHECKING:
    from apet.tasks.answers import Answer
    from apet.tasks.task import Task

Texts = str | Mapping[str, str] | Sequence[str | Mapping[str, str]]
"""One text or several: each a text (tabs separate columns) or column -> text."""


@dataclass(frozen=True)
class Answered:
    """Rows with their answers.

    Attributes:
        rows: as they were given; of a file with all of its columns.
        inputs: what of them was read, by column.
        answers: one a row.
        records: the same as plain data; see `apet.tasks.answer_table.answer_record`.
        cautions: what a reader must not miss, a line each.
    """

    rows: list[Mapping[str, object]]
    inputs: list[dict[str, str]]
    answers: list[Answer]
    records: list[dict[str, JsonValue]]
    cautions: list[str]

    def table(self) -> pd.DataFrame:
        """One row a text; each label's probability is a column ``score_LABEL``."""
        return pd.DataFrame([{**row, **split_scores(r)} for row, r in zip(self.rows, self.records, strict=True)])


def answer_rows(
    run: Run | str | Path,
    texts: Texts | None,
    *,
    data: str | Path | None = None,
    output: str | Path | None = None,
    backbone: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
) -> Answered:
    """Answer texts, or the rows of a file; see `predict` for arguments and errors.

    Returns:
        The rows with their answers.

    Raises:
        ApetError: texts and a file, or neither; or what `predict` says.
    """
    if (data is None) == (texts is None):
        raise ApetError(f"{'neither texts nor data' if data is None else 'texts and data'} came; give one of them")
    from apet.training.inference import TunedModel

    folder = run.folder if isinstance(run, Run) else Path(run)
    # The task is read before the backbone is loaded: a row that does not fit is told at once.
    task = run_dir.read_setup(folder).task
    rows, inputs = _of_file(task, Path(data), encoding, separator) if data is not None else _given(task, texts or [])
    if output is not None:
        require_writable(task, Path(output), list(rows[0]) if rows else [], [Path(data)] if data is not None else [])
    tuned = run.model(backbone) if isinstance(run, Run) else TunedModel(folder, backbone=backbone)
    before = tuned.num_truncated
    answers = tuned.predict(inputs)
    cut = {"given": tuned.num_truncated - before}
    cautions = [
        chance_caution(tuned.result) if tuned.result else "",
        truncation_caution(cut, {"given": len(inputs)}, tuned.objective.max_input_length),
    ]
    records = [answer_record(task, answer) for answer in answers]
    if output is not None:
        write_answers(Path(output), rows, records)
    return Answered(rows, inputs, answers, records, [line for line in cautions if line])


def _given(task: Task, texts: Texts) -> tuple[list[Mapping[str, object]], list[dict[str, str]]]:
    from apet.training.inference import parse_columns

    given = [texts] if isinstance(texts, str | Mapping) else list(texts)
    inputs = [parse_columns(task, t) if isinstance(t, str) else dict(t) for t in given]
    return [*inputs], inputs


def _of_file(
    task: Task, data: Path, encoding: str | None, separator: str | None
) -> tuple[list[Mapping[str, object]], list[dict[str, str]]]:
    """Rows of a file, and what of them is read."""
    from apet.tasks.files import read_table
    from apet.tasks.rows import Reading
    from apet.tasks.targets import new_inputs

    table = read_table(data, Reading(encoding, separator))
    return [row.values for row in table.rows], new_inputs(task, table.rows)


def predict(
    run: Run | str | Path,
    texts: Texts | None = None,
    *,
    data: str | Path | None = None,
    output: str | Path | None = None,
    backbone: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
) -> pd.DataFrame:
    """Answer new texts with a finished run.

    Args:
        run: finished run, its folder, or that of a delta that was imported with its task.
        texts: one or several, each a text (tabs separate columns) or column -> text.
        data: in place of texts, a file whose rows are answered: CSV, TSV, JSONL, JSON, Parquet or Excel.
        output: file for rows and answers, too: .csv, .tsv, .jsonl, .json or .parquet.
        backbone: where its backbone is by now; None = where it was.
        encoding: of the file, such as cp1252; None = found out.
        separator: between cells of a CSV file; None = found out.

    Returns:
        One row a text: its columns, ``prediction``, and what there is of: ``is_valid``, whether that is one of the
        label words; ``score``, its probability (of tags, that of each); ``score_LABEL``, that of each label.

    Raises:
        ApetError: no run there, a text or row that does not fit, or a file that cannot be read or written.

    Examples:
        >>> import apet
        >>> run = apet.tune("microworld-bert-small", "microworld-sst2", method="bitfit", max_steps=2, quiet=True,
        ...                 max_train_samples=64, max_eval_samples=16)
        >>> list(apet.predict(run, ["a text", "another"]).columns)
        ['sentence', 'prediction', 'is_valid', 'score', 'score_bad', 'score_good']
    """
    return answer_rows(
        run, texts, data=data, output=output, backbone=backbone, encoding=encoding, separator=separator
    ).table()
