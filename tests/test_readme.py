"""What the README promises is what happens."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_python_example_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", README, re.S).group(1)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    expected = re.findall(r"^print.*# (.*)$", code, re.M)
    assert capsys.readouterr().out.splitlines() == expected
    assert (tmp_path / "delta/delta.safetensors").stat().st_size <= 4 * 4096 + 4096


def test_it_fits_one_screen():
    assert len(README.splitlines()) <= 60


@pytest.mark.parametrize(("target", "needs"), [("demo", "env-run"), ("real", "env-real"), ("test", "env")])
def test_its_commands_exist_and_install_no_more_than_they_need(target, needs):
    assert f"make {target}" in README
    assert re.search(rf"^{target}: {needs}$", (ROOT / "Makefile").read_text(), re.M)


def test_the_demo_says_at_once_what_it_does():
    """Before pip says anything: a first run takes minutes."""
    # Inside `make test`, make would take over its options, and say which folder it enters.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    dry = subprocess.run(
        ["make", "-n", "-B", "demo"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert dry.splitlines()[0].startswith('echo "making .venv')
    assert "requirements-real" not in dry
    assert "-r requirements.txt" not in dry


def test_its_commands_and_their_options_exist():
    from typer.main import get_command

    from apet.cli.app import app

    commands = get_command(app).commands
    lines = [shlex.split(line, comments=True) for line in README.splitlines() if line.startswith("    apet ")]
    assert len(lines) >= 4
    for words in lines:
        options = {o for p in commands[words[1]].params for o in p.opts}
        assert {w for w in words if w.startswith("--")} <= options


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
