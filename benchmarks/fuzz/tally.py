"""What came of all inputs of a kind: counts, time, and the first faults; and the page that shows them."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .feeder import FAULTS, Outcome

MAX_KEPT = 30
"""Faults of a kind that are kept to be shown."""


@dataclass
class Tally:
    """Counts of one kind.

    Attributes:
        name: of the kind.
        verdicts: verdict -> inputs.
        seconds: of processor time of one core, roughly: from the first input of each part to its last.
        faults: the first ones.
    """

    name: str
    verdicts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    faults: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        self.verdicts[outcome.verdict] += 1
        if outcome.verdict in FAULTS and len(self.faults) < MAX_KEPT:
            self.faults.append(outcome)

    @property
    def num_faults(self) -> int:
        """Inputs that were neither accepted rightly nor refused clearly."""
        return sum(self.verdicts[v] for v in FAULTS)


def page(tallies: Sequence[Tally], command: str, jobs: int, minutes: float) -> str:
    """The table as Markdown.

    Args:
        tallies: one a kind.
        command: that makes it again.
        jobs: processes that fed inputs.
        minutes: that all of it took.

    Returns:
        The page.
    """
    total = sum(t.verdicts.total() for t in tallies)
    lines = [
        "# Hostile inputs",
        "",
        f"{total:,} inputs in {minutes:.0f} minutes on {jobs} core{'s' * (jobs > 1)}, Python"
        f" {platform.python_version()}. Made by",
        "",
        f"    {command}",
        "",
        "Each input is a seed that apet wrote, or a table made here, with bytes, words or values changed. It must be"
        " refused in one line of at most 500 characters, or be read as an independent reading has it, within 10"
        " seconds, and no file may be left or changed.",
        "",
        "| kind | inputs | accepted | refused | tracebacks | hangs | stray writes | accepted wrong | seconds |"
        " a second |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    columns = ("accepted", "refused", *FAULTS)
    for t in tallies:
        n = t.verdicts.total()
        counts = " | ".join(f"{t.verdicts[v]:,}" for v in columns)
        lines.append(f"| {t.name} | {n:,} | {counts} | {t.seconds:,.0f} | {n / max(t.seconds, 1e-9):,.0f} |")
    sums = " | ".join(f"{sum(t.verdicts[v] for t in tallies):,}" for v in columns)
    seconds = sum(t.seconds for t in tallies)
    lines.append(f"| all | {total:,} | {sums} | {seconds:,.0f} | {total / max(seconds, 1e-9):,.0f} |")
    return "\n".join(lines) + "\n"
