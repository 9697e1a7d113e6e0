"""Several deltas in one batch: each row is what it would be alone, forward and backward, or the routing is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import apet
from apet.testing.tiny_models import BUILDERS, batch, build, outputs, same_bits, shake, snapshot, some_budget

METHODS = ["adapter", "apet", "bitfit", "ia3", "ln-tuning", "lora", "prompt"]
FAMILIES = list(BUILDERS)
ROWS = 4
INDEX = [1, 0, 2, 1]


def chosen(model: nn.Module, method: str) -> dict:
    """Settings with which three deltas of a method fit into one batch."""
    if method == "prompt":
        return {"prompt_length": 3}
    if (
        method == "apet"
    ):  # relative biases have no row for each example; OPT's positions are looked up in a way of theirs
        left_out = {"attn.relative_bias", *(["embed.positions"] if model.config.model_type == "opt" else [])}
        return {"roles": sorted({x.role for x in apet.describe(model).layers} - left_out)}
    return {}


def three(family: str, methods: list[str]):
    model = build(family)
    handles = []
    for n, method in enumerate(methods):
        settings = chosen(model, method)
        budget = None if method == "prompt" else some_budget(model, method)
        spec = apet.plan(model, method, budget, mask_seed=n, **settings)
        handles.append(apet.attach(model, spec, carrier="additive"))
        shake(handles[-1], 0.2, seed=n)
    return model, handles


def rows(model: nn.Module) -> dict[str, torch.Tensor]:
    inputs = batch(model)
    return {k: torch.cat([v, v[:1]]) for k, v in inputs.items()}


def alone(family: str, handles, n: int, inputs, *, train: bool = False):
    """Outputs of a fresh backbone with one of the deltas, and what its values' gradients are there."""
    model = build(family)
    if n < 0:
        return outputs(model, inputs), {}
    handle = apet.attach(model, handles[n].spec, values=dict(handles[n].values()))
    if not train:
        return outputs(model, inputs), {}
    logits = model(**inputs).logits
    logits.pow(2).sum().backward()
    return logits.detach(), {name: v.grad for name, v in handle.values()}


@pytest.mark.parametrize(
    ("method", "family"),
    [(m, f) for m in METHODS for f in (FAMILIES if m in ("apet", "prompt") else ["bert", "t5-gated", "gpt2", "opt"])],
)
def test_each_row_is_what_it_is_alone(method, family):
    model, handles = three(family, [method] * 3)
    inputs = rows(model)
    with apet.route(model, handles, INDEX):
        together = outputs(model, inputs)
    expected = [alone(family, handles, n, inputs)[0] for n in range(len(handles))]
    for row, n in enumerate(INDEX):
        torch.testing.assert_close(together[row], expected[n][row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "t5-gated", "gpt2", "llama"])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_the_delta_of_each_row(family, method):
    model, handles = three(family, [method] * 3)
    inputs = rows(model)
    with apet.route(model, handles, torch.tensor(INDEX)):
        model(**inputs).logits.pow(2).sum().backward()
    for n, handle in enumerate(handles):
        own = torch.tensor([i == n for i in INDEX])
        _, expected = alone(family, handles, n, {k: v[own] for k, v in inputs.items()}, train=True)
        for name, v in handle.values():
            torch.testing.assert_close(v.grad, expected[name], rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("family", ["bert", "t5-relu-tied", "llama"])
def test_different_methods_go_together_and_some_rows_get_none(family):
    model, handles = three(family, ["lora", "adapter", "bitfit"])
    inputs, index = rows(model), [2, -1, 0, 1]
    with apet.route(model, handles, index):
        together = outputs(model, inputs)
    for row, n in enumerate(index):
        expected, _ = alone(family, handles, n, inputs)
        torch.testing.assert_close(together[row], expected[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["t5-gated", "gpt2", "llama"])
@pytest.mark.parametrize("method", ["lora", "prompt", "apet"])
@pytest.mark.parametrize("beams", [1, 2])
def test_generation_is_routed_by_example_with_cache_and_beams(family, method, beams):
    model, handles = three(family, [method] * 3)
    inputs = {k: v for k, v in batch(model, left=family != "t5-gated").items() if k != "labels"}
    settings = {"max_new_tokens": 5, "num_beams": beams, "do_sample": False, "pad_token_id": 0}
    with apet.route(model, handles, [2, 0, 1]):
        together = model.generate(**inputs, **settings)
    for row, n in enumerate([2, 0, 1]):
        twin = build(family)
        apet.attach(twin, handles[n].spec, values=dict(handles[n].values()))
        expected = twin.generate(**inputs, **settings)[row]
        length = min(len(expected), together.shape[1])
        assert together[row, :length].tolist() == expected[:length].tolist()


def test_a_routing_ends_with_its_block_and_gives_way_to_the_next():
    model, handles = three("llama", ["lora", "adapter"])
    inputs = rows(model)
    everywhere, before = outputs(model, inputs), snapshot(model)
    with apet.route(model, handles, [0, 0, 0, 0]) as first:
        only_lora = outputs(model, inputs)
        second = apet.route(model, handles, [1, 1, 1, 1])
        only_adapter = outputs(model, inputs)
        first.close()  # has given way already
        assert torch.equal(outputs(model, inputs), only_adapter)
        second.close()
    assert torch.equal(outputs(model, inputs), everywhere)
    assert not torch.allclose(only_lora, only_adapter)
    assert same_bits(snapshot(model), before)
    apet.route(model, handles, [0, 1, 0, 1])
    for handle in handles:
        handle.detach()
    assert torch.equal(outputs(model, inputs), outputs(build("llama"), inputs))


def test_what_is_attached_and_not_listed_acts_on_every_row():
    model, (first, second) = three("llama", ["lora", "adapter"])
    inputs = rows(model)
    with apet.route(model, [second], [0, 0, 0, 0]):
        both = outputs(model, inputs)
    torch.testing.assert_close(both, outputs(model, inputs))
    with apet.route(model, [second], [-1] * ROWS):
        torch.testing.assert_close(outputs(model, inputs), alone("llama", [first], 0, inputs)[0])


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_gradient_checkpointing_is_routed_where_the_backward_is_in_the_block(method):
    gradients = []
    for checkpointing in (False, True):
        model, handles = three("llama", [method] * 3)
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        with apet.route(model, handles, INDEX):
            model(**rows(model)).loss.backward()
        gradients.append([v.grad for h in handles for _, v in h.values()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


# Refusals -------------------------------------------------------------------------------------------------------


def test_a_delta_in_the_weights_is_refused_with_what_to_do():
    model = build("llama")
    handle = apet.attach(model, apet.plan(model, "apet", 100))
    with pytest.raises(apet.ApetError, match=r"handles\[0\] is written into the weights .*carrier='additive'"):
        apet.route(model, [handle], [0])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0, 2], "must lie between 0 and 1, or be -1"),
        ([-2, 0], "must lie between 0 and 1, or be -1"),
        ([], "must be a list of integers"),
        ([0.5, 1.0], "must be a list of integers"),
        ([True, False], "must be a list of integers"),
        ([[0, 1]], "must be a list of integers"),
    ],
)
def test_an_index_that_names_no_delta_is_refused(index, message):
    model, handles = three("llama", ["lora", "lora"])
    with pytest.raises(apet.ApetError, match=message):
        apet.route(model, handles, index)


def test_other_handles_and_repeated_ones_are_refused():
    model, (first, _) = three("llama", ["lora", "lora"])
    _, (foreign, _) = three("llama", ["lora", "lora"])
    with pytest.raises(apet.ApetError, match=r"handles\[1\] is not attached to this model"):
        apet.route(model, [first, foreign], [0])
    with pytest.raises(apet.ApetError, match="listed twice"):
        apet.route(model, [first, first], [0])
    with pytest.raises(apet.ApetError, match="nothing is attached"):
        apet.route(build("llama"), [first], [0])


def test_a_batch_of_another_size_is_refused():
    model, handles = three("llama", ["lora", "lora"])
    with apet.route(model, handles, [0, 1, 1]), pytest.raises(apet.ApetError, match="a batch of 4 rows is routed by"):
        outputs(model, rows(model))


def test_prompts_of_two_lengths_or_beside_rows_without_one_are_refused():
    model = build("llama")
    handles = [apet.attach(model, apet.plan(model, "prompt", prompt_length=n)) for n in (3, 4)]
    with pytest.raises(apet.ApetError, match=r"must have one length.*came \[3, 4\]"):
        apet.route(model, handles, [0, 1])
    with pytest.raises(apet.ApetError, match="a row without a delta"):
        apet.route(model, handles[:1], [0, -1])


def test_a_place_without_a_row_for_each_example_is_refused_before_anything_runs():
    model = build("t5-gated")
    handle = apet.attach(model, apet.plan(model, "apet", 8, roles=["attn.relative_bias"]), carrier="additive")
    with pytest.raises(apet.ApetError, match="cannot be routed at a Embedding"):
        apet.route(model, [handle], [0, 0])
    assert torch.isfinite(outputs(model, batch(model))).all()


class MixesExamples(nn.Module):
    """A linear layer after which examples look at each other."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + self.linear(x).mean(0, keepdim=True)


def test_a_model_that_mixes_examples_is_refused():
    model = build("llama")
    handle = apet.attach(model, apet.plan(model, "lora", 50))
    model.model.layers[0].mlp = MixesExamples(model.model.layers[0].mlp)
    with pytest.raises(apet.ApetError, match="does not keep the examples of a batch apart"):
        apet.route(model, [handle], [0])
