"""With additive deltas a model is one graph: compiled whole, or exported, it computes what it computed before."""

from __future__ import annotations

import pytest
import torch

import apet
from apet.methods import method_variants
from apet.testing.tiny_models import batch, build, outputs, shake

QUICK = {("bert", "lora"), ("bert", "ln-tuning"), ("gpt2", "prompt"), ("gpt2", "bitfit")}
cases = pytest.mark.parametrize(
    ("family", "method"),
    [
        pytest.param(family, method, marks=() if (family, method) in QUICK else (pytest.mark.slow,))
        for family in ("bert", "gpt2", "t5-gated")
        for method in method_variants()
    ],
)


def attached(family, method):
    model = build(family)
    handle = apet.attach(model, apet.plan(model, method), carrier="additive")
    shake(handle)
    inputs = batch(model)
    labels = inputs.pop("labels")
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = labels
    for part in (model, *(m for m in model.children() if hasattr(m, "config"))):
        part.config.use_cache = False  # a cache is no tensor that a graph could return
    return model, handle, inputs


@cases
def test_a_model_with_an_additive_delta_is_exported(family, method):
    model, _, inputs = attached(family, method)
    before = outputs(model, inputs)
    program = torch.export.export(model, (), inputs, strict=False).module()
    with torch.no_grad():
        torch.testing.assert_close(program(**inputs).logits, before, rtol=1e-5, atol=1e-5)


@cases
def test_a_model_with_an_additive_delta_compiles_to_one_graph_and_trains(family, method):
    model, handle, inputs = attached(family, method)
    model(**inputs).logits.square().mean().backward()
    expected = [v.grad.clone() for v in handle.parameters()]
    for v in handle.parameters():
        v.grad = None
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    compiled(**inputs).logits.square().mean().backward()
    for v, grad in zip(handle.parameters(), expected, strict=True):
        torch.testing.assert_close(v.grad, grad, rtol=1e-4, atol=1e-6)
