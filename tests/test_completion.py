"""A shell's completion knows commands, options, methods, backbones, tasks and folders of runs, without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from unittest import mock

import pytest
import shellingham

from apet.cli import completion
from apet.errors import ApetError


def completed(words: str, cwd) -> list[str]:
    """What bash is offered for the last word of a line."""
    environment = {
        **os.environ,
        "_APET_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "apet"], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("apet tu", ["tune"]),
        ("apet tune --method l", ["lora", "ln-tuning"]),
        ("apet compare --methods lora,bi", ["lora,bitfit"]),
        ("apet tune --backbone microworld-bert-s", ["microworld-bert-small"]),
        ("apet tune --task microworld-ss", ["microworld-sst2"]),
        ("apet evaluate runs/m", ["runs/mine"]),
        ("apet evaluate ru", ["runs/mine", "runs/study"]),
    ],
)
def test_words_are_completed(line, offered, tmp_path):
    for name, file in (("mine", "result.json"), ("study", "study.sqlite"), ("neither", "notes.txt")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / file).write_text("")
    assert sorted(completed(line, tmp_path)) == sorted(offered)


def test_a_place_that_is_not_there_offers_nothing():
    assert completion.complete_runs("no/such/place") == []


@pytest.fixture
def no_shell(monkeypatch):
    """A script or a container: no process above this one is a shell."""
    monkeypatch.setattr("shellingham.detect_shell", mock.Mock(side_effect=shellingham.ShellDetectionFailure))


@pytest.mark.parametrize("words", [["--show-completion", "bash"], ["--show-completion=zsh"]])
def test_it_is_shown_for_a_shell_by_its_name_wherever_it_is_asked_for(no_shell, words):
    assert "_APET_COMPLETE=complete_" in completion.answer_completion(words)


def test_it_is_installed_for_a_shell_by_its_name(no_shell, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert completion.answer_completion(["--install-completion", "fish"]).startswith(
        f"fish completion is in {tmp_path}"
    )
    assert "_APET_COMPLETE=complete_fish" in (tmp_path / ".config/fish/completions/apet.fish").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--show-completion"], "cannot be told; name it, such as apet --show-completion bash"),
        (["--install-completion"], "cannot be told; name it, such as apet --install-completion bash"),
        (["--show-completion", "bsh"], "unknown shell 'bsh'; nearest: bash"),
    ],
)
def test_a_shell_that_is_not_known_is_asked_for(no_shell, words, message):
    with pytest.raises(ApetError, match=message):
        completion.answer_completion(words)


def test_the_shell_that_it_is_typed_in_need_not_be_named(monkeypatch):
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("zsh", "/bin/zsh"))
    assert completion.answer_completion(["--show-completion"]).startswith("#compdef apet")
    assert completion.answer_completion(["tune", "--show-completion"]) is None
    assert completion.answer_completion([]) is None


def test_it_can_be_shown_and_needs_no_torch(tmp_path):
    command = [sys.executable, "-m", "apet", "--show-completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "_apet_completion()" in done.stdout
    code = "from apet.cli import completion as c, app; c.complete_tasks(''); c.complete_backbones('')\n"
    code += "import sys; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "set()"
