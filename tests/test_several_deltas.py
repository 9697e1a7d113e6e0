"""Attach, merge and detach in any order: the function is always that of the deltas that are there, the bits return."""

from __future__ import annotations

import itertools

import pytest
import torch

import apet
from apet.testing.tiny_models import batch, build, outputs, same_bits, shake, snapshot

OVERLAPPING = {
    "apet": {"operations": ["add"], "distribution": "discrete", "allocation": "proportional"},
    "lora": {"roles": ["mlp.up"]},
    "bitfit": {"roles": ["mlp.down"]},
}


def plans(model, methods):
    """Deltas that any parameter can hold; the discrete ones share entries with each other."""
    linear = sorted({x.role for x in apet.describe(model).layers if x.kind == "linear" and x.index is not None})
    out = []
    for seed, method in enumerate(methods):
        chosen = dict(OVERLAPPING[method])
        if method == "apet":
            # A linear layer without a bias gets one; the output of a norm without one cannot be merged.
            chosen["roles"] = linear
        budget = 1500 if method == "apet" else None
        out.append(apet.plan(model, method, budget, mask_seed=seed, **chosen))
    return out


def attached_to_fresh(family, specs, present):
    """Outputs of a fresh backbone with only these deltas, in the order in which they once came."""
    model = build(family)
    for i in present:
        shake(apet.attach(model, specs[i]), 0.1, seed=i)
    return outputs(model, batch(model))


ORDERS = [
    order
    for order in itertools.permutations([(0, "merge"), (0, "detach"), (1, "merge"), (1, "detach")])
    if all(order.index((i, "merge")) < order.index((i, "detach")) for i in (0, 1))
]


@pytest.mark.parametrize("family", ["bert", "t5-relu-tied", "gpt2", "llama"])
@pytest.mark.parametrize("methods", [("apet", "apet"), ("apet", "lora"), ("bitfit", "apet")], ids="-".join)
@pytest.mark.parametrize("order", ORDERS, ids=lambda o: "-".join(f"{what}{i}" for i, what in o))
def test_two_deltas_merged_and_detached_in_any_order(family, methods, order):
    model = build(family)
    before, inputs = snapshot(model), batch(model)
    specs = plans(model, methods)
    handles = [apet.attach(model, spec) for spec in specs]
    for seed, handle in enumerate(handles):
        shake(handle, 0.1, seed=seed)
    present = [0, 1]
    for i, what in order:
        getattr(handles[i], what)()
        if what == "detach":
            present.remove(i)
        expected = attached_to_fresh(family, specs, present)
        torch.testing.assert_close(outputs(model, inputs), expected, rtol=1e-4, atol=1e-5)
    assert same_bits(snapshot(model), before)
    assert not apet.attached(model)


def test_the_two_share_entries_or_this_file_proves_nothing():
    first, second = ({i.position: i for i in t.insertions} for t in plans(build("bert"), ("apet", "apet")))
    shared = [
        set(first[at].weights[0].mask.indices) & set(second[at].weights[0].mask.indices)
        for at in first.keys() & second.keys()
    ]
    assert sum(map(len, shared)) > 50


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_forgotten_merge_is_the_backbone_that_the_other_returns_to(family):
    model = build(family)
    specs = plans(model, ("apet", "apet"))
    first, second = (apet.attach(model, spec) for spec in specs)
    for seed, handle in enumerate((first, second)):
        shake(handle, 0.1, seed=seed)
    both = outputs(model, batch(model))
    first.merge(forget=True)
    assert not first.is_attached
    torch.testing.assert_close(outputs(model, batch(model)), both, rtol=1e-5, atol=1e-6)
    second.detach()
    alone = build(family)
    shake(only := apet.attach(alone, specs[0]), 0.1, seed=0)
    only.merge(forget=True)
    assert same_bits(snapshot(model), snapshot(alone))
    assert not apet.attached(alone)
    assert all(p.requires_grad for p in alone.parameters())


def test_a_handle_that_is_done_says_so():
    model = build("bert")
    with apet.attach(model, apet.plan(model, "lora", 60)) as handle:
        assert repr(handle).startswith("Handle(DeltaSpec(lora, 60 parameters")
        handle.merge()
        assert handle.is_merged
        assert repr(handle).endswith(", merged)")
        for verb in ("merge", "save"):
            with pytest.raises(apet.ApetError, match=f"cannot {verb} a merged delta"):
                handle.merge() if verb == "merge" else handle.save("nowhere")
    assert not handle.is_attached
    with pytest.raises(apet.ApetError, match="no longer attached; attach it again"):
        handle.detach()


def test_flags_of_a_partly_frozen_model_return():
    model = build("bert")
    model.bert.embeddings.requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    with apet.attach(model, apet.plan(model, "lora", 60)), apet.attach(model, apet.plan(model, "bitfit", 9)):
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 69
    assert [p.requires_grad for p in model.parameters()] == flags
    assert any(flags)
    assert not all(flags)


def test_hooks_of_others_stay():
    model = build("bert")
    seen = []
    model.register_forward_hook(lambda *_: seen.append("whole"))
    model.bert.encoder.layer[0].attention.self.query.register_forward_hook(lambda *_: seen.append("query"))
    with apet.attach(model, apet.plan(model, "lora", 60)):
        outputs(model, batch(model))
    outputs(model, batch(model))
    assert seen == ["query", "whole"] * 2
