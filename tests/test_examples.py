"""Every example runs as it stands, and trains exactly what it says."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from safetensors import safe_open

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted((FOLDER / "trainer").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_trains_and_saves_its_delta(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(example))
    assert capsys.readouterr().out.strip().endswith("delta/delta.safetensors")
    handle = names["handle"]
    assert any(bool(v.any()) for _, v in handle.values())
    with safe_open(tmp_path / "delta" / "delta.safetensors", "pt") as saved:
        assert json.loads(saved.metadata()["apet"])["num_trainable"] == handle.spec.num_trainable
        assert saved.get_tensor("values").numel() == handle.spec.num_trainable


def test_chosen_entries_of_one_weight_are_trained_and_no_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(FOLDER / "one_weight.py"))
    first, last = capsys.readouterr().out.splitlines()
    assert names["losses"][-1] < names["losses"][0]
    assert first.startswith("loss ")
    assert last == "{'model.embed_tokens.weight': 16}"


def test_a_training_that_was_cut_goes_on_from_small_checkpoints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(FOLDER / "checkpoints.py"))
    assert names["size"] < 16 * 512 + 64 * 1024
    assert "DeltaSpec(lora, 512 parameters" in capsys.readouterr().out


@pytest.mark.slow
def test_a_file_becomes_a_recommendation_and_a_model_to_serve(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["own_data.py", "40s"])
    names = runpy.run_path(str(FOLDER / "own_data.py"))
    assert names["answer"].test.num_examples == 60
    assert (tmp_path / "served" / "README.md").is_file()
    assert "prediction" in capsys.readouterr().out


@pytest.mark.parametrize("example", sorted(FOLDER.glob("*.py")), ids=lambda p: p.stem)
def test_an_example_fits_on_a_screen_or_two(example):
    assert len(example.read_text("utf-8").splitlines()) <= 60
