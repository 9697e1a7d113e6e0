"""Models that are changed while a delta is attached: it goes on rightly, or one line says that it cannot."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

import apet
from apet.delta import DeltaSpec, Insertion, TrainableWeight
from apet.masks.distributions import draw_mask
from apet.masks.mask import Mask, dense_mask, listed_mask, reshaped
from apet.testing.tiny_models import VOCAB, batch, build, outputs, same_bits, shake, snapshot

NEW = VOCAB + 5
METHODS = ["lora", "prompt", "bitfit", "ia3", "apet", "fine-tuning"]


def attached(family: str, method: str, dtype: torch.dtype = torch.float32, **chosen):
    model = build(family, dtype)
    handle = apet.attach(model, apet.plan(model, method, 400 if method == "apet" else None, **chosen))
    shake(handle, 0.1)
    handle.refresh()
    return model, handle


def resize(model: nn.Module, vocabulary: int = NEW) -> None:
    torch.manual_seed(3)
    model.resize_token_embeddings(vocabulary, mean_resizing=False)


def refused(act, match: str) -> None:
    with pytest.raises(apet.ApetError, match=match) as e:
        act()
    assert "\n" not in str(e.value)


def refused_everywhere(model: nn.Module, tmp_path, match: str) -> None:
    """At the next forward, save, merge or detach."""
    (handle,) = apet.attached(model)
    refused(lambda: model(**batch(model)), match)
    refused(model.state_dict, match)
    refused(lambda: handle.save(tmp_path), match)
    refused(handle.merge, match)
    refused(handle.detach, match)
    assert handle.is_attached
    assert not list(tmp_path.iterdir())


# Another vocabulary -----------------------------------------------------------------------------------------------

FOLLOWED = [
    *(("gpt2", method) for method in METHODS),
    *(("bert", method) for method in ("apet", "fine-tuning")),
    *(("bert-mlm", method) for method in ("apet", "bitfit", "fine-tuning")),
    *(("t5-relu-tied", method) for method in METHODS if method != "apet"),
    ("llama", "lora"),
]


@pytest.mark.parametrize(("family", "method"), FOLLOWED)
def test_a_delta_goes_on_with_more_tokens(family, method, tmp_path):
    model, handle = attached(family, method)
    inputs, count = batch(model), handle.spec.num_trainable
    before = outputs(model, inputs)
    values = [v.detach().clone() for v in handle.parameters()]
    resize(model)
    after = outputs(model, inputs)
    assert after.shape[-1] == (2 if family == "bert" else NEW)
    torch.testing.assert_close(after[..., : before.shape[-1]], before, rtol=1e-5, atol=1e-6)
    assert handle.spec.num_trainable == count == sum(v.numel() for v in handle.parameters())
    assert all(torch.equal(a, b) for a, b in zip(values, handle.parameters(), strict=True))

    state = model.state_dict()
    handle.save(tmp_path)
    handle.detach()
    own, original = snapshot(model), snapshot(build(family))
    assert same_bits({k: v for k, v in state.items() if not k.startswith("apet.")}, own)
    assert all(torch.equal(own[k][: len(v)], v) for k, v in original.items())
    apet.load(model, tmp_path)
    assert torch.equal(outputs(model, inputs), after)


def discrete_tokens(family: str, position: str):
    """A model with a delta of drawn entries of its token embedding alone."""
    model = build(family)
    mask = draw_mask((VOCAB, 16), 200, "discrete", 1, position)
    insertion = Insertion("weight", position, (TrainableWeight("delta", mask),))
    handle = apet.attach(model, DeltaSpec((insertion,), type(model).__name__, 1))
    shake(handle, 0.1)
    return model, handle


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("gpt2", "decoder.embed.tokens.weight"),
        ("gpt2", "fine-tuning"),
        ("t5-relu-tied", "encoder.embed.tokens.weight"),
        ("t5-relu-tied", "fine-tuning"),
    ],
)
def test_the_gradient_is_dense_autograds_after_the_vocabulary_has_grown(family, method):
    model, handle = discrete_tokens(family, method) if method.endswith("weight") else attached(family, method)
    resize(model)
    inputs = batch(model)
    inputs["input_ids"][:, 0] = NEW - 1
    model(**inputs).loss.backward()
    dense = build(family)
    resize(dense)
    with torch.no_grad():
        for name, p in dense.named_parameters():
            p.copy_(model.get_parameter(name))
    dense(**inputs).loss.backward()
    positions = {p.name: f"{p.module}.{p.parameter}" for p in apet.positions(dense)}
    compared = 0
    for insertion in handle.spec.insertions:
        if insertion.form == "weight":
            grad = dict(handle.values())[f"{insertion.position}/delta"].grad
            expected = dense.get_parameter(positions[insertion.position]).grad.reshape(-1)
            indices = torch.from_numpy(insertion.weights[0].mask.indices)
            torch.testing.assert_close(grad, expected[indices], rtol=1e-3, atol=1e-6)
            compared += len(indices)
    assert compared > 100


@pytest.mark.parametrize(("family", "method"), [("t5-relu-tied", "apet"), ("llama", "apet"), ("llama", "fine-tuning")])
def test_where_the_vocabularys_modules_are_replaced_one_line_says_so(family, method, tmp_path):
    everywhere = {"sites": "all"} if method == "apet" else {}  # also on what is replaced
    model, _ = attached(family, method, **everywhere)
    resize(model)
    refused_everywhere(
        model, tmp_path, r"'(lm_head|encoder).*', which was replaced \(there is a torch.* now\) meanwhile; put"
    )


def test_a_smaller_vocabulary_serves_a_delta_of_the_tokens_that_stay(tmp_path):
    def of_entries(entries):
        model = build("gpt2")
        weight = TrainableWeight("delta", listed_mask((VOCAB, 16), entries))
        insertion = Insertion("weight", "decoder.embed.tokens.weight", (weight,))
        shake(apet.attach(model, DeltaSpec((insertion,), "GPT2LMHeadModel", 1)), 0.5)
        resize(model, VOCAB - 5)
        return model

    model = of_entries([3, 16 * 50])
    outputs(model, batch(model, seq=2) | {"input_ids": torch.tensor([[1, 2]] * 3)})
    apet.attached(model)[0].detach()
    assert torch.equal(model.transformer.wte.weight, build("gpt2").transformer.wte.weight[: VOCAB - 5])
    refused_everywhere(of_entries([3, 16 * 60]), tmp_path, r"of shape \(61, 16\), which has shape \(56, 16\) meanwhile")


def test_a_delta_may_be_attached_and_merged_after_the_vocabulary_has_grown():
    model, handle = attached("gpt2", "fine-tuning")
    resize(model)
    second = apet.attach(model, apet.plan(model, "lora"))
    shake(second)
    expected = outputs(model, batch(model))
    handle.merge()
    torch.testing.assert_close(outputs(model, batch(model)), expected, rtol=1e-5, atol=1e-6)
    second.detach()
    handle.detach()
    assert torch.equal(model.transformer.wte.weight[:VOCAB], build("gpt2").transformer.wte.weight)


MASKS = [
    dense_mask((4, 3)),
    Mask((4, 3), 5, "contiguous", start=2),
    Mask((4, 3), 5, "contiguous", start=2, along="columns"),
    Mask((4, 3), 4, "contiguous", start=0, unused=(3, 6)),
    listed_mask((4, 3), [0, 7, 11]),
    Mask((4, 3), 5, "sampled", distribution="discrete", seed=(1, "a")),
]


@pytest.mark.parametrize("mask", MASKS, ids=lambda m: m.kind)
@pytest.mark.parametrize("shape", [(4, 3), (6, 3), (4, 5)], ids=str)
def test_a_mask_of_another_shape_has_the_same_rows_and_columns(mask, shape):
    moved = reshaped(mask, shape)
    assert moved.shape == shape
    old, new = ([(i // s[1], i % s[1]) for i in m.indices] for m, s in ((mask, mask.shape), (moved, shape)))
    assert old == new
    assert (moved.slice is None) == (mask.slice is None or shape == (4, 5))


# Quantized, cast, tied --------------------------------------------------------------------------------------------


def quantized(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize(
    ("family", "method"), [("bert", "lora"), ("bert", "apet"), ("bert", "bitfit"), ("t5-relu-tied", "ia3")]
)
def test_a_dynamically_quantized_copy_is_refused_and_the_model_goes_on(family, method, tmp_path):
    model, handle = attached(family, method)
    before = outputs(model, batch(model))
    copied = quantized(model)
    refused_everywhere(copied, tmp_path, r"was replaced \(there is a torch.ao.nn.quantized.* now\) meanwhile; put back")
    if family.startswith("t5"):
        refused(lambda: copied.generate(input_ids=batch(model)["input_ids"]), "was replaced")
    assert torch.equal(outputs(model, batch(model)), before)
    handle.detach()
    assert same_bits(snapshot(model), snapshot(build(family)))


def test_a_prompt_goes_on_before_quantized_layers(tmp_path):
    model, handle = attached("bert", "prompt")
    copied = quantized(model)
    (other,) = apet.attached(copied)
    with_prompt = outputs(copied, batch(model))
    other.save(tmp_path)
    other.detach()
    assert not torch.equal(outputs(copied, batch(model)), with_prompt)
    apet.load(build("bert"), tmp_path)
    handle.detach()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("family", ["bert", "t5-relu-tied"])
@pytest.mark.parametrize("method", METHODS)
def test_another_dtype_is_the_backbones_alone(method, family, dtype):
    model, handle = attached(family, method)
    exact = outputs(model, batch(model))
    model.to(dtype)
    torch.testing.assert_close(outputs(model, batch(model)), exact.to(dtype), rtol=0.05, atol=0.05)
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("apet.")}
    assert same_bits(own, snapshot(build(family, dtype)))
    handle.detach()
    assert same_bits(snapshot(model), snapshot(build(family, dtype)))


@pytest.mark.parametrize("family", ["gpt2", "t5-relu-tied", "bert-mlm", "llama"])
def test_tying_again_what_is_tied_changes_nothing(family):
    model, handle = attached(family, "fine-tuning")
    before = outputs(model, batch(model))
    model.tie_weights()
    assert torch.equal(outputs(model, batch(model)), before)
    handle.detach()
    assert same_bits(snapshot(model), snapshot(build(family)))


def test_tying_what_was_not_tied_is_refused(tmp_path):
    """The output's part of the gradient would be missing: no hook is there."""
    model, _ = discrete_tokens("llama", "decoder.embed.tokens.weight")
    model.lm_head.weight = model.model.embed_tokens.weight
    refused_everywhere(model, tmp_path, "'model.embed_tokens.weight', which was tied to another Linear meanwhile")


# Other modules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lora", "apet", "bitfit", "fine-tuning", "ia3"])
def test_a_replaced_module_is_refused_until_it_is_put_back(method, tmp_path):
    model, handle = attached("bert", method)
    before, block = outputs(model, batch(model)), model.bert.encoder.layer[1]
    model.bert.encoder.layer[1] = copy.deepcopy(build("bert").bert.encoder.layer[1])
    refused_everywhere(model, tmp_path, "'bert.encoder.layer.1.*', which was replaced")
    del model.bert.encoder.layer[1]
    refused_everywhere(model, tmp_path, "'bert.encoder.layer.1.*', which was taken out of the model")
    model.bert.encoder.layer.append(block)
    assert torch.equal(outputs(model, batch(model)), before)
    handle.detach()
    assert same_bits(snapshot(model), snapshot(build("bert")))


def test_a_module_on_which_no_delta_acts_may_be_replaced():
    model, handle = attached("bert", "lora", roles=["attn.q"])
    model.classifier = nn.Linear(16, 7)
    assert outputs(model, {k: v for k, v in batch(model).items() if k != "labels"}).shape == (3, 7)
    assert model.state_dict()["classifier.weight"].shape == (7, 16)
    handle.detach()


class Wrapper(nn.Module):
    """As compilers, checkpointing and other libraries put around a module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules["inner"], name)

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


@pytest.mark.parametrize("method", ["lora", "apet", "fine-tuning"])
def test_modules_that_are_wrapped_go_on(method):
    model, handle = attached("bert", method)
    before, block = outputs(model, batch(model)), model.bert.encoder.layer[1]
    model.bert.encoder.layer[1] = Wrapper(block)
    assert torch.equal(outputs(model, batch(model)), before)
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("apet.")}
    assert same_bits({k.replace(".inner", ""): v for k, v in own.items()}, snapshot(build("bert")))
    model.bert.encoder.layer[1] = block
    handle.detach()
    assert same_bits(snapshot(model), snapshot(build("bert")))


def test_a_parameter_put_in_an_edited_ones_place_is_refused(tmp_path):
    model, _ = attached("bert", "fine-tuning")
    query = model.bert.encoder.layer[0].attention.self.query
    query.weight = nn.Parameter(torch.zeros(16, 16))
    refused_everywhere(model, tmp_path, "into 'bert.encoder.layer.0.attention.self.query.weight', which was replaced")


def test_a_parameter_put_where_a_delta_only_acts_is_the_backbones_new_one():
    model, handle = attached("bert", "lora")
    query = model.bert.encoder.layer[0].attention.self.query
    query.weight = nn.Parameter(torch.zeros(16, 16))
    fresh = build("bert")
    fresh.bert.encoder.layer[0].attention.self.query.weight.data.zero_()
    apet.attach(fresh, handle.spec, values=dict(handle.values()))
    assert torch.equal(outputs(model, batch(model)), outputs(fresh, batch(fresh)))


def test_a_replica_of_data_parallel_is_refused():
    model, _ = attached("bert", "apet")
    replica = model._replicate_for_data_parallel()
    replica.apet = model.apet._replicate_for_data_parallel()
    refused(lambda: replica(**batch(model)), "belong to another copy of it, as of torch.nn.DataParallel; use Distr")


def test_an_additive_delta_follows_a_larger_vocabulary():
    """Nothing is written, so that the mask alone moves: the same rows are trained."""
    model = build("gpt2")
    handle = apet.attach(model, apet.plan(model, "apet", 300, operations=["add"]), carrier="additive")
    shake(handle, 0.3)
    inputs = batch(model)
    before = outputs(model, inputs)
    rows = before.shape[-1]
    model.resize_token_embeddings(rows + 5)
    torch.testing.assert_close(outputs(model, inputs)[..., :rows], before, rtol=1e-5, atol=1e-5)
    model(**inputs).loss.backward()
    assert all(v.grad is not None for v in handle.parameters())
