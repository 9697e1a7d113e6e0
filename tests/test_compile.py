"""Under torch.compile, whole or block by block: eager's outputs and gradients, current values, no recompilation."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

import apet
from apet.testing.tiny_models import batch, build, outputs, shake


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def attached(family: str, method: str, **chosen):
    model = build(family)
    handle = apet.attach(model, apet.plan(model, method, 173, **chosen))
    shake(handle)
    outputs(model, batch(model))  # transformers notes the kind of loss in the configuration at the first call
    return model, handle


def one_step(call, model, handle, inputs):
    model.zero_grad()
    out = call(**inputs)
    out.loss.backward()
    return out.logits.detach(), [v.grad.clone() for v in handle.parameters()]


def assert_same(a, b) -> None:
    torch.testing.assert_close(a[0], b[0], rtol=1e-4, atol=1e-5)
    for x, y in zip(a[1], b[1], strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6)


def assert_trains_like_eager(compiled, family: str, method: str, **chosen) -> None:
    """``compiled(model)`` gives what to call; steps after the first change values and compile nothing."""
    model, handle = attached(family, method, **chosen)
    twin, reference = attached(family, method, **chosen)
    call, inputs = compiled(model), batch(model)
    optimizers = [torch.optim.AdamW(h.parameters(), lr=0.05) for h in (handle, reference)]
    graphs = None
    for _ in range(3):
        assert_same(one_step(call, model, handle, inputs), one_step(twin, twin, reference, inputs))
        for optimizer in optimizers:
            optimizer.step()
        made = counters["stats"]["unique_graphs"]
        assert made
        assert graphs in (None, made), "recompiled for changed values"
        graphs = made
    with torch.no_grad():
        torch.testing.assert_close(call(**inputs).logits, outputs(twin, inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_what_leaves_weights_alone_compiles_to_one_graph(method):
    assert_trains_like_eager(lambda m: torch.compile(m, backend="aot_eager", fullgraph=True), "bert", method)


@pytest.mark.parametrize("how", ["adjacent", "discrete"])
def test_edited_weights_train_under_a_compiled_model(how):
    chosen = {"operations": ["add"], "roles": ["mlp", "attn.q"], "distribution": how}
    assert_trains_like_eager(lambda m: torch.compile(m, backend="aot_eager"), "bert", "apet", **chosen)


def test_edited_weights_train_where_blocks_are_compiled_one_by_one():
    """Compiled layers cannot write their own edits: they would go on with the values of the last eager forward."""

    def by_block(model):
        for block in model.bert.encoder.layer:
            block.compile(backend="aot_eager")
        return model

    assert_trains_like_eager(by_block, "bert", "apet", operations=["add"], roles=["mlp"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "method"),
    [("bert", "apet"), ("t5-gated", "apet"), ("llama", "lora"), ("gpt2", "prompt"), ("opt", "bitfit")],
)
def test_every_kind_of_carrier_under_the_default_compiler_front_end(family, method):
    assert_trains_like_eager(lambda m: torch.compile(m, backend="aot_eager"), family, method, distribution="discrete")


@pytest.mark.slow
def test_the_default_backend_gives_the_same_too():
    chosen = {"operations": ["add", "concatenate"], "roles": ["mlp"], "distribution": "discrete"}
    assert_trains_like_eager(torch.compile, "bert", "apet", **chosen)
