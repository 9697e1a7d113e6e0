"""Concentration: the same N on few weights or on many (E8), the axis along which masks can differ at all.

With one or two entries a weight, adjacent and discrete ones are nearly the same; on a single weight they are a block
and a scatter. So a budget N = k × l is followed from k = 1 weight to many, l entries each.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from apet.analysis.intervals import Estimate
from apet.analysis.score_matrix import ScoreMatrix, align, average, difference, select
from apet.analysis.structure import distribution
from apet.analysis.study_data import CONCENTRATED, Scale, StudyData


@dataclass(frozen=True)
class Concentration:
    """The variants of APET at one N on one number of weights, on one backbone.

    Attributes:
        scale: the backbone.
        num_trainable: N, exact.
        sites: k, the number of weights that N falls on; each has N / k entries.
        task: None = the mean over the tasks that all numbers of weights have.
        scores: variant -> score.
        methods: variant -> name of its method, with the setting.
        differences: pair, named as ``adjacent-discrete`` -> first − second.
    """

    scale: Scale
    num_trainable: int
    sites: int
    task: str | None
    scores: dict[str, Estimate]
    methods: dict[str, str]
    differences: dict[str, Estimate]


def concentrated(method: str, num_trainable: int) -> tuple[str, int] | None:
    """What a method's name says of concentration.

    Args:
        method: display name, such as ``apet-discrete(sites=4)`` or ``apet-adjacent(run_length=16)``.
        num_trainable: N.

    Returns:
        Its variant of APET, and the number of weights that N falls on; None where the name says nothing of it.
    """
    found = CONCENTRATED.fullmatch(method)
    if found is None:
        return None
    number = int(found["number"])
    return found["variant"], number if found["setting"] == "sites" else max(1, num_trainable // number)


def concentrations(data: StudyData, allow_holes: bool = False) -> list[Concentration]:
    """Comparisons over the number of weights wherever one variant has two of them at one N.

    Args:
        data: the runs.
        allow_holes: go on where planned runs are missing, and count them in every estimate.

    Returns:
        By backbone, N, task (the mean over tasks first) and number of weights.

    Raises:
        ApetError: a run is missing, and missing runs are not allowed.
    """
    rows = []
    for scale in data.scales:
        for n in sorted({n for backbone, m, n in data.cells if backbone == scale.name and concentrated(m, n)}):
            cells = _cells(data, scale, n)
            if len({sites for _, sites in cells}) < 2:
                continue
            # All are aligned together: a curve over k must not change its tasks on the way.
            aligned = dict(zip(cells, align([matrix for _, matrix in cells.values()], allow_holes), strict=True))
            names = {key: name for key, (name, _) in cells.items()}
            tasks = next(iter(aligned.values())).tasks
            for task in (None, *tasks) if len(tasks) > 1 else tasks:
                selected = {k: m if task is None else select(m, [task]) for k, m in aligned.items()}
                rows += _by_sites(data, scale, n, task, selected, names)
    return rows


def _cells(data: StudyData, scale: Scale, n: int) -> dict[tuple[str, int], tuple[str, ScoreMatrix]]:
    """(variant, number of weights) -> name of the method and its scores at this N."""
    cells: dict[tuple[str, int], tuple[str, ScoreMatrix]] = {}
    for method in data.methods:
        key, matrix = concentrated(method, n), data.score_matrix(scale, method, n)
        if key is not None and matrix is not None:
            cells.setdefault(key, (method, matrix))
    return cells


def _by_sites(
    data: StudyData,
    scale: Scale,
    n: int,
    task: str | None,
    matrices: dict[tuple[str, int], ScoreMatrix],
    names: dict[tuple[str, int], str],
) -> list[Concentration]:
    rows = []
    for sites in sorted({sites for _, sites in matrices}):
        here = {variant: matrix for (variant, k), matrix in matrices.items() if k == sites}
        # What is missing was refused or allowed when the matrices were aligned.
        scores = {v: e for v, matrix in here.items() if (e := average(matrix, data.scores, True)) is not None}
        differences = {
            f"{distribution(a)}-{distribution(b)}": e
            for a, b in combinations([v for v in data.concentrated_variants if v in scores], 2)
            if (e := difference(here[a], here[b], data.scores, allow_holes=True)) is not None
        }
        methods = {v: names[v, sites] for v in scores}
        if scores:
            rows.append(Concentration(scale, n, sites, task, scores, methods, differences))
    return rows
