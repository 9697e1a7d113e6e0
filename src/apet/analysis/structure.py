"""Structure of the trained parameters at equal N: a method against every APET variant (E2; figure 5 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from apet.analysis.frames import APET_PREFIX, FULL
from apet.analysis.intervals import Estimate
from apet.analysis.score_matrix import ScoreMatrix, align, average, difference, select
from apet.analysis.study_data import Scale, StudyData


@dataclass(frozen=True)
class Structure:
    """A method at its default size and the APET variants at exactly this N, on one backbone.

    Attributes:
        scale: the backbone.
        method: whose default size it is.
        num_trainable: that size, N.
        task: None = the mean over the tasks that all of them have.
        scores: method, then APET variants -> score, of those that were run; over the same tasks and seeds.
        differences: pair, named as in `method_pairs` -> first − second.
    """

    scale: Scale
    method: str
    num_trainable: int
    task: str | None
    scores: dict[str, Estimate]
    differences: dict[str, Estimate]

    @property
    def pairs(self) -> dict[str, tuple[str, str]]:
        """Display names of both sides of each of ``differences``: pair -> (first, second)."""
        pairs = method_pairs(self.method, [m for m in self.scores if m != self.method])
        return {name: pair for name, pair in pairs.items() if name in self.differences}


def method_pairs(method: str, variants: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Pairs to compare at one N: the method with every APET variant, then the variants with each other.

    Args:
        method: display name.
        variants: display names of APET variants, such as ``apet-adjacent``.

    Returns:
        Name -> (first, second); the method is called ``method`` and a variant by its distribution, as in
        ``method-adjacent`` and ``adjacent-discrete``.
    """
    pairs = {f"method-{distribution(v)}": (method, v) for v in variants}
    return pairs | {f"{distribution(a)}-{distribution(b)}": (a, b) for a, b in combinations(variants, 2)}


def distribution(variant: str) -> str:
    """Name of the distribution of an APET variant: ``adjacent`` of ``apet-adjacent``."""
    return variant.removeprefix(APET_PREFIX)


def structures(data: StudyData, allow_holes: bool = False, by_task: bool = True) -> list[Structure]:
    """Comparisons of structures wherever an APET variant was run at the default size of a method.

    Args:
        data: the runs.
        allow_holes: go on where planned runs are missing, and count them in every estimate.
        by_task: also those of single tasks.

    Returns:
        By backbone and method; of each the mean over tasks first, then each task.

    Raises:
        ApetError: a run is missing, and missing runs are not allowed.
    """
    comparisons = []
    for scale in data.scales:
        for method in data.methods:
            # At any other N a mask trims the method to the budget: only at its default size its structure is its own.
            if method == FULL or method in data.variants or (scale.name, method) not in data.at_default_size:
                continue
            n = data.own_sizes[scale.name, method]
            methods = (method, *data.variants)
            matrices = {m: matrix for m in methods if (matrix := data.score_matrix(scale, m, n)) is not None}
            if len(matrices) < 2:
                continue
            # All sides are aligned together, not pair by pair: bars and differences of one group are then over the
            # same tasks and seeds, and add up.
            aligned = dict(zip(matrices, align(list(matrices.values()), allow_holes), strict=True))
            tasks = next(iter(aligned.values())).tasks
            for task in (None, *tasks) if by_task else (None,):
                comparison = _structure(data, scale, method, n, task, aligned)
                if len(comparison.scores) > 1:
                    comparisons.append(comparison)
    return comparisons


def _structure(
    data: StudyData, scale: Scale, method: str, n: int, task: str | None, matrices: dict[str, ScoreMatrix]
) -> Structure:
    """Comparison on one task, or on their mean for None."""
    selected = {m: matrix if task is None else select(matrix, [task]) for m, matrix in matrices.items()}
    # What is missing was refused or allowed when the matrices were aligned; what is left out counts as missing here.
    scores = {m: e for m, matrix in selected.items() if (e := average(matrix, data.scores, True)) is not None}
    differences = {}
    for name, (first, second) in method_pairs(method, data.variants).items():
        if first in selected and second in selected:
            estimate = difference(selected[first], selected[second], data.scores, allow_holes=True)
            if estimate is not None:
                differences[name] = estimate
    return Structure(scale, method, n, task, scores, differences)
