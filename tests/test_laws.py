"""The laws of the house, each over every method × every family. A new method file is enrolled by existing."""

from __future__ import annotations

import itertools

import pytest
import torch

import apet
from apet import NotMergeableError
from apet.backbones.describe import describe
from tiny import BUILDERS, batch, build, outputs, same_bits, shake, snapshot

VARIANTS = [
    (name, how)
    for name, method in apet.list_methods().items()
    for how in (("adjacent", "discrete") if name != "fine-tuning" else ("adjacent",))
]
CASES = [
    pytest.param(name, how, family, id=f"{name}-{how}-{family}")
    for (name, how), family in itertools.product(VARIANTS, BUILDERS)
]
every_case = pytest.mark.parametrize(("method", "how", "family"), CASES)
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def some_budget(method: str) -> int | None:
    """Below every method's full size, and no round number."""
    return None if method == "fine-tuning" else 173


def planned(model, method, how, budget="some", **kw):
    settings = {} if method == "fine-tuning" else {"distribution": how}
    return apet.plan(model, method, some_budget(method) if budget == "some" else budget, **settings, **kw)


@every_case
@both_dtypes
def test_n_in_n_out(method, how, family, dtype, tmp_path):
    """Budget = live scalars = optimizer elements = saved values; trainable values are fp32 whatever the backbone."""
    model = build(family, dtype)
    theta = planned(model, method, how)
    wanted = some_budget(method) or sum(p.size for p in apet.positions(model) if p.parameter != "output")
    handle = apet.attach(model, theta)
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert theta.num_trainable == wanted == sum(p.numel() for p in trainable)
    assert all(p.dtype == torch.float32 for p in trainable)

    model(**batch(model)).loss.backward()
    optimizer = torch.optim.AdamW(trainable)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trainable)
    optimizer.step()
    assert sum(s["exp_avg"].numel() for s in optimizer.state.values()) == wanted

    from safetensors.torch import load_file

    path = handle.save(tmp_path)
    assert load_file(path)["values"].numel() == wanted
    assert path.stat().st_size <= 4 * wanted + 4096


@every_case
def test_every_scalar_is_alive(method, how, family):
    """After a small move away from the start, every scalar has a gradient (save biases no softmax can see)."""
    model = build(family)
    handle = apet.attach(model, planned(model, method, how))
    shake(handle, 0.3)
    total = {name: torch.zeros_like(v) for name, v in handle.values()}
    for seed in range(12):
        inputs = batch(model, seq=19, seed=seed)
        if model.config.is_encoder_decoder:  # reach the far distances of the decoder, too
            inputs["labels"] = inputs["input_ids"].clone()
        if "distilbert" not in family and family.startswith(("bert", "electra")):
            inputs["token_type_ids"] = (torch.arange(19) > 9).long().expand(3, 19)
        model.zero_grad()
        model(**inputs).loss.backward()
        for name, v in handle.values():
            total[name] += v.grad.abs()
    for name, g in total.items():
        if method in ("bitfit", "fine-tuning") and (".k." in name or ".qkv." in name) and "weight" not in name:
            continue  # part of the method's definition, though the softmax cannot see a constant on all keys
        if (".embed." in name and "weight" in name) or ".relative_bias" in name:
            continue  # rows that these few texts never look up; test_gradients covers every row
        assert (g > 0).all(), f"{int((g == 0).sum())} dead of {g.numel()} at {name}"


@every_case
@both_dtypes
def test_identity_at_the_start(method, how, family, dtype):
    model = build(family, dtype)
    if not apet.list_methods()[method].identity_at_start:
        pytest.skip("this method does not start from the identity, and says so")
    inputs = batch(model)
    before = outputs(model, inputs)
    apet.attach(model, planned(model, method, how))
    assert torch.equal(outputs(model, inputs), before)


@every_case
@both_dtypes
def test_detach_restores_every_bit(method, how, family, dtype):
    model = build(family, dtype)
    before, inputs = snapshot(model), batch(model)
    logits, flags = outputs(model, inputs), [p.requires_grad for p in model.parameters()]
    handle = apet.attach(model, planned(model, method, how))
    shake(handle, 0.5)  # enough to be seen in bf16
    moved = outputs(model, inputs)
    assert not torch.equal(moved, logits), "training must change something, or this test proves nothing"
    handle.detach()
    assert same_bits(snapshot(model), before)
    assert torch.equal(outputs(model, inputs), logits)
    assert flags == [p.requires_grad for p in model.parameters()]
    assert not apet.attached(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@every_case
def test_saved_and_loaded_after_training_is_the_same_function(method, how, family, tmp_path):
    model = build(family)
    inputs = batch(model)
    handle = apet.attach(model, planned(model, method, how, mask_seed=5, init_seed=7))
    shake(handle)
    trained = outputs(model, inputs)
    handle.save(tmp_path)
    fresh = build(family)
    loaded = apet.load(fresh, tmp_path)
    assert torch.equal(outputs(fresh, inputs), trained)
    assert loaded.spec.fingerprint == handle.spec.fingerprint


def mergeable(handle) -> bool:
    """Only what some parameter of the backbone can hold: no prompt, no adapter, no output but a bias-less linear's."""
    layers = {x.name: x for x in describe(handle.model).layers}
    for i in handle.theta.insertions:
        if i.form in ("tokens", "bottleneck"):
            return False
        if i.form == "output" and layers[i.at.removesuffix(".output")].kind != "linear":
            return False
        if i.form == "pair":
            weight = layers[i.at].position("weight")
            if weight is None or weight.tied:
                return False
    return True


@every_case
@both_dtypes
def test_merged_computes_what_attached_computed(method, how, family, dtype):
    model = build(family, dtype)
    before, inputs = snapshot(model), batch(model)
    keys = set(model.state_dict())
    handle = apet.attach(model, planned(model, method, how))
    shake(handle)
    attached = outputs(model, inputs)
    if not mergeable(handle):
        with pytest.raises(NotMergeableError, match="cannot be merged"):
            handle.merge()
        assert torch.equal(outputs(model, inputs), attached), "a refused merge must change nothing"
        handle.detach()
        assert same_bits(snapshot(model), before)
        return
    handle.merge()
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(outputs(model, inputs), attached, rtol=tolerance, atol=tolerance)
    assert not any(p.requires_grad for p in model.parameters())
    created = {k for k in set(model.state_dict()) - keys if not k.endswith("bias")}
    assert not created
    handle.detach()
    assert same_bits(snapshot(model), before)


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("pairing", [("lora", "apet"), ("apet", "apet"), ("bitfit", "adapter"), ("prompt", "prompt")])
def test_several_thetas_come_and_go_in_any_order(family, pairing):
    """Overlapping entries add up; whoever leaves first, the bits return."""
    for leave in itertools.permutations(range(2)):
        model = build(family)
        before, inputs = snapshot(model), batch(model)
        handles = []
        for seed, method in enumerate(pairing):
            handles.append(apet.attach(model, apet.plan(model, method, 140, mask_seed=seed)))
            shake(handles[-1], seed=seed)
        both = outputs(model, inputs)
        handles[leave[0]].detach()
        alone = outputs(model, inputs)
        assert not torch.equal(alone, both)
        single = build(family)
        only = apet.attach(single, handles[leave[1]].theta)
        shake(only, seed=leave[1])
        torch.testing.assert_close(alone, outputs(single, inputs), rtol=1e-5, atol=1e-5)
        handles[leave[1]].detach()
        assert same_bits(snapshot(model), before)


@every_case
def test_the_same_seed_gives_the_same_theta(method, how, family):
    a, b = (planned(build(family), method, how, mask_seed=3) for _ in range(2))
    assert a.fingerprint == b.fingerprint
    assert [i.definition() for i in a.insertions] == [i.definition() for i in b.insertions]
    if method in ("apet",):
        assert planned(build(family), method, how, mask_seed=4).fingerprint != a.fingerprint


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("how", ["adjacent", "discrete"])
def test_equal_shaped_layers_do_not_share_a_mask(family, how):
    """Every block has the same shapes: peft's SHiRA gave all of them one mask."""
    theta = apet.plan(build(family), "apet", 3000, distribution=how, operations=["add"])
    by_shape: dict[tuple, list[frozenset[int]]] = {}
    for i in theta.insertions:
        for w in i.weights:
            if w.mask.kind != "full" and len(w.shape) == 2 and w.mask.num_trainable > 8:
                by_shape.setdefault(w.shape, []).append(frozenset(w.mask.indices.tolist()))
    twins = [masks for masks in by_shape.values() if len(masks) >= 2]
    assert twins
    assert sum(len(set(masks)) for masks in twins) >= 0.8 * sum(map(len, twins))  # a few short runs coincide by chance


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("method", apet.list_methods())
def test_theta_is_data(family, method):
    """Planned from a bare configuration on the meta device: same entries as on the real model."""
    from apet.backbones.loading import default_objective, meta_model

    model = build(family)
    config = model.config
    use = "masked-label-word" if family == "bert-mlm" else default_objective(config)
    on_meta = meta_model(config, use)
    assert next(on_meta.parameters()).is_meta
    if family == "t5-gated":
        on_meta.lm_head.weight = torch.nn.Parameter(torch.empty_like(on_meta.lm_head.weight))
    assert planned(on_meta, method, "discrete").fingerprint == planned(model, method, "discrete").fingerprint


@pytest.mark.parametrize("family", BUILDERS)
def test_positions_cover_every_parameter_once(family):
    model = build(family)
    backbone = describe(model)
    covered = sum(p.size for p in backbone.positions if p.parameter != "output")
    assert (
        covered + backbone.num_head_parameters == backbone.num_parameters == sum(p.numel() for p in model.parameters())
    )
    names = [p.name for p in backbone.positions]
    assert len(names) == len(set(names))


@every_case
def test_a_backbone_laid_over_devices_computes_and_learns_as_a_whole_one(method, how, family):
    """accelerate then moves what goes in and out of every part (`device=spread`); here all devices are one."""
    from accelerate import dispatch_model

    found = []
    for laid in (False, True):
        model = build(family)
        before = snapshot(model)
        if laid:
            dispatch_model(model, {name: "cpu" for name, _ in model.named_children()}, force_hooks=True)
        handle = apet.attach(model, planned(model, method, how))
        shake(handle, 0.1)
        loss = model(**batch(model)).loss
        loss.backward()
        found.append([loss.detach(), *(v.grad for v in handle.parameters())])
        handle.detach()
        assert same_bits(before, snapshot(model))
    for whole, part in zip(*found, strict=True):
        torch.testing.assert_close(part, whole, rtol=0, atol=0)
