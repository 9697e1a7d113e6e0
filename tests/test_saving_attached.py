"""What is saved while a delta is attached: the backbone's own values and the delta, never a mixture of both."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import apet
from apet.backbones.fingerprint import weights_fingerprint
from apet.testing.tiny_models import batch, build, outputs, same_bits, shake, snapshot

METHODS = {
    "lora": {},
    "prompt": {},
    "bitfit": {},
    "ia3": {},
    "apet": {"distribution": "discrete"},
    "magnitude": {"distribution": "magnitude"},
    "fine-tuning": {},
}
FAMILIES = ["bert", "t5-relu-tied", "gpt2"]
every_method = pytest.mark.parametrize("method", METHODS)
every_family = pytest.mark.parametrize("family", FAMILIES)
WRITING = ["bitfit", "apet", "fine-tuning"]
"""Methods that write into the parameters of a backbone whose layers have biases."""


def attached(family: str, method: str, seed: int = 3, **chosen):
    """A model with a trained delta; every value differs from where it started."""
    model = build(family)
    return model, add(model, method, seed, **chosen)


def add(model: nn.Module, method: str, seed: int = 3, head="frozen", **chosen) -> apet.Handle:
    name = "apet" if method == "magnitude" else method
    budget = 173 if name == "apet" else None
    roles = {"roles": ["attn", "mlp"]} if method == "magnitude" else {}
    handle = apet.attach(model, apet.plan(model, name, budget, **METHODS[method], **roles, **chosen), head=head)
    shake(handle, 0.1, seed=seed)
    handle.refresh()
    return handle


def own(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The backbone's part of a state dict."""
    return {k: v for k, v in state.items() if not k.startswith("apet.")}


def detached(model: nn.Module) -> dict[str, torch.Tensor]:
    """The bits of the model once everything is taken off."""
    for handle in reversed(apet.attached(model)):
        handle.detach()
    return snapshot(model)


# What a state dict holds ------------------------------------------------------------------------------------------


@every_method
@every_family
def test_a_state_dict_holds_the_backbones_own_bits_and_the_delta(family, method):
    model, handle = attached(family, method)
    state = model.state_dict()
    assert same_bits(own(state), snapshot(build(family)))
    values = torch.cat([v.detach() for _, v in handle.values()])
    assert torch.equal(state["apet.attached.0.values"], values)
    assert [k for k in state if k.startswith("apet.")] == ["apet.attached.0._extra_state", "apet.attached.0.values"]


@pytest.mark.parametrize("method", WRITING)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_live_parameters_stay_edited_while_their_model_is_saved(family, method):
    """Otherwise the claim above would hold of a delta that does nothing."""
    model, _ = attached(family, method)
    live = {n: p.detach().clone() for n, p in model.named_parameters()}
    state = model.state_dict()
    assert any(not torch.equal(live[n], state[n]) for n in live if n in state)
    assert all(torch.equal(live[n], p) for n, p in model.named_parameters())


@pytest.mark.parametrize(
    ("family", "part"), [("bert", "bert.encoder"), ("t5-relu-tied", "decoder"), ("gpt2", "lm_head")]
)
def test_a_part_of_the_model_saves_its_own_bits_as_well(family, part):
    model, _ = attached(family, "fine-tuning")
    state = model.get_submodule(part).state_dict()
    assert same_bits(state, snapshot(build(family).get_submodule(part)))


def test_something_that_the_model_is_a_part_of_saves_its_own_bits():
    model, _ = attached("bert", "apet")
    state = nn.ModuleDict({"inner": model, "other": nn.Linear(2, 2)}).state_dict()
    inner = {k.removeprefix("inner."): v for k, v in state.items() if k.startswith("inner.")}
    assert same_bits(own(inner), snapshot(build("bert")))
    assert "apet.attached.0.values" in inner


@pytest.mark.parametrize("family", ["t5-relu-tied", "gpt2", "bert-mlm"])
def test_tied_tensors_are_one_tensor_in_the_state_dict_too(family):
    def tied(state):
        groups: dict[int, set[str]] = {}
        for name, tensor in own(state).items():
            groups.setdefault(tensor.data_ptr(), set()).add(name)
        return {frozenset(g) for g in groups.values() if len(g) > 1}

    model, _ = attached(family, "fine-tuning")
    before = tied(build(family).state_dict())
    assert before
    assert tied(model.state_dict()) == before
    assert tied(model.state_dict()) == before, "a second state dict, while the first is still there"


def test_two_state_dicts_share_no_restored_tensor():
    model, _ = attached("gpt2", "fine-tuning")
    first = model.state_dict()
    first["transformer.wte.weight"].zero_()
    assert model.state_dict()["transformer.wte.weight"].abs().sum() > 0


def test_parameters_are_asked_for_with_keep_vars():
    model, handle = attached("bert", "apet")
    state = model.state_dict(keep_vars=True)
    assert all(any(v is p for v in state.values()) for p in handle.parameters())
    assert all(isinstance(v, nn.Parameter) for k, v in own(state).items() if "position_ids" not in k)
    assert same_bits({k: v.detach() for k, v in own(state).items()}, snapshot(build("bert")))


@pytest.mark.parametrize("method", ["lora", "bitfit", "apet"])
def test_a_trained_head_is_saved_beside_the_head_that_came(method):
    model, handle = attached("bert", method, head="trained")
    state = model.state_dict()
    assert same_bits(own(state), snapshot(build("bert")))
    assert torch.equal(state["apet.attached.0.head"], torch.cat([v.detach() for _, v in handle.head_values()]))


def test_a_deep_copy_and_a_pickled_model_save_their_own_values():
    model, _ = attached("gpt2", "apet")
    before = snapshot(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same_bits(snapshot(twin), before)
        (other,) = apet.attached(twin)
        shake(other)
        state = twin.state_dict()
        assert same_bits(own(state), own(before))
        assert torch.equal(state["apet.attached.0.values"], torch.cat([v.detach() for _, v in other.values()]))
    assert same_bits(snapshot(model), before)


def test_detach_leaves_no_hook_behind():
    model, handle = attached("gpt2", "apet")
    handle.detach()
    for module in model.modules():
        assert not module._state_dict_hooks
        assert not module._state_dict_pre_hooks
        assert not module._load_state_dict_pre_hooks
        assert not module._load_state_dict_post_hooks


# Merged deltas ----------------------------------------------------------------------------------------------------


def test_a_merged_delta_is_part_of_the_saved_backbone_and_nothing_beside_it():
    model, handle = attached("gpt2", "lora")
    handle.merge()
    live = {n: p.detach().clone() for n, p in model.named_parameters()}
    state = model.state_dict()
    assert not any(k.startswith("apet.") for k in state)
    assert all(torch.equal(state[n], live[n]) for n in live)
    assert not same_bits(state, snapshot(build("gpt2")))
    assert same_bits(detached(model), snapshot(build("gpt2")))


@pytest.mark.parametrize("merged_first", [True, False])
def test_of_a_merged_and_an_attached_delta_in_one_tensor_the_merged_one_alone_is_saved(merged_first):
    roles = {"roles": ["mlp.up"]}
    alone, only = attached("bert", "lora", **roles)
    only.merge()
    expected = snapshot(alone)
    model = build("bert")
    methods = ["lora", "fine-tuning"] if merged_first else ["fine-tuning", "lora"]
    handles = {m: add(model, m, **(roles if m == "lora" else {})) for m in methods}
    handles["lora"].merge()
    assert same_bits(own(snapshot(model)), expected)
    assert same_bits(detached(model), snapshot(build("bert")))


# Loading into a model with the delta attached ----------------------------------------------------------------------


@every_method
@every_family
def test_a_plain_backbones_state_becomes_what_detach_returns_to(family, method):
    model, handle = attached(family, method)
    other = build(family, seed=1)
    result = model.load_state_dict(other.state_dict(), strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    fresh = build(family, seed=1)
    again = apet.attach(fresh, handle.spec, values=dict(handle.values()))
    assert torch.equal(outputs(model, batch(model)), outputs(fresh, batch(fresh)))
    assert handle.backbone_fingerprint == again.backbone_fingerprint == weights_fingerprint(other)
    assert same_bits(detached(model), snapshot(other))


@every_method
@every_family
def test_a_state_taken_while_attached_restores_backbone_and_delta(family, method):
    source, _ = attached(family, method, seed=8)
    source.load_state_dict(build(family, seed=1).state_dict())
    state = pickle.loads(pickle.dumps(source.state_dict()))
    model, handle = attached(family, method)
    assert not model.load_state_dict(state, strict=True).missing_keys
    assert torch.equal(outputs(model, batch(model)), outputs(source, batch(source)))
    assert handle.backbone_fingerprint == weights_fingerprint(build(family, seed=1))
    assert same_bits(detached(model), snapshot(build(family, seed=1)))


@every_method
def test_a_models_own_state_changes_nothing(method):
    model, _ = attached("t5-relu-tied", method)
    before, live = outputs(model, batch(model)), {n: p.detach().clone() for n, p in model.named_parameters()}
    model.load_state_dict(model.state_dict())
    assert all(torch.equal(live[n], p) for n, p in model.named_parameters())
    assert torch.equal(outputs(model, batch(model)), before)
    assert same_bits(detached(model), snapshot(build("t5-relu-tied")))


@pytest.mark.parametrize("method", WRITING)
def test_the_weights_are_written_again_at_once_not_at_the_next_forward(method):
    model, handle = attached("bert", method)
    model.load_state_dict(build("bert", seed=1).state_dict())
    live = {n: p.detach().clone() for n, p in model.named_parameters()}
    handle.refresh()
    assert all(torch.equal(live[n], p) for n, p in model.named_parameters())
    assert any(not torch.equal(live[n], v) for n, v in build("bert", seed=1).named_parameters())


@pytest.mark.parametrize("method", WRITING)
def test_what_a_state_dict_leaves_out_stays_the_backbones_own(method):
    model, _ = attached("bert", method)
    other = snapshot(build("bert", seed=1))
    half = {k: v for i, (k, v) in enumerate(other.items()) if i % 2}
    model.load_state_dict(half, strict=False)
    assert same_bits(detached(model), snapshot(build("bert")) | half)


def test_a_part_of_the_model_may_be_loaded_alone():
    model, handle = attached("bert", "apet")
    other = build("bert", seed=1)
    model.bert.load_state_dict(other.bert.state_dict())
    expected = snapshot(build("bert")) | {f"bert.{k}": v for k, v in snapshot(other.bert).items()}
    assert handle.backbone_fingerprint == weights_fingerprint(other)
    assert same_bits(detached(model), expected)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_assigned_tensors_are_neither_edited_nor_untied(family, dtype):
    model, handle = attached(family, "fine-tuning")
    other = build(family, dtype, seed=1)
    given = other.state_dict()
    model.load_state_dict(given, assign=True)
    model.tie_weights()
    fresh = build(family, dtype, seed=1)
    apet.attach(fresh, handle.spec, values=dict(handle.values()))
    assert torch.equal(outputs(model, batch(model)), outputs(fresh, batch(fresh)))
    assert same_bits(given, snapshot(build(family, dtype, seed=1))), "the caller's tensors are the caller's"
    assert same_bits(detached(model), snapshot(build(family, dtype, seed=1)))


def test_loading_into_a_merged_model_replaces_the_merged_weights():
    model, handle = attached("gpt2", "lora")
    handle.merge()
    other = build("gpt2", seed=1)
    model.load_state_dict(other.state_dict())
    assert torch.equal(outputs(model, batch(model)), outputs(other, batch(other)))
    assert same_bits(detached(model), snapshot(other))


def test_a_merged_models_own_state_leaves_the_merge_undoable():
    model, handle = attached("gpt2", "lora")
    handle.merge()
    model.load_state_dict(model.state_dict())
    assert same_bits(detached(model), snapshot(build("gpt2")))


def test_several_deltas_are_saved_and_loaded_in_their_order():
    def two(seed):
        model = build("bert")
        add(model, "apet", seed)
        add(model, "bitfit", seed + 1)
        return model

    source, model = two(11), two(3)
    model.load_state_dict(source.state_dict())
    assert torch.equal(outputs(model, batch(model)), outputs(source, batch(source)))
    assert same_bits(detached(model), snapshot(build("bert")))


def test_a_delta_alone_may_be_loaded_and_only_onto_its_backbone():
    source, _ = attached("bert", "apet", seed=8)
    delta = {k: v for k, v in source.state_dict().items() if k.startswith("apet.")}
    model, _ = attached("bert", "apet")
    assert not model.load_state_dict(delta, strict=True).missing_keys
    assert torch.equal(outputs(model, batch(model)), outputs(source, batch(source)))
    model.load_state_dict(build("bert", seed=1).state_dict())
    before = model.state_dict()
    with pytest.raises(apet.ApetError, match=r"'this state dict' was trained on a BertForSeq.* Load the backbone") as e:
        model.load_state_dict(delta, strict=False)
    assert "\n" not in str(e.value)
    assert same_bits(model.state_dict(), before)


@pytest.mark.parametrize("strict", [True, False])
def test_another_delta_is_refused_before_anything_is_loaded(strict):
    source, _ = attached("bert", "apet", mask_seed=1)
    source.load_state_dict(build("bert", seed=1).state_dict())
    model, _ = attached("bert", "apet")
    before = model.state_dict()
    with pytest.raises(apet.ApetError, match=r"delta 0 of the state dict \(apet, 173 .* is not the one attached here"):
        model.load_state_dict(source.state_dict(), strict=strict)
    add(source, "bitfit")
    with pytest.raises(apet.ApetError, match="holds delta 1, counted from 0, and this model has 1 attached"):
        model.load_state_dict(source.state_dict(), strict=strict)
    assert same_bits(model.state_dict(), before)


def test_a_damaged_header_in_a_state_dict_is_refused():
    model, _ = attached("bert", "apet")
    state = model.state_dict()
    state["apet.attached.0._extra_state"] = torch.zeros(40, dtype=torch.uint8)
    with pytest.raises(
        apet.ApetError, match=r"header of a delta among these weights is damaged .* save the model again"
    ):
        model.load_state_dict(state)


def test_a_model_inside_another_module_loads_a_plain_backbone():
    model, _ = attached("bert", "apet")
    outer, plain = (nn.ModuleDict({"inner": m, "other": nn.Linear(2, 2)}) for m in (model, build("bert", seed=1)))
    outer.load_state_dict(plain.state_dict(), strict=True)
    assert same_bits(detached(model), snapshot(build("bert", seed=1)))
