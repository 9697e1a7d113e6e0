"""A shell's completion knows commands, options, methods, backbones, tasks and folders of runs, without torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from apet.cli import completion


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


def test_it_can_be_shown_and_needs_no_torch(tmp_path):
    command = [sys.executable, "-m", "apet", "--show-completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "_apet_completion()" in done.stdout
    code = "from apet.cli import completion as c, app; c.complete_tasks(''); c.complete_backbones('')\n"
    code += "import sys; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "set()"
