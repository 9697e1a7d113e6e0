"""Deltas and adapters of peft: what one computes the other computes, or it is refused with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from torch import nn

import apet
from apet import ApetError, DeltaSpec
from apet.interop.peft_adapter import read_adapter, write_adapter
from apet.interop.peft_export import peft_adapter
from apet.testing.tiny_models import batch, build, outputs, shake

FAMILIES = ("bert", "roberta", "distilbert", "bert-mlm", "gpt2", "llama", "t5-relu-tied", "t5-gated")
TASK_TYPE = {"gpt2": "CAUSAL_LM", "llama": "CAUSAL_LM", "t5-relu-tied": "SEQ_2_SEQ_LM", "t5-gated": "SEQ_2_SEQ_LM"}
TASK_TYPE |= {"bert": "SEQ_CLS", "roberta": "SEQ_CLS", "distilbert": "SEQ_CLS", "bert-mlm": None}

LINEAR_OF = {"bert": ["attn.q", "mlp.up"], "llama": ["attn.q", "mlp.up"], "t5-gated": ["attn.q", "mlp.up"]}


def tuned(family: str, method: str, head: str = "frozen", **settings):
    """A model, its shaken delta, and what it computes."""
    model = build(family)
    spec = apet.plan(model, method, **settings)
    if method == "apet":  # entries of weights alone: a model without biases would get some
        kept = tuple(i for i in spec.insertions if i.form != "bias")
        spec = DeltaSpec(kept, spec.backbone, spec.num_backbone_parameters)
    handle = apet.attach(model, spec, head=head)
    shake(handle)
    handle.refresh()
    inputs = batch(model)
    inputs.pop("labels", None) if "t5" not in family else None
    return handle, inputs, outputs(model, inputs)


def exported(handle, family: str, folder: Path) -> Path:
    """The delta as a folder of peft."""
    values = {name: v.detach().clone() for name, v in handle.values()}
    head = {name: v.detach().clone() for name, v in handle.head_values()}
    spec, model = handle.spec, handle.model
    handle.detach()
    folder.mkdir()
    write_adapter(folder, peft_adapter(model, spec, values, head, TASK_TYPE[family], "some/backbone"))
    return folder


def in_peft(family: str, folder: Path) -> nn.Module:
    """The adapter on a fresh backbone, as a user of peft loads it."""
    return peft.PeftModel.from_pretrained(build(family), folder).eval()


def close(a, b) -> bool:
    return bool(torch.allclose(a, b, rtol=1e-6, atol=2e-6))


EXPORTS = [
    *((family, method, "dense", {}) for family in FAMILIES for method in ("lora", "ia3")),
    *((family, "lora", "masked", {"budget": 300, "distribution": "discrete"}) for family in FAMILIES),
    *((family, "ln-tuning", "", {}) for family in FAMILIES),
    *((family, "bitfit", "", {}) for family in FAMILIES if family not in ("llama", "t5-relu-tied", "t5-gated")),
    ("llama", "bitfit", "", {"roles": ["attn.q", "attn.v"]}),
    ("t5-gated", "bitfit", "", {"roles": ["attn.q", "mlp.down"]}),
    *((f, "prompt", "", {"prompt_length": 3}) for f in ("gpt2", "llama", "t5-relu-tied", "t5-gated")),
    *(
        (f, "apet", "sparse", {"operations": ["add"], "roles": r, "budget": 200, "sites": "all"})
        for f, r in LINEAR_OF.items()
    ),
    ("gpt2", "apet", "whole", {"operations": ["add"], "roles": ["attn.out"], "budget": 20}),
    ("bert", "apet", "with norms", {"operations": ["add"], "roles": ["mlp.norm", "attn.q"], "budget": 500}),
    ("bert", "apet", "several ranks", {"operations": ["concatenate"], "budget": 600}),
]


@pytest.mark.parametrize(("family", "method", "which", "settings"), EXPORTS)
def test_peft_computes_what_the_delta_computed(family, method, which, settings, tmp_path):
    handle, inputs, expected = tuned(family, method, **settings)
    before = outputs(build(family), inputs)
    got = in_peft(family, exported(handle, family, tmp_path / "adapter"))
    logits = outputs(got, inputs)[:, -expected.shape[1] :] if method == "prompt" else outputs(got, inputs)
    assert not close(expected, before), "or there were nothing to compare"
    assert close(logits, expected), float((logits - expected).abs().max())


@pytest.mark.parametrize(("family", "method", "which", "settings"), EXPORTS)
def test_an_exported_delta_comes_back(family, method, which, settings, tmp_path):
    handle, inputs, expected = tuned(family, method, **settings)
    folder = exported(handle, family, tmp_path / "adapter")
    again = apet.import_peft(build(family), folder, tmp_path / "delta")
    assert close(outputs(again.model, inputs), expected)
    loaded = apet.load(build(family), tmp_path / "delta")
    assert torch.equal(outputs(loaded.model, inputs), outputs(again.model, inputs))
    assert loaded.spec.method.startswith("peft-")


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("method", ["lora", "ia3", "bitfit", "ln-tuning"])
def test_a_trained_head_goes_along(family, method, tmp_path):
    handle, inputs, expected = tuned(family, method, head="trained")
    folder = exported(handle, family, tmp_path / "adapter")
    fresh = build(family)
    for name in apet.describe(fresh).head:
        nn.init.normal_(fresh.get_parameter(name))  # a head that nobody trained
    assert close(outputs(peft.PeftModel.from_pretrained(fresh, folder).eval(), inputs), expected)
    assert close(outputs(apet.import_peft(build(family), folder).model, inputs), expected)


@pytest.mark.parametrize("kind", ["smaller", "larger"])
def test_layers_of_different_density_share_one_sparsity(kind, tmp_path):
    """Zeros fill up where a layer has fewer entries than its share."""
    model = build("bert")
    sizes = {"attn.q": 1 if kind == "smaller" else 256, "mlp.up": 100}
    parts = [
        apet.plan(model, "apet", n, operations=["add"], roles=[f"encoder.0.{r}"], sites=1) for r, n in sizes.items()
    ]
    weights = tuple(i for part in parts for i in part.insertions)
    handle = apet.attach(model, DeltaSpec(weights, parts[0].backbone, parts[0].num_backbone_parameters))
    shake(handle)
    inputs = batch(model)
    expected = outputs(model, inputs)
    assert close(outputs(in_peft("bert", exported(handle, "bert", tmp_path / "adapter")), inputs), expected)


# What peft wrote --------------------------------------------------------------------------------------------------

ADAPTERS = {
    "lora": lambda names: peft.LoraConfig(r=3, lora_alpha=5, target_modules=names, init_lora_weights=False),
    "rslora": lambda names: peft.LoraConfig(r=4, use_rslora=True, target_modules=names, init_lora_weights=False),
    "lora with all biases": lambda names: peft.LoraConfig(
        r=2, bias="all", target_modules=names, init_lora_weights=False
    ),
    "patterns": lambda names: peft.LoraConfig(
        r=4, target_modules=names, rank_pattern={names[0]: 2}, alpha_pattern={names[1]: 3}, init_lora_weights=False
    ),
    "ia3": lambda names: peft.IA3Config(target_modules=names, feedforward_modules=names[1:], init_ia3_weights=False),
    "beft": lambda names: peft.BeftConfig(target_modules=names, init_weights=False),
    "shira": lambda names: peft.ShiraConfig(r=2, target_modules=names, init_weights=False),
    "super-tuning": lambda names: peft.SupertuningConfig(target_modules=names, sparsity=0.9, init_weights=False),
    "ln-tuning": None,
    "prompt": None,
}
NAMES = {
    "bert": (["query", "intermediate.dense"], ["LayerNorm"]),
    "gpt2": (["c_attn", "c_fc"], ["ln_1"]),
    "llama": (["q_proj", "down_proj"], ["input_layernorm"]),
    "t5-gated": (["q", "wo"], ["layer_norm"]),
}
LINEAR_ONLY = ("beft", "shira", "super-tuning")


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("form", ADAPTERS)
def test_an_adapter_of_peft_computes_the_same_as_a_delta(family, form, tmp_path):
    if family == "gpt2" and form in LINEAR_ONLY:
        pytest.skip("peft has it for nn.Linear alone")
    if family == "bert" and form == "prompt":
        pytest.skip("refused, as tested below")
    linear, norms = NAMES[family]
    config = {"prompt": lambda n: peft.PromptTuningConfig(num_virtual_tokens=3, num_transformer_submodules=1)}.get(
        form, ADAPTERS[form] or (lambda n: peft.LNTuningConfig(target_modules=norms))
    )(linear)
    config.task_type = TASK_TYPE[family]
    torch.manual_seed(4)
    model = peft.get_peft_model(build(family), config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad and "lora" not in name:
                p.add_(torch.randn_like(p) * 0.05)
    model.save_pretrained(tmp_path / "adapter")
    inputs = batch(model.get_base_model())
    inputs.pop("labels", None) if "t5" not in family else None
    expected = outputs(model.eval(), inputs)
    handle = apet.import_peft(build(family), tmp_path / "adapter", tmp_path / "delta")
    got = outputs(handle.model, inputs)
    assert not close(outputs(build(family), inputs), got)
    assert close(got, expected[:, -got.shape[1] :] if form == "prompt" else expected)
    assert close(outputs(apet.load(build(family), tmp_path / "delta").model, inputs), got)


# What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "method", "settings", "says"),
    [
        (
            "bert",
            "adapter",
            {},
            r"no form for a bottleneck adapter \(at 'encoder\.0\.attn\.out'\); --to delta takes any",
        ),
        ("bert", "prompt", {"prompt_length": 3}, "an encoder reads its answer off a place of the text"),
        ("llama", "bitfit", {}, "no form for a bias on the output of attn.norm"),
        (
            "gpt2",
            "apet",
            {"operations": ["add"], "roles": ["embed.tokens"], "budget": 9},
            "which another layer computes with, too",
        ),
        ("bert", "fine-tuning", {}, "parameters whole"),
    ],
)
def test_what_peft_cannot_hold_is_refused_with_what_to_use(family, method, settings, says, tmp_path):
    handle, _, _ = tuned(family, method, **settings)
    with pytest.raises(ApetError, match=says) as e:
        exported(handle, family, tmp_path / "adapter")
    assert "--to delta" in str(e.value)


@pytest.fixture
def adapter(tmp_path):
    """A LoRA of peft on the tiny BERT, as peft saves it."""
    config = peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS", init_lora_weights=False)
    peft.get_peft_model(build("bert"), config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def changed(folder: Path, **settings) -> Path:
    """The adapter with other words in its configuration."""
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    return folder


def test_what_is_no_adapter_or_a_damaged_one_gets_one_line(adapter, tmp_path):
    with pytest.raises(ApetError, match=r"no adapter of peft at .*; give an adapter's folder"):
        apet.import_peft(build("bert"), tmp_path)
    content = (adapter / "adapter_model.safetensors").read_bytes()
    (adapter / "adapter_model.safetensors").write_bytes(content[:-40])
    with pytest.raises(ApetError, match=r"is damaged \(.*\); take another copy"):
        apet.import_peft(build("bert"), adapter)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ApetError, match="which writes safetensors"):
        apet.import_peft(build("bert"), adapter)


def test_another_form_or_another_model_is_refused_and_the_model_stays_as_it_was(adapter, tmp_path):
    with pytest.raises(ApetError, match=r"this GPT2LMHeadModel; load the model that it was trained on"):
        apet.import_peft(build("gpt2"), adapter)
    with pytest.raises(ApetError, match="with use_dora is not read; merge it in peft"):
        apet.import_peft(build("bert"), changed(adapter, use_dora=True))
    with pytest.raises(ApetError, match=r"peft's VERA is not read; what is: BEFT, IA3, LN_TUNING, LORA,"):
        apet.import_peft(build("bert"), changed(adapter, peft_type="VERA"))
    model = build("bert")
    (tmp_path / "file").write_text("theirs")
    with pytest.raises(apet.CannotWriteError):
        apet.import_peft(model, changed(adapter, peft_type="LORA", use_dora=False), tmp_path / "file")
    assert apet.attached(model) == []


def test_a_prompt_of_an_encoder_is_refused(tmp_path):
    config = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="SEQ_CLS")
    peft.get_peft_model(build("bert"), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ApetError, match=r"the prompt in .* is not read for a BertForSequenceClassification"):
        apet.import_peft(build("bert"), tmp_path / "adapter")


def test_without_peft_the_error_says_what_to_install(monkeypatch, tmp_path):
    handle, _, _ = tuned("bert", "lora")
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ApetError, match=r"pip install -U 'apet\[peft\]'"):
        exported(handle, "bert", tmp_path / "adapter")


def test_an_adapter_is_read_as_it_was_written(tmp_path):
    handle, _, _ = tuned("bert", "lora")
    folder = exported(handle, "bert", tmp_path / "adapter")
    read = read_adapter(folder)
    assert (read.kind, read.config["base_model_name_or_path"], read.config["r"]) == ("LORA", "some/backbone", 8)
    assert (folder / "adapter_model.safetensors").stat().st_mode == (folder / "adapter_config.json").stat().st_mode
