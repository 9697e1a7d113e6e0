"""Gradients of W ⊙ m against plain autograd on a full copy of the weight, taken at the mask."""

from __future__ import annotations

import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import apet
from apet.delta import DeltaSpec, Insertion, TrainableWeight
from apet.kernels.sparse_gradients import (
    SAMPLED_LOOKUP_MAX_DENSITY,
    SAMPLED_PRODUCT_MAX_DENSITY,
    embedding_weight_grad,
    linear_weight_grad,
    norm_scale_grad,
    sampled_product,
)
from apet.masks.distributions import draw_mask
from apet.masks.mask import Mask, dense_mask, listed_mask
from apet.testing.tiny_models import BUILDERS, VOCAB, build, shake


def along(shape, start, count, lines):
    return Mask(shape, count, "contiguous", start, lines)


def usable(p) -> int:
    return p.size - p.num_unused


def some(p, share: float) -> int:
    return max(1, math.ceil(share * usable(p)))


STYLES = {
    "one-entry": lambda p: draw_mask(p.shape, 1, "discrete", 1, p.name, unused=p.unused),
    "run-along-rows": lambda p: along(p.shape, usable(p) // 3, some(p, 0.4), "rows"),
    "run-along-columns": lambda p: along(p.shape, usable(p) // 3, some(p, 0.4), "columns"),
    "adjacent": lambda p: draw_mask(p.shape, some(p, 0.6), "adjacent", 2, p.name, unused=p.unused),
    "discrete-sampled": lambda p: draw_mask(
        p.shape, some(p, SAMPLED_LOOKUP_MAX_DENSITY / 2), "discrete", 3, p.name, unused=p.unused
    ),
    "discrete-dense": lambda p: draw_mask(
        p.shape, some(p, SAMPLED_PRODUCT_MAX_DENSITY[4] * 2), "discrete", 4, p.name, unused=p.unused
    ),
    "last-entries": lambda p: listed_mask(p.shape, np.arange(p.size)[-3:]),
    "full": lambda p: dense_mask(p.shape),
}


def everywhere(model, style: str) -> DeltaSpec:
    """One trainable weight at every parameter that exists, tied ones once."""
    places = [p for p in apet.positions(model) if p.parameter != "output"]
    made = [Insertion("weight", p.name, (TrainableWeight("delta", STYLES[style](p)),)) for p in places]
    return DeltaSpec(tuple(made), type(model).__name__, 1)


def text(model, rows: int = 2, seq: int = 37) -> dict[str, torch.Tensor]:
    """Long enough for far distances, with the padding token as a word, and two sentence types."""
    ids = torch.randint(0, VOCAB, (rows, seq), generator=torch.Generator().manual_seed(5))
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["labels"] = ids.clone()
    elif hasattr(model, "classifier"):
        inputs["labels"] = torch.arange(rows) % 2
    else:
        inputs["labels"] = ids
    if getattr(model.config, "type_vocab_size", 0) == 2:
        inputs["token_type_ids"] = (torch.arange(seq) > 20).long().expand(rows, seq)
    return inputs


def dense_gradients(model, inputs) -> dict[str, torch.Tensor]:
    """Of every parameter, by autograd, as if all of the model were trained, at the weights it has now."""
    copy = build(model.family_name)
    with torch.no_grad():
        for name, p in copy.named_parameters():
            p.copy_(model.get_parameter(name))
    copy(**inputs).loss.backward()
    return {name: p.grad for name, p in copy.named_parameters(remove_duplicate=False)}


def built(family: str):
    model = build(family)
    model.family_name = family
    return model


def assert_entries_match(handle, dense) -> None:
    where = {p.name: f"{p.module}.{p.parameter}" for p in apet.positions(handle.model)}
    for (name, values), insertion in zip(handle.values(), handle.spec.insertions, strict=True):
        whole = dense[where[insertion.position]]
        expected = whole.reshape(-1)[torch.from_numpy(insertion.weights[0].mask.indices)]
        scale = float(whole.abs().max())
        torch.testing.assert_close(
            values.grad, expected, rtol=1e-4, atol=2e-6 * max(scale, 1e-3), msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("style", STYLES)
def test_masked_gradients_are_the_dense_ones_at_the_mask(family, style):
    model = built(family)
    handle = apet.attach(model, everywhere(model, style))
    shake(handle)
    inputs = text(model)
    model(**inputs).loss.backward()
    assert_entries_match(handle, dense_gradients(model, inputs))


@pytest.mark.parametrize("family", ["bert", "t5-relu-tied", "gpt2"])
def test_two_deltas_on_one_parameter_each_get_their_own_entries(family):
    model = built(family)
    handles = [apet.attach(model, everywhere(model, style)) for style in ("adjacent", "discrete-dense")]
    for seed, handle in enumerate(handles):
        shake(handle, seed=seed)
    inputs = text(model)
    model(**inputs).loss.backward()
    dense = dense_gradients(model, inputs)
    for handle in handles:
        assert_entries_match(handle, dense)


@pytest.mark.parametrize("family", BUILDERS)
def test_entries_declared_unused_are_exactly_those_that_no_text_can_train(family):
    """Over a text with every word, place, type and distance, rows declared unused get no gradient, all others do."""
    model = built(family)
    handle = apet.attach(model, everywhere(model, "full"))
    shake(handle)
    length = 130 if model.config.is_encoder_decoder else 61 if "roberta" in family else 64
    inputs = text(model, rows=24, seq=length)
    if "roberta" in family:
        inputs["input_ids"].clamp_(min=1)  # its padding token would stop the count of places
    model(**inputs).loss.backward()
    gradients = {name: v.grad for name, v in handle.values()}
    for p in apet.positions(model):
        if p.kind == "embedding" and p.parameter == "weight":
            reached = (gradients[f"{p.name}/delta"].view(p.shape) != 0).any(1)
            dead = torch.zeros_like(reached)
            dead[p.unused[0] // p.shape[1] : p.unused[1] // p.shape[1]] = True
            beyond = len(reached) if p.role != "embed.positions" else length + p.unused[1] // p.shape[1] - 1
            assert torch.equal(reached[:beyond], ~dead[:beyond]), p
        else:
            assert p.unused == (0, 0)


# The kernels alone ----------------------------------------------------------------------------------------------


@st.composite
def masked_products(draw_):
    rows, columns, tokens = (draw_(st.integers(1, 12)) for _ in range(3))
    size = rows * columns
    kind = draw_(st.sampled_from(["full", "rows", "columns", "scattered", "listed"]))
    count = draw_(st.integers(1, size))
    if kind == "full":
        support = dense_mask((rows, columns))
    elif kind in ("rows", "columns"):
        support = along((rows, columns), draw_(st.integers(0, size - count)), count, kind)
    elif kind == "scattered":
        support = draw_mask((rows, columns), count, "discrete", draw_(st.integers(0, 99)), "here")
    else:
        support = listed_mask((rows, columns), sorted(draw_(st.sets(st.integers(0, size - 1), min_size=1))))
    g = torch.Generator().manual_seed(draw_(st.integers(0, 2**31)))
    return torch.randn(tokens, rows, generator=g), torch.randn(tokens, columns, generator=g), support


def indices_of(support):
    return None if support.slice is not None else torch.from_numpy(support.indices)


@settings(max_examples=150, deadline=None)
@given(case=masked_products(), threshold=st.sampled_from([0.0, 0.05, 1.0]))
def test_of_product_is_the_dense_product_at_the_mask(case, threshold):
    """On both sides of the density switch."""
    left, right, support = case
    dense = (left.double().t() @ right.double()).float().reshape(-1)
    with patch.dict(SAMPLED_PRODUCT_MAX_DENSITY, {4: threshold}):
        got = linear_weight_grad(left, right, support, indices_of(support))
    torch.testing.assert_close(got, dense[torch.from_numpy(support.indices)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("portable", "gathered"), [(False, 0.0), (True, 0.0), (True, 99.0)])
@settings(max_examples=60, deadline=None)
@given(case=masked_products())
def test_all_ways_of_a_sampled_product_agree_with_the_dense_one(portable, gathered, case):
    left, right, support = case
    indices = torch.from_numpy(support.indices)
    expected = (left.double().t() @ right.double()).float().reshape(-1)[indices]
    available = torch.backends.mkl.is_available() and not portable
    ways = patch("torch.backends.mkl.is_available", lambda: available)
    with ways, patch("apet.kernels.sparse_gradients.GATHERED_MAX_SHARE", gathered):
        got = sampled_product(left, right, indices)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), threshold=st.sampled_from([0.0, 0.05, 1.0]))
def test_of_lookup_is_the_gradient_of_an_embedding_at_the_mask(data, threshold):
    rows, d, tokens = (data.draw(st.integers(1, 9)) for _ in range(3))
    padding = data.draw(st.none() | st.integers(0, rows - 1))
    gap = (0, 0) if padding is None or rows == 1 else (padding * d, padding * d + d)
    n = rows * d - (gap[1] - gap[0])
    how = data.draw(st.sampled_from(["adjacent", "discrete", "columns", "full"]))
    count = data.draw(st.integers(1, n))
    if how == "full":
        support = dense_mask((rows, d))
    elif how == "columns":
        support = along((rows, d), data.draw(st.integers(0, rows * d - count)), count, "columns")
    else:
        support = draw_mask((rows, d), count, how, data.draw(st.integers(0, 99)), "here", unused=gap)
    g = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    ids, grad = torch.randint(0, rows, (tokens,), generator=g), torch.randn(tokens, d, generator=g)
    weight = torch.zeros(rows, d, requires_grad=True)
    F.embedding(ids, weight, padding).backward(grad)
    with patch("apet.kernels.sparse_gradients.SAMPLED_LOOKUP_MAX_DENSITY", threshold):
        got = embedding_weight_grad(ids, grad, support, indices_of(support), padding)
    torch.testing.assert_close(got, weight.grad.reshape(-1)[torch.from_numpy(support.indices)], rtol=1e-5, atol=1e-5)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 9), st.integers(2, 17), st.booleans(), st.integers(0, 2**31))
def test_of_scale_is_the_gradient_of_a_norms_scale(tokens, d, centred, seed):
    g = torch.Generator().manual_seed(seed)
    x, grad = (torch.randn(tokens, d, generator=g) for _ in range(2))
    scale = torch.ones(d, requires_grad=True)
    (F.layer_norm(x, (d,), scale, eps=1e-6) if centred else F.rms_norm(x, (d,), scale, eps=1e-6)).backward(grad)
    torch.testing.assert_close(norm_scale_grad(x, grad, 1e-6, centred), scale.grad, rtol=1e-4, atol=1e-5)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    how=st.sampled_from(["adjacent", "discrete"]),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_supports_are_sorted_distinct_inside_and_outside_the_gap(rows, columns, how, seed, data):
    first = data.draw(st.integers(0, rows * columns - 1))
    last = data.draw(st.integers(first, rows * columns - 1))
    n = rows * columns - (last - first)
    count = data.draw(st.integers(1, n))
    support = draw_mask((rows, columns), count, how, seed, "place", unused=(first, last))
    at = support.indices
    assert len(at) == count == support.num_trainable
    assert (np.diff(at) > 0).all()
    assert at[0] >= 0
    assert at[-1] < rows * columns
    assert not ((at >= first) & (at < last)).any()
    if support.slice is not None:
        assert (np.arange(rows * columns)[support.slice] == at).all()
    if how == "adjacent" and first == last:
        down = np.sort(at % columns * rows + at // columns)
        assert at[-1] - at[0] == count - 1 or down[-1] - down[0] == count - 1, "one run, along rows or along columns"


@settings(max_examples=200, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    how=st.sampled_from(["adjacent", "discrete"]),
    lines=st.sampled_from(["rows", "columns"]),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_a_covering_support_meets_every_line(shape, how, lines, seed, data):
    """Else a soft token or a rank would be empty, and the entries it meets dead."""
    n_lines = shape[0] if lines == "rows" else shape[1]
    count = data.draw(st.integers(n_lines, math.prod(shape)))
    at = draw_mask(shape, count, how, seed, "place", cover=lines).indices
    met = at // shape[1] if lines == "rows" else at % shape[1]
    assert len(at) == count
    assert len(set(met.tolist())) == n_lines


def test_a_scattered_support_favours_no_entry():
    """Each of 6 × 4 entries, over 400 seeds, within five standard deviations of its fair share."""
    hits = np.zeros(24)
    for seed in range(400):
        hits[draw_mask((6, 4), 7, "discrete", seed, "place").indices] += 1
    assert np.abs(hits - 400 * 7 / 24).max() < 5 * math.sqrt(400 * 7 / 24 * 17 / 24)
