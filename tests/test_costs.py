"""What a training step costs, told before any weight is loaded, beside what one really takes."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, Gemma2Config, GPT2Config, LlamaConfig, MixtralConfig, T5Config

import apet
from apet.backbones.loading import build_model, meta_model
from apet.cli import main
from apet.costs import ANSWER_LENGTH, Machine, estimate
from apet.shortened import find_stacks

MACHINE = Machine(1e11, 1e10, 3e10, 5e-6)
SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
CONFIGS = {
    "bert": BertConfig(vocab_size=500, hidden_dropout_prob=0.1, **SMALL),
    "t5": T5Config(vocab_size=500, d_model=64, d_ff=128, d_kv=16, num_heads=4, num_layers=2, decoder_start_token_id=0),
    "llama": LlamaConfig(vocab_size=500, num_key_value_heads=2, **SMALL),
    "gpt2": GPT2Config(vocab_size=500, n_embd=64, n_layer=2, n_head=4, n_positions=128),
}
METHODS = ["lora", "bitfit", "adapter", "prompt", "ia3", "apet", "fine-tuning"]
BATCH, LENGTH = 8, 48


def step_of(config, model):
    """A forward and a backward with what the estimate has in mind."""
    ids = torch.randint(500, (BATCH, LENGTH))
    mask = torch.ones_like(ids)
    mask[0, :2] = 0  # texts of unlike length: without padding some models make no mask at all
    inputs = {"input_ids": ids, "attention_mask": mask}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :ANSWER_LENGTH]
    elif config.model_type in ("llama", "gpt2"):
        inputs["logits_to_keep"] = ANSWER_LENGTH

    def step():
        logits = model(**inputs).logits
        nn.functional.cross_entropy(logits.flatten(0, -2), torch.zeros(logits[..., 0].numel()).long()).backward()
        model.zero_grad(set_to_none=True)

    return step


def peak_bytes(step) -> int:
    """By the allocator's own reports."""
    step()  # what is made once and kept
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    held = highest = 0
    for _, size in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"):
        held += size
        highest = max(highest, held)
    return highest


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("method", METHODS)
def test_the_memory_of_a_step_is_what_one_takes(family, method):
    config = CONFIGS[family]
    settings = {"prompt_length": 5} if method == "prompt" else {}
    spec = apet.plan(config, method, **settings)
    told = estimate(config, spec, BATCH, LENGTH, machine=MACHINE)
    model = build_model(config).train()
    full = peak_bytes(step_of(config, model))
    apet.attach(model, spec)
    real = peak_bytes(step_of(config, model))
    assert told.full.step_bytes == pytest.approx(full, rel=0.1)
    assert told.delta.step_bytes == pytest.approx(real, rel=0.1)
    num_bytes = sum(p.nbytes for p in build_model(config).parameters())
    assert told.full.weights_bytes == told.delta.weights_bytes == num_bytes


@pytest.mark.parametrize("family", CONFIGS)
def test_the_products_of_full_fine_tuning_are_those_that_torch_counts(family):
    config = CONFIGS[family]
    config._attn_implementation = "eager"  # torch counts no fused attention on a processor
    try:
        told = estimate(
            config, apet.plan(config, "bitfit" if family != "llama" else "lora"), BATCH, LENGTH, machine=MACHINE
        )
        with FlopCounterMode(display=False) as counter:
            step_of(config, build_model(config).train())()
    finally:
        config._attn_implementation = "sdpa"
    assert told.full.flops == counter.get_total_flops()
    assert told.delta.flops < told.full.flops


def test_time_is_arithmetic_or_traffic_or_the_beginning_whichever_is_longer():
    assert MACHINE.seconds(10**11, 8) == 1
    assert MACHINE.seconds(1, 10**10) == 1
    assert MACHINE.seconds(1, 3 * 10**6) == pytest.approx(1e-4)
    assert MACHINE.seconds(0, 0) == 5e-6
    spec = apet.plan("bert-small", "lora")
    slow = estimate("bert-small", spec, 4, 32, machine=Machine(1e9, 1e12, 1e12, 0.0))
    # Without weight gradients a step is two thirds of a full one, where products alone take time.
    assert slow.relative_time == pytest.approx(2 / 3, abs=0.02)
    assert slow.delta.seconds == pytest.approx(slow.delta.flops / 1e9, rel=1e-2)


def test_more_texts_take_more_memory_and_the_weights_stay():
    spec = apet.plan("bert-small", "lora")
    one, two = (estimate("bert-small", spec, n, 32, machine=MACHINE) for n in (4, 8))
    assert one.delta.weights_bytes == two.delta.weights_bytes
    assert 1.5 < two.delta.step_bytes / one.delta.step_bytes < 2.1
    low = estimate("bert-small", spec, 4, 32, dtype=torch.bfloat16, machine=MACHINE)
    assert low.delta.weights_bytes * 2 == one.delta.weights_bytes


def test_what_depends_on_values_is_refused_in_one_line():
    config = MixtralConfig(vocab_size=99, num_key_value_heads=2, num_local_experts=2, **SMALL)
    with pytest.raises(apet.ApetError, match=r"MixtralForCausalLM .* train a few steps to see it"):
        estimate(config, apet.plan(config, "lora"), 2, 16, machine=MACHINE)
    with pytest.raises(apet.ApetError, match="length=200: GPT2LMHeadModel has places for 128 tokens"):
        estimate(CONFIGS["gpt2"], apet.plan(CONFIGS["gpt2"], "lora"), 2, 200, machine=MACHINE)
    with pytest.raises(apet.ApetError, match="has places for 118 tokens"):
        estimate(CONFIGS["gpt2"], apet.plan(CONFIGS["gpt2"], "prompt", prompt_length=10), 2, 120, machine=MACHINE)


@pytest.mark.parametrize("words", [["--length", "64"], ["--dtype", "bfloat16"]])
def test_what_is_of_the_estimate_is_not_ignored_without_it(words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["apet", "inspect", "bert-small", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "give --batch, too" in capsys.readouterr().err


def test_inspect_tells_the_costs_of_a_step(monkeypatch, capsys):
    monkeypatch.setattr("apet.costs.measure_machine", lambda dtype: MACHINE)
    for words in (["--batch", "4", "--length", "32"], ["--batch", "4", "--length", "32", "--json"]):
        monkeypatch.setattr("sys.argv", ["apet", "inspect", "bert-small", "--method", "lora", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        out = capsys.readouterr().out
        if "--json" in words:
            step = json.loads(out)["step"]
            assert 0 < step["relative_time"] < 1
            assert 0 < step["relative_memory"] < 1
            assert step["memory_bytes"] > step["weights_bytes"]
        else:
            assert "a step of 4 texts of 32 tokens in float32: about" in out
            assert "x full fine-tuning's" in out


DEEP = {
    "bert": BertConfig(vocab_size=500, **(SMALL | {"num_hidden_layers": 7})),
    "t5": T5Config(vocab_size=500, d_model=64, d_ff=128, d_kv=16, num_heads=4, num_layers=7, decoder_start_token_id=0),
    "llama": LlamaConfig(vocab_size=500, num_key_value_heads=2, **(SMALL | {"num_hidden_layers": 7})),
    "gpt2": GPT2Config(vocab_size=500, n_embd=64, n_layer=7, n_head=4, n_positions=128),
}


@pytest.mark.parametrize(
    ("family", "method", "batch"),  # few texts: values and gradients are most of what is alive; many: activations
    [("bert", "lora", 16), ("t5", "adapter", 1), ("t5", "bitfit", 16), ("llama", "lora", 1), ("gpt2", "prompt", 16)],
)
def test_a_few_blocks_tell_what_all_of_them_take(family, method, batch, monkeypatch):
    config = DEEP[family]
    spec = apet.plan(config, method, **({"prompt_length": 5} if method == "prompt" else {}))
    lines: list[str] = []
    short = estimate(config, spec, batch, LENGTH, machine=MACHINE, log=lines.append)
    assert [line.partition(" blocks")[0][-12:] for line in lines] == ["with 3 and 4 of 7"[-12:]] * 2
    monkeypatch.setattr("apet.costs.find_stacks", lambda model: None)
    whole = estimate(config, spec, batch, LENGTH, machine=MACHINE)
    for a, b in ((short.full, whole.full), (short.delta, whole.delta)):
        assert (a.weights_bytes, a.trained_bytes, a.flops) == (b.weights_bytes, b.trained_bytes, b.flops)
        assert a.step_bytes == b.step_bytes
        assert a.seconds == pytest.approx(b.seconds, rel=1e-9)


def test_of_drawn_masks_one_block_stands_for_the_others(monkeypatch):
    config = DEEP["bert"]
    spec = apet.plan(config, "apet", budget=20_000)
    short = estimate(config, spec, BATCH, LENGTH, machine=MACHINE)
    monkeypatch.setattr("apet.costs.find_stacks", lambda model: None)
    whole = estimate(config, spec, BATCH, LENGTH, machine=MACHINE)
    assert short.delta.step_bytes == pytest.approx(whole.delta.step_bytes, rel=0.02)
    assert short.delta.seconds == pytest.approx(whole.delta.seconds, rel=0.02)


def test_blocks_that_are_not_alike_are_tried_one_and_all():
    config = DEEP["bert"]
    spec = apet.plan(config, "lora", roles=["encoder.3.attn.q"], rank=2)
    lines: list[str] = []
    some = estimate(config, spec, BATCH, LENGTH, machine=MACHINE, log=lines.append)
    assert ["blocks" in line for line in lines] == [True, False]
    all_of_it = estimate(config, apet.plan(config, "lora", rank=2), BATCH, LENGTH, machine=MACHINE)
    assert some.delta.flops < all_of_it.delta.flops
    mixed = Gemma2Config(
        vocab_size=500, head_dim=16, num_key_value_heads=2, sliding_window=16, **(SMALL | {"num_hidden_layers": 7})
    )
    assert find_stacks(meta_model(mixed)) is None
