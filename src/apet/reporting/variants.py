"""The APET variants of a study, adjacent, discrete and any other distribution, and how their comparisons are named."""

from __future__ import annotations

from collections.abc import Iterable

from apet.analysis.convergence import ConvergenceComparison
from apet.analysis.structure import Structure, distribution
from apet.analysis.study import Analysis


def structure_variants(a: Analysis) -> tuple[str, ...]:
    """Variants of APET that methods are compared with at the methods' counts."""
    compared = {m for s in a.structures for m in s.scores if m != s.method}
    return tuple(v for v in a.data.variants if v in compared)


def difference_headings(structures: Iterable[Structure]) -> dict[str, str]:
    """Every difference that occurs, the method against a variant first, then pairs of variants.

    Returns:
        Key of ``Structure.differences`` -> heading, such as ``method − adjacent``.
    """
    headings = {}
    with_method = {}
    for s in structures:
        for key, sides in s.pairs.items():
            with_method[key] = s.method in sides
            headings[key] = " − ".join("method" if m == s.method else distribution(m) for m in sides)
    # sorting is stable: apart from that, the keys stay as they came
    return {key: headings[key] for key in sorted(headings, key=lambda key: not with_method[key])}


def convergence_variants(comparisons: Iterable[ConvergenceComparison]) -> tuple[str, ...]:
    """Every variant that takes part in a comparison of convergence."""
    return tuple(dict.fromkeys(m for c in comparisons for m in (c.first, c.second)))


def convergence_pairs(comparisons: Iterable[ConvergenceComparison]) -> tuple[tuple[str, str], ...]:
    """Every pair of variants that is compared."""
    return tuple(dict.fromkeys((c.first, c.second) for c in comparisons))
