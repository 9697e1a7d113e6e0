"""Everything that the runs of a study can say, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from apet.analysis.score_by_budget import BudgetPoint, budget_points
from apet.analysis.convergence import ConvergenceComparison, by_run, convergence_comparisons, convergences
from apet.analysis.frames import FULL, checked_curves, complete, failed
from apet.analysis.gap_by_scale import Gap, gaps
from apet.analysis.intervals import Floats
from apet.analysis.score_matrix import Items
from apet.analysis.structure import Structure, structures
from apet.analysis.study_data import StudyData
from apet.analysis.thresholds import DEFAULT_MARGIN, Threshold, thresholds
from apet.analysis.transfer import TransferScore, transfer_scores
from apet.analysis.claims import Trend, adjacent_faster, gap_shrinks, high_falls, low_same, transfer_within
from apet.errors import ApetError


@dataclass(frozen=True)
class Analysis:
    """Numbers of every experiment; an empty list where the runs do not hold it, and ``missing`` says why.

    Attributes:
        board: the runs.
        curves: checked; empty where none came.
        converged: steps to convergence of each run.
        trends: the claims about scale with their verdicts.
        margin: of the high threshold.
        missing: experiment (E1 … E7) -> what is not there.
    """

    data: StudyData
    curves: pd.DataFrame
    gaps: list[Gap]
    structures: list[Structure]
    converged: pd.DataFrame
    convergence_comparisons: list[ConvergenceComparison]
    budget_points: list[BudgetPoint]
    thresholds: list[Threshold]
    transfer_scores: list[TransferScore]
    trends: list[Trend]
    margin: float
    missing: dict[str, str]

    @cached_property
    def by_run(self) -> dict[str, tuple[Floats, Floats]]:
        """Run key -> steps and values of its curve."""
        return {k: (steps, values) for k, (steps, values, _) in by_run(self.curves).items()}

    @property
    def failed(self) -> pd.DataFrame:
        """Runs without a number."""
        return failed(self.data.runs)


def analyze(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    items: Items | None = None,
    transfer: pd.DataFrame | None = None,
    planned: pd.DataFrame | None = None,
    allow_holes: bool = False,
    margin: float = DEFAULT_MARGIN,
) -> Analysis:
    """All experiments that the runs hold.

    Args:
        runs, curves, items, transfer, planned: see `apet.analysis.frames`.
        allow_holes: go on where planned runs are missing, and mark every number that misses some.
        margin: of the high threshold.

    Raises:
        ApetError: a table does not fit its schema, or there are holes and they are not allowed.
    """
    board = StudyData.of(runs, items, planned)
    if not allow_holes:
        _refuse_missing(board)
    curves = checked_curves(curves, board.runs)
    all_gaps = gaps(board, allow_holes)
    all_structures = structures(board, allow_holes)
    converged = convergences(board, curves)
    all_races = convergence_comparisons(board, converged)
    all_levels = budget_points(board, allow_holes)
    all_thresholds = thresholds(all_levels, margin)
    all_relatives = [] if transfer is None or transfer.empty else transfer_scores(transfer, board, allow_holes)
    trends = [
        *gap_shrinks(all_gaps),
        *high_falls(all_thresholds),
        *low_same(all_thresholds),
        *adjacent_faster(all_races),
        *transfer_within(all_relatives, board),
    ]
    there = {
        "E1": (any(g.gap for g in all_gaps), "needs full fine-tuning and one method on the same backbone and task"),
        "E2": (bool(all_structures), "needs APET at the exact count of a method that chose its own size"),
        "E3": (bool(all_races), "needs curves of apet-adjacent and apet-discrete at one count, both converged"),
        "E4": (bool(all_thresholds), "needs a method at two counts or more"),
        "E5": (bool(all_thresholds), "needs a method at two counts or more"),
        "E6": (bool(all_gaps), "needs one finished run"),
        "E7": (bool(all_relatives), "needs zero-shot measures on other tasks"),
    }
    missing = {e: why for e, (here, why) in there.items() if not here}
    if FULL not in board.methods and "E5" not in missing:
        missing["high threshold"] = "needs full fine-tuning"
    return Analysis(
        board,
        curves,
        all_gaps,
        all_structures,
        converged,
        all_races,
        all_levels,
        all_thresholds,
        all_relatives,
        trends,
        margin,
        missing,
    )


def _refuse_missing(board: StudyData) -> None:
    """Every run that was planned must be there.

    Raises:
        ApetError: one is not; the first is named.
    """
    if board.planned is None:
        return
    by = ["backbone", "task", "method", "num_trainable", "seed"]
    there = set(complete(board.runs)[by].itertuples(index=False, name=None))
    missing = [p for p in board.planned[by].itertuples(index=False, name=None) if p not in there]
    if missing:
        backbone, task, method, n, seed = missing[0]
        at = "" if n != n else f" at {int(n):,} parameters"
        raise ApetError(
            f"{len(missing)} of {len(board.planned)} planned runs are missing, first {method}{at} on {backbone},"
            f" {task}, seed {int(seed)}; finish the study, or allow holes"
        )
