"""On quantized weights: every method trains exactly its values and comes back from a file; no weight ever moves."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    TorchAoConfig,
    Trainer,
    TrainingArguments,
)

import apet
from apet.backbones.fingerprint import weights_fingerprint
from apet.kernels.storage import dense_values, keep_differentiable, storage_of, stored_tensors
from apet.testing.tiny_models import batch, outputs, shake

SIZES = {
    "vocab_size": 61,
    "pad_token_id": 0,
    "hidden_size": 64,  # 4-bit blocks hold 64 numbers
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}


def llama(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=1)).eval()


def bert(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return BertForSequenceClassification(BertConfig(**SIZES)).eval()


def torchao_int8():
    return pytest.importorskip("torchao.quantization").Int8WeightOnlyConfig()


def torchao_int4():
    quantization = pytest.importorskip("torchao.quantization")
    groups = pytest.importorskip("torchao.quantization.granularity").PerGroup(32)
    return quantization.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=groups)


def by_torchao(config: Callable[[], object]) -> Callable[..., nn.Module]:
    def quantize(model, folder):
        quantize_ = pytest.importorskip("torchao.quantization").quantize_
        quantize_(model, config())
        return model

    return quantize


def loaded(config: Callable[[], object]) -> Callable[..., nn.Module]:
    """As users get it: saved, and quantized by transformers while it is loaded."""

    def quantize(model, folder):
        chosen = config()
        model.save_pretrained(folder)
        return type(model).from_pretrained(folder, quantization_config=chosen).eval()

    return quantize


def bitsandbytes(**chosen) -> BitsAndBytesConfig:
    pytest.importorskip("bitsandbytes")
    return BitsAndBytesConfig(llm_int8_skip_modules=["lm_head", "classifier"], **chosen)


def nf4(double: bool = False) -> BitsAndBytesConfig:
    return bitsandbytes(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        bnb_4bit_use_double_quant=double,
    )


QUANTIZERS = {
    "torchao-int8": by_torchao(torchao_int8),
    "torchao-int4": by_torchao(torchao_int4),
    "transformers-torchao-int8": loaded(lambda: TorchAoConfig(torchao_int8())),
    "bitsandbytes-nf4": loaded(nf4),
    "bitsandbytes-nf4-twice": loaded(lambda: nf4(double=True)),
    "bitsandbytes-int8": loaded(lambda: bitsandbytes(load_in_8bit=True)),
}
every_quantizer = pytest.mark.parametrize("quantizer", QUANTIZERS)
EXACT = ["torchao-int4", "bitsandbytes-nf4"]  # they multiply by the numbers that their codes stand for
QUICK = ["torchao-int8", "bitsandbytes-nf4"]
LINEAR = ["attn", "mlp"]
METHODS = {
    "lora": {},
    "adapter": {},
    "prompt": {},
    "bitfit": {"roles": ["attn.q", "mlp.up"]},
    "ia3": {},
    "apet": {"roles": LINEAR, "distribution": "discrete"},
    "fine-tuning": {},
}


@pytest.fixture
def quantized(tmp_path):
    """A function that builds and quantizes a tiny model."""

    def make(quantizer: str, build: Callable[..., nn.Module] = llama, seed: int = 0) -> nn.Module:
        return QUANTIZERS[quantizer](build(seed), tmp_path / f"{build.__name__}-{seed}")

    return make


def attached(model, method: str, head: str = "frozen"):
    budget = None if method == "fine-tuning" else 173
    handle = apet.attach(model, apet.plan(model, method, budget, **METHODS[method]), head=head)
    shake(handle)
    return handle


def stored(model) -> list[torch.Tensor]:
    owners = [(m, n) for m in model.modules() for n, _ in m.named_parameters(recurse=False) if "apet" not in str(n)]
    return [t.clone() for m, n in owners if not isinstance(m, type(None)) for t in stored_tensors(m, n)]


def own_tensors(model) -> list[torch.Tensor]:
    """What the backbone's parameters consist of, without those of an attached delta."""
    return [
        tensor.clone()
        for path, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if not path.startswith("apet")
        for tensor in stored_tensors(module, name)
    ]


def gradients(model, handle, inputs) -> torch.Tensor:
    model.zero_grad()
    model(**inputs).loss.backward()
    return torch.cat([v.grad for v in handle.parameters()])


def dense_twin(model) -> nn.Module:
    """An unquantized model of the numbers that a quantized one stands for."""
    twin = llama()
    with torch.no_grad():
        for path, module in twin.named_modules():
            for name, p in module.named_parameters(recurse=False):
                p.copy_(dense_values(model.get_submodule(path), name))
    return twin


@every_quantizer
@pytest.mark.parametrize("build", [llama, bert])
def test_a_quantized_backbone_is_described_and_planned_as_itself(quantizer, build, quantized):
    model = quantized(quantizer, build)
    assert any(storage_of(p) == "quantized" for p in model.parameters())
    assert apet.describe(model) == apet.describe(build())
    assert apet.plan(model, "apet", 500).fingerprint == apet.plan(build(), "apet", 500).fingerprint


@every_quantizer
def test_a_fingerprint_tells_quantized_weights_apart(quantizer, quantized):
    model = quantized(quantizer)
    fingerprint = weights_fingerprint(model)
    outputs(model, batch(model))  # bitsandbytes changes layouts at the first forward
    assert weights_fingerprint(model) == fingerprint == weights_fingerprint(quantized(quantizer))
    assert weights_fingerprint(quantized(quantizer, seed=1)) != fingerprint
    assert weights_fingerprint(llama()) != fingerprint
    block = "model.layers.1.mlp.down_proj"
    model.get_submodule(block).weight = quantized(quantizer, seed=1).get_submodule(block).weight
    assert weights_fingerprint(model) != fingerprint


@pytest.mark.parametrize(
    ("quantizer", "method"),
    [
        pytest.param(q, m, marks=[] if q in QUICK or m in ("lora", "apet") else pytest.mark.slow)
        for q in QUANTIZERS
        for m in METHODS
    ],
)
def test_every_method_trains_its_values_and_comes_back_from_a_file(quantizer, method, quantized, tmp_path):
    model = quantized(quantizer)
    keep_differentiable(model)
    before, inputs = own_tensors(model), batch(model)
    handle = attached(model, method)
    count = handle.spec.num_trainable
    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)
    optimizer = torch.optim.AdamW(handle.parameters(), lr=0.3 if method == "prompt" else 1e-2, weight_decay=0.0)
    losses = []
    for _ in range(6):
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0]
    trained = outputs(model, inputs)
    folder = handle.save(tmp_path / "delta")
    fresh = quantized(quantizer)
    again = apet.load(fresh, folder)
    assert torch.equal(outputs(fresh, inputs), trained)
    assert again.spec.num_trainable == count
    handle.detach()
    assert all(torch.equal(a, b) for a, b in zip(before, own_tensors(model), strict=True))


@pytest.mark.parametrize("quantizer", EXACT)
@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_the_numbers_that_the_codes_stand_for(quantizer, method, quantized):
    model = quantized(quantizer)
    twin = dense_twin(model)
    handle, reference = attached(model, method), attached(twin, method)
    inputs = batch(model)
    expected = gradients(twin, reference, inputs)
    torch.testing.assert_close(gradients(model, handle, inputs), expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(outputs(model, inputs), outputs(twin, inputs), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("quantizer", EXACT)
def test_masks_ranked_by_weights_rank_what_the_codes_stand_for(quantizer, quantized):
    model = quantized(quantizer)
    specs = [
        apet.attach(m, apet.plan(m, "apet", 90, roles=["mlp.up"], operations=["add"], distribution="magnitude")).spec
        for m in (model, dense_twin(model))
    ]
    assert specs[0].fingerprint == specs[1].fingerprint


@pytest.mark.parametrize("double", [False, True])
def test_evaluation_before_training_costs_no_gradient(double, tmp_path):
    """Where a processor has bf16 instructions, bitsandbytes loses them in the first forward without gradients."""
    quantize = loaded(lambda: nf4(double))
    model, fresh = (quantize(llama(), tmp_path / "backbone") for _ in range(2))
    inputs = batch(model)
    expected = gradients(fresh, attached(fresh, "lora"), inputs)
    outputs(model, inputs)
    handle = attached(model, "lora")
    outputs(model, inputs)
    # The layout that it returns from has scales of bf16.
    torch.testing.assert_close(gradients(model, handle, inputs), expected, rtol=0.02, atol=5e-4)


@pytest.mark.parametrize("quantizer", ["torchao-int8", "torchao-int4"])
def test_a_quantized_classifier_is_trained_beside_its_codes(quantizer, quantized, tmp_path):
    model = quantized(quantizer, bert)
    if storage_of(model.classifier.weight) == "plain":
        pytest.skip("this quantizer leaves small layers alone")
    inputs, untouched = batch(model), outputs(model, batch(model))
    handle = apet.attach(model, apet.plan(model, "bitfit", 173), head="trained")
    assert torch.equal(outputs(model, inputs), untouched)
    optimizer = torch.optim.AdamW(handle.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
    assert all(bool((v.grad != 0).any()) for v in handle.parameters())
    trained = outputs(model, inputs)
    fresh = quantized(quantizer, bert)
    apet.load(fresh, handle.save(tmp_path / "delta"))
    assert torch.equal(outputs(fresh, inputs), trained)


@pytest.mark.parametrize("method", ["lora", "ia3", "apet", "bitfit", "fine-tuning"])
@pytest.mark.parametrize("quantizer", ["torchao-int8", "bitsandbytes-nf4"])
def test_a_merge_says_that_it_needs_unquantized_weights(quantizer, method, quantized):
    model = quantized(quantizer)
    chosen = {"roles": ["attn.q", "mlp.up"], "operations": ["add"]} if method == "apet" else METHODS[method]
    handle = apet.attach(model, apet.plan(model, method, None, **chosen))
    shake(handle)
    inputs, before = batch(model), outputs(model, batch(model))
    with pytest.raises(apet.NotMergeableError, match=r"is quantized; load the backbone unquantized, .*attach") as e:
        handle.merge()
    assert "\n" not in str(e.value)
    assert torch.equal(outputs(model, inputs), before)
    plain = llama()
    apet.attach(plain, handle.spec, values=dict(handle.values())).merge()  # as the message says


@pytest.mark.parametrize("carrier", ["in_place", "substituted"])
def test_a_carrier_that_writes_is_refused_before_anything_is_written(carrier, quantized):
    model = quantized("torchao-int8")
    spec = apet.plan(model, "apet", 173, roles=LINEAR, operations=["add"])
    before = own_tensors(model)
    with pytest.raises(apet.ApetError, match="give carrier='additive'"):
        apet.attach(model, spec, carrier=carrier)
    assert not apet.attached(model)
    assert all(torch.equal(a, b) for a, b in zip(before, own_tensors(model), strict=True))


@pytest.mark.parametrize("quantizer", ["transformers-torchao-int8", "bitsandbytes-nf4"])
def test_trainer_takes_a_quantized_model_that_a_delta_is_attached_to(quantizer, quantized, tmp_path):
    model = quantized(quantizer)
    handle = attached(model, "lora")
    values = [v.detach().clone() for v in handle.parameters()]
    rows = [{k: v[i] for k, v in batch(model).items()} for i in range(3)] * 2
    settings = {"max_steps": 2, "save_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True}
    Trainer(model=model, args=TrainingArguments(output_dir=str(tmp_path), **settings), train_dataset=rows).train()
    assert not any(torch.equal(a, b) for a, b in zip(values, handle.parameters(), strict=True))
    handle.detach()
    assert model.is_quantized
    with contextlib.suppress(RuntimeError), pytest.raises(ValueError, match="purely quantized"):
        Trainer(model=model, args=TrainingArguments(output_dir=str(tmp_path), **settings), train_dataset=rows)


logging.getLogger("torchao").setLevel(logging.ERROR)
