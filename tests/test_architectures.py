"""Any text architecture of transformers: described alike from anywhere, every method right or refused with a reason.

The quick part holds forty model types; the slow part all pairs of type and class that transformers maps. The table of
all of them is docs/results/architectures.md.
"""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import apet
from apet.backbones.loading import load_model
from apet.errors import ApetError
from apet.testing.architecture_checks import check_generation, check_method
from apet.testing.architectures import ARCHITECTURES, architecture_batch, build_architecture
from apet.testing.tiny_models import batch, build, shake

QUICK = {
    "next-token": (
        "bloom", "codegen", "cohere", "cohere2", "ctrl", "deepseek_v3", "falcon", "gemma", "gemma2", "gemma3_text",
        "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_oss", "gptj", "granite", "jamba", "llama", "mamba", "mixtral", "mpt",
        "olmo2", "phi", "phi3", "qwen2_moe", "qwen3", "qwen3_moe", "stablelm", "starcoder2", "xglm",
    ),
    "text-to-text": ("bart", "m2m_100", "marian", "pegasus", "switch_transformers", "t5"),
    "masked-label-word": ("albert", "deberta-v2", "mobilebert", "modernbert"),
    "classification-head": ("bert", "deberta", "roberta", "xlnet"),
}  # fmt: skip
METHODS = ("lora", "fine-tuning", "apet-adjacent", "apet-discrete")
pairs = pytest.mark.parametrize(
    ("model_type", "objective"),
    [
        pytest.param(
            a.model_type,
            a.objective,
            marks=() if a.model_type in QUICK[a.objective] else (pytest.mark.slow,),
            id=f"{a.model_type}-{a.objective}",
        )
        for a in ARCHITECTURES
    ],
)


def built(model_type, objective):
    """The model, or a skip with transformers' own reason."""
    try:
        model = build_architecture(model_type, objective)
        model(**architecture_batch(model)).loss.backward()
    except Exception as e:
        pytest.skip(f"transformers does not run it on text alone: {type(e).__name__}")
    model.zero_grad(set_to_none=True)
    return model


@pairs
def test_methods_are_right_on_every_architecture_or_refused_with_a_reason(model_type, objective):
    """Exact N, identity, the gradient of every entry, bits back, files."""
    model = built(model_type, objective)
    verdicts = {method: check_method(model, architecture_batch(model), method) for method in METHODS}
    assert not {m: v.reason for m, v in verdicts.items() if v.status == "wrong"}
    assert all(v.reason for v in verdicts.values() if v.status == "refused")
    if model_type in QUICK[objective]:
        assert {v.status for v in verdicts.values()} == {"right"}


@pairs
def test_a_configuration_tells_the_same_positions_as_the_model(model_type, objective):
    """Also every parameter is a position, a part of the head, or named as unreached."""
    model = built(model_type, objective)
    backbone = apet.describe(model)
    with torch.device("meta"):
        on_meta = type(model)(model.config)
    assert apet.describe(on_meta) == backbone
    names = [p.name for p in backbone.positions]
    assert len(names) == len(set(names))
    covered = sum(p.size for p in backbone.positions if p.parameter != "output") + backbone.num_head_parameters
    left_out = sum(model.get_parameter(name).numel() for name in backbone.unreached)
    assert covered + left_out == backbone.num_parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("model_type", [t for t in QUICK["next-token"] if t not in ("ctrl", "jamba")])
@pytest.mark.parametrize("method", ["apet-discrete", "prompt"])
def test_it_generates_the_same_with_a_cache_and_beside_padding(model_type, method):
    model = build_architecture(model_type, "next-token")
    verdict = check_generation(model, architecture_batch(model, left=True), method)
    assert verdict.status == "right", verdict.reason


@pytest.mark.parametrize("model_type", QUICK["text-to-text"])
def test_an_encoder_decoder_generates_the_same_with_a_prompt_and_a_cache(model_type):
    model = build_architecture(model_type, "text-to-text")
    verdict = check_generation(model, architecture_batch(model, left=True), "prompt")
    assert verdict.status == "right", verdict.reason


PROMPTED = ("gemma2", "gpt_bigcode", "gpt_neox", "gpt_oss", "mamba", "mixtral", "phi3", "qwen3_moe", "stablelm")


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"cache_implementation": "static"}], ids=str)
@pytest.mark.parametrize("model_type", PROMPTED)
def test_a_prompt_of_word_vectors_is_these_words_before_the_text(model_type, settings):
    """Greedy, by beams and with a static cache, beside padding on the left."""
    model = build_architecture(model_type, "next-token")
    inputs = architecture_batch(model, left=True)
    ids, mask, start = inputs["input_ids"], inputs["attention_mask"], inputs["attention_mask"].argmax(1)
    words = torch.tensor([11, 7, 23])
    with_words = [torch.cat([row[:n], words, row[n:]]) for row, n in zip(ids, start.tolist(), strict=True)]
    with_words_mask = torch.cat([mask, mask.new_ones(len(mask), 3)], 1)  # the padding stays in front
    how = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, **settings}
    try:
        expected = model.generate(torch.stack(with_words), attention_mask=with_words_mask.sort(1).values, **how)[:, -5:]
    except Exception as e:
        pytest.skip(f"the model itself does not generate so: {type(e).__name__}")
    handle = apet.attach(model, apet.plan(model, "prompt", prompt_length=3))
    with torch.no_grad():
        (values,) = (v for _, v in handle.values())
        values.copy_(model.get_input_embeddings()(words).flatten())
    assert torch.equal(model.generate(ids, attention_mask=mask, **how)[:, -5:], expected)


# What was silently wrong, crashed, or was refused ------------------------------------------------------------------

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MORE = {"intermediate_size": 48, "num_key_value_heads": 2}
LOOK_ALIKES = {
    # A norm that subtracts the mean and is no nn.LayerNorm.
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SMALL, **MORE, bos_token_id=1, eos_token_id=2, pad_token_id=0)),
    # An embedding that multiplies by the square root of the width, in a subclass.
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SMALL, **MORE, head_dim=8)),
    # A block that adds in place to what a tapped layer returned.
    "falcon": lambda: FalconForCausalLM(FalconConfig(**SMALL)),
}


@pytest.mark.parametrize("carrier", ["in_place", "substituted", "additive"])
@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_every_carrier_gives_the_gradient_of_dense_autograd(name, carrier):
    torch.manual_seed(0)
    model = LOOK_ALIKES[name]().eval()
    ids = torch.randint(5, 97, (4, 16))
    model(input_ids=ids, labels=ids).loss.backward()
    dense = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    handle = apet.attach(model, apet.plan(model, "apet", 3000, operations=["add"]), carrier=carrier)
    model(input_ids=ids, labels=ids).loss.backward()
    backbone = apet.describe(model)
    for insertion, (_, values) in zip(handle.spec.insertions, handle.values(), strict=True):
        if insertion.form == "weight":
            p = backbone.position(insertion.position)
            expected = dense[f"{p.module}.{p.parameter}"].flatten()[insertion.weights[0].mask.indices]
            torch.testing.assert_close(values.grad, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("method", ["apet", "fine-tuning", "lora"])
def test_an_untied_t5_is_one_architecture_from_its_folder_and_its_configuration(tmp_path, method):
    """A T5 v1.1 that was saved with random weights: transformers ties its output projection when it loads it."""
    config = T5Config(
        vocab_size=97, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, tie_word_embeddings=False,
        decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    model = load_model(str(tmp_path), "text-to-text", 2, torch.float32)
    assert apet.describe(str(tmp_path)) == apet.describe(model)
    handle = apet.attach(model, apet.plan(str(tmp_path), method))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == handle.spec.num_trainable


def test_experts_are_positions_that_can_be_chosen_by_role():
    torch.manual_seed(0)
    model = MixtralForCausalLM(MixtralConfig(**SMALL, **MORE, num_local_experts=4)).eval()
    spec = apet.plan(model, "apet", 500, roles=["mlp.experts"])
    assert {i.position for i in spec.insertions} == {
        f"decoder.{n}.mlp.experts.{name}" for n in range(2) for name in ("gate_up_proj", "down_proj")
    }
    with pytest.raises(ApetError, match=r"adapter trains at attn.out and mlp.down; MixtralForCausalLM has no mlp.down"):
        apet.plan(model, "adapter")
    assert apet.plan(model, "adapter", 300, roles=["attn.out"]).num_trainable == 300
    with pytest.raises(ApetError, match=r"an adapter needs a hidden state; 'decoder.0.mlp.experts'"):
        apet.plan(model, "adapter", roles=["mlp.experts"])
    with pytest.raises(ApetError, match=r"'model.layers.0.mlp.experts.gate_up_proj' .* cannot be trained by adding"):
        apet.attach(model, spec, carrier="additive")
    assert not apet.attached(model)


# Substituted gradients ----------------------------------------------------------------------------------------------


def test_a_substituted_gradient_survives_checkpointing_and_a_second_delta():
    """A recomputed block enters by itself; two deltas on one parameter get their own entries."""
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = MixtralForCausalLM(MixtralConfig(**SMALL, **MORE, num_local_experts=4))
        ids = torch.randint(5, 97, (4, 16))
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        specs = [apet.plan(model, "apet", 300, roles=["mlp.experts"], mask_seed=seed) for seed in (0, 1)]
        handles = [apet.attach(model, spec) for spec in specs]
        for handle in handles:
            shake(handle, 0.1)
        model.train()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        gradients.append([v.grad.clone() for h in handles for v in h.parameters()])
        experts = model.model.layers[0].mlp.experts
        assert "gate_up_proj" not in vars(experts), "the alias must not stay behind"
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain.any()
        torch.testing.assert_close(plain, recomputed)


def test_a_forward_that_fails_leaves_no_alias_behind():
    model = build("bert")
    apet.attach(model, apet.plan(model, "fine-tuning"), carrier="substituted")
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[10**6]]))
    assert not any(isinstance(v, torch.Tensor) for m in model.modules() for v in vars(m).values())
    model(**batch(model)).loss.backward()


def test_a_copy_of_a_model_trains_its_own_values():
    model = build("gpt2")
    apet.attach(model, apet.plan(model, "apet", 200, operations=["add"]), carrier="substituted")
    twin = copy.deepcopy(model)
    twin(**batch(twin)).loss.backward()
    assert all(p.grad is None for p in model.parameters())
    assert any(p.grad is not None for p in twin.parameters())


def test_nothing_is_written_into_a_weight_by_an_additive_delta():
    model = build("gpt2")
    before = {n: p.clone() for n, p in model.named_parameters()}
    handle = apet.attach(model, apet.plan(model, "apet", 300, operations=["add"]), carrier="additive")
    shake(handle, 0.3)
    with torch.no_grad():
        added = model(**batch(model)).logits
    assert all(torch.equal(p, model.get_parameter(n)) for n, p in before.items())
    values = {name: v.detach().clone() for name, v in handle.values()}
    spec = handle.spec
    handle.detach()
    apet.attach(model, spec, values=values)
    with torch.no_grad():
        torch.testing.assert_close(added, model(**batch(model)).logits, rtol=1e-4, atol=1e-5)


def test_an_unknown_carrier_is_named():
    model = build("bert")
    with pytest.raises(ApetError, match="unknown carrier 'adaptive'; nearest: additive"):
        apet.attach(model, apet.plan(model, "bitfit"), carrier="adaptive")
