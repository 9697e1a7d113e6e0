"""Progress for people: a live bar on a terminal, plain lines elsewhere, nothing where quiet was asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
)
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

LINE_INTERVAL = 10.0
"""Seconds between lines where there is no terminal."""


@dataclass
class Stage:
    """Work of known length.

    Attributes:
        title: what it is.
        total: its steps.
        began: when, by `time.monotonic`, seconds.
        last_line: when its last line was printed, by `time.monotonic`, seconds.
        bar: its bar on a terminal.
        note: how it stands.
    """

    title: str
    total: int
    began: float
    last_line: float
    bar: TaskID | None = None
    note: str = ""


class Progress:
    """Progress over stages; one inside another, such as a run's steps among a study's runs, has its bar below.

    Args:
        quiet: show nothing.
        console: where to; by default the standard error stream, so that output stays clean.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.quiet = quiet
        self._stages: list[Stage] = []
        self._bars: RichProgress | None = None

    @property
    def stage(self) -> Stage:
        """The innermost one."""
        return self._stages[-1]

    def begin(self, title: str, total: int) -> Progress:
        """Start a stage of ``total`` steps.

        Returns:
            This object, as a context manager that ends the stage.
        """
        began = time.monotonic()
        self._stages.append(Stage(title, total, began, began))
        # One display for all stages: rich allows no second one while it is live.
        if not self.quiet and self.console.is_terminal:
            if self._bars is None:
                self._bars = RichProgress(*_columns(self.console.width), console=self.console, transient=True)
                self._bars.start()
            self.stage.bar = self._bars.add_task(title, total=total, note="")
        return self

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        ended = self._stages.pop()
        # The bar of an inner stage goes with it; the display as a whole with the outermost one.
        if self._bars is not None and ended.bar is not None:
            self._bars.remove_task(ended.bar)
        if self._bars is not None and not self._stages:
            self._bars.stop()
            self._bars = None

    def update(self, done: int, note: str | None = None) -> None:
        """Tell how far the innermost stage is.

        Args:
            done: its steps that are done.
            note: how it stands, such as its loss; None = as before.
        """
        stage = self.stage
        stage.note = stage.note if note is None else note
        if self._bars is not None and stage.bar is not None:
            self._bars.update(stage.bar, completed=done, note=stage.note)
            return
        time_now = time.monotonic()
        # Neither at 0, where there is no rate yet, nor at the end, where nothing is left to wait for.
        if not self.quiet and time_now - stage.last_line >= LINE_INTERVAL and 0 < done < stage.total:
            stage.last_line = time_now
            rate = done / (time_now - stage.began)
            left = (stage.total - done) / rate
            self.log(f"{stage.title}  {done}/{stage.total}  {rate:.3g}/s  {stage.note}  {_clock(left)} left")

    def log(self, line: str) -> None:
        """A line that stays."""
        if not self.quiet:
            self.console.print(line, markup=False, soft_wrap=True)


_WIDE, _NARROW = 100, 60
"""Columns of a terminal from which the bar is long, and below which there is none."""


def _columns(width: int) -> list[ProgressColumn]:
    """What a line shows on a terminal of so many columns: rate and time left always, the rest where there is room."""
    bar = [BarColumn(bar_width=24 if width >= _WIDE else 10)] if width >= _NARROW else []
    fixed = [MofNCompleteColumn(table_column=_fixed()), _Rate(_fixed()), _Left(_fixed())]
    return [_Shortened("description"), *bar, *fixed, _Shortened("note")]


def _fixed() -> Column:
    return Column(no_wrap=True)  # what is not wrapped keeps its width; the others are made narrower


class _Shortened(ProgressColumn):
    """A text that is cut where the line has no room for it."""

    def __init__(self, what: Literal["description", "note"]) -> None:
        super().__init__(Column(no_wrap=False))
        self.what = what

    def render(self, task: Task) -> Text:
        text = task.description if self.what == "description" else str(task.fields["note"])
        return Text(text, no_wrap=True, overflow="ellipsis")


class _Left(ProgressColumn):
    """Time that is left."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        return Text("" if task.time_remaining is None else f"{_clock(task.time_remaining)} left")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g}/s")


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}" if minutes >= 60 else f"{minutes}:{s:02d}"
