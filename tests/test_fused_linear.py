"""All deltas of a linear layer in one pass: output and every gradient equal those of the deltas one after another."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import apet
from apet.delta import Insertion, TrainableWeight
from apet.kernels import fused_linear
from apet.kernels.fused_linear import FusedLinear
from apet.kernels.layer_sum import LayerSum
from apet.masks.distributions import draw_mask
from apet.testing.tiny_models import batch, build, shake

LAYER = "encoder.0.mlp.up"
D_IN, D_OUT = 16, 24  # of the tiny BERT's mlp.up


def weight(name, shape, k, how, cover=None):
    return TrainableWeight(name, draw_mask(shape, k, how, 3, LAYER, name, cover=cover))


def insertion(form: str, how: str, width: int, biases: bool) -> Insertion:
    if form == "weight":
        return Insertion("weight", f"{LAYER}.weight", (weight("delta", (D_OUT, D_IN), 19, how),))
    if form == "its bias":
        return Insertion("weight", f"{LAYER}.bias", (weight("delta", (D_OUT,), 7, how),))
    if form == "bias":
        return Insertion("adapter", LAYER, (weight("up_proj.bias", (D_OUT,), 5, how),))
    if form == "lora":
        a = weight("lora_A", (D_IN, width), 6 + width, how, "columns")
        return Insertion("lora", LAYER, (a, weight("lora_B", (width, D_OUT), 9, how, "rows")), 0.5)
    weights = [weight("down_proj.weight", (D_OUT, width), 11, how, "columns")]
    weights += [weight("down_proj.bias", (width,), 1, how)] if biases else []
    weights.append(weight("up_proj.weight", (width, D_OUT), 9, how, "rows"))
    weights += [weight("up_proj.bias", (D_OUT,), 6, how)] if biases else []
    return Insertion("adapter", LAYER, tuple(weights))


def attach(model, *insertions: Insertion):
    return apet.attach(model, apet.DeltaSpec(insertions, type(model).__name__, 1, name="several"))


def step(model, handles, fused: bool, used: list[bool]):
    """Output of the layer, and gradients of its input and of every entry."""
    module = model.get_submodule(apet.describe(model).layer(LAYER).module)
    torch.manual_seed(1)
    source = torch.randn(3, 5, D_IN, dtype=module.weight.dtype, requires_grad=True)
    parameters = [v for handle in handles for v in handle.parameters()]
    for v in parameters:
        v.grad = None
    real = LayerSum.apply

    def counted(*args):
        used.append(True)
        return real(*args)

    fits = fused_linear._fits if fused else (lambda module, x: False)
    with patch.object(fused_linear, "_fits", fits), patch.object(LayerSum, "apply", counted):
        y = module(source * 1.0)
    (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    return [y.detach(), source.grad, *(v.grad for v in parameters)]


FORMS = ("its bias", "bias", "lora", "adapter")


@given(
    forms=st.permutations(FORMS)
    .flatmap(lambda p: st.integers(1, 4).map(lambda n: p[:n]))
    .filter(lambda forms: set(forms) != {"its bias"} and not {"bias", "adapter"} <= set(forms)),
    place=st.integers(0, 4),
    how=st.sampled_from(["adjacent", "discrete"]),
    width=st.integers(1, 3),
    biases=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@settings(max_examples=60, deadline=None)
def test_one_pass_equals_the_deltas_one_after_another(forms, place, how, width, biases, dtype):
    """In any order: a bottleneck reads what was added before it, and not what is added after it."""
    model = build("bert").to(dtype)
    order = [*forms[:place], "weight", *forms[place:]]
    handle = attach(model, *(insertion(form, how, width, biases) for form in order))
    shake(handle)
    used: list[bool] = []
    fused = step(model, [handle], True, used)
    assert used == [True]
    plain = step(model, [handle], False, used)
    assert used == [True]
    assert [mine.dtype for mine in fused] == [reference.dtype for reference in plain]
    if dtype is torch.bfloat16:  # what nearly cancels in one gradient is rounded at the size of its terms
        fused, plain = ([*parts[:2], torch.cat([p.flatten() for p in parts[2:]])] for parts in (fused, plain))
    tolerance = {torch.bfloat16: 0.05, torch.float32: 5e-5, torch.float64: 1e-6}[dtype]
    for mine, reference in zip(fused, plain, strict=True):
        assert (mine.double() - reference.double()).norm() <= tolerance * reference.double().norm()


def test_entries_that_were_exchanged_are_followed():
    """As where a vocabulary was resized: the pass is made for the masks that there are, not for those that it met."""
    model = build("bert")
    handle = attach(model, *(insertion(form, "discrete", 2, False) for form in ("weight", "lora")))
    shake(handle)
    used: list[bool] = []
    before = step(model, [handle], True, used)
    (lora,) = [layer for layer in handle._attached.delta_layers() if layer.form == "lora"]
    a, b = lora.insertion.weights
    mask = draw_mask(b.shape, b.mask.num_trainable, "discrete", 11, LAYER, "another", cover="rows")
    lora.insertion = replace(lora.insertion, weights=(a, replace(b, mask=mask)))
    lora.lora_B_indices = torch.from_numpy(mask.indices)
    after, plain = step(model, [handle], True, used), step(model, [handle], False, used)
    assert used == [True, True]
    assert not torch.allclose(before[0], after[0])
    for mine, reference in zip(after, plain, strict=True):
        assert torch.allclose(mine, reference, rtol=1e-4, atol=1e-6)


def test_an_output_that_somebody_kept_is_not_changed():
    """Another hook, also a delta's, may hold on to what the layer gave it."""
    model = build("bert")
    module = model.get_submodule(apet.describe(model).layer(LAYER).module)
    kept = []
    module.register_forward_hook(lambda module, args, output: kept.append(output))
    handle = attach(model, *(insertion(form, "adjacent", 1, True) for form in ("weight", "lora")))
    shake(handle)
    x = torch.randn(4, D_IN, requires_grad=True)
    y = module(x)
    assert torch.equal(kept[0], torch.nn.functional.linear(x, module.weight, module.bias))
    assert not torch.equal(kept[0], y)


def differences(loss, parameters):
    """Central differences of a loss, entry by entry."""
    for v in parameters:
        for n in range(v.numel()):
            there = []
            for sign in (1, -1):
                with torch.no_grad():
                    v[n] += sign * 1e-3
                    there.append(float(loss()))
                    v[n] -= sign * 1e-3
            yield float(v.grad[n]), (there[0] - there[1]) / 2e-3


@pytest.mark.parametrize(
    "forms", [("weight", "its bias", "lora", "adapter"), ("adapter", "lora", "its bias", "weight")]
)
@pytest.mark.parametrize("apart", [False, True])
def test_gradients_are_those_of_finite_differences(forms, apart):
    """Also where an adapter, which reads the layer's output, was attached before the weight."""
    model = build("bert").double()
    specs = [insertion(form, "discrete", 2, True) for form in forms]
    handles = [attach(model, one) for one in specs] if apart else [attach(model, *specs)]
    for handle in handles:
        shake(handle)
    module = model.get_submodule(apet.describe(model).layer(LAYER).module)
    torch.manual_seed(2)
    x = torch.randn(7, D_IN, dtype=torch.float64)

    def loss() -> torch.Tensor:
        for handle in handles:
            handle.refresh()
        return (module(x) ** 2).sum()

    loss().backward()
    for gradient, difference in differences(loss, [v for handle in handles for v in handle.parameters()]):
        assert gradient == pytest.approx(difference, rel=1e-3, abs=1e-4)


def test_a_later_hook_may_hand_the_layer_another_input():
    """As training does that needs the masked tokens of a head alone."""
    model = build("bert").double()
    module = model.get_submodule(apet.describe(model).layer(LAYER).module)
    handle = attach(model, *(insertion(form, "discrete", 2, True) for form in ("weight", "lora", "adapter")))
    shake(handle)
    module.register_forward_pre_hook(lambda module, args: (args[0][:, 0],))
    used: list[bool] = []
    fused = step(model, [handle], True, used)
    assert fused[0].shape == (3, D_OUT)
    for mine, reference in zip(fused, step(model, [handle], False, used), strict=True):
        assert torch.allclose(mine, reference)


def test_backward_twice_through_a_kept_graph_doubles_the_gradients():
    model = build("bert").double()
    handle = apet.attach(model, apet.plan(model, "apet", budget=3000))
    shake(handle)
    loss = model(**batch(model)).loss
    loss.backward(retain_graph=True)
    once = [v.grad.clone() for v in handle.parameters()]
    loss.backward()
    for v, first in zip(handle.parameters(), once, strict=True):
        assert torch.allclose(v.grad, 2 * first, rtol=1e-6, atol=1e-12)


def test_the_default_plan_runs_fused_and_leaves_no_hook_behind():
    model = build("bert")
    handle = apet.attach(model, apet.plan(model, "apet", budget=3000))
    hooked = [
        hook
        for module in model.modules()
        for hook in module._forward_hooks.values()
        if isinstance(getattr(getattr(hook, "func", None), "__self__", None), FusedLinear)
    ]
    assert len(hooked) > 5
    handle.detach()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
