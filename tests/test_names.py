"""Names resolve strictly: what matches nothing is an error with the nearest names, never a silent nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    ViTConfig,
)

import apet
from apet import ApetError, UnknownNameError
from apet.backbones.family import FAMILIES, families, family_of
from apet.testing.tiny_models import BUILDERS, build

# Roles and patterns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("attn.q", ["encoder.0.attn.q", "encoder.1.attn.q"]),
        ("mlp", [f"encoder.{i}.mlp.{x}" for i in (0, 1) for x in ("up", "down", "norm")]),
        ("encoder.1.attn.q", ["encoder.1.attn.q"]),
        ("encoder.1.mlp", [f"encoder.1.mlp.{x}" for x in ("up", "down", "norm")]),
        ("*.norm", ["encoder.embed.norm", *(f"encoder.{i}.{x}.norm" for i in (0, 1) for x in ("attn", "mlp"))]),
        ("encoder.?.mlp.up", ["encoder.0.mlp.up", "encoder.1.mlp.up"]),
        ("attn.[qv]", [f"encoder.{i}.attn.{x}" for i in (0, 1) for x in "qv"]),
        ("pooler", ["encoder.pooler"]),
    ],
)
def test_roles_prefixes_names_and_wildcards(pattern, names):
    chosen = apet.describe(build("bert")).select([pattern])
    assert sorted(x.name for x in chosen) == sorted(names)


def test_overlapping_patterns_choose_a_layer_once_in_model_order():
    chosen = apet.describe(build("bert")).select(["mlp", "encoder.1.*", "attn.q", "mlp.up"])
    names = [x.name for x in chosen]
    assert len(names) == len(set(names))
    assert names.index("encoder.0.attn.q") < names.index("encoder.0.mlp.up") < names.index("encoder.1.attn.q")


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [
        ("attn.w", "attn.q"),
        ("mlp.upp", "mlp.up"),
        ("encoder.7.attn.q", "encoder.0.attn.q"),
        ("atn", "attn"),
        ("at", ""),
        ("q", ""),
        ("decoder.*", ""),
    ],
)
@pytest.mark.parametrize("method", ["lora", "bitfit", "adapter", "apet"])
def test_a_role_that_matches_nothing_is_an_error_with_the_nearest(method, pattern, nearest):
    """Also beside one that matches: nothing is dropped without a word."""
    for roles in ([pattern], ["attn.q", pattern]):
        with pytest.raises(
            UnknownNameError, match=f"unknown role of BertForSequenceClassification '{pattern}'".replace("*", r"\*")
        ) as e:
            apet.plan(build("bert"), method, roles=roles)
        assert nearest in str(e.value).partition(";")[2]
        assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("lorra", "lora"),
        ("bit-fit", "bitfit"),
        ("APET", "known: adapter"),
        ("finetuning", "fine-tuning"),
        ("", "known: adapter"),
        ("lora-scattered", "lora"),
        ("apet-fishr", "nearest: apet-fisher"),
        ("apet-descrete", "nearest: apet-discrete"),
        ("lora-adjecent", "nearest: lora-adjacent"),
    ],
)
def test_an_unknown_method_lists_the_nearest(name, nearest):
    with pytest.raises(UnknownNameError, match=f"unknown method '{name}'; .*{nearest}"):
        apet.plan(build("bert"), name)


@pytest.mark.parametrize("name", [None, 3, ["lora"]])
def test_a_method_that_is_no_name_is_refused(name):
    with pytest.raises(ApetError, match="give a name: fine-tuning, prompt"):
        apet.plan(build("bert"), name)


def test_the_order_of_methods_is_the_papers():
    """And those that it does not have follow."""
    papers = ["fine-tuning", "prompt", "bitfit", "lora", "adapter", "apet"]
    assert list(apet.list_methods()) == [*papers, "ia3", "ln-tuning"]


@pytest.mark.parametrize("method", apet.list_methods())
def test_an_unknown_setting_lists_the_nearest_and_every_method_knows_its_distribution(method):
    with pytest.raises(UnknownNameError, match=f"unknown setting of {method} 'distributon'; nearest: distribution"):
        apet.plan(build("bert"), method, distributon="discrete")
    assert apet.plan(build("bert"), f"{method}-discrete").recipe.settings == {"distribution": "discrete"}
    with pytest.raises(ApetError, match=f"{method}: distribution='scattered' is not valid: unknown distribution"):
        apet.plan(build("bert"), method, distribution="scattered")


@pytest.mark.parametrize(
    ("method", "chosen", "says"),
    [
        ("lora", {"rank": 0}, "rank=0 is not valid"),
        ("lora", {"rank": "many"}, "rank='many' is not valid"),
        ("lora", {"rank": 17}, "rank=17 exceeds the smaller side of 'encoder.0.attn.q'"),
        ("lora", {"alpha": -1}, "alpha=-1 is not valid"),
        ("lora", {"roles": []}, r"roles=\[\] is not valid"),
        ("lora", {"roles": "attn"}, "roles='attn' is not valid"),
        ("lora", {"roles": ["mlp.norm"]}, "needs a linear layer; 'encoder.0.mlp.norm' is a norm"),
        ("adapter", {"bottleneck": -2}, "bottleneck=-2 is not valid"),
        ("prompt", {"prompt_length": 0}, "prompt_length=0 is not valid"),
        ("apet", {"operations": ["subtract"]}, "operations='subtract' is not valid"),
        ("apet", {"operations": []}, r"operations=\[\] is not valid"),
        (
            "apet",
            {"operations": ["plugin"], "roles": ["attn.k"]},
            "has nothing to train: operations plugin at roles attn.k",
        ),
        ("apet", {"allocation": "fair"}, "allocation='fair' is not valid"),
    ],
)
def test_settings_that_do_not_fit_get_one_clear_line(method, chosen, says):
    with pytest.raises(ApetError, match=says) as e:
        apet.plan(build("bert"), method, **chosen)
    assert "\n" not in str(e.value)


def test_settings_beside_a_finished_method_are_refused():
    from apet.methods import make_method

    with pytest.raises(ApetError, match="settings rank came beside a finished lora method"):
        apet.plan(build("bert"), make_method("lora"), rank=4)


# Backbones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "nearest"), [("bert-smal", "bert-small"), ("t5-v1.1-xxxl", "t5-v1.1-xxl")])
def test_an_unknown_backbone_lists_the_nearest(name, nearest):
    with pytest.raises(
        ApetError, match=f"unknown backbone '{name}'; nearest: .*{nearest}.*local folder if you are offline"
    ):
        apet.describe(name)


def test_folders_that_hold_no_backbone_are_refused(tmp_path):
    with pytest.raises(ApetError, match=r"has no config\.json"):
        apet.describe(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ApetError, match="the config file at") as e:
        apet.describe(str(tmp_path))
    assert "\n" not in str(e.value)
    for nowhere in (str(tmp_path / "none"), "./none", "", str(tmp_path / "config.json")):
        with pytest.raises(ApetError, match="is not a folder"):
            apet.describe(nowhere)


def test_a_local_folder_serves_as_a_name(tmp_path):
    model = build("bert")
    model.save_pretrained(tmp_path)
    assert apet.plan(str(tmp_path), "lora", 90).fingerprint == apet.plan(model, "lora", 90).fingerprint


@pytest.mark.parametrize("thing", [None, 3, nn.Linear(2, 2), ViTConfig()], ids=["none", "number", "linear", "vision"])
def test_what_is_no_backbone_is_refused(thing):
    with pytest.raises(ApetError) as e:
        apet.describe(thing)
    assert "\n" not in str(e.value)


def test_planning_leaves_the_callers_configuration_alone():
    config = BertConfig(num_labels=5, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    before = config.to_dict()
    assert apet.describe(config).num_head_parameters == 5 * 16 + 5
    assert config.to_dict() == before


# Architectures that no family names -----------------------------------------------------------------------------


class NovaConfig(LlamaConfig):
    model_type = "nova"


class NovaForCausalLM(LlamaForCausalLM):
    config_class = NovaConfig


TINY = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def test_an_unknown_architecture_has_the_names_that_its_paths_tell():
    """Nova keeps Llama's module tree under a name of its own."""
    model = NovaForCausalLM(NovaConfig(**TINY)).eval()
    backbone = apet.describe(model)
    llama = apet.describe(LlamaForCausalLM(LlamaConfig(**TINY)))
    assert backbone.family == backbone.model_type == "nova"
    assert {p.name for p in backbone.positions} == {p.name for p in llama.positions}
    assert {x.name: x.constant_has_effect for x in backbone.layers} == {
        x.name: x.constant_has_effect for x in llama.layers
    }
    assert (backbone.kind, backbone.prompt_insertion) == (llama.kind, llama.prompt_insertion)
    assert all(p.carrier == "in_place" for p in backbone.positions)
    handle = apet.attach(model, apet.plan(model, "apet", 300))
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    assert sum(v.grad.numel() for v in handle.parameters()) == 300


class OddConfig(PreTrainedConfig):
    model_type = "odd"


class OddModel(PreTrainedModel):
    config_class = OddConfig

    def __init__(self, config):
        super().__init__(config)
        self.mystery = nn.Linear(3, 3)


def test_an_architecture_that_cannot_be_tried_is_described_by_its_paths_alone_and_says_so():
    backbone = apet.describe(OddModel(OddConfig()))
    assert [p.name for p in backbone.positions] == ["mystery.weight", "mystery.bias", "mystery.output"]
    assert "unexpected keyword argument 'input_ids'" in backbone.unprobed
    assert {p.carrier for p in backbone.positions if p.parameter == "weight"} == {"substituted"}
    with pytest.raises(ApetError, match=r"transformers has no .* model for 'odd'"):
        apet.describe(OddConfig())


def test_a_module_that_somebody_put_into_a_known_architecture_is_addressed_by_its_path():
    """Whether it is used is not known: its gradient is taken from where it is right in either case."""
    model = build("bert")
    model.bert.encoder.layer[1].gate = nn.Linear(16, 16)
    backbone = apet.describe(model)
    assert backbone.position("bert.encoder.layer.1.gate.weight").carrier == "substituted"
    assert backbone.position("encoder.1.attn.q.weight").carrier == "in_place"


# Families -------------------------------------------------------------------------------------------------------

_D = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 61,
    "pad_token_id": 0,
    "num_key_value_heads": 1,
}
_T5 = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
    "vocab_size": 61,
    "decoder_start_token_id": 0,
}
_SIZES = {
    "t5": _T5, "mt5": _T5, "umt5": _T5,
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 61},
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2, "vocab_size": 61},
    "opt": {**_D, "ffn_dim": 24, "word_embed_proj_dim": 16},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "vocab_size": 61},
    "qwen3": {**_D, "head_dim": 8},
}  # fmt: skip
_AUTO = {
    "encoder": AutoModelForSequenceClassification,
    "decoder": AutoModelForCausalLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}
MODEL_TYPES = [t for f in families().values() for t in f.model_types]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_model_type_that_a_family_names_is_read_whole_and_tuned(model_type):
    """Each candidate path of the family's file may be absent in one of its models, not in all."""
    family = family_of(model_type)
    config = AutoConfig.for_model(model_type, **_SIZES.get(model_type, _D))
    torch.manual_seed(0)
    model = _AUTO[family.kind].from_config(config).eval()
    backbone = apet.describe(model)
    assert backbone.family == family.name
    assert (
        sum(p.size for p in backbone.positions if p.parameter != "output") + backbone.num_head_parameters
        == model.num_parameters()
    )
    layers = {x.index for x in backbone.layers if x.stack != "lm_head"}
    assert layers == {None, 0, 1}
    handle = apet.attach(model, apet.plan(model, "apet", 400, distribution="discrete", prompt=True))
    ids = torch.arange(4, 12)[None]
    labels = {"labels": torch.tensor([1])} if family.kind == "encoder" else {"labels": ids}
    model(input_ids=ids, **labels).loss.backward()
    assert sum(v.grad.numel() for v in handle.parameters()) == 400


@pytest.mark.parametrize("family", families())
def test_every_role_of_a_family_is_played_in_some_model(family):
    """A path with a typing error would be skipped in every model of the family."""
    described = [apet.describe(build(name)) for name in BUILDERS]
    described += [apet.describe(m) for m in _optional_parts()]
    played = {(x.stack, x.role) for b in described if b.family == family for x in b.layers}
    wanted = {(stack, role) for stack, roles in families()[family].stacks.items() for role in roles}
    wanted |= {("lm_head", role) for role in families()[family].lm_head}
    assert wanted <= played


def _optional_parts():
    """Models with the parts that the tiny ones lack."""
    from transformers import AutoModelForMaskedLM

    yield AutoModelForMaskedLM.from_config(AutoConfig.for_model("electra", **_D, embedding_size=8))
    yield AutoModelForMaskedLM.from_config(AutoConfig.for_model("distilbert", **_SIZES["distilbert"]))
    yield AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", **_SIZES["qwen3"]))
    yield AutoModelForCausalLM.from_config(AutoConfig.for_model("opt", **{**_SIZES["opt"], "word_embed_proj_dim": 12}))


def test_two_families_that_claim_one_model_type_are_an_error(monkeypatch):
    import dataclasses

    bert = families()["bert"]
    monkeypatch.setitem(FAMILIES._entries, "bert2", dataclasses.replace(bert, name="bert2"))
    with pytest.raises(ApetError, match="'bert' is claimed by two families: bert, bert2"):
        family_of("bert")
