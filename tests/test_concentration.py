"""Concentration of a budget: on how many weights it falls, exactly, and how that is asked for, saved and shown."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import apet
from apet import ApetError
from apet.masks.allocation import allocate_budget
from apet.masks.concentration import draw_sites
from apet.testing.tiny_models import batch, build, shake


@cache
def backbone(name: str):
    return apet.describe(name)


def counts(budget, name="bert-base", **chosen):
    return [i.num_trainable for i in apet.plan(backbone(name), "apet", budget, **chosen).insertions]


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 20_000),
    how=st.sampled_from(["adjacent", "discrete"]),
    seed=st.integers(0, 99),
    chosen=st.sampled_from([{}, {"run_length": 1}, {"run_length": 100}, {"sites": "all"}, {"sites": 1}]),
)
def test_any_budget_is_met_exactly_under_any_concentration(n, how, seed, chosen):
    if n == 1 and chosen.get("sites") == 1:
        chosen = {}
    assert sum(counts(n, distribution=how, mask_seed=seed, **chosen)) == n


@settings(max_examples=300, deadline=None)
@given(
    targets=st.lists(st.tuples(st.integers(1, 2), st.integers(0, 30)), min_size=1, max_size=8),
    total=st.integers(1, 80),
    run_length=st.integers(1, 20),
    sites=st.none() | st.integers(1, 9),
    seed=st.integers(0, 20),
)
def test_drawn_sites_hold_the_budget_and_are_as_many_as_asked_for(targets, total, run_length, sites, seed):
    low, high = [m for m, _ in targets], [m + extra for m, extra in targets]
    drawn = draw_sites(total, low, high, seed, run_length, sites)
    if drawn is None:
        return
    shared_out = allocate_budget(total, [low[i] for i in drawn], [high[i] for i in drawn], [1.0] * len(drawn), seed)
    assert shared_out is not None
    assert sum(shared_out) == total
    assert all(shared_out)
    if sites is not None:
        assert len(drawn) == sites


@pytest.mark.parametrize("n", [16, 17, 800, 1000])
def test_by_default_each_weight_gets_at_least_sixteen_entries(n):
    """Without concentration, 800 entries fall on as many weights, and adjacent and discrete are the same thing."""
    each = counts(n)
    assert len(each) == n // 16
    assert min(each) >= 16
    assert max(each) - min(each) <= 1
    assert max(counts(n, sites="all")) < 16


@pytest.mark.parametrize("n", [1, 2, 15])
def test_a_budget_below_one_run_falls_on_one_weight(n):
    assert counts(n) == [n]


def test_sites_and_run_length_say_how_far_a_budget_is_spread():
    assert counts(1000, sites=10) == [100] * 10
    assert sorted(counts(1003, sites=10)) == [100] * 7 + [101] * 3
    assert counts(1000, run_length=250) == [250] * 4
    assert len(counts(20_000, sites="all")) == len(counts(20_000))  # 16 entries everywhere: as before


def test_the_mask_seed_draws_the_weights():
    def where(seed):
        return [i.position for i in apet.plan(backbone("bert-base"), "apet", 64, mask_seed=seed).insertions]

    assert where(0) == where(0)
    assert len({tuple(where(seed)) for seed in range(10)}) == 10


@pytest.mark.parametrize("sites", [0, -1, "some", 1.5])
def test_what_is_no_number_of_sites_is_refused(sites):
    with pytest.raises(ApetError, match=f"apet: sites={sites!r} is not valid"):
        apet.plan(backbone("bert-base"), "apet", 100, sites=sites)


def test_sites_that_cannot_hold_the_budget_are_refused_with_what_they_can():
    with pytest.raises(ApetError, match=r"sites=50 cannot share out 20 parameters.*sites=all"):
        apet.plan(backbone("bert-base"), "apet", 20, sites=50)
    with pytest.raises(ApetError, match=r"sites=1000000 cannot share out"):
        apet.plan(backbone("bert-base"), "apet", 10**7, sites=10**6)
    with pytest.raises(ApetError, match=r"run_length=8 is not valid: sites=3 decides it already"):
        apet.plan(backbone("bert-base"), "apet", 100, sites=3, run_length=8)


def test_a_concentrated_delta_is_saved_with_its_setting_and_loads_as_it_was(tmp_path):
    model = build("bert")
    handle = apet.attach(model, apet.plan(model, "apet", 60, sites=3, mask_seed=4))
    shake(handle)
    model.eval()
    inputs = batch(model)
    with torch.no_grad():
        before = model(**inputs).logits
    handle.save(tmp_path)
    handle.detach()
    loaded = apet.load(model, tmp_path)
    assert loaded.spec.recipe.settings == {"sites": 3}
    assert len(loaded.spec.insertions) == 3
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, before)
