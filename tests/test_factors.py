"""Fused pairs and bottlenecks equal the plain formula: values, and the gradient of every entry, input and output."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch

import apet
from apet.delta import Insertion, TrainableWeight
from apet.kernels import factors
from apet.kernels.factors import Factor
from apet.masks.distributions import draw_mask
from apet.masks.mask import dense_mask
from apet.testing.tiny_models import batch, build, shake

D_IN, D_OUT = 16, 24  # of the tiny BERT's mlp.up


def masks(how: str, share: str):
    """lora_A (16, 2) and lora_B (2, 24); few: one or two live lines of many."""
    if share == "all":
        return dense_mask((D_IN, 2)), dense_mask((2, D_OUT))
    k = {"few": 2, "half": 20}[share]
    return (
        draw_mask((D_IN, 2), k, how, 3, "here", "a", cover="columns"),
        draw_mask((2, D_OUT), k, how, 3, "here", "b", cover="rows"),
    )


def insertions(form: str, how: str, share: str, biases: bool = True):
    a, b = masks(how, share)
    if form == "lora":
        return Insertion("lora", "encoder.0.mlp.up", (TrainableWeight("lora_A", a), TrainableWeight("lora_B", b)), 0.5)
    down = draw_mask((D_OUT, 2), a.num_trainable, how, 5, "down", cover="columns")
    weights = [TrainableWeight("down_proj.weight", dense_mask((D_OUT, 2)) if share == "all" else down)]
    if biases:
        weights.append(TrainableWeight("down_proj.bias", draw_mask((2,), 1, how, 1, "c")))
    weights.append(TrainableWeight("up_proj.weight", b))
    if biases:
        weights.append(TrainableWeight("up_proj.bias", draw_mask((D_OUT,), 5, how, 1, "e")))
    return Insertion("adapter", "encoder.0.mlp.up", tuple(weights))


def step(model, handle, insertion_values, dtype, fused: bool, autocast: bool = False):
    """Output, gradients of every entry, and of the layer's input."""
    from apet.layers import adapter, lora

    module = model.get_submodule(apet.describe(model).layer("encoder.0.mlp.up").module)
    torch.manual_seed(1)
    x = torch.randn(3, 5, D_IN, dtype=dtype, requires_grad=True)
    with torch.no_grad():
        for v, given in zip(handle.parameters(), insertion_values, strict=True):
            v.grad = None
            v.copy_(given)
    with patch.object(lora, "is_fusible", return_value=fused), patch.object(adapter, "is_fusible", return_value=fused):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            y = module(x)
        (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    return [y.detach(), x.grad, *(v.grad for v in handle.parameters())]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("share", ["few", "half", "all"])
@pytest.mark.parametrize("how", ["adjacent", "discrete"])
@pytest.mark.parametrize(("form", "biases"), [("lora", False), ("adapter", True), ("adapter", False)])
def test_a_fused_layer_equals_the_plain_formula(form, biases, how, share, dtype):
    model = build("bert").to(dtype)
    insertion = insertions(form, how, share, biases)
    handle = apet.attach(model, apet.DeltaSpec((insertion,), type(model).__name__, 1, name="one"))
    torch.manual_seed(0)
    values = [torch.randn_like(v) for v in handle.parameters()]
    fused, plain = (step(model, handle, values, dtype, fused) for fused in (True, False))
    tolerance = {torch.bfloat16: 0.03, torch.float32: 2e-5, torch.float64: 1e-6}[dtype]
    for mine, reference in zip(fused, plain, strict=True):
        assert mine.dtype == reference.dtype
        error = (mine.double() - reference.double()).norm() / reference.double().norm().clamp(min=1e-12)
        assert error < tolerance
    assert all(torch.count_nonzero(g) == g.numel() for g in fused[2:])


@pytest.mark.parametrize("form", ["lora", "adapter"])
def test_second_derivatives_flow_through_a_fused_layer(form):
    """A penalty on gradients: what autograd makes of the backward equals finite differences."""
    model = build("bert").double()
    handle = apet.attach(
        model, apet.DeltaSpec((insertions(form, "discrete", "half"),), type(model).__name__, 1, name="x")
    )
    shake(handle)
    module = model.get_submodule(apet.describe(model).layer("encoder.0.mlp.up").module)
    x = torch.randn(2, D_IN, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(module, (x,), atol=1e-5)


def test_of_a_large_hidden_state_only_live_columns_are_kept_for_backward():
    down = Factor([draw_mask((D_IN, 1), 2, "discrete", 0, "x", cover="columns")], "rows", torch.device("cpu"))
    x = torch.randn(7, D_IN)
    assert down.gathered(x).shape == (7, 2)
    assert down.gathered(x).untyped_storage().nbytes() == 7 * 2 * 4
    assert Factor([dense_mask((D_IN, 1))], "rows", torch.device("cpu")).gathered(x) is x
    assert 0 < factors.GATHER_MAX_SHARE < 1


def test_autocast_changes_nothing_but_the_layer_s_own_precision():
    model = build("bert")
    handle = apet.attach(model, apet.plan(model, "apet", 200, operations=["concatenate", "plugin"]))
    shake(handle)
    model.eval()
    inputs = batch(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**inputs).loss
    loss.backward()
    assert all(v.grad is not None and torch.isfinite(v.grad).all() for v in handle.parameters())
