"""Saved deltas: small, whole or absent, and refused with one clear line by any backbone that is not its own."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import apet
from apet import ApetError
from apet.checkpoint import _checksum
from apet.delta import PLAN_VERSION, DeltaSpec, Init, Insertion, TrainableWeight
from apet.masks.distributions import draw_mask
from apet.masks.mask import dense_mask, listed_mask
from apet.testing.tiny_models import BUILDERS, batch, build, outputs, shake

FILE = "delta.safetensors"


def saved(folder, method="apet", budget=300, family="bert", head="frozen", **chosen):
    """A trained delta in a folder, and what the model with it computes."""
    model = build(family)
    handle = apet.attach(model, apet.plan(model, method, budget, **chosen), head=head)
    shake(handle)
    handle.save(folder)
    return outputs(model, batch(model))


def refused(model, folder, match: str) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ApetError, match=match) as e:
        apet.load(model, folder)
    assert "\n" not in str(e.value)
    assert not apet.attached(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# Size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["adjacent", "discrete"])
@pytest.mark.parametrize("budget", [1, 2, 64, 2000])
def test_supports_that_follow_from_seeds_cost_nothing(budget, how, tmp_path):
    """peft wrote 2.4 MB for 64 values; here 4 bytes a value and a header."""
    saved(tmp_path, budget=budget, distribution=how, allocation="proportional", roles=["encoder.*.mlp.*", "attn"])
    assert [f.name for f in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).stat().st_size <= 4 * budget + 4096


def test_the_header_says_how_it_was_planned_and_no_pickle_is_needed(tmp_path):
    saved(tmp_path, budget=64, mask_seed=5, init_seed=6, distribution="discrete")
    with safe_open(tmp_path / FILE, "pt") as f:
        header = json.loads(f.metadata()["apet"])
        assert list(f.keys()) == ["values"]
    assert header["recipe"] == {
        "method": "apet",
        "settings": {"distribution": "discrete"},
        "budget": 64,
        "mask_seed": 5,
        "init_seed": 6,
    }
    assert header["num_trainable"] == 64
    assert header["plan_version"] == PLAN_VERSION


# Round trips ----------------------------------------------------------------------------------------------------


def by_hand() -> DeltaSpec:
    """Every form of insertion and every kind of support."""
    entries = (
        Insertion(
            "weight", "encoder.0.mlp.up.weight", (TrainableWeight("delta", listed_mask((24, 16), [3, 0, 77, 383])),)
        ),
        Insertion("weight", "encoder.1.mlp.up.weight", (TrainableWeight("delta", dense_mask((24, 16))),)),
        Insertion(
            "bias", "encoder.1.mlp.norm.output", (TrainableWeight("delta", draw_mask((16,), 5, "adjacent", 1, "a")),)
        ),
        Insertion(
            "lora",
            "encoder.0.attn.q",
            (
                TrainableWeight("lora_A", listed_mask((16, 2), [0, 1, 9]), Init("uniform", fan_in=True)),
                TrainableWeight("lora_B", draw_mask((2, 16), 7, "discrete", 2, "b", cover="rows")),
            ),
            scale=2.0,
        ),
        Insertion(
            "adapter",
            "encoder.1.attn.out",
            (
                TrainableWeight("down_proj.weight", dense_mask((16, 1)), Init("uniform", bound=0.5)),
                TrainableWeight("up_proj.weight", listed_mask((1, 16), [15])),
                TrainableWeight("up_proj.bias", draw_mask((16,), 3, "discrete", 4, "c")),
            ),
        ),
        Insertion(
            "prompt",
            "encoder.embed.tokens",
            (TrainableWeight("prompt_embeddings", listed_mask((2, 16), [1, 31]), Init("vocabulary")),),
        ),
    )
    return DeltaSpec(entries, "BertForSequenceClassification", 1, init_seed=3, name="mine")


def test_a_delta_built_by_hand_comes_back_with_its_listed_entries(tmp_path):
    model = build("bert")
    handle = apet.attach(model, by_hand())
    shake(handle)
    trained = outputs(model, batch(model))
    path = handle.save(tmp_path)
    n_listed = sum(w.mask.num_trainable for i in by_hand().insertions for w in i.weights if w.mask.kind == "listed")
    assert path.stat().st_size <= 4 * by_hand().num_trainable + 4 * n_listed + 4096
    fresh = build("bert")
    again = apet.load(fresh, tmp_path)
    assert torch.equal(outputs(fresh, batch(fresh)), trained)
    assert again.spec.fingerprint == by_hand().fingerprint
    assert again.spec.method == "mine"
    assert [i.definition() for i in again.spec.insertions] == [i.definition() for i in by_hand().insertions]
    listed_there = again.spec.insertions[0].weights[0].mask
    assert listed_there.indices.tolist() == [0, 3, 77, 383]


def test_a_trained_head_comes_back_and_leaves_without_a_trace(tmp_path):
    before = outputs(build("bert"), batch(build("bert")))
    trained = saved(tmp_path, "lora", 100, head="trained")
    fresh = build("bert")
    handle = apet.load(fresh, tmp_path)
    assert torch.equal(outputs(fresh, batch(fresh)), trained)
    assert sorted(name for name, _ in handle.head_values()) == ["classifier.bias", "classifier.weight"]
    handle.detach()
    assert torch.equal(outputs(fresh, batch(fresh)), before)


def test_saving_without_a_head_removes_the_head_of_an_earlier_save(tmp_path):
    saved(tmp_path, head="trained")
    assert (tmp_path / "head.safetensors").is_file()
    trained = saved(tmp_path, head="frozen")
    fresh = build("bert")
    apet.load(fresh, tmp_path)
    assert torch.equal(outputs(fresh, batch(fresh)), trained)


def test_a_delta_trained_on_fp32_serves_the_same_backbone_in_bf16_and_back(tmp_path):
    saved(tmp_path)
    handle = apet.load(build("bert", torch.bfloat16), tmp_path)
    assert all(v.dtype == torch.float32 for v in handle.parameters())


def test_the_file_itself_may_be_named(tmp_path):
    trained = saved(tmp_path)
    fresh = build("bert")
    apet.load(fresh, tmp_path / FILE)
    assert torch.equal(outputs(fresh, batch(fresh)), trained)


# Refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["apet", "custom"])
def test_other_weights_are_refused(method, tmp_path):
    if method == "custom":
        apet.attach(model := build("bert"), by_hand()).save(tmp_path)
        del model
    else:
        saved(tmp_path)
    refused(
        build("bert", seed=1), tmp_path, r"was trained on a BertForSequenceClassification with weights \w{16}; these"
    )


@pytest.mark.parametrize("family", [f for f in BUILDERS if f != "bert"])
@pytest.mark.parametrize("method", ["lora", "bitfit", "apet"])
def test_another_architecture_is_refused(family, method, tmp_path):
    saved(tmp_path, method, 100)
    refused(build(family), tmp_path, "planned for BertForSequenceClassification|was trained on a BertForSequence")


def test_another_number_of_labels_is_refused_where_the_head_was_trained(tmp_path):
    from transformers import BertForSequenceClassification

    saved(tmp_path, head="trained")
    model = build("bert")
    config = type(model.config).from_dict({**model.config.to_dict(), "num_labels": 3})
    three = BertForSequenceClassification(config)
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("classifier")}
    three.load_state_dict(own, strict=False)
    refused(three, tmp_path, "'classifier.(weight|bias)' has .* this model's .* same number of labels")


def rewrite(folder, tensors=None, resealed=False, **changes) -> None:
    """The file with another header or other tensors; resealed as somebody would who knows how the checksum is made."""
    path = folder / FILE
    with safe_open(path, "pt") as f:
        header = json.loads(f.metadata()["apet"])
    for key, value in changes.items():
        if value is None:
            del header[key]
        else:
            header[key] = value
    tensors = tensors if tensors is not None else load_file(path)
    if resealed:
        header["checksum"] = _checksum(tensors, {k: v for k, v in header.items() if k != "checksum"})
    save_file(tensors, path, {"apet": json.dumps(header)})


def test_a_file_of_a_newer_version_says_so(tmp_path):
    saved(tmp_path)
    rewrite(tmp_path, plan_version=PLAN_VERSION + 1)
    refused(build("bert"), tmp_path, "written by a newer apet; upgrade")


DAMAGES = {
    "no recipe": {"recipe": None},
    "no version": {"plan_version": None},
    "version is text": {"plan_version": "new"},
    "no backbone": {"backbone": None},
    "recipe is a list": {"recipe": [1, 2]},
    "recipe without budget": {"recipe": {"method": "apet", "settings": {}}},
    "settings are a number": {
        "recipe": {"method": "apet", "settings": 3, "budget": 300, "mask_seed": 0, "init_seed": 0}
    },
    "unknown method": {"recipe": {"method": "apex", "settings": {}, "budget": 9, "mask_seed": 0, "init_seed": 0}},
    "other seed": {"recipe": {"method": "apet", "settings": {}, "budget": 300, "mask_seed": 1, "init_seed": 0}},
    "custom is nonsense": {"custom": {"name": "x", "init_seed": 0, "insertions": [[1, 2]]}},
    "no fingerprint": {"delta": None},
    "other count": {"tensors": {"values": torch.zeros(299)}},
    "no values": {"tensors": {"other": torch.zeros(300)}},
}


@pytest.mark.parametrize("resealed", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_header_or_body_is_refused(damage, resealed, tmp_path):
    saved(tmp_path)
    rewrite(tmp_path, resealed=resealed, **DAMAGES[damage])
    refused(build("bert"), tmp_path, "delta")


@pytest.mark.parametrize("keep", [0, 1, 8, 9, 200, -1])
def test_a_truncated_file_is_refused(keep, tmp_path):
    saved(tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:keep])
    refused(build("bert"), tmp_path, "is not a delta of apet, or is damaged")


def test_garbage_and_foreign_safetensors_are_refused(tmp_path):
    (tmp_path / FILE).write_bytes(os.urandom(4000))
    refused(build("bert"), tmp_path, "is not a delta of apet, or is damaged")
    save_file({"lora_A": torch.zeros(3)}, tmp_path / FILE)
    refused(build("bert"), tmp_path, "is not a delta of apet, or is damaged")


@pytest.mark.parametrize("name", ["delta.safetensors", "head.safetensors"])
@pytest.mark.parametrize("header", ["0", "1.0", "null", "[]", '"x"', "{}", "{", "true"])
def test_a_header_that_is_no_mapping_is_refused(name, header, tmp_path):
    saved(tmp_path, head="trained")
    save_file(load_file(tmp_path / name), tmp_path / name, {"apet": header})
    refused(build("bert"), tmp_path, "is not a delta of apet, or is damaged")


def test_values_of_another_shape_are_refused(tmp_path):
    saved(tmp_path, head="trained")
    with safe_open(tmp_path / "head.safetensors", "pt") as f:
        metadata = f.metadata()
    head = load_file(tmp_path / "head.safetensors")
    save_file({n: v[None] for n, v in head.items()}, tmp_path / "head.safetensors", metadata)
    refused(build("bert"), tmp_path, "its checksum is not that")


def test_a_damaged_head_is_refused(tmp_path):
    saved(tmp_path, head="trained")
    (tmp_path / "head.safetensors").write_bytes(b"no")
    refused(build("bert"), tmp_path, "damaged")
    save_file({"score.weight": torch.zeros(32)}, tmp_path / "head.safetensors")
    refused(build("bert"), tmp_path, "is not a delta of apet, or is damaged")


def test_a_delta_is_loaded_with_the_head_that_it_was_trained_with_alone(tmp_path):
    """A folder put together of two copies loaded in silence, as did one whose head had been forgotten."""
    saved(tmp_path / "one", head="trained")
    saved(tmp_path / "two", "lora", 100, head="trained")
    saved(tmp_path / "without", head="frozen")
    for folder in ("two", "without"):
        (tmp_path / folder / "head.safetensors").write_bytes((tmp_path / "one/head.safetensors").read_bytes())
        refused(build("bert"), tmp_path / folder, "is not the head that was saved with delta.safetensors")
    (tmp_path / "one/head.safetensors").unlink()
    refused(build("bert"), tmp_path / "one", "is gone; put head.safetensors beside it again")


@pytest.mark.parametrize("change", [{"head": None}, {"num_trainable": 299}, {"further": 1}], ids=str)
def test_a_header_that_was_changed_is_noticed(change, tmp_path):
    """Without its head's checksum a delta loaded without the head that it was trained with."""
    saved(tmp_path, head="trained")
    rewrite(tmp_path, **change)
    (tmp_path / "head.safetensors").unlink()
    refused(build("bert"), tmp_path, "its checksum is not that of its header and values")


@pytest.mark.parametrize("name", ["delta.safetensors", "head.safetensors"])
def test_whatever_byte_is_changed_a_saved_delta_is_refused_or_the_same(tmp_path, name):
    """NaN, flipped bytes and integers in place of floats once loaded in silence."""
    saved(tmp_path, head="trained")
    whole = (tmp_path / name).read_bytes()
    model = build("bert")
    with apet.load(model, tmp_path) as handle:
        expected = [v.detach().clone() for v in handle.parameters()]
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(len(whole), (120,), generator=generator).tolist()
    for place in [*places, len(whole) - 1, len(whole) - 4]:
        for change in (0xFF, 0x01):
            damaged = bytearray(whole)
            damaged[place] ^= change
            (tmp_path / name).write_bytes(damaged)
            try:
                handle = apet.load(model, tmp_path)
            except ApetError:
                continue
            assert all(torch.equal(a, b) for a, b in zip(handle.parameters(), expected, strict=True)), (place, change)
            handle.detach()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("nan", "holds 1 values that are NaN or infinite"),
        ("inf", "holds 1 values that are NaN or infinite"),
        ("complex", "holds torch.complex64; values are floating-point numbers"),
        ("integer", "holds torch.int64; values are floating-point numbers"),
        ("list", "is a list; give a tensor"),
        ("unknown", "unknown trainable weight in values 'nowhere/delta'"),
        ("short", "must hold"),
    ],
)
def test_values_that_are_given_are_finite_numbers_of_that_delta(wrong, message):
    model = build("bert")
    spec = apet.plan(model, "lora", 64)
    with apet.attach(model, spec) as handle:
        values = {name: v.detach().clone() for name, v in handle.values()}
    name = next(iter(values))
    bad = {
        "nan": lambda v: v.index_fill(0, torch.tensor([0]), float("nan")),
        "inf": lambda v: v.index_fill(0, torch.tensor([0]), float("inf")),
        "complex": lambda v: v.to(torch.complex64),
        "integer": lambda v: v.long(),
        "list": lambda v: v.tolist(),
        "short": lambda v: v[:0],
    }
    given = (
        {**values, "nowhere/delta": values[name]} if wrong == "unknown" else {**values, name: bad[wrong](values[name])}
    )
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ApetError, match=message):
        apet.attach(model, spec, values=given)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert len(model.state_dict()) == len(before)


def test_nothing_there_is_said(tmp_path):
    refused(build("bert"), tmp_path, "no saved delta at")
    refused(build("bert"), tmp_path / "nowhere", "no saved delta at")
    (tmp_path / "a file").write_text("text")
    refused(build("bert"), tmp_path / "a file" / "below", "no saved delta at")


@pytest.mark.parametrize("place", ["taken", "taken/below", "\0"])
def test_a_folder_that_cannot_be_written_is_refused_and_nothing_is_left(place, tmp_path):
    (tmp_path / "taken").write_text("mine")
    model = build("bert")
    handle = apet.attach(model, apet.plan(model, "lora", 50), head="trained")
    with pytest.raises(ApetError, match=r"cannot write the delta to .*; give a folder that can be written"):
        handle.save(tmp_path / place)
    assert (tmp_path / "taken").read_text() == "mine"
    assert [f.name for f in tmp_path.rglob("*")] == ["taken"]


@pytest.mark.parametrize("fails", ["delta.safetensors", "head.safetensors"])
def test_a_write_that_fails_midway_leaves_the_earlier_files_as_they_were(fails, tmp_path, monkeypatch):
    trained = saved(tmp_path, head="trained")
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    model = build("bert")
    handle = apet.attach(model, apet.plan(model, "bitfit"), head="trained")

    def full_disk(tensors, path, header=None):
        path.write_bytes(b"half")
        if path.name.startswith(fails):
            raise OSError(28, "No space left on device")
        save_file(tensors, path, header)

    monkeypatch.setattr("apet.checkpoint.save_file", full_disk)
    with pytest.raises(ApetError, match=r"cannot write the delta .*No space left"):
        handle.save(tmp_path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before
    fresh = build("bert")
    apet.load(fresh, tmp_path)
    assert torch.equal(outputs(fresh, batch(fresh)), trained)
