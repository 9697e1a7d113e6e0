"""The runs of a study, arranged for looking up: which backbones, in which order, and which runs make a cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from apet.analysis.frames import ADJACENT, DISCRETE, FULL, checked_items, checked_planned, checked_runs, complete
from apet.analysis.score_matrix import Items, ScoreMatrix, Scores, score_matrix, scores_of

PAPER_ORDER = (FULL, "prompt", "bitfit", "lora", "adapter", ADJACENT, DISCRETE)


@dataclass(frozen=True)
class Scale:
    """A backbone as a point on the axis of scale.

    Attributes:
        name, family: of the backbone.
        parameters: how many it has.
    """

    name: str
    family: str
    num_parameters: int


@dataclass(frozen=True)
class StudyData:
    """Checked runs and how to find them.

    Attributes:
        runs: as `checked_runs` returns them.
        scores: item scores by run key; empty where unknown.
        planned: as `checked_planned` returns it; None = unknown, then every method was to run on all tasks and seeds.
    """

    runs: pd.DataFrame
    scores: Scores
    planned: pd.DataFrame | None = None

    @classmethod
    def of(cls, runs: pd.DataFrame, items: Items | None = None, planned: pd.DataFrame | None = None) -> StudyData:
        """Check the tables and arrange them.

        Raises:
            ApetError: they do not fit the schema.
        """
        return cls(
            checked_runs(runs),
            scores_of(checked_items(items) if isinstance(items, pd.DataFrame) else items),
            None if planned is None else checked_planned(planned),
        )

    @cached_property
    def scales(self) -> tuple[Scale, ...]:
        """Backbones with a finished run, by family, small to large."""
        known = complete(self.runs)[["backbone_family", "num_backbone_parameters", "backbone"]].drop_duplicates(
            "backbone"
        )
        ordered = known.sort_values(["backbone_family", "num_backbone_parameters", "backbone"])
        return tuple(Scale(r.backbone, r.backbone_family, int(r.num_backbone_parameters)) for r in ordered.itertuples())

    @cached_property
    def families(self) -> dict[str, tuple[Scale, ...]]:
        """Family -> its backbones, small to large."""
        names = dict.fromkeys(s.family for s in self.scales)
        return {f: tuple(s for s in self.scales if s.family == f) for f in names}

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Methods with a finished run: the paper's order, then the others by name."""
        found = set(complete(self.runs)["method"])
        return tuple(m for m in PAPER_ORDER if m in found) + tuple(sorted(found - set(PAPER_ORDER)))

    def tasks(self, family: str) -> tuple[str, ...]:
        """Tasks of a family with any run, failed ones included, by category."""
        return self._tasks[family]

    @cached_property
    def _tasks(self) -> dict[str, tuple[str, ...]]:
        pairs = self.runs[["backbone_family", "category", "task"]].drop_duplicates(["backbone_family", "task"])
        pairs = pairs.sort_values(["category", "task"])
        return {str(f): tuple(g["task"]) for f, g in pairs.groupby("backbone_family")}

    @cached_property
    def categories(self) -> dict[str, str]:
        """Task -> category, by category."""
        pairs = self.runs[["category", "task"]].drop_duplicates("task").sort_values(["category", "task"])
        return dict(zip(pairs["task"], pairs["category"], strict=True))

    @cached_property
    def cells(self) -> dict[tuple[str, str, int], pd.DataFrame]:
        """(backbone, method, N) -> complete runs."""
        done = complete(self.runs)
        grouped = done.groupby(["backbone", "method", "num_trainable"], sort=True)
        return {(b, m, int(n)): g for (b, m, n), g in grouped}

    @cached_property
    def own_sizes(self) -> dict[tuple[str, str], int]:
        """(backbone, method) -> N where the method chose its own size; where it never did, the largest N tried."""
        done = complete(self.runs)
        own = done[done["budget"].isna()].groupby(["backbone", "method"])["num_trainable"].max()
        largest = done.groupby(["backbone", "method"])["num_trainable"].max()
        return {k: int(own.get(k, n)) for k, n in largest.items()}

    @cached_property
    def chose_own_size(self) -> frozenset[tuple[str, str]]:
        """(backbone, method) with runs at the method's own size."""
        done = complete(self.runs)
        return frozenset(
            map(tuple, done.loc[done["budget"].isna(), ["backbone", "method"]].drop_duplicates().to_numpy())
        )

    def seeds(self, family: str) -> tuple[int, ...]:
        """Seeds of a family's methods at their own sizes; what full fine-tuning alone has is no hole elsewhere."""
        return self._seeds[family]

    @cached_property
    def _seeds(self) -> dict[str, tuple[int, ...]]:
        found = {}
        for family, mine in self.runs.groupby("backbone_family"):
            own, others = mine["budget"].isna(), mine["method"] != FULL
            chosen = next(c for c in (mine[own & others], mine[others], mine) if len(c))
            found[str(family)] = tuple(sorted({int(s) for s in chosen["seed"].dropna()}))
        return found

    def block(self, scale: Scale, method: str, n: int) -> ScoreMatrix | None:
        """One method at one size on one backbone as tasks × seeds; None without any finished run."""
        runs = self.cells.get((scale.name, method, n))
        if runs is None:
            return None
        name = f"{method} at {n:,} parameters on {scale.name}"
        if self.planned is None:
            return score_matrix(runs, name, self.tasks(scale.family), self.seeds(scale.family))
        wanted = self.plan.get((scale.name, method, n), frozenset())
        pairs = wanted | set(zip(runs["task"], runs["seed"].astype(int), strict=True))
        tasks = {t for t, _ in pairs}
        known = self.tasks(scale.family)
        ordered = [t for t in known if t in tasks] + sorted(tasks - set(known))
        return score_matrix(runs, name, ordered, sorted({s for _, s in pairs}), wanted)

    @cached_property
    def plan(self) -> dict[tuple[str, str, int], frozenset[tuple[str, int]]]:
        """(backbone, method, N) -> the (task, seed) that were to run; empty where the plan is unknown."""
        if self.planned is None:
            return {}
        known = self.planned.dropna(subset="num_trainable")  # the count of a budget that never ran is unknown
        grouped = known.groupby(["backbone", "method", "num_trainable"])
        return {
            (b, m, int(n)): frozenset(zip(g["task"], g["seed"].astype(int), strict=True)) for (b, m, n), g in grouped
        }
