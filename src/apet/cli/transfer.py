"""Command transfer: every saved delta on every other task, zero-shot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from apet.cli.options import ExampleLimit, Filters, Json, Quiet, StudyFolder, open_progress
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

    Every saved delta on every other task, zero-shot (paper section 6.3); nothing is trained again.
    """
    from apet.cli.overrides import parse_filters
    from apet.studies.held_store import open_store
    from apet.studies.results import Study
    from apet.studies.transfer import transfer as run
    from apet.training.resources import Resources

    with open_store(folder, create=False) as store:
        resources = Resources(open_progress(quiet))
        pairs = set(run(store, target_tasks or (), resources, limit, parse_filters(filters or ())))
    study = Study(folder)
    table = study.transfers()
    # The record may hold more, measured by an earlier command with other filters or targets.
    table = table[[pair in pairs for pair in zip(table["run_id"], table["target"], strict=True)]]
    axes = study.axes()
    table.insert(5, "budget", [axes[run_id].budget for run_id in table["run_id"]])
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
            # A source has no score on itself: NaN, the one value that differs from itself, is printed as nothing.
            [*names, *("" if score != score else f"{100 * score:.1f}" for score in row)]
            for names, row in zip(means.index, means.values, strict=True)
        ],
        title="zero-shot, the mean over seeds",
    )
