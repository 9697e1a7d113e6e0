"""What a finished run has to say: the content of result.json."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from apet.attach import Handle
from apet.tasks.measures import Score
from apet.tasks.objectives import Objective
from apet.tasks.sources import Data
from apet.training import record
from apet.training.evaluation import Split
from apet.training.fitting import Point, best_of
from apet.training.preparing import Plan
from apet.training.rates import Rate


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        result: what result.json holds.
        points: the curve.
        folder: where it lies; None where nothing was to be written, or another process wrote it.
    """

    result: dict[str, Any]
    points: list[Point]
    folder: Path | None


def result_of(
    plan: Plan,
    handle: Handle,
    rate: Rate,
    points: list[Point],
    tested: Score | None,
    *,
    objective: Objective,
    data: Data,
    splits: Mapping[str, Split],
    dtype: torch.dtype,
    devices: list[torch.device],
    began: float,
    started: str,
) -> dict[str, Any]:
    """Measures with intervals, exact counts, seeds, versions, digests, times and memory, as plain data.

    Args:
        plan: of the run.
        handle: θ on its backbone, with the values that were kept.
        rate: the learning rate and how it was found.
        points: the curve.
        tested: measure of the test split, where there is one.
        objective, data, splits: what was read, and how.
        dtype: of the frozen weights.
        devices: where it ran.
        began: of the run, by `time.perf_counter`, s.
        started: the same by the calendar.
    """
    s, theta, best, last = plan.settings, plan.theta, best_of(points), points[-1]
    majority = _majority(splits["validation"]) if plan.task.is_classification else 0.0
    return {
        "backbone": _backbone(plan, handle, dtype),
        "task": {"name": plan.task.name, "category": plan.task.category, "objective": plan.use},
        "method": theta.recipe.as_dict() if theta.recipe else {"method": theta.method},
        "settings": s.model_dump(mode="json"),
        "trainable_parameters": theta.n,
        "ratio_percent": theta.ratio_percent,
        "head": _head(plan, handle),
        "validation": best.score.as_dict(),
        "untrained": points[0].score.as_dict(),
        "last": last.score.as_dict(),
        "chance": 0.0 if objective.free else majority,
        "majority": majority,
        "selection": "the highest validation measure, the earliest of equals",
        "best_step": best.step,
        "steps": s.steps,
        "stopped_at": last.step if last.step < s.steps else None,
        "learning_rate": rate.as_dict(),
        "seeds": {k: s.seed_for(k) for k in ("mask_seed", "init_seed", "data_seed")},
        "data": _data(data, splits, objective),
        "times": {
            "training_seconds": round(last.seconds, 3),
            "steps_per_second": round(last.step / last.seconds, 3),
            "total_seconds": round(time.perf_counter() - began, 3),
            "started": started,
        },
        "peak_memory_bytes": record.peak_memory(devices),
        "versions": record.versions(),
        "host": record.host(devices),
        "test": tested.as_dict() if tested else None,
    }


def _majority(split: Split) -> float:
    """Share of the most frequent answer."""
    return max(Counter(e.answers for e in split.examples).values()) / len(split.examples)


def _backbone(plan: Plan, handle: Handle, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "name": plan.settings.backbone,
        "family": plan.backbone.family.name,
        "class": plan.backbone.model_class,
        "parameters": plan.backbone.n_parameters,
        "digest": handle.backbone_digest,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _head(plan: Plan, handle: Handle) -> dict[str, Any]:
    trained = bool(list(handle.head_values()))
    return {
        "use": ("trained" if trained else "frozen") if plan.backbone.head else "none",
        "parameters": plan.backbone.n_head,
        "names": list(plan.backbone.head),
    }


def _data(data: Data, splits: Mapping[str, Split], objective: Objective) -> dict[str, Any]:
    return {
        "digest": data.digest,
        "examples": {n: len(x.examples) for n, x in splits.items()},
        "truncated": {n: x.encoded.n_cut for n, x in splits.items()},
        "max_input": objective.max_input,
        "notes": list(data.notes),
    }
