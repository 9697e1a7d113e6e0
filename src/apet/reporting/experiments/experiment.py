"""What an experiment of a report is: its figure, tables and findings; each has a file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apet.analysis.study import Analysis
from apet.reporting.table import Table

if TYPE_CHECKING:  # figures import altair, which takes a while; tables need none
    from apet.reporting.figures.figure import Figure


@dataclass(frozen=True)
class Finding:
    """One thing that a reader should take away.

    Attributes:
        experiment: such as E5.
        text: a sentence or two.
    """

    experiment: str
    text: str


@dataclass(frozen=True)
class Experiment:
    """How an experiment is shown.

    Attributes:
        number: such as E1; those of the paper, then ours.
        name: of its files, its first table and its section of the page.
        title: of the section.
        tables: of the page and of files.
        figure: of the page and of print; None = it is tables alone.
        findings: what its numbers say, in sentences, apart from the claims.
        printed: more figures, of print alone.
        reference_tables: names of tables that are not of these runs.
        asked: whether a report speaks of it where the runs do not hold it; the paper's are always spoken of.
    """

    number: str
    name: str
    title: str
    tables: Callable[[Analysis], list[Table]]
    figure: Callable[[Analysis], Figure] | None = None
    findings: Callable[[Analysis], list[Finding]] = lambda _: []
    printed: Callable[[Analysis], Sequence[Figure]] = lambda _: ()
    reference_tables: frozenset[str] = frozenset()
    asked: Callable[[Analysis], bool] = lambda _: True
