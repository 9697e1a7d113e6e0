"""The five forms of an insertion, each from a place, its sizes and a number of entries; every entry of it is alive."""

from __future__ import annotations

import math

from apet.delta import Init, Insertion, TrainableWeight
from apet.masks.allocation import allocate_budget
from apet.masks.mask import Distribution, draw_mask


def parameter(
    at: str,
    shape: tuple[int, ...],
    count: int,
    distribution: Distribution,
    mask_seed: int,
    unused: tuple[int, int] = (0, 0),
) -> Insertion:
    """``count`` entries added to an existing parameter; the ``unused`` ones, ``[first, last)``, are left alone."""
    support = draw_mask(shape, count, distribution, mask_seed, at, gap=unused)
    return Insertion("parameter", at, (TrainableWeight("delta", support),))


def output(at: str, d_out: int, count: int, distribution: Distribution, mask_seed: int) -> Insertion:
    """``count`` entries of a vector added to a layer's output (eq. 14)."""
    return Insertion("output", at, (TrainableWeight("delta", draw_mask((d_out,), count, distribution, mask_seed, at)),))


def fewest_tokens(count: int, width: int) -> int:
    """Tokens that ``count`` entries need."""
    return math.ceil(count / width)


def tokens(
    at: str, width: int, count: int, distribution: Distribution, mask_seed: int, length: int | None = None
) -> Insertion:
    """Soft prompt tokens (eq. 15), as few as hold ``count`` entries unless ``length`` is given; none is empty."""
    shape = (length or fewest_tokens(count, width), width)
    support = draw_mask(shape, count, distribution, mask_seed, at, "prompt_embeddings", cover="rows")
    return Insertion("tokens", at, (TrainableWeight("prompt_embeddings", support, Init("vocabulary")),))


def fewest_units(count: int, d_in: int, d_out: int) -> int:
    """Rank that ``count`` entries of a pair need."""
    return max(1, math.ceil(count / (d_in + d_out)))


def pair(
    at: str,
    d_in: int,
    d_out: int,
    count: int,
    distribution: Distribution,
    mask_seed: int,
    scale: float,
    rank: int | None = None,
) -> Insertion:
    """A low-rank pair W̃₃ (d_in, r), W̃₄ (r, d_out) (eq. 16), of the smallest rank that holds ``count`` unless given.

    Every unit has an entry in both factors, so that none multiplies with masked ones only. W̃₄ starts at zero, W̃₃
    uniform in ±1/√(entries of its column), as LoRA's does.
    """
    r = rank or fewest_units(count, d_in, d_out)
    split = allocate_budget(count, [r, r], [d_in * r, d_out * r], [d_in, d_out], mask_seed)
    assert split is not None
    down = draw_mask((d_in, r), split[0], distribution, mask_seed, at, "lora_A", cover="columns")
    up = draw_mask((r, d_out), split[1], distribution, mask_seed, at, "lora_B", cover="rows")
    weights = (TrainableWeight("lora_A", down, Init("uniform", fan_in=True)), TrainableWeight("lora_B", up))
    return Insertion("pair", at, weights, scale)


def fewest_neurons(count: int, d: int) -> int:
    """Bottleneck that ``count`` entries of an adapter need; one entry alone is a bias, two make a unit."""
    return 0 if count == 1 else max(1, math.ceil((count - d) / (2 * d + 1)))


def bottleneck(
    at: str, d: int, count: int, distribution: Distribution, mask_seed: int, width: int | None = None
) -> Insertion:
    """An adapter W̃₅ (d, m), b₅ (m), W̃₆ (m, d), b₆ (d) (eq. 17), as narrow as holds ``count`` unless ``width`` is given.

    Every unit has an entry of W̃₅ and one of W̃₆. W̃₆ and b₆ start at zero, W̃₅ uniform in ±1/√(entries of its column).
    """
    m = fewest_neurons(count, d) if width is None else width
    if m == 0:
        return Insertion(
            "bottleneck",
            at,
            (TrainableWeight("up_proj.bias", draw_mask((d,), count, distribution, mask_seed, at, "up_proj.bias")),),
        )
    split = allocate_budget(count - 2 * m, [1, 1, 1, 1], [(d - 1) * m, m, m * (d - 1), d], [d, 1, d, d / m], mask_seed)
    if split is None:  # nothing left after one entry of each factor for every unit
        split = [0, 0, 0, 0]
    into, inner, out, outer = split[0] + m, split[1], split[2] + m, split[3]
    weights = [
        TrainableWeight(
            "down_proj.weight",
            draw_mask((d, m), into, distribution, mask_seed, at, "down_proj.weight", cover="columns"),
            _KAIMING,
        )
    ]
    if inner:
        weights.append(
            TrainableWeight("down_proj.bias", draw_mask((m,), inner, distribution, mask_seed, at, "down_proj.bias"))
        )
    weights.append(
        TrainableWeight(
            "up_proj.weight", draw_mask((m, d), out, distribution, mask_seed, at, "up_proj.weight", cover="rows")
        )
    )
    if outer:
        weights.append(
            TrainableWeight("up_proj.bias", draw_mask((d,), outer, distribution, mask_seed, at, "up_proj.bias"))
        )
    return Insertion("bottleneck", at, tuple(weights))


_KAIMING = Init("uniform", fan_in=True)
