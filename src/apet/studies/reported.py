"""Which scores a study reports: those of the test split where a task has one, at the checkpoint that validation chose.

The best of several validation scores is too high by the luck that made it the best, and by more the more often a run
was measured. The test split is measured once, with the values that were kept.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import pandas as pd

SplitName = Literal["validation", "test"]
SPLIT = "split"
"""Column: which split a run's score is of."""
TEST_COLUMNS = {
    "score": "test_score",
    "ci_low": "test_ci_low",
    "ci_high": "test_ci_high",
    "num_examples": "test_num_examples",
}
"""Column of a run -> the same of the test split."""


def tasks_with_test(runs: pd.DataFrame) -> frozenset[str]:
    """Tasks all of whose complete runs have a test score: one run without would be held against another split.

    Args:
        runs: a row a run, with ``task``, ``state`` and, where it is known, ``test_score``.

    Returns:
        Their names.
    """
    if not {*TEST_COLUMNS.values()} <= set(runs.columns):
        return frozenset()
    done = runs[runs["state"] == "complete"]
    has_test = done["test_score"].notna().groupby(done["task"]).all()
    return frozenset(map(str, has_test.index[has_test]))


def with_reported_scores(runs: pd.DataFrame, tested: Collection[str] | None = None) -> pd.DataFrame:
    """Runs whose score, interval and number of items are those that a report shows.

    Args:
        runs: as for `tasks_with_test`, with the columns that `TEST_COLUMNS` names.
        tested: tasks of which the test split is reported; None = those of `tasks_with_test`.

    Returns:
        The same rows with the column `SPLIT`; runs that have it already, as an exported report's, keep their scores.
    """
    if SPLIT in runs:
        return runs.assign(**{SPLIT: runs[SPLIT].fillna("validation")})
    tasks = tasks_with_test(runs) if tested is None else tested
    has_test = runs["task"].isin(list(tasks)) & (runs["state"] == "complete")
    columns = TEST_COLUMNS.items() if has_test.any() else ()
    reported = {name: runs[name].where(~has_test, runs[test]) for name, test in columns}
    return runs.assign(**reported, **{SPLIT: has_test.map({True: "test", False: "validation"})})
