"""The design invariants over every registered method × distribution × family."""

from __future__ import annotations

import itertools

import pytest
import torch

import apet
from apet.backbones.describe import describe
from apet.testing import DistributionConformance, MethodConformance
from apet.testing.tiny_models import BUILDERS, batch, build, outputs, same_bits, shake, snapshot


def mergeable(handle) -> bool:
    """Only what some parameter of the backbone can hold: no prompt, no adapter, no output but a bias-less linear's."""
    layers = {x.name: x for x in describe(handle.model).layers}
    for i in handle.spec.insertions:
        if i.form in ("prompt", "adapter"):
            return False
        if i.form == "bias" and layers[i.position.removesuffix(".output")].kind != "linear":
            return False
        if i.form in ("lora", "scale"):
            layer = layers[i.position if i.form == "lora" else i.position.rpartition(".")[0]]
            weight = layer.position("weight")
            if weight is None or weight.tied:
                return False
    return True


class _Ours(MethodConformance):
    """What we know of our own methods beyond what a guest must say."""

    def is_mergeable(self, handle):
        return mergeable(handle)


class TestFineTuning(_Ours):
    method = "fine-tuning"


class TestPrompt(_Ours):
    method = "prompt"


class TestBitFit(_Ours):
    method = "bitfit"


class TestLoRA(_Ours):
    method = "lora"


class TestAdapter(_Ours):
    method = "adapter"


class TestApet(_Ours):
    method = "apet"


class TestIA3(_Ours):
    method = "ia3"


class TestLNTuning(_Ours):
    method = "ln-tuning"


class TestMagnitude(DistributionConformance):
    distribution = "magnitude"


class TestSmallest(DistributionConformance):
    distribution = "smallest"


class TestGradient(DistributionConformance):
    distribution = "gradient"


class TestFisher(DistributionConformance):
    distribution = "fisher"


def test_every_registered_method_is_tested():
    assert {c.method for c in _Ours.__subclasses__()} == set(apet.list_methods())


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("pairing", [("lora", "apet"), ("apet", "apet"), ("bitfit", "adapter"), ("prompt", "prompt")])
def test_several_deltas_come_and_go_in_any_order(family, pairing):
    """Overlapping entries add up; whoever leaves first, the bits return."""
    for leave in itertools.permutations(range(2)):
        model = build(family)
        before, inputs = snapshot(model), batch(model)
        handles = []
        for seed, method in enumerate(pairing):
            handles.append(apet.attach(model, apet.plan(model, method, 140, mask_seed=seed)))
            shake(handles[-1], seed=seed)
        both = outputs(model, inputs)
        handles[leave[0]].detach()
        alone = outputs(model, inputs)
        assert not torch.equal(alone, both)
        single = build(family)
        only = apet.attach(single, handles[leave[1]].spec)
        shake(only, seed=leave[1])
        torch.testing.assert_close(alone, outputs(single, inputs), rtol=1e-5, atol=1e-5)
        handles[leave[1]].detach()
        assert same_bits(snapshot(model), before)


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("how", ["adjacent", "discrete"])
def test_equal_shaped_layers_do_not_share_a_mask(family, how):
    """Every block has the same shapes: peft's SHiRA gave all of them one mask."""
    spec = apet.plan(build(family), "apet", 3000, distribution=how, operations=["add"])
    by_shape: dict[tuple, list[frozenset[int]]] = {}
    for i in spec.insertions:
        for w in i.weights:
            if w.mask.kind != "dense" and len(w.shape) == 2 and w.mask.num_trainable > 8:
                by_shape.setdefault(w.shape, []).append(frozenset(w.mask.indices.tolist()))
    twins = [masks for masks in by_shape.values() if len(masks) >= 2]
    assert twins
    assert sum(len(set(masks)) for masks in twins) >= 0.8 * sum(map(len, twins))  # a few short runs coincide by chance


@pytest.mark.parametrize("family", BUILDERS)
def test_positions_cover_every_parameter_once(family):
    model = build(family)
    backbone = describe(model)
    covered = sum(p.size for p in backbone.positions if p.parameter != "output")
    assert (
        covered + backbone.num_head_parameters == backbone.num_parameters == sum(p.numel() for p in model.parameters())
    )
    names = [p.name for p in backbone.positions]
    assert len(names) == len(set(names))
