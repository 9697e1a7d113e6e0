"""Progress as somebody sees it: bars on a terminal, one inside another; plain lines elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from apet.training import progress as module
from apet.training.progress import Progress


def seen(*, terminal: bool, width: int = 120) -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    return Progress(console=Console(file=out, force_terminal=terminal, width=width)), out


def test_the_steps_of_a_run_are_seen_below_the_runs_of_a_study():
    progress, out = seen(terminal=True)
    with progress.begin("runs", 3):
        progress.update(1, "one is done")
        with progress.begin("lora 4,096", 90):
            progress.update(45, "loss 0.5")
            progress._bars.refresh()
            frame = out.getvalue()
            assert "one is done" in frame.split("runs")[-1]
            assert "45/90" in frame.split("lora 4,096")[-1]
        out.truncate(0)
        progress.update(2, "two are done")
        progress._bars.refresh()
        assert "2/3" in out.getvalue()
        assert "lora" not in out.getvalue()
    assert progress._bars is None


def test_bars_end_whatever_ends_the_work():
    progress, _ = seen(terminal=True)
    with pytest.raises(KeyboardInterrupt), progress.begin("runs", 3), progress.begin("lora", 90):
        raise KeyboardInterrupt
    assert progress._bars is None
    with progress.begin("runs", 3):
        progress.update(1)


def test_without_a_terminal_a_line_comes_now_and_then_and_says_how_much_is_left(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    progress, out = seen(terminal=False)
    with progress.begin("runs", 4), progress.begin("lora", 90):
        for step in range(1, 91):
            clock[0] += 1.0
            progress.update(step, f"loss {step}")
    lines = out.getvalue().splitlines()
    assert lines[0] == "lora  10/90  1/s  loss 10  1:20 left"
    assert len(lines) == 8
    quiet = Progress(quiet=True, console=progress.console)
    with quiet.begin("runs", 4):
        clock[0] += 60
        quiet.update(2)
        quiet.log("a word")
    assert len(out.getvalue().splitlines()) == 8


@pytest.mark.parametrize("width", [40, 80, 120])
def test_rate_and_time_left_are_seen_at_any_width_on_one_line_a_stage(width):
    progress, out = seen(terminal=True, width=width)
    with progress.begin("runs", 114), progress.begin("apet-discrete(run_length=64) 4,096", 1000):
        clock = [0.0]
        progress._bars.get_time = lambda: clock[0]
        for task in progress._bars.tasks:
            task._get_time = lambda: clock[0]
        for second in range(1, 6):
            clock[0] = float(second)
            progress.update(100 * second, "loss 0.693  accuracy 0.333 (best 0.334)  and many more words than fit here")
        out.truncate(0)
        out.seek(0)
        progress._bars.refresh()
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "").strip("\n").split("\n")
    (line,) = [x for x in lines if "/1000" in x]
    assert "500/1000" in line
    assert "100/s" in line
    assert "0:05 left" in line
    assert "loss" in line
    assert len(lines) == 2
    assert all(len(x) <= width for x in lines)
