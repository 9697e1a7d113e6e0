"""Threshold search on the store: runs that are there already answer, the others are run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apet.backbones.loading import load_config
from apet.budget import plan as plan_theta
from apet.errors import ApetError, UnreachableBudget
from apet.methods import make
from apet.studies.definition import OWN, Cell, label_of
from apet.studies.driver import Driver
from apet.studies.planning import Planner
from apet.studies.store import Store
from apet.studies.thresholds import Rules, Search, Value, grid
from apet.tasks.objectives import is_free
from apet.training.choices import use_for
from apet.training.settings import RunSettings


class Searcher:
    """Both thresholds of one backbone, task and method.

    Args:
        base: settings of every run; its method is the one searched for, its budget and seed are decided here.
        store: the record.
        driver: runs what is missing; None = only what is stored may be used.
        rules: what counts.
        reference_rate: learning rate of full fine-tuning; None = that of the others.

    Raises:
        ApetError: fine-tuning is asked for, or settings do not fit.
    """

    def __init__(
        self, base: RunSettings, store: Store, driver: Driver, rules: Rules, reference_rate: float | None = None
    ) -> None:
        if base.method == "fine-tuning":
            raise ApetError(
                "full fine-tuning has no thresholds, it is what others are held against; give another method"
            )
        self.base, self.store, self.driver, self.rules = base, store, driver, rules
        self.reference_rate = base.learning_rate if reference_rate is None else reference_rate
        self.planner = Planner()
        self.label = label_of(base.method, base.method_settings)

    def search(self, least: int = 1, most: int | None = None) -> tuple[Search, list[int]]:
        """A search, ready to go, and its grid."""
        points = grid(
            self._reachable(least), self._reachable(most or self._largest()), self.rules.spacing, self._reachable
        )
        return Search(points, self._chance(), self._measure, self.rules), points

    def _measure(self, n: int | None, seeds: Sequence[int], stop_at: float | None) -> list[Value | None]:
        full = [self._cell(n, seed, None) for seed in seeds]
        done = self.store.states()
        plans = []
        for cell in full:
            whole = self.planner.cell(cell)
            if done.get(whole.key) == "complete" or stop_at is None:
                plans.append(whole)
            else:
                plans.append(self.planner.cell(self._cell(n, cell.settings.seed, stop_at)))
        for p in plans:
            if p.missing is not None:
                raise ApetError(p.missing)
        self.driver.run(plans, retry=True)  # what failed in an earlier search may have been the machine's fault
        results = {key: result for key, _, _, result, _ in self.store.rows()}
        return [_value(results.get(p.key)) for p in plans]

    def _cell(self, n: int | None, seed: int, stop_at: float | None) -> Cell:
        if n is None:
            s = self.base.model_copy(
                update={
                    "method": "fine-tuning",
                    "method_settings": {},
                    "budget": None,
                    "seed": seed,
                    "keep_theta": False,
                    "learning_rate": self.reference_rate,
                }
            )
            return Cell(s, "fine-tuning", OWN)
        # Rounded down to thousandths: the same question then asks for the same run.
        stop = None if stop_at is None else -(-round(1000 * stop_at, 6) // 1) / 1000
        return Cell(self.base.model_copy(update={"budget": n, "seed": seed, "stop_at": stop}), self.label, str(n))

    def _chance(self) -> float:
        """Of free text 0; else the share of the most frequent class on validation."""
        from collections import Counter

        from apet.training.workshop import Workshop

        use = use_for(self.base, load_config(self.base.backbone))
        task = self.planner.task(self.base)
        if is_free(use):
            return 0.0
        held = Workshop().data(task, self.base).splits["validation"]
        return max(Counter(e.answers for e in held).values()) / len(held)

    def _reachable(self, n: int) -> int:
        method = make(self.base.method, **self.base.method_settings)
        try:
            return plan_theta(self.planner.backbone(self.base), method, n).n
        except UnreachableBudget as e:
            return min(e.nearest, key=lambda m: abs(m - n))

    def _largest(self) -> int:
        """No more than the backbone itself has."""
        return self.planner.backbone(self.base).n_parameters


def _value(result: dict[str, Any] | None) -> Value | None:
    if result is None:
        return None
    return Value(result["validation"]["value"], result.get("stopped_at") is not None)
