"""Where N matters: one method at one N, on some roles of the backbone or everywhere (E10)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from apet.analysis.intervals import Estimate
from apet.analysis.score_matrix import ScoreMatrix, align, average, difference, select
from apet.analysis.study_data import PLACED, Scale, StudyData


@dataclass(frozen=True)
class Placement:
    """One method at one N on certain roles, on one backbone.

    Attributes:
        scale: the backbone.
        num_trainable: N, exact.
        method: display name without the roles.
        name: display name with them.
        roles: such as ``attn.q + attn.v``; None = those that the method takes by itself.
        task: None = the mean over the tasks that all places have.
        score: of the method.
        difference: this − the method's own places; None where that was not run, or is this.
    """

    scale: Scale
    num_trainable: int
    method: str
    name: str
    roles: str | None
    task: str | None
    score: Estimate
    difference: Estimate | None


def placed(method: str) -> tuple[str, str] | None:
    """What a method's name says of its places.

    Args:
        method: display name, such as ``lora(roles=['attn.q', 'attn.v'])``.

    Returns:
        The method, and its roles as ``attn.q + attn.v``; None where the name says nothing else than the method.
    """
    found = PLACED.fullmatch(method)
    return None if found is None else (found["method"], " + ".join(re.findall(r"'([^']+)'", found["roles"])))


def placements(data: StudyData, allow_holes: bool = False) -> list[Placement]:
    """Comparisons over places wherever a method ran on two of them at one N.

    Args:
        data: the runs.
        allow_holes: go on where planned runs are missing, and count them in every estimate.

    Returns:
        By backbone, N, method, task (the mean over tasks first), its own places first and then the others by name.

    Raises:
        ApetError: a run is missing, and missing runs are not allowed.
    """
    rows = []
    for scale in data.scales:
        counts: dict[tuple[int, str], dict[str | None, str]] = {}
        for backbone, name, n in data.cells:
            if backbone == scale.name and (found := placed(name)) is not None:
                counts.setdefault((n, found[0]), {})[found[1]] = name
        for (n, method), names in sorted(counts.items()):
            places: dict[str | None, str] = {None: method, **dict(sorted(names.items(), key=lambda p: str(p[0])))}
            found_here = {r: m for r, name in places.items() if (m := data.score_matrix(scale, name, n)) is not None}
            if len(found_here) < 2:
                continue
            # All are aligned together: the places of one comparison share their tasks and seeds.
            aligned = dict(zip(found_here, align([*found_here.values()], allow_holes), strict=True))
            tasks = next(iter(aligned.values())).tasks
            for task in (None, *tasks) if len(tasks) > 1 else tasks:
                selected = {r: m if task is None else select(m, [task]) for r, m in aligned.items()}
                rows += _by_roles(data, scale, n, method, task, selected, places)
    return rows


def _by_roles(
    data: StudyData,
    scale: Scale,
    n: int,
    method: str,
    task: str | None,
    matrices: dict[str | None, ScoreMatrix],
    names: dict[str | None, str],
) -> list[Placement]:
    rows = []
    for roles, matrix in matrices.items():
        # What is missing was refused or allowed when the matrices were aligned.
        score = average(matrix, data.scores, True)
        own = matrices.get(None) if roles is not None else None
        if score is not None:
            better = None if own is None else difference(matrix, own, data.scores, allow_holes=True)
            rows.append(Placement(scale, n, method, names[roles], roles, task, score, better))
    return rows
