"""The guest keeps every design invariant of apet."""

from __future__ import annotations

from pathlib import Path

import apet_guest.every_nth
import apet_guest.final_norm  # importing a file registers what it defines
import pytest
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from apet.registry import import_guest
from apet.testing import DistributionConformance, FamilyConformance, MethodConformance

import_guest(str(Path(apet_guest.final_norm.__file__).parent / "families" / "gpt_neox.yaml"))


class TestFinalNorm(MethodConformance):
    method = "final-norm"


class TestEveryNth(DistributionConformance):
    distribution = apet_guest.every_nth.EveryNth.name


def gpt_neox() -> GPTNeoXForCausalLM:
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    ids = {"vocab_size": 61, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**shape, **ids, max_position_embeddings=64))


class TestGPTNeoX(FamilyConformance):
    model = staticmethod(gpt_neox)


def test_the_packages_entry_points_name_what_it_adds():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(project["entry-points"]) == {"apet.methods", "apet.distributions", "apet.families"}
