"""The APET variants of a study, adjacent, discrete and any other distribution, and how their comparisons are named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from apet.analysis.convergence import ConvergenceComparison
from apet.analysis.frames import ADJACENT, DISCRETE
from apet.analysis.structure import Structure

APET_PREFIX = "apet-"
METHOD_SIDE = "method"
"""The side of a structural difference that is the method whose count it is."""


def structure_variants(structures: Iterable[Structure], methods: Sequence[str]) -> tuple[str, ...]:
    """Variants of APET that methods are compared with at the methods' counts, in the order of the methods."""
    compared = {m for s in structures for m in s.scores if m != s.method}
    return tuple(m for m in methods if m in compared)


def difference_keys(structures: Iterable[Structure]) -> tuple[str, ...]:
    """Every key of ``Structure.differences`` that occurs: method against variant first, then pairs of variants."""
    keys = dict.fromkeys(k for s in structures for k in s.differences)
    return tuple(sorted(keys, key=lambda k: not k.startswith(f"{METHOD_SIDE}-")))  # stable: else as they came


def difference_sides(key: str, variants: Iterable[str]) -> tuple[str, str]:
    """Both sides of a key such as ``method-adjacent`` or ``adjacent-discrete``.

    Args:
        key: of ``Structure.differences``.
        variants: display names such as ``apet-adjacent``; needed because a distribution may have a hyphen in its name.
    """
    sides = {METHOD_SIDE, *(v.removeprefix(APET_PREFIX) for v in variants)}
    for hyphen in (i for i, letter in enumerate(key) if letter == "-"):
        first, second = key[:hyphen], key[hyphen + 1 :]
        if first in sides and second in sides:
            return first, second
    first, _, second = key.partition("-")
    return first, second


def difference_heading(key: str, variants: Iterable[str]) -> str:
    """``method − adjacent``."""
    return " − ".join(difference_sides(key, variants))


def mean_convergence_steps(c: ConvergenceComparison) -> dict[str, float]:
    """The two variants of a comparison, first and second side of its ratio, with their mean steps to convergence."""
    return {ADJACENT: c.adjacent, DISCRETE: c.discrete}


def convergence_variants(comparisons: Iterable[ConvergenceComparison]) -> tuple[str, ...]:
    """Every variant that takes part in a comparison of convergence."""
    return tuple(dict.fromkeys(m for c in comparisons for m in mean_convergence_steps(c)))


def convergence_pairs(comparisons: Iterable[ConvergenceComparison]) -> tuple[tuple[str, ...], ...]:
    """Every pair of variants that is compared."""
    return tuple(dict.fromkeys(tuple(mean_convergence_steps(c)) for c in comparisons))
