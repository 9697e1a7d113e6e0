"""Threshold search on the store: runs that are there already answer, the others are run."""

from __future__ import annotations

from collections.abc import Sequence

from apet.errors import ApetError, UnreachableBudgetError
from apet.search.thresholds import MeasuredRun, RunRequest, ThresholdRules, ThresholdSearch, budget_grid
from apet.studies.scheduler import Scheduler
from apet.studies.store import Store
from apet.tasks.score_text import require_points
from apet.training.config import RunConfig
from apet.training.resolve import resolve
from apet.training.resources import Resources
from apet.training.result import RunResult


class ThresholdSearcher:
    """Searches both thresholds of one backbone, task and method.

    Args:
        base: settings of every run; its method is the one searched for, its budget and seed are decided here.
        store: the record.
        scheduler: runs what is missing.
        rules: what counts.
        reference_rate: learning rate of full fine-tuning; None = that of the others.

    Raises:
        ApetError: full fine-tuning is asked for, or settings do not fit.
    """

    def __init__(
        self,
        base: RunConfig,
        store: Store,
        scheduler: Scheduler,
        rules: ThresholdRules,
        reference_rate: float | None = None,
    ) -> None:
        if base.method == "fine-tuning":
            raise ApetError(
                "full fine-tuning has no thresholds, it is what others are held against; give another method"
            )
        self.base, self.store, self.scheduler, self.rules = base, store, scheduler, rules
        self.reference_rate = base.learning_rate if reference_rate is None else reference_rate
        self.resources = Resources()
        self.label = base.axes.method

    def search(self, least: int = 1, most: int | None = None) -> ThresholdSearch:
        """Prepare a search over a grid of counts.

        Args:
            least: smallest N; moved to the nearest that the method can have.
            most: largest N; None = as many as the backbone has parameters, or the method can hold.

        Returns:
            The search, ready to go.

        Raises:
            ApetError: a margin in points of a metric that has none.
        """
        plan = resolve(self.base, self.resources.cache)
        if self.rules.reach.margin is not None:
            require_points(plan.task.metric)
        upper = self._reachable(most or plan.backbone.num_parameters)
        grid = budget_grid(self._reachable(least), upper, self.rules.spacing, self._reachable)
        at_once = self.scheduler.executor.size * self.scheduler.runs_in_a_pass(plan)
        return ThresholdSearch(grid, self._measure, self.rules, at_once=at_once)

    def _measure(self, requests: Sequence[RunRequest]) -> list[MeasuredRun | None]:
        plans = [resolve(self._config(n, seed), self.resources.cache) for n, seed in requests]
        for plan in plans:
            if plan.missing is not None:
                raise ApetError(plan.missing)
        self.scheduler.run(plans, retry=True)  # what failed in an earlier search may have been the machine's fault
        # From the record, not from the scheduler: most of the runs are from earlier questions.
        results = {run.run_id: run.result for run in self.store.rows()}
        return [_measured(results.get(plan.run_id)) for plan in plans]

    def _config(self, n: int | None, seed: int) -> RunConfig:
        """Settings of a run: with N parameters, or of full fine-tuning where N is None."""
        if n is None:
            return self.base.model_copy(
                update={
                    "method": "fine-tuning",
                    "method_settings": {},
                    "budget": None,
                    "seed": seed,
                    "save_delta": False,
                    "learning_rate": self.reference_rate,
                }
            )
        return self.base.model_copy(update={"budget": n, "seed": seed})

    def _reachable(self, n: int) -> int:
        """The nearest count that the method can have."""
        try:
            return resolve(self._config(n, 0), self.resources.cache).num_trainable
        except UnreachableBudgetError as e:
            return min(e.nearest, key=lambda count: abs(count - n))


def _measured(result: RunResult | None) -> MeasuredRun | None:
    if result is None:
        return None
    constant = result.untrained_baseline if result.majority_baseline is None else result.majority_baseline
    return MeasuredRun(result.score, result.score_untrained, constant)
