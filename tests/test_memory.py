"""Gradients and optimizer state take O(N) memory: counted in bytes, and seen from outside the process."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

import apet

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "memory.py"


@pytest.fixture(scope="module")
def wide():
    """d 1024, one block."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=1024, num_hidden_layers=1, num_attention_heads=16, intermediate_size=4096, vocab_size=1000
    )
    return BertModel(config).eval()


def bytes_of(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize("share", ["1%", "0.1%"])
@pytest.mark.parametrize("how", ["adjacent", "discrete"])
def test_gradients_and_optimizer_state_are_12_bytes_an_entry(wide, how, share):
    """Four each for the gradient and AdamW's two moments; a step counter for each trained tensor."""
    spec = apet.plan(wide, "apet", share, distribution=how, operations=["add"], allocation="proportional")
    with apet.attach(wide, spec) as handle:
        optimizer = torch.optim.AdamW(handle.parameters())
        out = wide(input_ids=torch.arange(8)[None])
        (out.last_hidden_state.sum() + out.pooler_output.sum()).backward()
        optimizer.step()
        gradients = [p.grad for p in wide.parameters() if p.grad is not None]
        states = [t for s in optimizer.state.values() for t in s.values()]
        assert bytes_of(gradients) == 4 * spec.num_trainable
        assert bytes_of(states) == 8 * spec.num_trainable + 4 * len(spec.insertions)
        # And what stays for the way back: the value, the entry as it was, its index. No copy of any weight.
        own = [*handle.parameters(), *wide.apet.buffers()]
        assert bytes_of(own) <= (4 + 4 + 8) * spec.num_trainable


@cache
def measured(way: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, BENCHMARK, "--way", way], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_peak_of_a_training_step_stays_near_the_frozen_pass():
    """1 % of a d 1024 backbone: a tenth of one dense gradient beyond the frozen pass; masked gradients cost three."""
    dense = measured("full")["gradients"]
    frozen = measured("frozen")["peak"]
    assert measured("apet")["peak"] - frozen < 0.25 * dense
    assert measured("masked")["peak"] - frozen > 2 * dense
    assert measured("apet")["gradients"] + measured("apet")["optimizer"] < 0.011 * 3 * dense
