"""Guests on the command line: files and modules after --import, and groups of commands of installed packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from apet.cli.app import app
from apet.cli.guests import command_line_imports, take_imports
from apet.cli.options import build_run_config
from test_cli import call

MARKER = "from pathlib import Path\nPath('imported.txt').write_text('yes')\n"


@pytest.fixture
def guest(tmp_path):
    """A guest's file that leaves a mark in the working folder when it is imported."""
    (tmp_path / "guest.py").write_text(MARKER)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["--import", "guest.py", "methods", "--json"],
        ["methods", "--import", "guest.py", "--json"],
        ["methods", "--json", "--import=guest.py"],
        ["--import", "json", "methods", "--json", "--import", "guest.py"],
    ],
)
def test_a_guest_is_imported_wherever_the_line_names_it(words, guest):
    done = call(guest, *words)
    assert done.code == 0, done.err
    assert "lora" in json.loads(done.out)["methods"]
    assert (guest / "imported.txt").exists()


def test_what_follows_two_dashes_belongs_to_the_command(guest, monkeypatch):
    monkeypatch.chdir(guest)
    assert take_imports(["predict", "run", "--", "--import", "guest.py"]) == [
        "predict",
        "run",
        "--",
        "--import",
        "guest.py",
    ]
    assert command_line_imports() == []


def test_a_line_knows_its_own_guests_and_not_those_of_the_line_before():
    assert take_imports(["tune", "--import", "json", "--import=string", "--import", "json"]) == ["tune"]
    assert command_line_imports() == ["json", "string"]
    take_imports(["tune"])
    assert command_line_imports() == []


def test_a_run_keeps_the_guests_of_its_file_and_of_its_line(guest, monkeypatch):
    """Workers, and whoever uses the run later, import them again."""
    monkeypatch.chdir(guest)
    (guest / "run.yaml").write_text("backbone: bert-small\ntask: sst2\nimports: [json]\n")
    take_imports(["tune", "--import", "guest.py"])
    config = build_run_config(guest / "run.yaml", [], {})
    assert config.imports == ("json", str(guest / "guest.py"))
    take_imports(["tune"])
    assert build_run_config(None, [], {"backbone": "bert-small", "task": "sst2"}).imports == ()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["methods", "--import"], "--import needs a value: give a Python or YAML file, or an importable module"),
        (["methods", "--import", "--json"], "--import needs a value"),
        (["methods", "--import", "nowhere.py"], "cannot import 'nowhere.py': there is no such file"),
        (["methods", "--import", "no_such_module"], "importing 'no_such_module' fails: ModuleNotFoundError"),
        (["methods", "--import", "broken.py"], "ZeroDivisionError: division by zero (at broken.py:1)"),
    ],
)
def test_a_guest_that_does_not_load_is_one_clear_line(words, message, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    done = call(tmp_path, *words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


def test_the_root_help_lists_import_and_the_commands_of_guests(tmp_path):
    shown = call(tmp_path, "--help").out
    assert "--import FILE|MODULE" in shown
    assert "microworld  Show and pre-train the synthetic world." in shown


def test_a_guests_group_of_commands_that_does_not_load_is_one_clear_line(tmp_path, monkeypatch):
    metadata = tmp_path / "site" / "broken_guest-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-guest\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[apet.commands]\nbroken = no_such_module:commands\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    done = call(tmp_path, "broken", "do")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "entry point broken of apet.commands does not load (ModuleNotFoundError" in done.err
    assert call(tmp_path, "methods").code == 0, "other commands do not ask for it"


def commands(group=None, path=()):
    """Every command with its words."""
    for name, command in (group or get_command(app)).commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


def test_summaries_are_short_and_every_option_is_explained():
    for words, command in commands():
        summary = (command.help or "").split("\n\n")[0]
        assert 10 < len(summary) <= 45, words
        assert summary.endswith("."), words
        for p in command.params:
            assert p.name == "help" or len(getattr(p, "help", "") or "") > 10, (words, p.name)


# Without the microworld ------------------------------------------------------------------------------------------


def alone(workspace: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command where no guest is installed: its module cannot be imported, its entry points are not there."""
    code = (
        "import sys, importlib.metadata as m\n"
        "sys.modules['apet_microworld'] = None\n"
        "every = m.entry_points\n"
        "m.entry_points = lambda **k: [e for e in every(**k) if 'microworld' not in e.value]\n"
        f"sys.argv = {['apet', *words]!r}\n"
        "from apet.cli import main\nmain()"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=workspace, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune", "--output", "x"], "--task is required: the default task comes with the package apet-microworld"),
        (["inspect"], "--backbone is required: the default backbone comes with the package apet-microworld"),
        (["inspect", "microworld-t5-small"], "unknown backbone 'microworld-t5-small'"),
        (["study", "plan", "quick"], "unknown study 'quick'"),
        (["microworld", "show"], "No such command 'microworld'"),
    ],
)
def test_without_the_microworld_a_message_names_the_package_that_brings_it(words, message, tmp_path):
    done = alone(tmp_path, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr
    assert "pip install apet-microworld" in done.stderr


def test_without_the_microworld_the_rest_works(tmp_path):
    listed = alone(tmp_path, "--help")
    assert listed.returncode == 0
    assert "microworld" not in listed.stdout
    counted = alone(tmp_path, "inspect", "bert-small", "--method", "bitfit", "--json")
    assert counted.returncode == 0, counted.stderr
    assert json.loads(counted.stdout)["num_trainable"] > 0
