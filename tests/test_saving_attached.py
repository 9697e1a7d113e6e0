"""What is saved while a delta is attached: the backbone's own values and the delta, never a mixture of both."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import apet
from apet.backbones.fingerprint import weights_fingerprint
from apet.delta import DeltaSpec, Insertion, TrainableWeight
from apet.masks.mask import listed_mask
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
every_case = pytest.mark.parametrize(
    ("family", "method"),
    [(f, m) for f in FAMILIES for m in METHODS if f == "bert" or m in ("lora", "apet", "fine-tuning", "prompt")],
)
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


@every_case
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


@every_case
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


@every_case
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


# Folders ----------------------------------------------------------------------------------------------------------


def save_model(model: nn.Module, folder: Path, **how) -> dict[str, torch.Tensor]:
    """Save a model as users do, and read all files back."""
    model.save_pretrained(folder, **how)
    state: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        state |= load_file(file)
    return state


def from_folder(folder: Path, family: str) -> nn.Module:
    return type(build(family)).from_pretrained(folder).eval()


@every_case
def test_save_pretrained_writes_the_backbone_and_the_delta_restores(family, method, tmp_path):
    model, handle = attached(family, method)
    files = save_model(model, tmp_path)
    assert torch.equal(files["apet.attached.0.values"], model.state_dict()["apet.attached.0.values"])
    for backbone in (from_folder(tmp_path, family), build(family)):
        assert same_bits(snapshot(backbone), snapshot(build(family)))
        loaded = apet.load(backbone, tmp_path)
        assert torch.equal(outputs(backbone, batch(backbone)), outputs(model, batch(model)))
        assert loaded.spec.fingerprint == handle.spec.fingerprint
        assert same_bits(detached(backbone), snapshot(build(family)))


def test_the_backbones_loader_leaves_out_the_delta_and_names_two_keys(tmp_path):
    model, _ = attached("bert", "apet")
    model.save_pretrained(tmp_path)
    _, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert info["unexpected_keys"] == {"apet.attached.0._extra_state", "apet.attached.0.values"}
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]


def test_a_sharded_folder_restores_as_well(tmp_path):
    model, _ = attached("bert", "apet")
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert not (tmp_path / "model.safetensors").exists()
    fresh = from_folder(tmp_path, "bert")
    apet.load(fresh, tmp_path)
    assert torch.equal(outputs(fresh, batch(fresh)), outputs(model, batch(model)))


def test_a_bf16_backbone_is_saved_beside_fp32_values(tmp_path):
    model, _ = attached("bert", "apet")
    model.to(torch.bfloat16)
    files = save_model(model, tmp_path)
    assert files["apet.attached.0.values"].dtype == torch.float32
    assert files["bert.pooler.dense.weight"].dtype == torch.bfloat16
    fresh = from_folder(tmp_path, "bert")
    apet.load(fresh, tmp_path)
    assert torch.equal(outputs(fresh, batch(fresh)), outputs(model, batch(model)))


def test_a_trained_head_is_restored_from_the_folder(tmp_path):
    model, _ = attached("bert", "apet", head="trained")
    model.save_pretrained(tmp_path)
    fresh = from_folder(tmp_path, "bert")
    loaded = apet.load(fresh, tmp_path)
    assert sorted(n for n, _ in loaded.head_values()) == ["classifier.bias", "classifier.weight"]
    assert torch.equal(outputs(fresh, batch(fresh)), outputs(model, batch(model)))
    assert same_bits(detached(fresh), snapshot(build("bert")))


def test_masks_that_no_recipe_gives_back_come_back_with_their_indices(tmp_path):
    model = build("bert")
    mask = listed_mask((24, 16), [3, 0, 77, 383])
    insertion = Insertion("weight", "encoder.0.mlp.up.weight", (TrainableWeight("delta", mask),))
    handle = apet.attach(model, DeltaSpec((insertion,), type(model).__name__, 1, name="mine"))
    shake(handle, 0.5)
    model.save_pretrained(tmp_path)
    fresh = from_folder(tmp_path, "bert")
    loaded = apet.load(fresh, tmp_path)
    assert loaded.spec.insertions[0].weights[0].mask.indices.tolist() == [0, 3, 77, 383]
    assert torch.equal(outputs(fresh, batch(fresh)), outputs(model, batch(model)))


def test_several_deltas_of_a_folder_are_attached_in_their_order_and_the_last_is_returned(tmp_path):
    model = build("bert")
    add(model, "apet", 3)
    add(model, "lora", 4)
    model.save_pretrained(tmp_path)
    fresh = from_folder(tmp_path, "bert")
    last = apet.load(fresh, tmp_path)
    assert [h.spec.method for h in apet.attached(fresh)] == ["apet", "lora"]
    assert last.spec.method == "lora"
    assert torch.equal(outputs(fresh, batch(fresh)), outputs(model, batch(model)))
    assert same_bits(detached(fresh), snapshot(build("bert")))


def test_a_delta_on_a_merged_backbone_is_restored_on_the_merged_backbone(tmp_path):
    model = build("gpt2")
    add(model, "lora").merge()
    add(model, "apet")
    model.save_pretrained(tmp_path)
    fresh = from_folder(tmp_path, "gpt2")
    apet.load(fresh, tmp_path)
    assert torch.equal(outputs(fresh, batch(fresh)), outputs(model, batch(model)))
    with pytest.raises(apet.ApetError, match="was trained on a GPT2LMHeadModel with weights"):
        apet.load(build("gpt2"), tmp_path)


def test_a_delta_saved_after_new_weights_were_loaded_is_bound_to_these(tmp_path):
    model, handle = attached("bert", "lora")
    model.load_state_dict(build("bert", seed=1).state_dict())
    handle.save(tmp_path)
    apet.load(fresh := build("bert", seed=1), tmp_path)
    assert torch.equal(outputs(fresh, batch(fresh)), outputs(model, batch(model)))
    with pytest.raises(apet.ApetError, match="was trained on"):
        apet.load(build("bert"), tmp_path)


def test_a_file_of_the_delta_itself_goes_before_the_weights(tmp_path):
    model, handle = attached("bert", "apet")
    model.save_pretrained(tmp_path)
    shake(handle)
    handle.save(tmp_path)
    fresh = from_folder(tmp_path, "bert")
    apet.load(fresh, tmp_path)
    assert torch.equal(outputs(fresh, batch(fresh)), outputs(model, batch(model)))


def refused(folder: Path, match: str, model: nn.Module | None = None) -> None:
    model = build("bert") if model is None else model
    before = snapshot(model)
    with pytest.raises(apet.ApetError, match=match) as e:
        apet.load(model, folder)
    assert "\n" not in str(e.value)
    assert not apet.attached(model)
    assert all(p.requires_grad for p in model.parameters())
    assert same_bits(snapshot(model), before)


def test_a_folder_with_neither_is_refused_in_one_line(tmp_path):
    build("bert").save_pretrained(tmp_path)
    refused(tmp_path, r"no saved delta at .*; give a folder written by handle\.save, .* while a delta was attached")


def test_another_backbone_than_the_folders_is_refused(tmp_path):
    model, _ = attached("bert", "apet")
    model.save_pretrained(tmp_path)
    refused(tmp_path, "was trained on a BertForSequenceClassification with weights", build("bert", seed=1))
    refused(tmp_path, "planned for BertForSequenceClassification", build("gpt2"))


@pytest.mark.parametrize("damage", ["truncated", "no index", "shard lost", "no header", "no values", "no head"])
def test_a_damaged_folder_is_refused_and_leaves_the_model_alone(damage, tmp_path):
    from safetensors.torch import save_file

    model, _ = attached("bert", "apet", head="trained")
    sharded = damage in ("no index", "shard lost")
    files = save_model(model, tmp_path, **({"max_shard_size": "8KB"} if sharded else {}))
    weights, index = tmp_path / "model.safetensors", tmp_path / "model.safetensors.index.json"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:500])
    elif damage == "no index":
        index.write_text("{}")
    elif damage == "shard lost":
        (tmp_path / json.loads(index.read_text())["weight_map"]["apet.attached.0.values"]).unlink()
    else:
        key = {"no header": "_extra_state", "no values": "values", "no head": "head"}[damage]
        save_file({k: v for k, v in files.items() if k != f"apet.attached.0.{key}"}, weights, {"format": "pt"})
    refused(tmp_path, "damaged or incomplete|has no header|not a complete delta|head in .* is damaged")


def test_the_second_of_two_deltas_that_fails_takes_the_first_with_it(tmp_path):
    model = build("bert")
    add(model, "bitfit", 3)
    add(model, "lora", 4, head="trained")
    model.save_pretrained(tmp_path)
    config = type(model.config).from_dict({**model.config.to_dict(), "num_labels": 3})
    three = type(model)(config)
    three.bert.load_state_dict(build("bert").bert.state_dict())
    refused(tmp_path, r"the saved head's 'classifier.(weight|bias)' has .* same number of labels", three)


def test_nothing_is_logged_about_the_delta_while_it_is_saved(tmp_path, caplog):
    model, _ = attached("t5-relu-tied", "fine-tuning")
    with caplog.at_level(logging.WARNING):
        model.save_pretrained(tmp_path)
    assert "apet" not in caplog.text
    assert "shared" not in caplog.text
