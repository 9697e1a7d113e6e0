"""Threshold search on the store: runs that are there already answer, the others are run."""

from __future__ import annotations

from collections.abc import Sequence

from apet.errors import ApetError, UnreachableBudgetError
from apet.studies.scheduler import Scheduler
from apet.studies.store import Store
from apet.studies.thresholds import SeedScore, ThresholdRules, ThresholdSearch, budget_grid
from apet.training.config import RunConfig
from apet.training.evaluation import untrained_baseline
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

    def search(self, least: int = 1, most: int | None = None) -> tuple[ThresholdSearch, list[int]]:
        """Prepare a search over a grid of counts.

        Args:
            least: smallest N; moved to the nearest that the method can have.
            most: largest N; None = as many as the backbone has parameters, or the method can hold.

        Returns:
            The search, ready to go, and its grid.
        """
        upper = self._reachable(most or resolve(self.base, self.resources.cache).backbone.num_parameters)
        points = budget_grid(self._reachable(least), upper, self.rules.spacing, self._reachable)
        return ThresholdSearch(points, self._untrained_baseline(), self._measure, self.rules), points

    def _measure(self, n: int | None, seeds: Sequence[int], target_score: float | None) -> list[SeedScore | None]:
        states = self.store.states()
        plans = []
        for seed in seeds:
            # A run that went to its end answers every question; only where there is none may one stop early.
            plan = resolve(self._config(n, seed, None), self.resources.cache)
            if target_score is not None and states.get(plan.run_id) != "complete":
                plan = resolve(self._config(n, seed, target_score), self.resources.cache)
            plans.append(plan)
        for plan in plans:
            if plan.missing is not None:
                raise ApetError(plan.missing)
        self.scheduler.run(plans, retry=True)  # what failed in an earlier search may have been the machine's fault
        # From the record, not from the scheduler: most of the runs are from earlier questions.
        results = {run.run_id: run.result for run in self.store.rows()}
        return [_seed_score(results.get(plan.run_id)) for plan in plans]

    def _config(self, n: int | None, seed: int, target_score: float | None) -> RunConfig:
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
        # Rounded to thousandths: the same question then asks for the same run. Upwards, so that whoever reaches the
        # rounded target has reached the true one.
        target = None if target_score is None else -(-round(1000 * target_score, 6) // 1) / 1000
        return self.base.model_copy(update={"budget": n, "seed": seed, "target_score": target})

    def _untrained_baseline(self) -> float:
        """What guessing scores on validation, as the runs record it."""
        base = self.base
        plan = resolve(base, self.resources.cache)
        data = self.resources.data(plan.task, base.data_folder, base.max_train_samples, base.max_eval_samples)
        return untrained_baseline(plan.objective, [e.references for e in data.splits["validation"]])

    def _reachable(self, n: int) -> int:
        """The nearest count that the method can have."""
        try:
            return resolve(self._config(n, 0, None), self.resources.cache).num_trainable
        except UnreachableBudgetError as e:
            return min(e.nearest, key=lambda count: abs(count - n))


def _seed_score(result: RunResult | None) -> SeedScore | None:
    if result is None:
        return None
    return SeedScore(result.score, result.stopped_at is not None)
