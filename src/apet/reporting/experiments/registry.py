"""All experiments of a report, in its order. A new one is a file beside this one, and a line here."""

from __future__ import annotations

from apet.analysis.study import Analysis
from apet.reporting.experiments import (
    concentration,
    convergence,
    gap_by_scale,
    gap_surface,
    placement,
    score_by_budget,
    structure,
    tasks,
    thresholds,
    transfer,
)
from apet.reporting.experiments.experiment import Experiment

EXPERIMENTS = tuple(
    module.EXPERIMENT
    for module in (
        gap_by_scale,
        structure,
        convergence,
        score_by_budget,
        thresholds,
        tasks,
        transfer,
        concentration,
        gap_surface,
        placement,
    )
)
"""In the order of the page."""


def experiments_of(a: Analysis) -> tuple[Experiment, ...]:
    """The experiments that a report of these runs speaks of."""
    return tuple(e for e in EXPERIMENTS if e.asked(a))
