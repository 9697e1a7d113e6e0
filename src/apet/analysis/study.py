"""Analysis of a study: the numbers of every experiment (E1 to E10) and the paper's claims, from the result tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from apet.analysis.claims import decide_claims
from apet.analysis.claims.verdict import ClaimRow
from apet.analysis.concentration import Concentration, concentrations
from apet.analysis.convergence import ConvergenceComparison, by_run, convergence_comparisons, convergences
from apet.analysis.curve_values import Reach
from apet.analysis.frames import FULL, checked_curves, complete, failed
from apet.analysis.gap_by_scale import Gap, gaps
from apet.analysis.gap_surface import SurfaceCell, gap_surfaces
from apet.analysis.intervals import Floats
from apet.analysis.placement import Placement, placements
from apet.analysis.score_by_budget import BudgetPoint, budget_points
from apet.analysis.score_matrix import FINISH_OR_ALLOW, Items
from apet.analysis.structure import Structure, structures
from apet.analysis.study_data import StudyData
from apet.analysis.thresholds import Threshold, thresholds
from apet.analysis.transfer import TransferScore, transfer_scores
from apet.errors import ApetError


@dataclass(frozen=True)
class Analysis:
    """Numbers of every experiment; a list is empty where the runs do not hold it, and ``missing`` says why.

    Attributes:
        data: the runs.
        curves: learning curves, checked; empty where none came.
        gaps: E1.
        structures: E2.
        converged: steps to convergence of each run.
        convergence_comparisons: E3.
        budget_points: E4.
        thresholds: E5.
        transfer_scores: E7.
        concentrations: E8, which the paper does not have, as all that follow.
        gap_surfaces: E9.
        placements: E10.
        claims: the paper's claims with their verdicts.
        reach: what counts as reaching full fine-tuning.
        missing: experiment (E1 … E10) -> what it needs that the runs do not hold.
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
    concentrations: list[Concentration]
    gap_surfaces: list[SurfaceCell]
    placements: list[Placement]
    claims: list[ClaimRow]
    reach: Reach
    missing: dict[str, str]

    # Cached, for the figures ask for it once for every panel.
    @cached_property
    def by_run(self) -> dict[str, tuple[Floats, Floats]]:
        """Steps and scores of the learning curve of each run, by run_id."""
        return {run_id: (steps, scores) for run_id, (steps, scores, _) in by_run(self.curves).items()}

    @property
    def failed(self) -> pd.DataFrame:
        """Runs that have an error instead of a score."""
        return failed(self.data.runs)


def analyze(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    items: Items | None = None,
    transfer: pd.DataFrame | None = None,
    planned: pd.DataFrame | None = None,
    allow_holes: bool = False,
    reach: Reach | None = None,
) -> Analysis:
    """Analyze the runs of a study: all experiments that they hold.

    Args:
        runs: with the columns of `apet.analysis.frames.RUNS`.
        curves: with the columns of `CURVES`; may be empty.
        items: item scores, by run_id or with the columns of `ITEMS`; None = unknown, then differences are unpaired.
        transfer: with the columns of `TRANSFER`; None = none.
        planned: with the columns of `PLANNED`; None = unknown, then every method was to run on all tasks and seeds.
        allow_holes: go on where planned runs are missing, and mark every number that misses some.
        reach: what counts as reaching full fine-tuning; None = 95 % of the way.

    Returns:
        The numbers of every experiment.

    Raises:
        ApetError: a table does not fit its schema, or runs are missing and that is not allowed.
    """
    data = StudyData.of(runs, items, planned)
    if not allow_holes:
        _check_all_planned_ran(data)
    # A report on some of the runs may come with the curves of all; the others' are dropped here.
    curves = checked_curves(curves, data.runs)
    all_gaps = gaps(data, allow_holes)
    converged = convergences(data, curves)
    comparisons = convergence_comparisons(data, converged)
    points = budget_points(data, allow_holes)
    # Thresholds are read off the very points that the curves show, so that a figure and its ranges cannot disagree.
    all_thresholds = thresholds(points, reach)
    scores = [] if transfer is None or transfer.empty else transfer_scores(transfer, data, allow_holes)
    all_structures = structures(data, allow_holes)
    all_concentrations = concentrations(data, allow_holes)
    return Analysis(
        data=data,
        curves=curves,
        gaps=all_gaps,
        structures=all_structures,
        converged=converged,
        convergence_comparisons=comparisons,
        budget_points=points,
        thresholds=all_thresholds,
        transfer_scores=scores,
        concentrations=all_concentrations,
        gap_surfaces=gap_surfaces(points),
        placements=placements(data, allow_holes),
        claims=decide_claims(data, curves, all_thresholds, scores),
        reach=reach or Reach(),
        missing=_missing(data, all_gaps, all_structures, comparisons, all_thresholds, scores, all_concentrations),
    )


def _missing(
    data: StudyData,
    all_gaps: Sequence[Gap],
    all_structures: Sequence[Structure],
    comparisons: Sequence[ConvergenceComparison],
    all_thresholds: Sequence[Threshold],
    scores: Sequence[TransferScore],
    all_concentrations: Sequence[Concentration],
) -> dict[str, str]:
    """What each experiment without numbers needs."""
    experiments = {
        "E1": (any(g.gap for g in all_gaps), "needs full fine-tuning and one method on the same backbone and task"),
        "E2": (bool(all_structures), "needs APET at the exact count of a method that chose its own size"),
        "E3": (bool(comparisons), "needs curves of two APET distributions at one count, both converged"),
        "E4": (bool(all_thresholds), "needs a method at two counts or more"),
        "E5": (bool(all_thresholds), "needs a method at two counts or more"),
        "E6": (bool(all_gaps), "needs one finished run"),
        "E7": (bool(scores), "needs zero-shot scores on other tasks"),
    }
    if data.concentrated_variants:  # not the paper's: asked for, or not spoken of
        experiments["E8"] = (bool(all_concentrations), "needs APET at one count on several numbers of weights (sites)")
    # What an experiment lacks is said in its place: an empty figure would look like a result.
    missing = {name: needs for name, (has_numbers, needs) in experiments.items() if not has_numbers}
    # Low thresholds need no reference, so E5 can have numbers and still lack its better half.
    if FULL not in data.methods and "E5" not in missing:
        missing["high threshold"] = "needs full fine-tuning"
    return missing


def _check_all_planned_ran(data: StudyData) -> None:
    """Raise ApetError where a planned run has no result; the first is named."""
    if data.planned is None:
        return
    # The experiments check what each of them uses; a whole method or backbone without a run none of them would miss.
    key = ["backbone", "task", "method", "num_trainable", "seed"]
    present = set(complete(data.runs)[key].itertuples(index=False, name=None))
    missing = [run for run in data.planned[key].itertuples(index=False, name=None) if run not in present]
    if missing:
        backbone, task, method, n, seed = missing[0]
        size = "" if pd.isna(n) else f" at {int(n):,} parameters"
        raise ApetError(
            f"{len(missing)} of {len(data.planned)} planned runs are missing, first {method}{size} on {backbone},"
            f" {task}, seed {int(seed)}; {FINISH_OR_ALLOW}"
        )
