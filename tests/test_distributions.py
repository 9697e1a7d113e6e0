"""How entries lie in a weight: distributions by rule, by score, and a guest's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import apet
from apet.errors import ApetError
from apet.masks.distributions import DISTRIBUTIONS, Distribution, draw_mask
from apet.testing.tiny_models import batch, build, outputs, shake

ADD = {"operations": ["add"], "roles": ["mlp"]}


def largest(weight: torch.Tensor, k: int) -> set[int]:
    return set(weight.detach().abs().reshape(-1).topk(k).indices.tolist())


def test_magnitude_trains_the_largest_entries_of_each_weight():
    model = build("bert")
    handle = apet.attach(model, apet.plan(model, "apet", 200, distribution="magnitude", **ADD))
    positions = {p.name: p for p in apet.positions(model)}
    for i in handle.spec.insertions:
        p, mask = positions[i.position], i.weights[0].mask
        weight = build("bert").get_parameter(f"{p.module}.{p.parameter}")
        assert set(mask.indices.tolist()) == largest(weight, mask.num_trainable)


def test_smallest_trains_the_others():
    model = build("bert")
    largest_first, smallest_first = (
        apet.attach(build("bert"), apet.plan(model, "apet", 200, distribution=d, **ADD)).spec
        for d in ("magnitude", "smallest")
    )
    for a, b in zip(largest_first.insertions, smallest_first.insertions, strict=True):
        if a.weights[0].mask.size > 2 * a.weights[0].mask.num_trainable:
            assert not set(a.weights[0].mask.indices) & set(b.weights[0].mask.indices)


def test_magnitude_is_planned_without_weights_and_settled_with_them():
    """The plan of a configuration, of a meta model and of a loaded model is one."""
    model = build("bert")
    spec = apet.plan(model, "apet-magnitude", 200, operations=["add"])
    with torch.device("meta"):
        assert apet.plan(type(model)(model.config), "apet-magnitude", 200, operations=["add"]) == spec
    with pytest.raises(ApetError, match="known once it is attached to a backbone with weights"):
        spec.insertions[0].weights[0].mask.indices  # noqa: B018


def test_magnitude_looks_at_the_backbone_not_at_another_delta():
    model = build("bert")
    alone = apet.attach(build("bert"), apet.plan(model, "apet-magnitude", 200, **ADD)).spec
    other = apet.attach(model, apet.plan(model, "apet", 1500, **ADD))
    shake(other, 10.0)
    outputs(model, batch(model))
    assert apet.attach(model, apet.plan(model, "apet-magnitude", 200, **ADD)).spec.fingerprint == alone.fingerprint


def test_given_scores_decide():
    model = build("bert")
    spec = apet.plan(model, "apet-magnitude", 60, operations=["add"], roles=["mlp.up"])
    positions = {p.name: p for p in apet.positions(model)}
    scores = {i.position: torch.arange(positions[i.position].size).float() for i in spec.insertions}
    handle = apet.attach(model, spec, scores=scores)
    for i in handle.spec.insertions:
        mask = i.weights[0].mask
        assert mask.indices.tolist() == list(range(mask.size - mask.num_trainable, mask.size))
    handle.detach()
    with pytest.raises(ApetError, match="scores hold none for"):
        apet.attach(model, spec, scores={})
    scores[spec.insertions[0].position] = torch.zeros(3)
    with pytest.raises(ApetError, match="needs one score for each of the"):
        apet.attach(model, spec, scores=scores)
    assert not apet.attached(model)


@pytest.mark.parametrize("method", ["lora", "adapter", "prompt"])
def test_new_weights_have_no_magnitude(method):
    with pytest.raises(ApetError, match=f"ranks entries of the backbone's own parameters, and {method} trains none"):
        apet.plan("bert-small", f"{method}-magnitude", 500)


def test_stored_indices_cost_at_most_eight_bytes_each(tmp_path):
    model = build("bert")
    handle = apet.attach(model, apet.plan(model, "apet-magnitude", 3000))
    path = handle.save(tmp_path)
    assert 8 * 3000 < path.stat().st_size <= 12 * 3000 + 4096


EVERY_NTH = "every-nth-of-a-test"


@pytest.fixture(scope="module", autouse=True)
def every_nth():
    """A guest's: one entry, then a fixed gap. Known while the tests of this file run."""

    class EveryNth(Distribution):
        name = EVERY_NTH

        def choose(self, size, count, generator):
            return np.arange(count, dtype=np.int64) * size // count

    yield
    DISTRIBUTIONS._entries.pop(EVERY_NTH, None)
    DISTRIBUTIONS._origins.pop(EVERY_NTH, None)


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), data=st.data())
def test_a_guests_rule_covers_every_line_all_the_same(rows, columns, data):
    """The library sets one entry of each line aside, whatever the rule says of the rest."""
    cover = data.draw(st.sampled_from(["rows", "columns"]))
    lines = rows if cover == "rows" else columns
    count = data.draw(st.integers(lines, rows * columns))
    mask = draw_mask((rows, columns), count, EVERY_NTH, 3, "place", cover=cover)
    line_of = mask.indices // columns if cover == "rows" else mask.indices % columns
    assert len(set(mask.indices.tolist())) == count
    assert len(set(line_of.tolist())) == lines


def test_a_rule_that_breaks_its_promise_is_named():
    class Short(Distribution):
        name = "short-of-a-test"

        def choose(self, size, count, generator):
            return np.arange(count - 1, dtype=np.int64)

    with pytest.raises(
        ApetError, match=r"'short-of-a-test' must choose 3 distinct, sorted entries in \[0, 9\); it chose 2"
    ):
        draw_mask((9,), 3, "short-of-a-test", 0).indices  # noqa: B018


def test_two_distributions_of_one_name_are_refused():
    with pytest.raises(ApetError, match="two distribution entries are called 'discrete'"):
        type("Impostor", (Distribution,), {"name": "discrete", "choose": Distribution.choose})
    assert type(DISTRIBUTIONS.get("discrete")).__name__ == "Discrete"


TASK_RANKED = ("gradient", "fisher")


def language_batches(model: torch.nn.Module, count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randint(model.config.vocab_size, (2, 7), generator=generator) for _ in range(count)]
    return [{"input_ids": r, "labels": r} for r in rows]


def dense_sums(model: torch.nn.Module, name: str, batches: list[dict[str, torch.Tensor]], distribution: str):
    """The same scores by plain autograd on a fresh model: |sum of gradients|, or sum of their squares."""
    parameter, total = model.get_parameter(name), 0.0
    for b in batches:
        (g,) = torch.autograd.grad(model.eval()(**b).loss, parameter)
        total = total + (g if distribution == "gradient" else g**2)
    return total.abs()


@pytest.mark.parametrize("distribution", TASK_RANKED)
@pytest.mark.parametrize("family", ["t5-gated", "gpt2", "bert-mlm"])
def test_a_task_ranks_entries_by_its_gradients_as_dense_autograd_sums_them(family, distribution):
    model = build(family)
    batches = language_batches(model, 3)
    spec = apet.plan(model, "apet", 300, distribution=distribution, operations=["add"], roles=["mlp"])
    handle = apet.attach(model, spec, scores=apet.task_scores(model, spec, batches))
    positions = {p.name: p for p in apet.positions(model)}
    assert handle.spec.num_trainable == 300
    ranked = [i for i in handle.spec.insertions if i.weights[0].mask.kind == "listed"]
    assert ranked, "some weight is trained in part"
    for i in ranked:
        p, mask = positions[i.position], i.weights[0].mask
        expected = dense_sums(build(family), f"{p.module}.{p.parameter}", batches, distribution).reshape(-1)
        taken = torch.zeros(expected.numel(), dtype=torch.bool)
        taken[torch.from_numpy(mask.indices)] = True
        # Equal up to rounding: no entry that is left out scores more than one that is taken.
        assert expected[~taken].max() <= expected[taken].min() * (1 + 1e-4)


def test_taking_scores_leaves_the_model_as_it_was():
    model = build("gpt2").train()
    model.get_parameter("transformer.wte.weight").requires_grad_(False)
    before = {n: (p.clone(), p.requires_grad) for n, p in model.named_parameters()}
    spec = apet.plan(model, "apet-fisher", 100, operations=["add"])
    apet.task_scores(model, spec, language_batches(model, 2))
    assert model.training
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name][0])
        assert p.requires_grad == before[name][1]
        assert p.grad is None


def test_what_scores_cannot_be_taken_of_is_refused():
    model = build("gpt2")
    spec = apet.plan(model, "apet-gradient", 100, operations=["add"])
    with pytest.raises(ApetError, match="no batch to take gradients of"):
        apet.task_scores(model, spec, [])
    with pytest.raises(ApetError, match="returned no loss"):
        apet.task_scores(model, spec, [{"input_ids": torch.ones(1, 3, dtype=torch.long)}])
    with pytest.raises(ApetError, match=r"scores=apet.task_scores\(model, spec, batches\)"):
        apet.attach(model, spec)
    apet.attach(model, apet.plan(model, "bitfit"))
    with pytest.raises(ApetError, match="a delta is attached"):
        apet.task_scores(model, spec, language_batches(model, 1))
