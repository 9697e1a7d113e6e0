"""Weight decay falls on the same things in every family: by the names that transformers' own Trainer goes by."""

from __future__ import annotations

import pytest
import torch
from transformers import Trainer, TrainingArguments

import apet
from apet.attachment_state import STATE_NAME
from apet.layers.weight_decay import name_decays, tree_name
from apet.testing.tiny_models import BUILDERS, batch, build
from apet.training.config import RunConfig
from apet.training.run import tune
from apet.training.run_id import shared_settings
from tiny_backbones import reviews, save_backbone, write_csv


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """The real one; its rule takes the model as an argument."""
    folder = tmp_path_factory.mktemp("trainer")
    return Trainer(build("bert"), TrainingArguments(str(folder), use_cpu=True, report_to=[], weight_decay=0.1))


def decayed_by(trainer, model) -> set[str]:
    return set(trainer.get_decay_parameter_names(model))


def tree_names(model) -> dict[int, str]:
    return {id(p): name for name, p in model.named_parameters() if name.startswith(f"{STATE_NAME}.")}


def check_entries(trainer, model, spec) -> None:
    """Every entry is treated as what it is added to; an added bias as a bias, every other new weight as a weight."""
    backbone = apet.describe(model)
    of_the_backbone = decayed_by(trainer, model)
    handle = apet.attach(model, spec, head="trained" if backbone.head else "frozen")
    decayed, names = decayed_by(trainer, model), tree_names(model)
    assert {n for n in decayed if not n.startswith(f"{STATE_NAME}.")} == of_the_backbone
    forms = {i.position: i.form for i in spec.insertions if i.form in ("weight", "bias")}
    for entry, tensor in handle.values():
        position, _, weight = entry.rpartition("/")
        if forms.get(position) == "weight":
            p = backbone.position(position)
            expected = f"{p.module}.{p.parameter}" in of_the_backbone
        else:
            expected = position not in forms and not weight.endswith("bias")
        assert (names[id(tensor)] in decayed) == expected, f"{entry}: {names[id(tensor)]}"
    for parameter, tensor in handle.head_values():
        assert (names[id(tensor)] in decayed) == (parameter in of_the_backbone), parameter
    groups = handle.parameter_groups(0.1)
    ours = {names[id(t)] for group in groups if group["weight_decay"] for t in group["params"]}
    assert ours == decayed & set(names.values())
    assert sum(len(group["params"]) for group in groups) == len(handle.parameters())


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("method", apet.list_methods())
def test_every_entry_decays_as_what_it_is_added_to(trainer, method, family):
    model = build(family)
    check_entries(trainer, model, apet.plan(model, method))


@pytest.mark.parametrize("family", BUILDERS)
def test_an_adapter_decays_also_behind_a_norm_or_a_bias_of_the_attention(trainer, family):
    """Where it sits must not make one of it."""
    model = build(family)
    roles = sorted({x.role for x in apet.describe(model).layers if x.kind == "norm" or "bias" in x.role})
    check_entries(trainer, model, apet.plan(model, "adapter", roles=roles, bottleneck=3))


def test_in_one_family_a_scale_of_a_norm_is_known_by_its_class_and_in_another_by_its_name(trainer):
    """Neither GPT-2's `ln_1` nor Llama's class says it: a rule for one of the two would not do."""
    for family, class_name, parameter in [
        ("gpt2", "LayerNorm", "transformer.h.0.ln_1.weight"),
        ("llama", "LlamaRMSNorm", "model.layers.0.input_layernorm.weight"),
    ]:
        model = build(family)
        assert type(model.get_submodule(parameter.removesuffix(".weight"))).__name__ == class_name
        assert parameter not in decayed_by(trainer, model)
        apet.attach(model, apet.plan(model, "ln-tuning"))
        names = set(tree_names(model).values())
        assert names
        assert not names & decayed_by(trainer, model)


def test_the_trainers_optimizer_has_the_groups_of_the_handle(tmp_path):
    model = build("t5-gated")
    handle = apet.attach(model, apet.plan(model, "apet", 700, sites="all"))
    trainer = Trainer(model, TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], weight_decay=0.1))
    theirs = {g["weight_decay"]: {id(p) for p in g["params"]} for g in trainer.create_optimizer().param_groups}
    assert theirs == {g["weight_decay"]: {id(p) for p in g["params"]} for g in handle.parameter_groups(0.1)}
    assert len(theirs) == 2


def test_decay_pulls_weights_and_leaves_biases_and_norms():
    model = build("bert")
    handle = apet.attach(model, apet.plan(model, "apet", 700, sites="all"))
    with torch.no_grad():
        for v in handle.parameters():
            v.fill_(1.0)
    model(**batch(model)).loss.backward()
    for v in handle.parameters():
        v.grad.zero_()
    torch.optim.AdamW(handle.parameter_groups(0.5), lr=0.1).step()
    moved = {name: bool((v != 1).all()) for name, v in handle.values()}
    assert moved["encoder.0.attn.q.weight/delta"]
    assert moved["encoder.0.attn.norm/down_proj.weight"]
    assert not moved["encoder.0.attn.q.bias/delta"]
    assert not moved["encoder.0.attn.norm.weight/delta"]


@pytest.mark.parametrize(("method", "differs"), [("ln-tuning", False), ("lora", True)])
def test_a_run_decays_by_the_same_rule(method, differs, tmp_path, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(tmp_path / "cache"))
    save_backbone("bert-mlm", tmp_path / "bert")
    write_csv(tmp_path / "reviews.csv", reviews(40))
    data = {"data": str(tmp_path / "reviews.csv"), "text": ("text",), "label": "stars", "dtype": "float32"}
    base = RunConfig(backbone=str(tmp_path / "bert"), method=method, **data, max_steps=3, eval_steps=1, batch_size=8)
    plain, decayed = (tune(base.model_copy(update={"weight_decay": decay, "learning_rate": 0.01})) for decay in (0, 2))
    assert ([p.loss for p in plain.points] != [p.loss for p in decayed.points]) == differs


def test_runs_without_decay_keep_the_identifier_that_they_had():
    """Runs with decay have other numbers than before this rule, and so another identifier."""
    config = RunConfig(backbone="bert", task="sst2")
    assert shared_settings(config)["weight_decay"] == 0.0
    assert shared_settings(config.model_copy(update={"weight_decay": 0.1}))["weight_decay"] != 0.1


# Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "decays", "name"),
    [
        ("lora_encoder.0.attn.q", True, "lora_encoder_0_attn_q"),
        ("adapter_decoder.norm", True, "adapter_decoder_norm_layer"),
        ("adapter_encoder.0.attn.relative_bias", True, "adapter_encoder_0_attn_relative_offset"),
        ("adapter_h.0.input_layernorm", True, "adapter_h_0_input_layer_norm_layer"),
        ("weight_encoder.0.attn.norm.weight", False, "weight_encoder_0_attn_norm_weight_norm"),
        ("weight_encoder.0.attn.q.bias", False, "weight_encoder_0_attn_q_bias"),
    ],
)
def test_a_name_is_changed_only_where_it_would_mislead(text, decays, name):
    assert tree_name(text, decays, ()) == name
    assert name_decays(f"apet.attached.0.layers.{name}.delta.values") == decays


@pytest.mark.parametrize("decays", [True, False])
def test_places_that_differ_in_dots_alone_have_names_of_their_own_that_decay_alike(decays):
    taken: list[str] = []
    for text in ("weight_a.b_norm", "weight_a_b.norm", "weight_a.b.norm", "weight_x.weight"):
        taken.append(tree_name(text, decays, taken))
    assert len(set(taken)) == 4
    assert {name_decays(f"layers.{name}.delta.values") for name in taken} == {decays}
