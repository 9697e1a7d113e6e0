"""Every snippet of the documents runs: page by page from top to bottom, Python and commands, on small settings.

A fence with ``title="NAME"`` is a file that the page speaks of; ``# comments`` behind and below a ``print`` are what it
prints. HTML comments in front of a fence, which readers of the page do not see, say otherwise:

- ``<!-- no-run: WHY -->``: what cannot run here, such as an installation; Python is compiled all the same, and
  `test_docs` holds every command line against the options that exist;
- ``<!-- before: COMMAND -->``: what the page takes for granted, such as a finished run.
"""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import apet
from test_cli import call

ROOT = Path(__file__).parents[1]
FENCE = re.compile(
    r"(?:^<!-- (?P<what>no-run|before): (?P<words>.+?) -->\n)?"
    r'^```(?P<language>\w+)(?: title="(?P<file>[^"]+)")?[^\n]*\n'
    r"(?P<code>.*?)^```$",
    re.M | re.S,
)
SMALL = {"max_steps": 2, "max_train_samples": 48, "max_eval_samples": 12, "batch_size": 8}
IN_PROCESS = {"executor": "in-process"}
WITH_STEPS = {"tune", "compare", "thresholds", "study run"}
WITH_EXECUTOR = {"thresholds", "study run"}


@dataclass(frozen=True)
class Snippet:
    """A fence of a page; ``file`` is what it is called, ``what`` and ``words`` stand in the comment before it."""

    language: str
    code: str
    file: str | None
    what: str | None
    words: str | None


def snippets_of(page: Path) -> list[Snippet]:
    return [Snippet(**m.groupdict()) for m in FENCE.finditer(page.read_text("utf-8"))]


PAGES = [
    page
    for page in sorted([ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "microworld").glob("*.md")])
    if any(s.language in ("python", "bash") for s in snippets_of(page))
]


@pytest.fixture
def small_settings(monkeypatch):
    """What pages show trains in earnest; here each run takes two steps, and no process of its own."""

    def small(function: Callable[..., Any], **settings: object) -> Callable[..., Any]:
        return lambda *args, **given: function(*args, **{**given, **settings, "quiet": True})

    for name in ("tune", "compare", "thresholds"):
        settings = SMALL | (IN_PROCESS if name in WITH_EXECUTOR else {})
        monkeypatch.setattr(apet, name, small(getattr(apet, name), **settings))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_snippet_of_a_page_runs(page, tmp_path, monkeypatch, capsys, small_settings):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APET_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {"__name__": f"page_{page.stem.replace('-', '_')}"}
    for snippet in snippets_of(page):
        if snippet.what == "before":
            run_command(shlex.split(snippet.words or ""))
        if snippet.file:
            Path(snippet.file).parent.mkdir(parents=True, exist_ok=True)
            Path(snippet.file).write_text(snippet.code, "utf-8")
        elif snippet.what == "no-run":
            if snippet.language == "python":
                compile(snippet.code, str(page), "exec")
        elif snippet.language == "bash":
            for line in snippet.code.replace("\\\n", " ").splitlines():
                run_command(shlex.split(line, comments=True))
        elif snippet.language == "python":
            capsys.readouterr()
            exec(compile(snippet.code, str(page), "exec"), names)
            output = capsys.readouterr().out
            printed = iter(output.splitlines())
            for line in expected_output(snippet.code):
                assert line in printed, f"{page.name}: {line!r} is not printed, or not in this order:\n{output}"


def run_command(words: list[str]) -> None:
    """Run ``apet …`` and ``python SCRIPT …`` in this process."""
    if not words:
        return
    if words[0] == "python":
        before, sys.argv = sys.argv, words[1:]
        try:
            with suppress(SystemExit):
                runpy.run_path(words[1], run_name="__main__")
        finally:
            sys.argv = before
        return
    assert words[0] == "apet", f"{shlex.join(words)}: put <!-- no-run: WHY --> before the fence"
    done = call(Path.cwd(), *shortened(words[1:]))
    assert done.code == 0, f"{shlex.join(words)}: {done.err}"


def shortened(words: list[str]) -> list[str]:
    """The same command on small settings."""
    command = " ".join(words[:2]) if words[0] == "study" else words[0]
    if command in WITH_STEPS:
        settings = {k: v for k, v in SMALL.items() if k != "max_steps" or "--max-steps" not in words}
        words = [w for w in words if w.partition("=")[0] not in settings] + [f"{k}={v}" for k, v in settings.items()]
        if "--max-steps" in words:
            words[words.index("--max-steps") + 1] = str(SMALL["max_steps"])
    if command in WITH_EXECUTOR and "--executor" not in words:
        words = [*words, "--executor", IN_PROCESS["executor"]]
    return words


def expected_output(code: str) -> list[str]:
    """What the comments say is printed."""
    expected: list[str] = []
    below_print = False
    for line in code.splitlines():
        if behind := re.match(r"\s*print\(.*\)  # (.*)$", line):
            expected.append(behind.group(1))
        elif below_print and line.startswith("# "):
            expected.append(line[2:])
        below_print = bool(re.match(r"\s*print\(", line)) or (below_print and line.startswith("# "))
    return expected


def test_comments_at_prints_are_what_is_expected():
    code = "print(1)  # one\nfor i in x:\n    print(i)\n# two\n# three\n\n# a remark\nx = 1  # another\n"
    assert expected_output(code) == ["one", "two", "three"]


def test_what_is_not_run_says_why():
    for page in PAGES:
        assert not re.search(r"<!-- no-run(?!: \w)", page.read_text("utf-8")), page
