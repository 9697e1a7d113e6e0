"""A check-up before anything starts: what is here, what is missing, what a hub id would need; in a moment, no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from apet.cli import doctor as module
from tiny_backbones import save_backbone


def check_up(*words: str, cwd: Path, **environment: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "apet", "doctor", *words, "--json"],
        capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **environment},
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def cached(home: Path, repository: str, *files: str) -> None:
    """Lay files into a hub's cache as huggingface_hub does."""
    folder = home / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("{}")


def test_a_sound_installation_has_no_problem(tmp_path):
    code, found = check_up(cwd=tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    assert (code, found["problems"]) == (0, [])
    assert found["versions"]["torch"] == version("torch")
    assert found["optional"]["apet-microworld"] == version("apet-microworld")
    assert found["offline"] == "HF_HUB_OFFLINE is set"
    assert "microworld-t5-small" in found["backbones"]
    assert "microworld-sst2" in found["datasets"]
    assert "sst2" not in found["datasets"]
    assert (found["folder"], found["folder_writable"]) == (str(tmp_path), True)
    assert not list(tmp_path.iterdir())


def test_a_hub_id_that_is_not_cached_and_no_network_is_a_problem_with_its_remedy(tmp_path):
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    code, found = check_up("google-t5/t5-base", cwd=tmp_path, **offline)
    assert code == 1
    (problem,) = found["problems"]
    assert "google-t5/t5-base is not on this machine (configuration, weights, tokenizer), and HF_HUB_OFFLINE" in problem
    assert "hf download google-t5/t5-base --local-dir FOLDER" in problem
    cached(tmp_path, "google-t5/t5-base", "config.json", "model.safetensors")
    code, found = check_up("google-t5/t5-base", cwd=tmp_path, **offline)
    assert (code, found["backbone"]["missing"]) == (1, ["tokenizer"])
    (next((tmp_path / "hub").glob("*/*/*")) / "spiece.model").write_text("")
    code, found = check_up("google-t5/t5-base", cwd=tmp_path, **offline)
    assert (code, found["backbone"]["missing"], found["problems"]) == (0, [], [])
    assert "google-t5/t5-base" in found["backbones"]


def test_a_folder_says_what_it_lacks(tmp_path):
    save_backbone("bert-head", tmp_path / "bert")
    assert check_up("bert", cwd=tmp_path, HF_HUB_OFFLINE="1")[0] == 0
    (tmp_path / "bert" / "model.safetensors").unlink()
    code, found = check_up("bert", cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert code == 1
    assert "lacks weights: give a folder made by save_pretrained" in found["problems"][0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"versions": {"torch": None}}, "torch is not installed: pip install torch"),
        ({"folder_writable": False}, "cannot write to here: go to another folder, or give --output"),
    ],
)
def test_what_is_needed_and_missing_comes_with_its_remedy(change, problem):
    found = {"versions": {}, "folder_writable": True, "folder": "here", "backbone": None, "offline": None}
    assert module._problems({**found, **change}) == [problem]


def test_it_needs_no_torch_and_is_read_by_people():
    code = (
        "import sys; sys.argv = ['apet', 'doctor']\nfrom apet.cli import main\ntry:\n main()\n"
        "except SystemExit as e:\n print(e.code, {'torch', 'transformers'} & set(sys.modules))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "0 set()"
    assert "hub:       offline: HF_HUB_OFFLINE is set" in done.stdout
    assert "all that is needed is here" in done.stdout
