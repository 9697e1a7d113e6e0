"""Seeds have purposes: which entries (mask_seed), which initial values (init_seed); the same in every process."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import apet
from apet import ApetError
from apet.masks.distributions import draw_mask
from apet.seeding import SeededGenerator
from apet.testing.tiny_models import build, some_budget


def fingerprints() -> list[str]:
    """Of entries and initial values, over every method."""
    said = []
    for family, method in itertools.product(["t5-gated", "bert", "gpt2", "llama"], apet.list_methods()):
        model = build(family)
        spec = apet.plan(model, method, some_budget(model, method), distribution="discrete", mask_seed=7, init_seed=11)
        h = hashlib.sha256()
        for name, v in apet.attach(model, spec).values():
            h.update(name.encode() + v.detach().numpy().tobytes())
        for w in (w for i in spec.insertions for w in i.weights):
            h.update(w.mask.indices.tobytes())
        said.append(f"{family} {method} {spec.fingerprint} {h.hexdigest()}")
    return said


ELSEWHERE = (
    "import random, torch, test_seeds; random.seed(8); torch.manual_seed(9); print(*test_seeds.fingerprints(), sep='|')"
)


def test_the_same_seeds_give_the_same_entries_and_values_in_another_process():
    """Whatever the hash seed and the state of global generators there."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "12345"}
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip().split("|") == fingerprints()


def test_each_seed_has_its_own_effect():
    model = build("bert")
    seeds = list(itertools.product((0, 1), repeat=2))
    made = {(m, i): apet.plan(model, "lora-discrete", 288, mask_seed=m, init_seed=i) for m, i in seeds}
    assert made[0, 0].fingerprint == made[0, 1].fingerprint != made[1, 0].fingerprint
    values = {}
    for key, spec in made.items():
        with apet.attach(model, spec) as handle:
            values[key] = torch.cat([v.detach() for _, v in handle.values()])
    assert not torch.equal(values[0, 0], values[0, 1])
    # Other entries, same stream of initial values where the counts agree:
    assert torch.equal(values[0, 0].sign(), values[1, 0].sign())


@pytest.mark.parametrize("how", ["adjacent", "discrete"])
def test_different_budgets_and_seeds_never_draw_from_one_stream(how):
    """The paper's release seeded with seed * budget: (4096, seed 2) and (8192, seed 1) drew the same entries."""
    model = build("bert")
    a = apet.plan(model, "apet", 100, mask_seed=2, distribution=how, operations=["add"], roles=["mlp.up"])
    b = apet.plan(model, "apet", 200, mask_seed=1, distribution=how, operations=["add"], roles=["mlp.up"])
    for x, y in zip(a.insertions, b.insertions, strict=True):
        small, large = (i.weights[0].mask for i in (x, y))
        if large.num_trainable < large.size:
            assert not set(small.indices) <= set(large.indices)


@settings(max_examples=100, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**40), min_size=2, max_size=2, unique=True), count=st.integers(20, 60))
def test_streams_of_two_seeds_or_two_places_are_unrelated(seeds, count):
    one, other = (SeededGenerator(s, "place").integers(2**62, count) for s in seeds)
    elsewhere = SeededGenerator(seeds[0], "place", "lora_A").integers(2**62, count)
    assert not np.intersect1d(one, other).size
    assert not np.intersect1d(one, elsewhere).size
    # An address is a path, not its concatenation:
    assert SeededGenerator(1, "ab", "c").integers(2**62, 1) != SeededGenerator(1, "a", "bc").integers(2**62, 1)
    assert SeededGenerator(1, "1").integers(2**62, 1) != SeededGenerator(11).integers(2**62, 1)


@pytest.mark.parametrize("how", ["adjacent", "discrete"])
def test_recorded_entries_stay_what_they_are(how):
    """Saved files name seeds, not entries: were these to change, PLAN_VERSION would have to be raised."""
    expected = {"adjacent": [4, 10, 16, 21, 22], "discrete": [1, 4, 11, 15, 23]}
    assert draw_mask((4, 6), 5, how, 0, "encoder.0.attn.q.weight").indices.tolist() == expected[how]


@pytest.mark.parametrize("seed", [1.0, "1", None, [1]])
@pytest.mark.parametrize("name", ["mask_seed", "init_seed"])
def test_a_seed_is_an_integer(name, seed):
    with pytest.raises(ApetError, match=f"{name}=.* give an integer"):
        apet.plan(build("bert"), "lora", **{name: seed})


def test_numpy_integers_are_seeds_that_can_be_saved(tmp_path):
    model = build("bert")
    spec = apet.plan(model, "lora", 100, mask_seed=np.int64(3), init_seed=np.int32(4))
    assert spec.fingerprint == apet.plan(model, "lora", 100, mask_seed=3, init_seed=4).fingerprint
    apet.attach(model, spec).save(tmp_path)
    assert apet.load(build("bert"), tmp_path).spec.recipe == spec.recipe
