"""The folder of a report: ``report.html``, ``figures/`` and ``tables/``, written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from apet.errors import ApetError
from apet.reporting.experiments.experiment import Finding
from apet.training.output_folder import partial_path

PAGE, FIGURES, TABLES = "report.html", "figures", "tables"
_REPORT_CONTENT = (PAGE, FIGURES, TABLES)


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        folder: that holds it.
        page: the HTML file.
        figures, tables: every file.
        headline: the first sentence.
        findings: what the runs say, a sentence or two each.
        missing: experiment -> what is not there to draw it.
    """

    folder: Path
    page: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    headline: str
    findings: tuple[Finding, ...]
    missing: Mapping[str, str]


@contextmanager
def new_report(folder: Path) -> Iterator[Path]:
    """A sibling folder to write into; it becomes the report when all is written, and is removed if anything fails.

    Args:
        folder: of the report; an earlier report there is replaced.

    Yields:
        The sibling folder, with empty ``figures/`` and ``tables/``.

    Raises:
        ApetError: the folder holds something that is not a report, or cannot be written.
    """
    if folder.is_symlink():  # it would be moved away like a folder, and what it leads to stay as it is
        raise ApetError(f"report folder {str(folder)!r} is a link; give the folder where it leads, or a new one")
    if folder.exists() and not folder.is_dir():
        raise ApetError(f"report folder {str(folder)!r} is a file; give a folder")
    others = sorted(p.name for p in folder.iterdir() if p.name not in _REPORT_CONTENT) if folder.is_dir() else []
    if others:
        raise ApetError(f"report folder {str(folder)!r} holds something else ({others[0]}); give a new folder")
    # Names that nobody else has: what lies beside a report, whatever it is called, is not ours to remove.
    unfinished = partial_path(folder)
    earlier = unfinished.with_suffix(".old")
    try:
        for name in (FIGURES, TABLES):
            (unfinished / name).mkdir(parents=True)
        yield unfinished
        # os.replace cannot overwrite a folder that is not empty: the earlier report steps aside first
        if folder.exists():
            os.replace(folder, earlier)
        os.replace(unfinished, folder)
    except OSError as e:
        raise ApetError(f"cannot write the report to {str(folder)!r}: {e.strerror}; give another folder") from e
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if earlier.exists() and folder.exists():  # else it is the only copy there is
            shutil.rmtree(earlier, ignore_errors=True)
