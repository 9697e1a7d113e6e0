"""On a CUDA device: what is drawn, trained, saved and restored is what it is on a processor. Skipped without one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import apet
from apet.testing.tiny_models import batch, build, same_bits, shake, snapshot, some_budget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

METHODS = list(apet.list_methods())
FAMILIES = ["bert", "t5-gated", "t5-relu-tied", "gpt2", "llama", "bloom"]
every_case = pytest.mark.parametrize(("family", "method"), [(f, m) for f in FAMILIES for m in METHODS])


def attached(family: str, method: str, device: str, *, carrier: str = "auto", dtype=torch.float32, **chosen):
    model = build(family, dtype).to(device)
    handle = apet.attach(model, apet.plan(model, method, some_budget(model, method), **chosen), carrier=carrier)
    return model, handle


def inputs_of(model: nn.Module, device: str) -> dict[str, torch.Tensor]:
    return {k: v.to(device) for k, v in batch(model).items()}


def gradients(model, handle, inputs):
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    # Copies: a model that moves takes its gradients along.
    return {"loss": loss.detach().cpu().clone()} | {name: v.grad.cpu().clone() for name, v in handle.values()}


def assert_same(a: dict, b: dict, rtol=1e-3, atol=1e-5) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@every_case
@pytest.mark.parametrize("carrier", ["auto", "additive", "substituted"])
def test_values_and_gradients_are_those_of_a_processor(family, method, carrier):
    there, handle = attached(family, method, "cuda", carrier=carrier)
    here, expected = attached(family, method, "cpu")
    assert handle.spec.fingerprint == expected.spec.fingerprint
    for (name, v), (other, w) in zip(handle.values(), expected.values(), strict=True):
        assert name == other
        assert torch.equal(v.cpu(), w), name  # seeds give the same bits on every device
    for h in (handle, expected):
        with torch.no_grad():
            g = torch.Generator().manual_seed(3)
            for v in h.parameters():
                v.add_((torch.randn(v.shape, generator=g) * 0.05).to(v.device))
    assert_same(gradients(there, handle, inputs_of(there, "cuda")), gradients(here, expected, inputs_of(here, "cpu")))


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_training_moves_the_values_alone_and_detaching_restores_every_bit(family, method, dtype):
    model = build(family, dtype).cuda()
    before = snapshot(model)
    handle = apet.attach(model, apet.plan(model, method, some_budget(model, method)))
    optimizer = torch.optim.AdamW(handle.parameters(), lr=1e-2, fused=True)
    start = [v.detach().clone() for v in handle.parameters()]
    for _ in range(3):
        model(**inputs_of(model, "cuda")).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(v.dtype == torch.float32 and v.is_cuda for v in handle.parameters())
    assert any(not torch.equal(v, s) for v, s in zip(handle.parameters(), start, strict=True))
    handle.detach()
    assert same_bits(snapshot(model), before)


@every_case
def test_what_is_saved_there_is_loaded_here(family, method, tmp_path):
    model, handle = attached(family, method, "cuda")
    with torch.no_grad():
        for v in handle.parameters():
            v.add_(0.02)
    handle.save(tmp_path)
    twin = build(family)
    apet.load(twin, tmp_path)
    with torch.no_grad():
        there, here = model(**inputs_of(model, "cuda")).logits.cpu(), twin(**batch(twin)).logits
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_an_attached_model_moves_there_and_back(method):
    model, handle = attached("llama", method, "cpu")
    shake(handle)
    expected = gradients(model, handle, batch(model))
    model.to("cuda")
    assert_same(gradients(model, handle, inputs_of(model, "cuda")), expected)
    model.to("cpu")
    assert_same(gradients(model, handle, batch(model)), expected, rtol=1e-6)
    handle.detach()
    assert same_bits(snapshot(model), snapshot(build("llama")))


@pytest.mark.parametrize("method", ["lora", "apet", "prompt"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "t5-gated"])
def test_generation_is_that_of_a_processor(family, method):
    results = []
    for device in ("cuda", "cpu"):
        model, handle = attached(family, method, device)
        with torch.no_grad():
            for v in handle.parameters():
                v.add_(0.05)
        inputs = {k: v.to(device) for k, v in batch(model, left=family != "t5-gated").items() if k != "labels"}
        results.append(model.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=0).cpu())
    assert torch.equal(*results)


@pytest.mark.parametrize("method", ["lora", "adapter", "apet"])
def test_routed_rows_are_what_they_are_alone(method):
    model = build("llama").cuda()
    specs = [apet.plan(model, method, 100, mask_seed=n) for n in range(2)]
    handles = [apet.attach(model, spec, carrier="additive") for spec in specs]
    for handle in handles:
        with torch.no_grad():
            for v in handle.parameters():
                v.add_(0.1)
    inputs = inputs_of(model, "cuda")
    with apet.route(model, handles, [1, 0, 1]), torch.no_grad():
        together = model(**inputs).logits
    for row, n in enumerate([1, 0, 1]):
        twin = build("llama").cuda()
        apet.attach(twin, specs[n], values=dict(handles[n].values()))
        with torch.no_grad():
            torch.testing.assert_close(together[row], twin(**inputs).logits[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "apet"])
def test_compiled_for_the_device_it_computes_the_same(method):
    model, handle = attached("llama", method, "cuda", carrier="additive")
    with torch.no_grad():
        for v in handle.parameters():
            v.add_(0.05)
    expected = gradients(model, handle, inputs_of(model, "cuda"))
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    assert_same(gradients(compiled, handle, inputs_of(model, "cuda")), expected)


@pytest.mark.parametrize("quantizer", ["nf4", "nf4-twice", "int8", "torchao-int8"])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("lora", {}),
        ("adapter", {}),
        ("prompt", {}),
        ("bitfit", {"roles": ["attn.q", "mlp.up"]}),
        ("apet", {"roles": ["attn", "mlp"], "distribution": "discrete"}),
    ],
)
def test_on_quantized_weights_every_method_trains_and_comes_back_from_a_file(quantizer, method, settings, tmp_path):
    model = quantized(quantizer, tmp_path / "backbone")
    handle = apet.attach(model, apet.plan(model, method, 173, **settings))
    inputs = inputs_of(model, "cuda")
    optimizer = torch.optim.AdamW(handle.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model(**inputs).loss
        loss.backward()
        assert all(v.grad is not None and torch.isfinite(v.grad).all() for v in handle.parameters())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0]
    handle.save(tmp_path / "delta")
    twin = quantized(quantizer, tmp_path / "again")
    apet.load(twin, tmp_path / "delta")
    with torch.no_grad():
        torch.testing.assert_close(twin(**inputs).logits, model(**inputs).logits, rtol=1e-3, atol=1e-4)
    if method == "lora":
        with pytest.raises(apet.NotMergeableError, match="load the backbone unquantized"):
            handle.merge()


def quantized(quantizer: str, folder) -> nn.Module:
    from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, TorchAoConfig

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=61, num_key_value_heads=1, pad_token_id=0))
    model.save_pretrained(folder)
    if quantizer == "torchao-int8":
        config = TorchAoConfig(pytest.importorskip("torchao.quantization").Int8WeightOnlyConfig())
    else:
        pytest.importorskip("bitsandbytes")
        chosen = {
            "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32},
            "int8": {"load_in_8bit": True},
        }
        chosen["nf4-twice"] = {**chosen["nf4"], "bnb_4bit_use_double_quant": True}
        config = BitsAndBytesConfig(llm_int8_skip_modules=["lm_head"], **chosen[quantizer])
    return LlamaForCausalLM.from_pretrained(folder, quantization_config=config, device_map={"": 0}).eval()


def test_a_copy_there_is_independent():
    model, handle = attached("bert", "apet", "cuda")
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for v in handle.parameters():
            v.add_(1.0)
    (other,) = apet.attached(twin)
    assert not any(torch.equal(v, w) for (_, v), (_, w) in zip(handle.values(), other.values(), strict=True))
