"""The same numbers as trusted implementations: peft's LoRA and prompts, PyTorch's own training of biases and of all."""

from __future__ import annotations

import re

import peft
import pytest
import torch
from torch import nn
from transformers import BertModel

import apet
from apet.testing.tiny_models import batch, build, outputs, shake

LORA_TARGETS = {
    "bert": r".*\.(query|value)",
    "electra": r".*\.(query|value)",
    "distilbert": r".*\.(q_lin|v_lin)",
    "t5-gated": r".*SelfAttention\.(q|v)",
    "t5-relu-tied": r".*SelfAttention\.(q|v)",
    "llama": r".*\.(q_proj|v_proj)",
    "opt": r".*\.(q_proj|v_proj)",
    "gpt2": r".*\.c_attn",
    "bloom": r".*\.query_key_value",
}


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def pairs_of(theirs: nn.Module) -> dict[str, nn.Module]:
    """peft's adapted layers by the name of the layer they replaced."""
    found = {n: m for n, m in theirs.named_modules() if hasattr(m, "lora_A")}
    return {n.removeprefix("base_model.model."): m for n, m in found.items()}


@pytest.mark.parametrize("family", LORA_TARGETS)
def test_lora_computes_and_learns_what_pefts_does(family):
    ours, theirs = build(family), build(family)
    handle = apet.attach(ours, apet.plan(ours, "lora"))
    shake(handle)
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=LORA_TARGETS[family], fan_in_fan_out=family == "gpt2")
    theirs = peft.get_peft_model(theirs, config).eval()
    layer_of = {x.name: x for x in apet.describe(ours).layers}
    adapted, values = pairs_of(theirs), dict(handle.values())
    sites = {name.rpartition("/")[0] for name in values}
    assert {layer_of[s].module for s in sites} == set(adapted)

    def factors(site):
        x, pair = layer_of[site], adapted[layer_of[site].module]
        down, up = values[f"{site}/lora_A"].view(x.d_in, 8), values[f"{site}/lora_B"].view(8, x.d_out)
        return (down, pair.lora_A["default"].weight), (up, pair.lora_B["default"].weight)

    with torch.no_grad():
        for site in sites:
            for mine, peers in factors(site):
                peers.copy_(mine.t())
    inputs = batch(ours)
    mine, peers = ours(**inputs), theirs(**inputs)
    close(mine.logits, peers.logits)
    mine.loss.backward()
    peers.loss.backward()
    for site in sites:
        for name, (_, weight) in zip(("lora_A", "lora_B"), factors(site), strict=True):
            close(values[f"{site}/{name}"].grad.view(weight.shape[::-1]), weight.grad.t())
    assert theirs.get_nb_trainable_parameters()[0] == handle.spec.num_trainable


PROMPTED = {
    "t5-gated": "SEQ_2_SEQ_LM",
    "t5-relu-tied": "SEQ_2_SEQ_LM",
    "llama": "CAUSAL_LM",
    "gpt2": "CAUSAL_LM",
    "bert": "FEATURE_EXTRACTION",
    "bloom": "CAUSAL_LM",
}


@pytest.mark.parametrize("family", PROMPTED)
def test_prompts_compute_and_learn_what_pefts_do(family):
    """On right-padded text, where both sit at its very beginning. peft also returns what it computes at the prompt."""
    n = 5
    ours, theirs = build(family), build(family)
    if family == "bert":
        ours, theirs = (BertModel(m.config).eval() for m in (ours, theirs))
        theirs.load_state_dict(ours.state_dict())
    handle = apet.attach(ours, apet.plan(ours, "prompt", prompt_length=n))
    shake(handle, 0.5)
    config = peft.PromptTuningConfig(task_type=PROMPTED[family], num_virtual_tokens=n, num_transformer_submodules=1)
    theirs = peft.get_peft_model(theirs, config).eval()
    (values,) = (v for _, v in handle.values())
    prompt = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        prompt.copy_(values.view(prompt.shape))
    inputs = batch(ours) if family != "bert" else {k: v for k, v in batch(build("bert")).items() if k != "labels"}
    mine, peers = ours(**inputs), theirs(**inputs)
    real = inputs["attention_mask"].bool()
    if family == "bert":
        a, b = mine.last_hidden_state[real], peers.last_hidden_state[:, n:][real]
        close(a, b)
        a.square().sum().backward()
        b.square().sum().backward()
    else:
        seq2seq = PROMPTED[family] == "SEQ_2_SEQ_LM"
        a, b = (mine.logits, peers.logits) if seq2seq else (mine.logits[real], peers.logits[:, n:][real])
        close(a, b)
        if not seq2seq:  # peft's loss also asks the last soft token for the first word
            a.logsumexp(-1).sum().backward()
            b.logsumexp(-1).sum().backward()
        else:
            mine.loss.backward()
            peers.loss.backward()
    close(values.grad.view(prompt.shape), prompt.grad)


OWN_BIASES = re.compile(
    r"bert\.encoder\.layer\.\d+\.(attention\.self\.(query|key|value)|attention\.output\.(dense|LayerNorm)"
    r"|output\.(dense|LayerNorm))\.bias"
)


def train(model, parameters, steps: int = 6) -> list[float]:
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0, eps=1e-6)
    losses = []
    for _ in range(steps):
        loss = model(**batch(model)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_bitfit_on_bert_is_training_its_own_biases():
    ours, plain = build("bert"), build("bert")
    handle = apet.attach(ours, apet.plan(ours, "bitfit"))
    own = [p.requires_grad_(bool(OWN_BIASES.fullmatch(n))) for n, p in plain.named_parameters()]
    own = [p for p in own if p.requires_grad]
    assert sum(p.numel() for p in own) == handle.spec.num_trainable
    assert train(ours, handle.parameters()) == pytest.approx(train(plain, own), rel=1e-5)
    handle.refresh()
    for name, p in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).detach(), p.detach(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("family", ["bert", "t5-relu-tied", "t5-gated", "gpt2", "llama"])
def test_fine_tuning_is_plain_adamw_on_every_parameter(family):
    """Tied embeddings too. Without weight decay: ours would pull to the backbone, plain training pulls to zero."""
    ours, plain = build(family), build(family)
    handle = apet.attach(ours, apet.plan(ours, "fine-tuning"), head="trained" if family == "bert" else "frozen")
    losses = train(plain, plain.parameters())
    assert train(ours, handle.parameters()) == pytest.approx(losses, rel=1e-4)
    assert losses[-1] < 0.98 * losses[0], "or it proves nothing"
    handle.refresh()
    for name, p in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).detach(), p.detach(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["t5-gated", "gpt2", "bert"])
def test_an_adapter_is_the_formula_of_equation_17(family):
    """Against a plain nn.Module put around the layer by hand."""
    ours, plain = build(family), build(family)
    layer = apet.describe(ours).select(["*.1.mlp.down"])[-1]
    handle = apet.attach(ours, apet.plan(ours, "adapter", bottleneck=3, roles=[layer.name]))
    shake(handle, 0.3)
    v = {name.rpartition("/")[2]: t.detach().clone().requires_grad_() for name, t in handle.values()}
    d = layer.d_out

    def adapter(module, args, h):
        return (
            h
            + nn.functional.gelu(h @ v["down_proj.weight"].view(d, 3) + v["down_proj.bias"])
            @ v["up_proj.weight"].view(3, d)
            + v["up_proj.bias"]
        )

    plain.get_submodule(layer.module).register_forward_hook(adapter)
    inputs = batch(ours)
    mine, reference = ours(**inputs), plain(**inputs)
    close(mine.logits, reference.logits)
    mine.loss.backward()
    reference.loss.backward()
    for name, t in handle.values():
        close(t.grad, v[name.rpartition("/")[2]].grad)


IA3_TARGETS = {
    "bert": (["key", "value", "output.dense"], ["output.dense"], r"attention\.output"),
    "llama": (["k_proj", "v_proj", "down_proj"], ["down_proj"], None),
    "t5-gated": (["k", "v", "wo"], ["wo"], None),
    "gpt2": (["c_attn", "mlp.c_proj"], ["mlp.c_proj"], None),
}


@pytest.mark.parametrize("family", IA3_TARGETS)
def test_ia3_computes_and_learns_what_pefts_does(family):
    ours, reference = build(family), build(family)
    handle = apet.attach(ours, apet.plan(ours, "ia3"))
    shake(handle, 0.3)
    targets, feedforward, excluded = IA3_TARGETS[family]
    config = peft.IA3Config(
        target_modules=targets, feedforward_modules=feedforward, exclude_modules=excluded and f".*{excluded}.*",
        fan_in_fan_out=family == "gpt2",
    )  # fmt: skip
    reference = peft.get_peft_model(reference, config).eval()
    scaled = {n.removeprefix("base_model.model."): m for n, m in reference.named_modules() if hasattr(m, "ia3_l")}
    module_of = {x.name: x.module for x in apet.describe(ours).layers}
    factors = {}
    for name, offset in handle.values():
        layer = name.rpartition("/")[0].rpartition(".")[0]
        factors[name] = scaled.pop(module_of[layer]).ia3_l["default"]
        with torch.no_grad():
            factors[name].copy_((1 + offset).view_as(factors[name]))
    assert not scaled, f"peft scales more: {list(scaled)}"
    inputs = batch(ours)
    close(outputs(ours, inputs), outputs(reference, inputs))
    for model in (ours, reference):
        model(**inputs).loss.backward()
    for name, offset in handle.values():
        close(offset.grad, factors[name].grad.reshape(-1))


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5-gated"])
def test_ln_tuning_trains_what_pefts_does(family):
    """The same parameters, the same gradients."""
    ours, reference = build(family), build(family)
    norms = {x.module: x for x in apet.describe(ours).layers if x.kind == "norm"}
    handle = apet.attach(ours, apet.plan(ours, "ln-tuning"))
    reference = peft.get_peft_model(reference, peft.LNTuningConfig(target_modules=list(norms))).eval()
    trained = {n: p for n, p in reference.named_parameters() if p.requires_grad}
    assert handle.spec.num_trainable == sum(p.numel() for p in trained.values())
    inputs = batch(ours)
    for model in (ours, reference):
        model(**inputs).loss.backward()
    for name, values in handle.values():
        layer, _, parameter = name.rpartition("/")[0].rpartition(".")
        module = next(m for m, x in norms.items() if x.name == layer)
        expected = next(p for n, p in trained.items() if f"{module}.ln_tuning_layers.default.{parameter}" in n)
        close(values.grad, expected.grad)
