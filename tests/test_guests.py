"""Guests: a method, a distribution and a family from outside the package, by ``--import`` and by inherited tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from tiny_backbones import reviews, save_backbone, tokenizer, write_csv

ROOT = Path(__file__).parents[1]
GUEST = ROOT / "examples" / "apet-guest"
FINAL_NORM = GUEST / "src/apet_guest/final_norm.py"
EVERY_NTH = GUEST / "src/apet_guest/every_nth.py"
GPT_NEOX = GUEST / "src/apet_guest/families/gpt_neox.yaml"
DATA = ("--data", "train.csv", "--text", "text", "--label", "stars")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with a backbone and data. Every command is a process of its own: guests stay out of this one."""
    folder = tmp_path_factory.mktemp("guests")
    save_backbone("bert-head", folder / "bert")
    write_csv(folder / "train.csv", reviews(48))
    return folder


def apet(workspace: Path, *words: str | Path) -> str:
    environment = os.environ | {"APET_CACHE": str(workspace / "cache"), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "apet", *map(str, words)],
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_guests_own_suite_passes():
    """Three lines each put a method, a distribution and a family under every design invariant."""
    paths = os.pathsep.join([str(GUEST / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-c", os.devnull, "tests"],
        cwd=GUEST,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(done.stdout.rpartition(" passed")[0].split()[-1]) > 500


def test_a_method_of_one_file_is_listed_compared_and_predicts_again(workspace):
    assert "final-norm" in apet(workspace, "methods", "--import", FINAL_NORM)
    words = ["--methods", "final-norm,lora", "--max-steps", "2", "--output", "compared", "--json", "--quiet"]
    compared = json.loads(apet(workspace, "compare", "--import", FINAL_NORM, "--backbone", "bert", *DATA, *words))
    assert [m["method"] for m in compared] == ["final-norm", "lora"]
    # The folder of a run knows its guest: no --import is needed to use it.
    run = next(p for p in (workspace / "compared/runs").iterdir() if '"final-norm"' in (p / "result.json").read_text())
    assert json.loads((run / "result.json").read_text())["imports"] == {str(FINAL_NORM): source_fingerprint(FINAL_NORM)}
    assert apet(workspace, "predict", run, "a warm film").endswith("a warm film\n")


def source_fingerprint(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def test_a_distribution_of_one_file_runs_in_a_study_and_stands_in_its_report(workspace):
    study = workspace / "study.yaml"
    study.write_text(
        "name: guests\n"
        f"import: [{EVERY_NTH}, {FINAL_NORM}]\n"
        "backbones: [bert]\n"
        "tasks: [train.csv]\n"
        "methods: [fine-tuning, lora, final-norm, apet-adjacent, apet-discrete, apet-every-nth]\n"
        "seeds: [0]\n"
        "run_defaults: {max_steps: 4, eval_steps: 1, text: [text], label: stars, dtype: float32, device: cpu}\n"
        "overrides: [{match: {method: 'apet-*'}, budgets: ['=lora']}]\n"
    )
    plan = json.loads(apet(workspace, "study", "plan", study, "--json"))
    assert {r["method"] for r in plan["runs"]} >= {"apet-every-nth", "final-norm"}
    apet(workspace, "study", "run", study, "--output", "study", "--workers", "2", "--quiet")
    apet(workspace, "report", "study")
    structure = (workspace / "study/report/tables/structure.csv").read_text()
    assert "apet_every_nth_score" in structure
    runs = (workspace / "study/report/tables/runs.csv").read_text()
    assert "apet-every-nth" in runs
    assert "final-norm" in runs


def test_a_family_of_one_file_is_described_and_tuned(workspace):
    words = tokenizer("gpt2")
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    ids = {"vocab_size": len(words), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
    GPTNeoXForCausalLM(GPTNeoXConfig(**shape, **ids)).save_pretrained(workspace / "neox")
    words.save_pretrained(workspace / "neox")
    facts = json.loads(apet(workspace, "inspect", "neox", "--import", GPT_NEOX, "--budget", "100", "--json"))
    assert (facts["family"], facts["num_trainable"]) == ("gpt-neox", 100)
    result = json.loads(
        apet(
            workspace, "tune", "--import", GPT_NEOX, "--backbone", "neox", *DATA, "--method", "lora-discrete",
            "--budget", "64", "--max-steps", "2", "--output", "neox-run", "--json", "--quiet",
        )
    )  # fmt: skip
    assert result["num_trainable"] == 64


def test_an_unknown_name_says_how_to_register_one(workspace):
    done = subprocess.run(
        [sys.executable, "-m", "apet", "inspect", "bert", "--method", "final-norm"],
        cwd=workspace, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "unknown method 'final-norm'" in done.stderr
    assert "give its file or module with --import" in done.stderr
