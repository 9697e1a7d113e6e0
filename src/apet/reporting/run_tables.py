"""The tables of single runs: those that failed, and every run as it came."""

from __future__ import annotations

from apet.analysis.frames import RUNS
from apet.analysis.study import Analysis
from apet.reporting import captions
from apet.reporting.formatting import count, percent, significant
from apet.reporting.table import Column, Table
from apet.training.result import RunResult, columns

PAGE_COLUMNS = (
    *("run_id", "state", "backbone", "task", "method", "num_trainable", "trainable_percent", "seed"),
    *("score", "ci_low", "ci_high", "num_examples", "best_step", "learning_rate", "training_seconds"),
)
"""Of every run on the page: what people look at."""
_FRACTIONS = frozenset({"score", "ci_low", "ci_high", "untrained_baseline", "score_untrained"})
_INTEGERS = frozenset(column.name for column in columns(RunResult) if column.kind == "integer")
"""The analysis holds every number as a float, because one that a failed run lacks is NaN; these are whole."""


def failed_runs(a: Analysis) -> Table:
    """Runs with an error instead of a score."""
    names = ("run_id", "backbone", "task", "method", "budget", "seed", "error")
    rows = a.failed[list(names)].to_numpy(dtype=object).tolist()
    caption = "They have no number and count as none."
    return Table("failed", "Runs that failed", caption, tuple(_column(n) for n in names), rows)


def all_runs(a: Analysis, page: bool = False) -> Table:
    """Every run, with every column.

    Args:
        a: of the study.
        page: only the columns that people look at.

    Returns:
        A table of one row a run.
    """
    names = list(PAGE_COLUMNS if page else RUNS)
    rows = a.data.runs[names].to_numpy(dtype=object).tolist()
    return Table("runs", "Every run", captions.run_summary(a), tuple(_column(n) for n in names), rows)


def _column(name: str) -> Column:
    if RUNS[name][0] == "text":
        return Column(name)
    if name in _FRACTIONS:
        return Column(f"{name} %", percent, name)
    return Column(name, count if name in _INTEGERS else _count_or_digits, integer=name in _INTEGERS)


def _count_or_digits(number: float) -> str:
    return count(number) if float(number).is_integer() else significant(number, 4)
