"""Command transfer: every saved delta on every other task, zero-shot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from apet.cli.options import ExampleLimit, Filters, Json, Quiet, StudyFolder
from apet.cli.output import print_json, print_table

if TYPE_CHECKING:
    import pandas as pd


def transfer(
    folder: StudyFolder,
    target_tasks: Annotated[
        list[str] | None, typer.Option(help="Task to measure on; repeatable; without it, those of the study.")
    ] = None,
    limit: ExampleLimit = None,
    filters: Filters = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a study's runs on other tasks.

    Every saved delta on every task, zero-shot (paper section 6.3), and on its own by the same labels; nothing is
    trained again.
    """
    from apet.cli.overrides import parse_filters
    from apet.commands.study import transfer as measure

    table = measure(folder, target_tasks or (), limit=limit, filters=parse_filters(filters or ()), quiet=quiet)
    if json:
        print_json(table.to_dict(orient="records"))
        return
    _print_matrix(table)


def _print_matrix(table: pd.DataFrame) -> None:
    """A row for each source, a column for each target, the mean over seeds in percent."""
    keys = ["backbone", "method", "budget", "source"]
    means = table.groupby([*keys, "target"])["score"].mean().unstack()
    print_table(
        [*keys, *(f"{target}#" for target in means.columns)],
        [
            # What was not measured is NaN, the one value that differs from itself, and printed as nothing.
            [*names, *("" if score != score else f"{100 * score:.1f}" for score in row)]
            for names, row in zip(means.index, means.values, strict=True)
        ],
        title="zero-shot, the mean over seeds",
    )
