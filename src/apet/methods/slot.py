"""A slot: a place where a method may train, with how few and how many scalars it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from apet.backbones.positions import Backbone, Layer, Position
from apet.errors import ApetError
from apet.modules import insertions as make
from apet.modules.support import Distribution
from apet.modules.theta import Insertion

LORA_RANK = 8
BOTTLENECK = 24
PROMPT_LENGTH = 100
"""The paper's sizes (table 1 and appendix B.2)."""

LONGEST_PROMPT = 4096


@dataclass(frozen=True)
class Slot:
    """Somewhere a budget can go.

    Attributes:
        minimum: fewest scalars that are alive there.
        cap: most that fit.
        natural: scalars it takes when no budget is given.
        make: (count, distribution, mask_seed) -> insertion with exactly ``count`` scalars.
    """

    minimum: int
    cap: int
    natural: int
    make: Callable[[int, Distribution, int], Insertion]


def parameter_slot(p: Position) -> Slot:
    """Entries of an existing parameter."""
    n = p.size - p.n_unused
    return Slot(1, n, n, lambda k, how, seed: make.parameter(p.name, p.shape, k, how, seed, p.unused))


def output_slot(p: Position) -> Slot:
    """A vector added to a layer's output."""
    return Slot(1, p.size, p.size, lambda k, how, seed: make.output(p.name, p.size, k, how, seed))


def bias_slot(layer: Layer) -> Slot:
    """The layer's own bias, or where it has none a vector added to its output."""
    bias = layer.position("bias")
    if bias is not None:
        return parameter_slot(bias)
    out = layer.position("output")
    assert out is not None
    return output_slot(out)


def pair_slot(layer: Layer, rank: int | None, alpha: float) -> Slot:
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
    return Slot(
        2 * rank if rank else 2,
        (rank or min(i, o)) * (i + o),
        r * (i + o),
        lambda k, how, seed: make.pair(layer.name, i, o, k, how, seed, scale, rank),
    )


def bottleneck_slot(layer: Layer, width: int | None) -> Slot:
    """An adapter after a layer; a given width stays, else a budget gets the smallest that holds it."""
    d = layer.d_out
    m = width or BOTTLENECK
    return Slot(
        2 * width if width else 1,
        (width or max(d, BOTTLENECK)) * (2 * d + 1) + d,
        m * (2 * d + 1) + d,
        lambda k, how, seed: make.bottleneck(layer.name, d, k, how, seed, width),
    )


def tokens_slot(backbone: Backbone, length: int | None) -> Slot:
    """Soft prompt tokens before the text.

    Raises:
        ApetError: the prompt leaves no room for text among the backbone's learned positions.
    """
    entry = next(x for x in backbone.layers if x.role == "embed.tokens")
    table = next((p for p in backbone.positions if p.role == "embed.positions"), None)
    places = 2 * LONGEST_PROMPT if table is None else (table.size - table.n_unused) // table.shape[1]
    longest = min(places // 2, LONGEST_PROMPT)
    natural = length or min(PROMPT_LENGTH, longest)
    if length and length >= places:
        raise ApetError(f"prompt_length={length} leaves no room for text: the backbone has {places} positions")
    d = backbone.width
    return Slot(
        length or 1,
        (length or longest) * d,
        natural * d,
        lambda k, how, seed: make.tokens(
            entry.name, d, k, how, seed, length or (natural if k == natural * d else None)
        ),
    )
