"""Threshold search on the store: runs that are there already answer, the others are run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apet.backbones.loading import load_config
from apet.budget import plan as plan_theta
from apet.errors import ApetError, UnreachableBudgetError
from apet.methods import make_method
from apet.studies.grid import Cell
from apet.studies.planning import Planner
from apet.studies.scheduler import Scheduler
from apet.studies.store import Store
from apet.studies.study_config import DEFAULT_BUDGET, method_label
from apet.studies.thresholds import SeedScore, ThresholdRules, ThresholdSearch, budget_grid
from apet.tasks.objectives import is_generative
from apet.training.config import RunConfig
from apet.training.resolve import resolve_objective


class ThresholdSearcher:
    """Both thresholds of one backbone, task and method.

    Args:
        base: settings of every run; its method is the one searched for, its budget and seed are decided here.
        store: the record.
        driver: runs what is missing; None = only what is stored may be used.
        overrides: what counts.
        reference_rate: learning rate of full fine-tuning; None = that of the others.

    Raises:
        ApetError: fine-tuning is asked for, or settings do not fit.
    """

    def __init__(
        self,
        base: RunConfig,
        store: Store,
        driver: Scheduler,
        rules: ThresholdRules,
        reference_rate: float | None = None,
    ) -> None:
        if base.method == "fine-tuning":
            raise ApetError(
                "full fine-tuning has no thresholds, it is what others are held against; give another method"
            )
        self.base, self.store, self.driver, self.rules = base, store, driver, rules
        self.reference_rate = base.learning_rate if reference_rate is None else reference_rate
        self.planner = Planner()
        self.label = method_label(base.method, base.method_settings)

    def search(self, least: int = 1, most: int | None = None) -> tuple[ThresholdSearch, list[int]]:
        """A search, ready to go, and its grid."""
        points = budget_grid(
            self._reachable(least), self._reachable(most or self._largest()), self.rules.spacing, self._reachable
        )
        return ThresholdSearch(points, self._chance(), self._measure, self.rules), points

    def _measure(self, n: int | None, seeds: Sequence[int], target_score: float | None) -> list[SeedScore | None]:
        full = [self._cell(n, seed, None) for seed in seeds]
        done = self.store.states()
        plans = []
        for cell in full:
            whole = self.planner.cell(cell)
            if done.get(whole.run_id) == "complete" or target_score is None:
                plans.append(whole)
            else:
                plans.append(self.planner.cell(self._cell(n, cell.config.seed, target_score)))
        for p in plans:
            if p.missing is not None:
                raise ApetError(p.missing)
        self.driver.run(plans, retry=True)  # what failed in an earlier search may have been the machine's fault
        results = {key: result for key, _, _, result, _ in self.store.rows()}
        return [_value(results.get(p.run_id)) for p in plans]

    def _cell(self, n: int | None, seed: int, target_score: float | None) -> Cell:
        if n is None:
            s = self.base.model_copy(
                update={
                    "method": "fine-tuning",
                    "method_settings": {},
                    "budget": None,
                    "seed": seed,
                    "save_delta": False,
                    "learning_rate": self.reference_rate,
                }
            )
            return Cell(s, "fine-tuning", DEFAULT_BUDGET)
        # Rounded down to thousandths: the same question then asks for the same run.
        stop = None if target_score is None else -(-round(1000 * target_score, 6) // 1) / 1000
        return Cell(self.base.model_copy(update={"budget": n, "seed": seed, "target_score": stop}), self.label, str(n))

    def _chance(self) -> float:
        """Of free text 0; else the share of the most frequent class on validation."""
        from collections import Counter

        from apet.training.resources import Resources

        use = resolve_objective(self.base, load_config(self.base.backbone))
        task = self.planner.task(self.base)
        if is_generative(use):
            return 0.0
        held = Resources().data(task, self.base).splits["validation"]
        return max(Counter(e.references for e in held).values()) / len(held)

    def _reachable(self, n: int) -> int:
        method = make_method(self.base.method, **self.base.method_settings)
        try:
            return plan_theta(self.planner.backbone(self.base), method, n).num_trainable
        except UnreachableBudgetError as e:
            return min(e.nearest, key=lambda m: abs(m - n))

    def _largest(self) -> int:
        """No more than the backbone itself has."""
        return self.planner.backbone(self.base).num_parameters


def _value(result: dict[str, Any] | None) -> SeedScore | None:
    if result is None:
        return None
    return SeedScore(result["validation"]["score"], result.get("stopped_at") is not None)
