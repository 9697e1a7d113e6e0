"""A person is watching: a live bar on a terminal, plain lines elsewhere, nothing where nothing is wanted."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

EVERY = 10.0
"""Seconds between lines where there is no terminal."""


class Watch:
    """Progress over stages of known length.

    Args:
        quiet: show nothing.
        console: where to; by default the standard error stream, so that output stays clean.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.quiet = quiet
        self._bar: Progress | None = None
        self._title, self._total, self._note = "", 0, ""
        self._began = self._said = 0.0

    def begin(self, title: str, total: int) -> Watch:
        """Start a stage of ``total`` steps; use as a context manager."""
        self._title, self._total, self._note = title, total, ""
        self._began = self._said = time.monotonic()
        if not self.quiet and self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                _Rate(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                TextColumn("left"),
            )
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.add_task(title, total=total, note="")
            self._bar.start()
        return self

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def advance(self, done: int, note: str | None = None) -> None:
        """``done`` steps of the stage are behind us; ``note`` says how it stands."""
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, note=self._note)
            return
        now = time.monotonic()
        if not self.quiet and now - self._said >= EVERY and 0 < done < self._total:
            self._said = now
            rate = done / (now - self._began)
            left = (self._total - done) / rate
            self.say(f"{self._title}  {done}/{self._total}  {rate:.3g}/s  {self._note}  {_clock(left)} left")

    def say(self, line: str) -> None:
        """A line that stays."""
        if not self.quiet:
            self.console.print(line, markup=False, soft_wrap=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g}/s")


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}" if minutes >= 60 else f"{minutes}:{s:02d}"


def terminal() -> bool:
    """Whether somebody looks at the standard output."""
    return sys.stdout.isatty()
