"""N in, N out: any budget from 1 to the largest reachable, met exactly, or refused with the nearest that can be met."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import apet
from apet import ApetError, UnreachableBudgetError
from apet.layers import LAYERS
from apet.masks.allocation import allocate_budget
from apet.testing.tiny_models import BUILDERS, build

METHODS = [m for m in apet.list_methods() if m != "fine-tuning"]
FAMILIES = list(BUILDERS)


@cache
def backbone(family: str):
    """Bare shapes by name, tiny families built."""
    return apet.describe(build(family) if family in BUILDERS else family)


@cache
def largest(family: str, method: str) -> int:
    with pytest.raises(UnreachableBudgetError) as refused:
        apet.plan(backbone(family), method, 10**15)
    (most,) = refused.value.nearest
    return most


def smallest(method: str) -> int:
    """A low-rank pair with one entry would multiply it with nothing; everything else can be one scalar."""
    return 2 if method == "lora" else 1


def assert_well_formed(spec, family: str) -> None:
    unused = {p.name: p.unused for p in backbone(family).positions}
    for i in spec.insertions:
        if i.form == "weight":
            first, last = unused[i.position]
            assert not ((i.weights[0].mask.indices >= first) & (i.weights[0].mask.indices < last)).any()
        for w in i.weights:
            at = w.mask.indices
            assert len(at) == w.mask.num_trainable
            assert (np.diff(at) > 0).all()
            assert at[0] >= 0
            assert at[-1] < w.mask.size
        weights = {w.name: w.mask for w in i.weights}
        if i.form == "lora":
            assert_every_line(weights["lora_A"], 1)
            assert_every_line(weights["lora_B"], 0)
        if i.form == "prompt":
            assert_every_line(weights["prompt_embeddings"], 0)
        if "down_proj.weight" in weights:
            assert_every_line(weights["down_proj.weight"], 1)
            assert_every_line(weights["up_proj.weight"], 0)


def assert_every_line(support, axis: int) -> None:
    met = np.unravel_index(support.indices, support.shape)[axis]
    assert len(np.unique(met)) == support.shape[axis], "an empty line is dead, or makes its partner so"


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_number_is_met_exactly(method, data):
    family = data.draw(st.sampled_from(FAMILIES))
    most = largest(family, method)
    small = st.integers(smallest(method), min(most, 60))
    n = data.draw(small | st.integers(smallest(method), most) | st.integers(most - 3, most))
    how = data.draw(st.sampled_from(["adjacent", "discrete"]))
    spec = apet.plan(backbone(family), method, n, distribution=how, mask_seed=data.draw(st.integers(0, 99)))
    assert spec.num_trainable == n == sum(i.num_trainable for i in spec.insertions)
    assert_well_formed(spec, family)


@pytest.mark.parametrize(
    ("method", "size", "each"), [("lora", "rank", 2), ("adapter", "bottleneck", 2), ("prompt", "prompt_length", 1)]
)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_given_size_is_kept_and_none_of_its_lines_is_empty(method, size, each, data):
    """A few entries in a wide pair, adapter or prompt: each unit and each token still has its own."""
    family = data.draw(st.sampled_from(["bert", "t5-gated", "llama"]))
    units = data.draw(st.integers(1, 8))
    n = data.draw(st.integers(each * units, 12 * each * units))
    how = data.draw(st.sampled_from(["adjacent", "discrete"]))
    chosen = {size: units, "distribution": how}
    spec = apet.plan(backbone(family), method, n, mask_seed=data.draw(st.integers(0, 99)), **chosen)
    assert spec.num_trainable == n
    assert_well_formed(spec, family)
    sizes = {"lora": ("lora_B", 0), "adapter": ("up_proj.weight", 0), "prompt": ("prompt_embeddings", 0)}
    name, axis = sizes[method]
    assert {w.shape[axis] for i in spec.insertions for w in i.weights if w.name == name} == {units}


@pytest.mark.parametrize("family", ["bert", "roberta", "t5-gated", "electra"])
@pytest.mark.parametrize("how", ["adjacent", "discrete"])
def test_entries_that_no_gradient_reaches_are_never_drawn(family, how):
    """Half of every table: the padding token's row or the first places would be among them."""
    roles = [
        r
        for r in ("embed.tokens", "embed.positions", "attn.relative_bias")
        if any(x.role == r for x in backbone(family).layers)
    ]
    chosen = {"operations": ["add"], "roles": roles, "distribution": how, "allocation": "proportional"}
    n = sum(p.size for p in backbone(family).positions if p.role in roles) // 2
    for seed in range(5):
        assert_well_formed(apet.plan(backbone(family), "apet", n, mask_seed=seed, **chosen), family)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_number_is_met_exactly_on_published_shapes(method, data):
    name = data.draw(st.sampled_from(["bert-small", "t5-v1.1-small", "gpt2"]))
    n = data.draw(st.integers(smallest(method), largest(name, method)))
    assert apet.plan(backbone(name), method, n, distribution="discrete").num_trainable == n


subsets = st.sampled_from([s for k in (1, 2, 3) for s in itertools.combinations(["add", "concatenate", "plugin"], k)])


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_apet_meets_its_budget_with_any_operations_roles_and_sharing(data):
    family = data.draw(st.sampled_from(FAMILIES))
    layers = backbone(family).layers
    roles = sorted({x.role for x in layers if x.kind == "linear" and not x.role.endswith((".k", ".qkv"))})
    chosen = {
        "operations": list(data.draw(subsets)),
        "roles": data.draw(st.none() | st.lists(st.sampled_from(roles), min_size=1, max_size=3, unique=True)),
        "prompt": data.draw(st.booleans()),
        "allocation": data.draw(st.sampled_from(["equal", "proportional"])),
        "distribution": data.draw(st.sampled_from(["adjacent", "discrete"])),
    }
    n = data.draw(st.integers(2, 4000))
    try:
        spec = apet.plan(backbone(family), "apet", n, **chosen)
    except UnreachableBudgetError as refused:
        (most,) = refused.nearest
        assert most < n
        spec = apet.plan(backbone(family), "apet", most, **chosen)
        n = most
    assert spec.num_trainable == n
    assert_well_formed(spec, family)
    allowed = {*chosen["operations"], *(["concatenate"] if chosen["prompt"] else [])}
    assert {LAYERS.get(i.form).operation for i in spec.insertions} <= allowed
    if chosen["roles"] and not chosen["prompt"]:
        site = {p.name: p.role for p in backbone(family).positions} | {x.name: x.role for x in layers}
        hit = {site[i.position] for i in spec.insertions}  # a role, or one that begins with it (lm_head.transform)
        assert all(any(f"{role}.".startswith(f"{r}.") for r in chosen["roles"]) for role in hit)


@pytest.mark.parametrize("how", ["adjacent", "discrete"])
def test_equal_shares_differ_by_one_at_most_and_proportional_ones_follow_sizes(how):
    chosen = {"operations": ["add"], "roles": ["mlp.up", "mlp.down"], "distribution": how}
    equal = apet.plan(backbone("bert"), "apet", 61, allocation="equal", sites="all", **chosen)
    counts = [i.num_trainable for i in equal.insertions]
    assert len(counts) == 8  # weight and bias, two roles, two blocks
    assert max(counts) - min(counts) <= 1
    shares = apet.plan(backbone("bert"), "apet", 600, allocation="proportional", **chosen)
    sizes = {p.name: p.size for p in backbone("bert").positions}
    total = sum(sizes[i.position] for i in shares.insertions)
    for i in shares.insertions:
        assert abs(i.num_trainable - 600 * sizes[i.position] / total) <= 1


SIZED = [
    ("lora", {"rank": 3}, 6),
    ("adapter", {"bottleneck": 5}, 10),
    ("prompt", {"prompt_length": 7}, 7),
    ("lora", {}, 2),
]


@pytest.mark.parametrize(("method", "chosen", "least"), SIZED)
@pytest.mark.parametrize("family", FAMILIES)
def test_unreachable_budgets_name_the_nearest_that_can_be_met(method, chosen, least, family):
    """Below the first and beyond the last reachable count; the named ones are met, nothing nearer is."""
    for n in range(1, least):
        with pytest.raises(UnreachableBudgetError, match=f"budget={n} .*at least.*nearest reachable: {least}$"):
            apet.plan(backbone(family), method, n, **chosen)
    assert apet.plan(backbone(family), method, least, **chosen).num_trainable == least
    with pytest.raises(UnreachableBudgetError, match="at most") as refused:
        apet.plan(backbone(family), method, 10**9, **chosen)
    (most,) = refused.value.nearest
    assert apet.plan(backbone(family), method, most, **chosen).num_trainable == most
    with pytest.raises(UnreachableBudgetError):
        apet.plan(backbone(family), method, most + 1, **chosen)


def test_full_fine_tuning_is_full():
    everything = sum(p.size for p in backbone("bert").positions if p.parameter != "output")
    assert apet.plan(backbone("bert"), "fine-tuning", everything).num_trainable == everything
    for part in (1, 16, everything - 1, everything + 1):
        with pytest.raises(UnreachableBudgetError, match=f"nearest reachable: {everything}$"):
            apet.plan(backbone("bert"), "fine-tuning", part)


@settings(max_examples=300, deadline=None)
@given(
    places=st.lists(st.tuples(st.integers(1, 2), st.integers(0, 5), st.floats(0.1, 50)), min_size=1, max_size=6),
    minimum=st.none() | st.integers(1, 4),
    total=st.integers(1, 40),
    seed=st.integers(0, 50),
)
def test_a_share_exists_exactly_when_some_places_can_hold_it(places, minimum, total, seed):
    minima = [minimum or m for m, _, _ in places]
    caps = [m + extra for m, (_, extra, _) in zip(minima, places, strict=True)]
    some = [c for k in range(1, len(caps) + 1) for c in itertools.combinations(range(len(caps)), k)]
    possible = any(sum(minima[i] for i in c) <= total <= sum(caps[i] for i in c) for c in some)
    counts = allocate_budget(total, minima, caps, [w for _, _, w in places], seed)
    assert (counts is not None) == possible
    if counts is not None:
        assert sum(counts) == total
        assert all(n == 0 or low <= n <= high for n, low, high in zip(counts, minima, caps, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_by_its_own_size_is_the_budget_of_another(method):
    """`=lora` is what apet.plan(model, "lora") counts; so is `=apet`, whose own default is LoRA's count."""
    own = apet.plan(backbone("bert-base"), method).num_trainable
    assert apet.plan(backbone("bert-base"), "apet", f"={method}").num_trainable == own
    assert apet.plan(backbone("bert-base"), "apet", f"={method}-discrete").num_trainable == own


@pytest.mark.parametrize(
    ("budget", "n"),
    [(4096, 4096), ("4096", 4096), ("4_096", 4096), (" 4096 ", 4096), ("=lora", 294912), ("1", 1)],
)
def test_budgets_as_people_write_them(budget, n):
    assert apet.plan(backbone("bert-base"), "apet", budget).num_trainable == n


@pytest.mark.parametrize(
    ("budget", "readings"),
    [
        ("0,3%", "0.3% if it is a decimal point, 03% if"),
        ("1,5", "1.5% if it is a decimal point, 15 if"),
        ("4,096", "4.096% if it is a decimal point, 4096 if"),
        ("1,000,000", "write 1000000"),
    ],
)
def test_a_comma_in_a_budget_is_refused_with_both_of_its_readings(budget, readings):
    """A wrong number is worse than a refusal: 0,3% once trained three percent."""
    with pytest.raises(apet.ApetError) as error:
        apet.plan(backbone("bert-base"), "apet", budget)
    assert readings in str(error.value)


def test_a_share_of_the_backbone_is_rounded_to_the_nearest_count():
    whole = backbone("bert-base").num_parameters
    assert apet.plan(backbone("bert-base"), "apet", "0.3%").num_trainable == round(0.003 * whole)
    assert apet.plan(backbone("bert-base"), "apet", " 0.0001 % ").num_trainable == round(1e-6 * whole)


NO_BUDGETS = [
    "abc",
    "1__0",
    "4_09",
    "٤٠٩٦",
    "",
    "  ",
    0,
    -1,
    "0",
    "-4",
    "-5%",
    "0%",
    "%",
    "x%",
    True,
    1.5,
    "1.5",
    "1e400%",
    "nan%",
    "inf%",
    [],
    "1e3",
    "12.5\x1f%",
    "12.5\u00a0%",
    "\x1f4096",
]


@pytest.mark.parametrize("budget", NO_BUDGETS, ids=repr)
def test_what_is_no_budget_gets_one_clear_line(budget):
    with pytest.raises(ApetError, match=r"budget=.*give a positive count \(4096\), a share .* or another method") as e:
        apet.plan(backbone("bert-base"), "apet", budget)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("budget", ["=nosuch", "=", "=lorra", "=lora-dicrete"])
def test_the_count_of_an_unknown_method_lists_the_nearest(budget):
    with pytest.raises(apet.UnknownNameError, match=r"unknown method .*(nearest|known): .*lora"):
        apet.plan(backbone("bert-base"), "apet", budget)


def test_more_than_the_backbone_holds_is_refused():
    with pytest.raises(UnreachableBudgetError, match="at most"):
        apet.plan(backbone("bert-base"), "bitfit", "90%")
