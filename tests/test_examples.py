"""Every example runs as it stands, and trains exactly what it says."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from safetensors import safe_open

EXAMPLES = sorted((Path(__file__).parents[1] / "examples" / "trainer").glob("*.py"))


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
