"""The paper's claims, tested on our runs: what was measured, in which view, and a verdict that noise does not make.

A claim is *supported* where every view of it excludes 0 on the claim's side and it survives Holm's correction over the
rows of the claim; *not supported* where a view leaves no room for an effect worth naming; *depends on the view* where
one view supports what another rules out; else *not decidable with these runs*. How often each rule is fooled:
docs/results/claim-rules.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from apet.analysis.claims.convergence import adjacent_faster
from apet.analysis.claims.gap import gap_shrinks
from apet.analysis.claims.structure import structure_fades
from apet.analysis.claims.thresholds import high_falls, low_same
from apet.analysis.claims.transfer import transfer_within
from apet.analysis.claims.verdict import ClaimRow, holm
from apet.analysis.study_data import StudyData
from apet.analysis.thresholds import Threshold
from apet.analysis.transfer import TransferScore


def decide_claims(
    data: StudyData, curves: pd.DataFrame, thresholds: Sequence[Threshold], scores: Sequence[TransferScore]
) -> list[ClaimRow]:
    """All claims that the runs can say something about.

    Args:
        data: the runs.
        curves: as `apet.analysis.frames.checked_curves` returns them.
        thresholds: of the runs.
        scores: of transfer.

    Returns:
        Rows, claim by claim, after Holm's correction over the rows of each.
    """
    by_claim = (
        gap_shrinks(data),
        structure_fades(data),
        high_falls(thresholds),
        low_same(thresholds),
        adjacent_faster(data, curves),
        transfer_within(scores, data.categories),
    )
    return [row for rows in by_claim for row in holm(rows)]
