"""Whether a delta can be merged is known before it is attached, with the reasons; and a plan can ask for it."""

from __future__ import annotations

import contextlib
import itertools

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import apet
from apet import ApetError, NotMergeableError, UnreachableBudgetError
from apet.delta import DeltaSpec
from apet.planning import with_merge_obstacles
from apet.testing.tiny_models import BUILDERS, batch, build, outputs, same_bits, shake, snapshot

# What a spec says -------------------------------------------------------------------------------------------------


def test_the_reasons_are_grouped_by_form_and_a_single_layer_is_named():
    spec = apet.plan(build("t5-relu-tied"), "apet", sites="all")
    assert not spec.mergeable
    assert spec.merge_obstacles == (
        "bias at 2 layers: an embedding of this class has no bias that could hold it",
        "adapter at 41 layers: no parameter of the backbone computes it",
        "bias at 12 layers: a norm of this class has no bias that could hold it",
        "lora at 'lm_head': its weight is tied to another layer, which would change too",
    )


def test_a_configuration_and_its_model_say_the_same():
    model = build("bert")
    assert apet.plan(model.config, "apet").merge_obstacles == apet.plan(model, "apet").merge_obstacles != ()


@pytest.mark.parametrize(("family", "method"), [("bert", "adapter"), ("gpt2", "prompt"), ("llama", "bitfit")])
def test_a_merge_is_refused_for_the_reason_that_was_known(family, method):
    model = build(family)
    spec = apet.plan(model, method)
    with apet.attach(model, spec) as handle, pytest.raises(NotMergeableError) as e:
        handle.merge()
    (obstacle,) = spec.merge_obstacles
    assert f"cannot be merged: {obstacle.partition(': ')[2]};" in str(e.value)
    assert "mergeable=True" in str(e.value)
    assert "\n" not in str(e.value)


def test_plans_with_other_obstacles_train_the_same():
    """What keeps a delta from being merged is said of a backbone; it is no part of what is trained."""
    spec = apet.plan(build("bert"), "lora", 64)
    assert with_merge_obstacles(spec, build("bert")) == spec


def test_a_delta_built_by_hand_knows_once_a_backbone_is_asked():
    model = build("bert")
    planned = apet.plan(model, "adapter", 64)
    spec = DeltaSpec(planned.insertions, planned.backbone, planned.num_backbone_parameters)
    with pytest.raises(ApetError, match=r"built by hand.*depends on the backbone; attach it.*handle\.spec\.mergeable"):
        _ = spec.mergeable
    assert not with_merge_obstacles(spec, model).mergeable
    with apet.attach(model, spec) as handle:
        assert handle.spec.merge_obstacles == planned.merge_obstacles


@pytest.mark.parametrize("tied", [True, False])
def test_an_attached_delta_speaks_of_the_model_that_it_is_on(tied):
    """A configuration may tie weights that another model of the class has apart."""
    shape = {"vocab_size": 61, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    planned_for, attached_to = (GPT2LMHeadModel(GPT2Config(**shape, tie_word_embeddings=t)) for t in (not tied, tied))
    spec = apet.plan(planned_for, "lora", 64, roles=["lm_head"])
    assert spec.mergeable == tied
    with apet.attach(attached_to, spec) as handle:
        assert handle.spec.mergeable != tied
        with pytest.raises(NotMergeableError, match="tied to another") if tied else contextlib.nullcontext():
            handle.merge()


def test_a_saved_delta_is_planned_again_with_what_it_was_planned_with(tmp_path):
    model = build("t5-relu-tied")
    with apet.attach(model, apet.plan(model, "apet", 173, mergeable=True)) as handle:
        shake(handle)
        handle.save(tmp_path)
        trained = outputs(model, batch(model))
    again = apet.load(model, tmp_path)
    assert again.spec.recipe.settings == {"mergeable": True}
    assert again.spec.mergeable
    again.merge()
    torch.testing.assert_close(outputs(model, batch(model)), trained, rtol=1e-5, atol=1e-5)


# Asking for a delta that can be merged ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("how", ["adjacent", "discrete", "magnitude"])
def test_any_budget_is_met_exactly_by_what_can_be_merged(family, how):
    model = build(family)
    before, inputs = snapshot(model), batch(model)
    for budget in (1, 7, 173, 2001):
        spec = apet.plan(model, "apet", budget, distribution=how, mergeable=True)
        assert spec.num_trainable == budget
        assert {i.form for i in spec.insertions} <= {"weight", "bias", "lora"}
        handle = apet.attach(model, spec)
        shake(handle)
        attached = outputs(model, inputs)
        handle.merge()
        torch.testing.assert_close(outputs(model, inputs), attached, rtol=1e-5, atol=1e-5)
        handle.detach()
    assert same_bits(snapshot(model), before)


def test_the_count_known_before_planning_is_that_of_the_plan():
    from apet.methods import make_method

    backbone = apet.describe(build("llama"))
    counts = [make_method("bitfit", mergeable=asked).count_trainable(backbone, None) for asked in (True, False)]
    assert counts == [apet.plan(backbone, "bitfit", mergeable=asked).num_trainable for asked in (True, False)]
    assert counts[0] < counts[1]
    with pytest.raises(UnreachableBudgetError, match=f"at most {counts[0]} parameters that can be merged here") as e:
        apet.plan(backbone, "bitfit", counts[1], mergeable=True)
    assert e.value.nearest == (counts[0],)


@pytest.mark.parametrize("method", ["prompt", "adapter"])
def test_where_nothing_could_be_merged_the_plan_says_why_and_what_to_give(method):
    says = rf"{method} has nothing to train that can be merged \({method} at .*: no parameter of the backbone"
    with pytest.raises(ApetError, match=says + r".*; give a method that merges: apet with mergeable=True, lora") as e:
        apet.plan(build("bert"), method, mergeable=True)
    assert "\n" not in str(e.value)


def test_what_cannot_be_merged_takes_no_part_even_where_it_is_asked_for():
    spec = apet.plan(build("bert"), "apet", 99, operations=["add", "plugin"], prompt=True, mergeable=True)
    assert {i.form for i in spec.insertions} == {"weight"}


# Biases -----------------------------------------------------------------------------------------------------------


def test_a_layer_norm_without_a_bias_gets_one():
    """Unlike an RMSNorm, it adds a bias as soon as it has one."""
    model = build("bert")
    for norm in (m for m in model.modules() if isinstance(m, nn.LayerNorm)):
        norm.bias = None
    before, inputs = snapshot(model), batch(model)
    spec = apet.plan(model, "bitfit", roles=["mlp.norm"])
    assert {i.form for i in spec.insertions} == {"bias"}
    assert spec.mergeable
    handle = apet.attach(model, spec)
    shake(handle)
    attached = outputs(model, inputs)
    handle.merge()
    torch.testing.assert_close(outputs(model, inputs), attached, rtol=1e-5, atol=1e-5)
    handle.detach()
    assert same_bits(snapshot(model), before)


def test_a_bias_that_two_layers_share_holds_nobodys_delta():
    model = build("bert")
    attention = model.bert.encoder.layer[0].attention.self
    attention.value.bias = attention.query.bias
    spec = apet.plan(model, "bitfit", roles=["encoder.0.attn.v"])
    assert not spec.mergeable
    inputs = batch(model)
    with apet.attach(model, spec) as handle:
        shake(handle)
        attached = outputs(model, inputs)
        with pytest.raises(NotMergeableError):
            handle.merge()
        assert torch.equal(outputs(model, inputs), attached)


# Several deltas ---------------------------------------------------------------------------------------------------

AT_ONE_LAYER = {"lora": {}, "adapter": {}, "ia3": {}, "bitfit": {}, "apet": {"operations": ["add"], "budget": 40}}


@pytest.mark.parametrize("role", ["attn.v", "mlp.down"], ids=["output-scaled", "input-scaled"])
@pytest.mark.parametrize("methods", [*itertools.permutations(AT_ONE_LAYER, 2)], ids="-".join)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_merge_beside_another_delta_keeps_the_outputs_or_is_refused(family, methods, role):
    """A LoRA pair behind an adapter, merged, would act before it: who does not commute with its neighbor stays."""
    for which in range(2):
        model = build(family)
        handles = [apet.attach(model, apet.plan(model, m, roles=[role], **AT_ONE_LAYER[m])) for m in methods]
        for seed, handle in enumerate(handles):
            shake(handle, 0.3, seed=seed)
        inputs = batch(model)
        both = outputs(model, inputs)
        with contextlib.suppress(NotMergeableError):
            handles[which].merge()
        torch.testing.assert_close(outputs(model, inputs), both, rtol=1e-4, atol=1e-5)


def test_what_commutes_is_merged_in_any_order_and_what_does_not_waits_for_its_neighbor():
    model = build("llama")
    adapter, lora = (apet.attach(model, apet.plan(model, m, roles=["attn.v"])) for m in ("adapter", "lora"))
    says = r"lora at 'decoder\.0\.attn\.v' cannot be merged while adapter at 'decoder\.0\.attn\.v' is not"
    with pytest.raises(NotMergeableError, match=says + ".*merge or detach that one first"):
        lora.merge()
    adapter.detach()
    lora.merge()
    assert lora.is_merged


def test_a_scale_is_mergeable_and_still_refused_where_another_delta_writes_into_its_weight():
    """Only the model shows that: its spec cannot know who else will be there."""
    model = build("bert")
    scale = apet.attach(model, apet.plan(model, "ia3"))
    other = apet.attach(model, apet.plan(model, "apet", 40, operations=["add"], roles=["attn.v"]))
    assert scale.spec.mergeable
    with pytest.raises(NotMergeableError, match="cannot be merged while another delta writes into"):
        scale.merge()
    other.detach()
    scale.merge()
    assert scale.is_merged
