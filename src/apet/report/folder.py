"""Where a report lies: ``report.html``, ``figures/`` and ``tables/``, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from apet.errors import ApetError
from apet.report.headline import Finding

PAGE, FIGURES, TABLES = "report.html", "figures", "tables"
OURS = (PAGE, FIGURES, TABLES)


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        folder: where.
        page: the HTML file.
        figures, tables: every file.
        answer: the first sentence.
        findings: all of them.
        missing: experiment -> what is not there to draw it.
    """

    folder: Path
    page: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    answer: str
    findings: tuple[Finding, ...]
    missing: Mapping[str, str]


@contextmanager
def new_report(folder: Path) -> Iterator[Path]:
    """A sibling folder to write into; it takes the report's place when all is written, and is gone if anything fails.

    Raises:
        ApetError: the place holds something that is no report, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ApetError(f"report folder {str(folder)!r} is a file; give a folder")
    others = sorted(p.name for p in folder.iterdir() if p.name not in OURS) if folder.is_dir() else []
    if others:
        raise ApetError(f"report folder {str(folder)!r} holds something else ({others[0]}); give a new folder")
    part, old = (folder.with_name(folder.name + end) for end in (".part", ".old"))
    try:
        shutil.rmtree(part, ignore_errors=True)
        for name in (FIGURES, TABLES):
            (part / name).mkdir(parents=True)
        yield part
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(part, folder)
    except OSError as e:
        raise ApetError(f"cannot write the report to {str(folder)!r}: {e.strerror}; give another folder") from e
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and folder.exists():
            shutil.rmtree(old, ignore_errors=True)
