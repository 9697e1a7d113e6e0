"""Runs of a study indexed by backbone, method, N, task and seed, with the orders that tables and figures use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from apet.analysis.frames import (
    ADJACENT,
    APET_PREFIX,
    DISCRETE,
    FULL,
    checked_items,
    checked_planned,
    checked_runs,
    complete,
)
from apet.analysis.score_matrix import Items, ScoreMatrix, Scores, score_matrix, scores_of

CONCENTRATED = re.compile(r"(?P<variant>apet-[\w-]+)\((?P<setting>sites|run_length)=(?P<number>\d+)\)")
"""Display name of an APET variant whose N falls on a number of weights that was asked for."""
PLACED = re.compile(r"(?P<method>[\w-]+)\(roles=\[(?P<roles>[^\]]+)\]\)")
"""Display name of a method that was told where in the backbone to stand."""
PAPER_ORDER = (FULL, "prompt", "bitfit", "lora", "adapter", ADJACENT, DISCRETE)


@dataclass(frozen=True)
class Scale:
    """A backbone as a point on the axis of scale.

    Attributes:
        name: of the backbone.
        family: of the backbone.
        num_parameters: size of the backbone, in parameters.
    """

    name: str
    family: str
    num_parameters: int


@dataclass(frozen=True)
class StudyData:
    """Checked runs of a study and the ways to look them up.

    Attributes:
        runs: as `checked_runs` returns them.
        scores: item scores by run_id; empty where unknown.
        planned: as `checked_planned` returns it; None = unknown, then every method was to run on all tasks and seeds.
    """

    runs: pd.DataFrame
    scores: Scores
    planned: pd.DataFrame | None = None

    @classmethod
    def of(cls, runs: pd.DataFrame, items: Items | None = None, planned: pd.DataFrame | None = None) -> StudyData:
        """Study data from unchecked tables.

        Args:
            runs: with the columns of `apet.analysis.frames.RUNS`.
            items: item scores, by run_id or with the columns of `ITEMS`; None = unknown.
            planned: with the columns of `PLANNED`; None = unknown.

        Returns:
            The tables, checked against their schemas.

        Raises:
            ApetError: a table does not fit its schema.
        """
        return cls(
            checked_runs(runs),
            scores_of(checked_items(items) if isinstance(items, pd.DataFrame) else items),
            None if planned is None else checked_planned(planned),
        )

    @cached_property
    def split(self) -> str:
        """What the scores are of, in words: ``test``, ``validation``, or ``test or validation`` by task."""
        return " or ".join(sorted(set(complete(self.runs)["split"]))) or "validation"

    @cached_property
    def scales(self) -> tuple[Scale, ...]:
        """Backbones with a complete run, by family, small to large."""
        backbones = complete(self.runs)[["backbone_family", "num_backbone_parameters", "backbone"]].drop_duplicates(
            "backbone"
        )
        ordered = backbones.sort_values(["backbone_family", "num_backbone_parameters", "backbone"])
        return tuple(Scale(r.backbone, r.backbone_family, int(r.num_backbone_parameters)) for r in ordered.itertuples())

    @cached_property
    def families(self) -> dict[str, tuple[Scale, ...]]:
        """Backbones of each family, small to large."""
        names = dict.fromkeys(s.family for s in self.scales)
        return {f: tuple(s for s in self.scales if s.family == f) for f in names}

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Methods with a complete run: those of the paper in its order, then the others by name."""
        names = set(complete(self.runs)["method"])
        return tuple(m for m in PAPER_ORDER if m in names) + tuple(sorted(names - set(PAPER_ORDER)))

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """APET variants with a complete run, one for each distribution, in the order of `methods`.

        Those that concentrate N on fewer weights or certain roles, such as ``apet-discrete(sites=4)``, are compared
        among themselves.
        """
        elsewhere = (CONCENTRATED, PLACED)
        apet = [m for m in self.methods if m.startswith(APET_PREFIX)]
        return tuple(m for m in apet if not any(pattern.fullmatch(m) for pattern in elsewhere))

    @cached_property
    def concentrated_variants(self) -> tuple[str, ...]:
        """APET variants that were run with several `sites` or run lengths: those of the paper, then others by name."""
        names = {found["variant"] for m in self.methods if (found := CONCENTRATED.fullmatch(m))}
        return tuple(m for m in PAPER_ORDER if m in names) + tuple(sorted(names - set(PAPER_ORDER)))

    def tasks(self, family: str) -> tuple[str, ...]:
        """Tasks of a family with any run, by category and name."""
        return self._tasks_by_family[family]

    @cached_property
    def _tasks_by_family(self) -> dict[str, tuple[str, ...]]:
        # Failed runs count: a task on which everything failed is a hole in every mean, and must not vanish from it.
        pairs = self.runs[["backbone_family", "category", "task"]].drop_duplicates(["backbone_family", "task"])
        pairs = pairs.sort_values(["category", "task"])
        return {str(family): tuple(g["task"]) for family, g in pairs.groupby("backbone_family")}

    @cached_property
    def categories(self) -> dict[str, str]:
        """Category of each task, ordered by category and task."""
        pairs = self.runs[["category", "task"]].drop_duplicates("task").sort_values(["category", "task"])
        return dict(zip(pairs["task"], pairs["category"], strict=True))

    @cached_property
    def cells(self) -> dict[tuple[str, str, int], pd.DataFrame]:
        """Complete runs by (backbone, method, N)."""
        grouped = complete(self.runs).groupby(["backbone", "method", "num_trainable"], sort=True)
        return {(backbone, method, int(n)): g for (backbone, method, n), g in grouped}

    @cached_property
    def own_sizes(self) -> dict[tuple[str, str], int]:
        """(backbone, method) -> N of the method's default size; where it was never run there, the largest N tried."""
        done = complete(self.runs)
        default = done[done["budget"].isna()].groupby(["backbone", "method"])["num_trainable"].max()
        largest = done.groupby(["backbone", "method"])["num_trainable"].max()
        return {k: int(default.get(k, n)) for k, n in largest.items()}

    @cached_property
    def at_default_size(self) -> frozenset[tuple[str, str]]:
        """(backbone, method) with complete runs at the method's default size."""
        done = complete(self.runs)
        at_default = done.loc[done["budget"].isna(), ["backbone", "method"]].drop_duplicates()
        return frozenset(map(tuple, at_default.to_numpy()))

    @cached_property
    def bases(self) -> dict[tuple[str, str], float]:
        """(backbone, task) -> what is had without training: the better of the untrained score and the best constant."""
        done = complete(self.runs)
        constant = done["majority_baseline"].fillna(done["untrained_baseline"])
        better = constant.combine(done["score_untrained"].fillna(constant), max)
        means = better.groupby([done["backbone"], done["task"]]).mean()
        return {(str(backbone), str(task)): float(v) for (backbone, task), v in means.items()}

    def seeds(self, family: str) -> tuple[int, ...]:
        """Seeds with which a family's methods were run at their default sizes, ascending."""
        return self._seeds_by_family[family]

    @cached_property
    def _seeds_by_family(self) -> dict[str, tuple[int, ...]]:
        seeds = {}
        for family, runs in self.runs.groupby("backbone_family"):
            at_default, others = runs["budget"].isna(), runs["method"] != FULL
            # Full fine-tuning, the reference of every gap, may have more seeds than any method: taken for the plan,
            # each of those would be a hole in all the others.
            chosen = next(c for c in (runs[at_default & others], runs[at_default], runs) if len(c))
            seeds[str(family)] = tuple(sorted({int(s) for s in chosen["seed"].dropna()}))
        return seeds

    def score_matrix(self, scale: Scale, method: str, n: int) -> ScoreMatrix | None:
        """Score matrix (tasks × seeds) of one method at one N on one backbone.

        Args:
            scale: the backbone.
            method: display name.
            n: number of trained parameters.

        Returns:
            The matrix over what was planned, or over the family's tasks and seeds where the plan is unknown; None
            without any complete run.
        """
        runs = self.cells.get((scale.name, method, n))
        if runs is None:
            return None
        name = f"{method} at {n:,} parameters on {scale.name}"
        if self.planned is None:
            return score_matrix(runs, name, self.tasks(scale.family), self.seeds(scale.family))
        planned = self.plan.get((scale.name, method, n), frozenset())
        # Runs beyond the plan are data, too; the mask of planned runs keeps them from counting as missing elsewhere.
        pairs = planned | set(zip(runs["task"], runs["seed"].astype(int), strict=True))
        tasks = {t for t, _ in pairs}
        known_tasks = self.tasks(scale.family)
        ordered = [t for t in known_tasks if t in tasks] + sorted(tasks - set(known_tasks))
        return score_matrix(runs, name, ordered, sorted({s for _, s in pairs}), planned)

    @cached_property
    def plan(self) -> dict[tuple[str, str, int], frozenset[tuple[str, int]]]:
        """Planned (task, seed) by (backbone, method, N); empty where the plan is unknown."""
        if self.planned is None:
            return {}
        # The N of a relative budget that was never resolved is unknown, and no cell can be asked about it.
        resolved = self.planned.dropna(subset="num_trainable")
        grouped = resolved.groupby(["backbone", "method", "num_trainable"])
        return {
            (backbone, method, int(n)): frozenset(zip(g["task"], g["seed"].astype(int), strict=True))
            for (backbone, method, n), g in grouped
        }
