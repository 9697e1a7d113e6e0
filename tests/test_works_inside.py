"""Inside what people train with: plain loops, Trainer, gradient checkpointing, other precisions, copies."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

import apet
from apet.testing.tiny_models import BUILDERS, batch, build, outputs, same_bits, shake, snapshot, some_budget

METHODS = list(apet.list_methods())
every_method = pytest.mark.parametrize("method", METHODS)


def attached(family: str, method: str, *, dtype: torch.dtype = torch.float32, **chosen):
    model = build(family, dtype)
    handle = apet.attach(model, apet.plan(model, method, some_budget(model, method), **chosen))
    shake(handle)
    return model, handle


def gradients(model, handle, inputs):
    model.zero_grad()
    model(**inputs).loss.backward()
    return {name: v.grad.clone() for name, v in handle.values()}


def assert_close(a: dict, b: dict, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


# Plain loops ----------------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("family", ["t5-gated", "bert", "gpt2", "llama"])
def test_a_plain_loop_learns_and_changes_nothing_else(method, family):
    model, handle = attached(family, method)
    frozen = snapshot(build(family))
    inputs = batch(model)
    optimizer = torch.optim.AdamW(handle.parameters(), lr=2e-2 if method != "prompt" else 0.3, weight_decay=0.0)
    losses = []
    for _ in range(15):
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0]
    handle.detach()
    assert same_bits(snapshot(model), frozen)


def test_several_deltas_train_at_once_and_each_may_rest():
    model, first = attached("bert", "apet", distribution="discrete")
    second = apet.attach(model, apet.plan(model, "lora", 90))
    third = apet.attach(model, apet.plan(model, "apet", 200, mask_seed=1, distribution="discrete"))
    everything = [*first.parameters(), *second.parameters(), *third.parameters()]
    assert (
        sum(v.numel() for v in everything)
        == 173 + 90 + 200
        == sum(p.numel() for p in model.parameters() if p.requires_grad)
    )
    optimizer = torch.optim.AdamW(everything, lr=1e-2)
    for v in second.parameters():
        v.requires_grad_(False)
    kept = [v.clone() for v in second.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        model(**batch(model)).loss.backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(kept, second.parameters(), strict=True))
    for handle in (first, third):
        assert sum((v.grad != 0).sum() for v in handle.parameters()) > 100  # the rest: words not in this text


def test_values_changed_between_forward_and_backward_do_not_disturb_the_gradient():
    """Writes go past autograd's version counter; the frozen pass may run many times before one backward."""
    model, handle = attached("bert", "apet", distribution="discrete")
    inputs = batch(model)
    expected = gradients(model, handle, inputs)
    model.zero_grad()
    loss = model(**inputs).loss
    outputs(model, inputs)
    loss.backward()
    assert_close({n: v.grad for n, v in handle.values()}, expected)


def test_gradients_accumulate_over_batches():
    model, handle = attached("gpt2", "apet", distribution="discrete")
    one, two = (gradients(model, handle, batch(model, seed=s)) for s in (1, 2))
    model.zero_grad()
    for s in (1, 2):
        model(**batch(model, seed=s)).loss.backward()
    assert_close({n: v.grad for n, v in handle.values()}, {n: one[n] + two[n] for n in one})


@every_method
def test_modes_are_the_models_own(method):
    """Dropout acts in train() and rests in eval(), with a delta as without."""
    model, _ = attached("bert", method)
    inputs = batch(model)
    assert torch.equal(outputs(model, inputs), outputs(model, inputs))
    model.train()
    assert model.apet.training
    assert not torch.equal(outputs(model, inputs), outputs(model, inputs))
    model.eval()
    assert not model.apet.training
    assert torch.equal(outputs(model, inputs), outputs(model, inputs))


@pytest.mark.parametrize("family", ["bert", "t5-gated", "gpt2"])
def test_a_part_of_the_model_called_alone_uses_current_values(family):
    model, handle = attached(family, "apet", operations=["add"])
    base = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    ids = batch(model)["input_ids"]
    with torch.no_grad():
        before = base(input_ids=ids).last_hidden_state
        shake(handle, 0.5)
        after = base(input_ids=ids).last_hidden_state
    assert not torch.equal(before, after)


class CalledByKeyword(nn.Linear):
    def __call__(self, x):
        return super().__call__(input=x)


@pytest.mark.parametrize("method", ["lora", "apet", "adapter", "bitfit"])
def test_layers_called_by_keyword_train_as_well(method):
    model, handle = attached("bert", method, roles=["attn", "mlp"] if method == "bitfit" else ["attn.q"])
    expected = gradients(model, handle, batch(model))
    for block in model.bert.encoder.layer:
        block.attention.self.query.__class__ = CalledByKeyword
    assert_close(gradients(model, handle, batch(model)), expected)


# Precision ------------------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("family", ["t5-gated", "bert", "llama"])
def test_a_bf16_backbone_trains_fp32_values_as_fp32_does_to_its_precision(method, family):
    model, handle = attached(family, method, dtype=torch.bfloat16)
    exact, reference = attached(family, method)
    with torch.no_grad():
        for (_, a), (_, b) in zip(handle.values(), reference.values(), strict=True):
            b.copy_(a)
    low, high = (gradients(m, h, batch(m)) for m, h in ((model, handle), (exact, reference)))
    assert all(g.dtype == torch.float32 for g in low.values())
    a, b = (torch.cat(list(gs.values())) for gs in (low, high))
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.98


@every_method
def test_moving_the_model_to_bf16_moves_the_backbone_only(method):
    model, handle = attached("bert", method)
    values = {n: v.detach().clone() for n, v in handle.values()}
    model.to(torch.bfloat16)
    assert {p.dtype for p in model.parameters() if not p.requires_grad} <= {torch.bfloat16}
    for name, v in handle.values():
        assert v.dtype == torch.float32
        assert torch.equal(v, values[name])
    gradients(model, handle, batch(model))
    handle.detach()
    assert same_bits(snapshot(model), snapshot(build("bert", torch.bfloat16)))


@every_method
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5-relu-tied"])
def test_autocast_trains_fp32_values(method, family):
    model, handle = attached(family, method)
    exact = gradients(model, handle, batch(model))
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch(model)).loss
    loss.backward()
    mixed = {n: v.grad for n, v in handle.values()}
    assert all(g.dtype == torch.float32 for g in mixed.values())
    a, b = (torch.cat(list(gs.values())) for gs in (mixed, exact))
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.98


# Gradient checkpointing -----------------------------------------------------------------------------------------


def without_dropout(model):
    """In training mode, as checkpointing asks for, but deterministic."""
    model.train()
    for m in model.modules():
        if "Dropout" in type(m).__name__:
            m.p = 0.0
        for name in ("dropout", "attention_dropout", "hidden_dropout", "dropout_rate", "dropout_prob"):
            if isinstance(getattr(m, name, None), float):
                setattr(m, name, 0.0)
    return model


@pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
@pytest.mark.parametrize("family", ["t5-gated", "bert", "gpt2", "llama", "bloom", "opt"])
@every_method
def test_gradient_checkpointing_gives_the_same_gradients(method, family, reentrant):
    """Reentrant checkpoints need an input that requires gradients, which frozen embeddings do not give."""
    model, handle = attached(family, method)
    inputs = batch(model)
    expected = gradients(without_dropout(model), handle, inputs)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    assert model.is_gradient_checkpointing
    assert_close(gradients(model, handle, inputs), expected)


# Trainer --------------------------------------------------------------------------------------------------------


def trainer_of(model, folder, **chosen) -> Trainer:
    inputs = batch(model, rows=3)
    examples = [{k: v[i] for k, v in inputs.items()} for i in range(3)] * 8
    settings = {
        "per_device_train_batch_size": 3,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "report_to": [],
        "save_steps": 2,
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 5,
        **chosen,
    }
    return Trainer(model=model, args=TrainingArguments(output_dir=str(folder), **settings), train_dataset=examples)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "gradient-checkpointing"])
@pytest.mark.parametrize(
    ("family", "method"),
    [("bert", "apet"), ("t5-gated", "lora"), ("gpt2", "prompt"), ("llama", "bitfit"), ("t5-relu-tied", "apet")],
)
def test_trainer_trains_exactly_the_values(family, method, checkpointing, tmp_path):
    model, handle = attached(family, method)
    values = [v.detach().clone() for v in handle.parameters()]
    trainer = trainer_of(model, tmp_path, gradient_checkpointing=checkpointing, save_strategy="no")
    assert trainer.get_num_trainable_parameters() == handle.spec.num_trainable
    trainer.train()
    assert any(not torch.equal(a, b) for a, b in zip(values, handle.parameters(), strict=True))
    inputs = batch(model)
    trained = outputs(model.eval(), inputs)
    folder = handle.save(tmp_path / "spec")
    fresh = build(family)
    apet.load(fresh, folder)
    assert torch.equal(outputs(fresh, inputs), trained)
    handle.detach()
    assert same_bits(snapshot(model), snapshot(build(family)))


@pytest.mark.parametrize(("family", "method"), [("bert", "apet"), ("gpt2", "lora")])
def test_trainer_resumes_from_its_own_checkpoint(family, method, tmp_path):
    model, handle = attached(family, method)
    without_dropout(model)
    trainer_of(model, tmp_path).train()
    straight = [v.detach().clone() for v in handle.parameters()]
    again, other = attached(family, method)
    without_dropout(again)
    trainer_of(again, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for a, b in zip(straight, other.parameters(), strict=True):
        torch.testing.assert_close(b.detach(), a, rtol=1e-5, atol=1e-7)
    other.detach()
    assert same_bits(snapshot(again), snapshot(build(family)))


# Copies ---------------------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("family", ["bert", "t5-relu-tied", "gpt2"])
def test_a_deep_copy_lives_its_own_life(method, family):
    model, handle = attached(family, method)
    inputs = batch(model)
    before, values = outputs(model, inputs), [v.detach().clone() for v in handle.parameters()]
    twin = copy.deepcopy(model)
    (other,) = apet.attached(twin)
    assert torch.equal(outputs(twin, inputs), before)
    optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    twin(**inputs).loss.backward()
    optimizer.step()
    assert not torch.equal(outputs(twin, inputs), before)
    assert torch.equal(outputs(model, inputs), before)
    assert all(torch.equal(a, b) for a, b in zip(values, handle.parameters(), strict=True))
    other.detach()
    assert same_bits(snapshot(twin), snapshot(build(family)))
    assert torch.equal(outputs(model, inputs), before)
    handle.detach()
    assert same_bits(snapshot(model), snapshot(build(family)))


def test_a_state_dict_can_be_pickled_and_loaded_into_the_same_attachment():
    model, _ = attached("bert", "apet")
    state = pickle.loads(pickle.dumps(model.state_dict()))
    fresh = build("bert")
    again = apet.attach(fresh, apet.plan(fresh, "apet", 173))
    assert not fresh.load_state_dict(state, strict=True).missing_keys
    assert torch.equal(outputs(fresh, batch(fresh)), outputs(model, batch(model)))
    again.detach()
    assert same_bits(snapshot(fresh), snapshot(build("bert")))


def test_values_given_at_attachment_are_copied_and_checked():
    model, handle = attached("bert", "apet")
    given = dict(handle.values())
    twin = build("bert")
    other = apet.attach(twin, handle.spec, values=given)
    assert torch.equal(outputs(twin, batch(twin)), outputs(model, batch(model)))
    shake(other)
    assert not torch.equal(outputs(twin, batch(twin)), outputs(model, batch(model)))
    other.detach()
    name = next(iter(given))
    with pytest.raises(apet.ApetError, match=r"must hold .* values; came nothing"):
        apet.attach(twin, handle.spec, values={k: v for k, v in given.items() if k != name})
    with pytest.raises(apet.ApetError, match=r"must hold .* values; came 1000"):
        apet.attach(twin, handle.spec, values={**given, name: torch.zeros(1000)})
    assert same_bits(snapshot(twin), snapshot(build("bert")))


# Refusals -------------------------------------------------------------------------------------------------------


def test_a_second_trained_head_is_refused_and_a_frozen_one_is_fine():
    model = build("bert")
    apet.attach(model, apet.plan(model, "lora", 50), head="trained")
    with pytest.raises(apet.ApetError, match="another delta on this model trains its head already"):
        apet.attach(model, apet.plan(model, "lora", 50), head="trained")
    apet.attach(model, apet.plan(model, "lora", 50))
    assert len(apet.attached(model)) == 2


def test_a_model_without_weights_or_head_is_refused():
    from apet.backbones.loading import meta_model

    on_meta = meta_model(build("bert").config)
    spec = apet.plan(on_meta, "lora", 50)
    with pytest.raises(apet.ApetError, match="has no weights"):
        apet.attach(on_meta, spec)
    gpt2 = build("gpt2")
    with pytest.raises(apet.ApetError, match="no task head"):
        apet.attach(gpt2, apet.plan(gpt2, "lora", 50), head="trained")
    assert not apet.attached(gpt2)


ALIKE = ("bert", "bert-mlm", "roberta", "electra")  # BERT's names and, at this size, its shapes


@pytest.mark.parametrize("family", [f for f in BUILDERS if f not in ALIKE])
def test_a_delta_for_another_architecture_is_refused_and_the_model_untouched(family):
    spec = apet.plan(build("bert"), "apet", 300)
    model = build(family)
    before = snapshot(model)
    with pytest.raises(apet.ApetError, match="planned for BertForSequenceClassification, this is"):
        apet.attach(model, spec)
    assert same_bits(snapshot(model), before)
    assert all(p.requires_grad for p in model.parameters())
