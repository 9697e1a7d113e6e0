"""A stored study in a notebook."""

from __future__ import annotations

from apet.analysis.frames import complete
from apet.display import html_notes, html_table
from apet.studies.results import Study as StoredStudy

MOST_ROWS = 40
"""Rows of a study that a notebook shows."""


class Study(StoredStudy):
    """A stored study, finished or still running; notebooks show its table.

    Args:
        folder: from ``apet study run --output``.

    Raises:
        ApetError: no study there, a damaged one, or one of another version.

    Attributes:
        damaged: run_id -> why, of runs whose rows or files are not what was recorded; they are left out.

    Examples:
        >>> import apet, pathlib, tempfile
        >>> from apet.studies.held_store import open_store
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_store(pathlib.Path(folder)) as store:
        ...         store.describe("empty", definition="", planned=0)  # `apet study run` records its runs here
        ...     study = apet.Study(folder)
        >>> study.notes["study"], len(study.runs())
        ('empty', 0)
    """

    def __repr__(self) -> str:
        return f"Study({self.notes.get('study', '')!r}, {len(self.results()):,} runs, {str(self.folder)!r})"

    def _repr_html_(self) -> str:
        runs = self.runs()
        done = complete(runs)
        keys = ["backbone", "task", "method", "num_trainable"]
        rows = [
            (*key, len(group), f"{100 * group['score'].mean():.1f} %", str(group["metric"].iloc[0]))
            for key, group in done.groupby(keys, sort=False)
        ]
        notes = [f"{len(rows) - MOST_ROWS:,} more rows: runs()"] if len(rows) > MOST_ROWS else []
        failed = len(runs) - len(done)
        notes += [f"{failed:,} runs failed: runs() has the reasons"] if failed else []
        notes += (
            [f"{len(self.damaged):,} runs are left out as damaged: damaged has the reasons"] if self.damaged else []
        )
        columns = ("backbone", "task", "method", "trained", "seeds", "mean score", "metric")
        title = f"{self.notes.get('study', 'study')}: {len(done):,} runs"
        return html_table(title, columns, rows[:MOST_ROWS]) + html_notes(notes)
