"""A slot: a place where a method may train, with how few and how many scalars it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from apet.backbones.describe import Backbone, Layer, Position
from apet.delta import Insertion
from apet.errors import ApetError
from apet.layers import building as make
from apet.masks.mask import Distribution

LORA_RANK = 8
BOTTLENECK = 24
PROMPT_LENGTH = 100
"""The paper's sizes (table 1 and appendix B.2)."""

LONGEST_PROMPT = 4096


@dataclass(frozen=True)
class Target:
    """Somewhere a budget can go.

    Attributes:
        minimum: fewest scalars that are alive there.
        cap: most that fit.
        natural: scalars it takes when no budget is given.
        make: (count, distribution, mask_seed) -> insertion with exactly ``count`` scalars.
    """

    min_params: int
    max_params: int
    default_params: int
    build: Callable[[int, Distribution, int], Insertion]


def weight_target(p: Position) -> Target:
    """Entries of an existing parameter."""
    n = p.size - p.num_unused
    return Target(1, n, n, lambda k, how, seed: make.parameter(p.name, p.shape, k, how, seed, p.unused))


def output_target(p: Position) -> Target:
    """A vector added to a layer's output."""
    return Target(1, p.size, p.size, lambda k, how, seed: make.output(p.name, p.size, k, how, seed))


def bias_target(layer: Layer) -> Target:
    """The layer's own bias, or where it has none a vector added to its output."""
    bias = layer.position("bias")
    if bias is not None:
        return weight_target(bias)
    out = layer.position("output")
    assert out is not None
    return output_target(out)


def lora_target(layer: Layer, rank: int | None, alpha: float) -> Target:
    """A low-rank pair beside a linear layer; a given rank stays, else a budget gets the smallest that holds it.

    Raises:
        ApetError: the layer is not linear, or the rank exceeds its smaller side.
    """
    i, o = layer.d_in, layer.d_out
    if layer.kind != "linear":
        raise ApetError(f"a low-rank pair needs a linear layer; {layer.name!r} is a {layer.kind}")
    if rank is not None and rank > min(i, o):
        raise ApetError(f"rank={rank} exceeds the smaller side of {layer.name!r} ({o} x {i}); give at most {min(i, o)}")
    r = rank or min(LORA_RANK, i, o)
    scale = alpha / (rank or LORA_RANK)
    return Target(
        2 * rank if rank else 2,
        (rank or min(i, o)) * (i + o),
        r * (i + o),
        lambda k, how, seed: make.pair(layer.name, i, o, k, how, seed, scale, rank),
    )


def adapter_target(layer: Layer, width: int | None) -> Target:
    """An adapter after a layer; a given width stays, else a budget gets the smallest that holds it."""
    d = layer.d_out
    m = width or BOTTLENECK
    return Target(
        2 * width if width else 1,
        (width or max(d, BOTTLENECK)) * (2 * d + 1) + d,
        m * (2 * d + 1) + d,
        lambda k, how, seed: make.bottleneck(layer.name, d, k, how, seed, width),
    )


def prompt_target(backbone: Backbone, length: int | None) -> Target:
    """Soft prompt tokens before the text.

    Raises:
        ApetError: the prompt leaves no room for text among the backbone's learned positions.
    """
    entry = next(x for x in backbone.layers if x.role == "embed.tokens")
    table = next((p for p in backbone.positions if p.role == "embed.positions"), None)
    places = 2 * LONGEST_PROMPT if table is None else (table.size - table.num_unused) // table.shape[1]
    longest = min(places // 2, LONGEST_PROMPT)
    natural = length or min(PROMPT_LENGTH, longest)
    if length and length >= places:
        raise ApetError(f"prompt_length={length} leaves no room for text: the backbone has {places} positions")
    d = backbone.width
    return Target(
        length or 1,
        (length or longest) * d,
        natural * d,
        lambda k, how, seed: make.tokens(
            entry.name, d, k, how, seed, length or (natural if k == natural * d else None)
        ),
    )
