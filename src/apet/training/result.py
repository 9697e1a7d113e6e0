"""What a finished run has to say: the content of result.json."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from apet.attachment import Handle
from apet.tasks.metrics import MetricScore
from apet.tasks.objectives import Objective
from apet.tasks.sources import TaskData
from apet.training import run_dir
from apet.training.evaluation import Split
from apet.training.loop import EvalPoint, best_point
from apet.training.lr_search import LearningRate
from apet.training.run_plan import RunPlan


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        result: what result.json holds.
        points: the curve.
        folder: where it lies; None where nothing was to be written, or another process wrote it.
    """

    result: dict[str, Any]
    points: list[EvalPoint]
    folder: Path | None


def build_result(
    plan: RunPlan,
    handle: Handle,
    rate: LearningRate,
    points: list[EvalPoint],
    tested: MetricScore | None,
    *,
    objective: Objective,
    data: TaskData,
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
    s, theta, best, last = plan.config, plan.spec, best_point(points), points[-1]
    majority = _majority(splits["validation"]) if plan.task.is_classification else 0.0
    return {
        "backbone": _backbone(plan, handle, dtype),
        "task": {"name": plan.task.name, "category": plan.task.category, "objective": plan.objective},
        "method": theta.recipe.as_dict() if theta.recipe else {"method": theta.method},
        "settings": s.model_dump(mode="json"),
        "num_trainable": theta.num_trainable,
        "trainable_percent": theta.trainable_percent,
        "head": _head(plan, handle),
        "validation": best.score.as_dict(),
        "score_untrained": points[0].score.as_dict(),
        "last": last.score.as_dict(),
        "untrained_baseline": 0.0 if objective.is_generative else majority,
        "majority_baseline": majority,
        "selection": "the highest validation measure, the earliest of equals",
        "best_step": best.step,
        "max_steps": s.max_steps,
        "stopped_at": last.step if last.step < s.max_steps else None,
        "learning_rate": rate.as_dict(),
        "seeds": {k: s.resolved_seed(k) for k in ("mask_seed", "init_seed", "data_seed")},
        "data": _data(data, splits, objective),
        "times": {
            "training_seconds": round(last.seconds, 3),
            "steps_per_second": round(last.step / last.seconds, 3),
            "total_seconds": round(time.perf_counter() - began, 3),
            "started": started,
        },
        "peak_memory_bytes": run_dir.peak_memory(devices),
        "versions": run_dir.versions(),
        "host": run_dir.host(devices),
        "test": tested.as_dict() if tested else None,
    }


def _majority(split: Split) -> float:
    """Share of the most frequent answer."""
    return max(Counter(e.references for e in split.examples).values()) / len(split.examples)


def _backbone(plan: RunPlan, handle: Handle, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "name": plan.config.backbone,
        "family": plan.backbone.family.name,
        "class": plan.backbone.model_class,
        "parameters": plan.backbone.num_parameters,
        "digest": handle.backbone_fingerprint,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _head(plan: RunPlan, handle: Handle) -> dict[str, Any]:
    trained = bool(list(handle.head_values()))
    return {
        "use": ("trained" if trained else "frozen") if plan.backbone.head else "none",
        "parameters": plan.backbone.num_head_parameters,
        "names": list(plan.backbone.head),
    }


def _data(data: TaskData, splits: Mapping[str, Split], objective: Objective) -> dict[str, Any]:
    return {
        "digest": data.fingerprint,
        "examples": {n: len(x.examples) for n, x in splits.items()},
        "truncated": {n: x.encoded.num_truncated for n, x in splits.items()},
        "max_input_length": objective.max_input_length,
        "notes": list(data.notes),
    }
