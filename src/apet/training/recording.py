"""A run's record, made of what happened in the run. Which fields there are is said in `apet.training.result` alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from apet.handle import Handle
from apet.tasks.answers import Answer, count_by_class
from apet.tasks.metrics import METRICS, compute_metric
from apet.tasks.sources import TaskData
from apet.training.cautions import cautions
from apet.training.environment import device_name, host_description, library_versions, peak_memory
from apet.training.evaluation import EvalPoint, Measurement, Split, majority_baseline, untrained_baseline
from apet.training.loop import best_point
from apet.training.lr_search import LearningRate
from apet.training.resolve import guest_fingerprints
from apet.training.result import ClassCounts, RunResult
from apet.training.run_plan import RunPlan

SELECTION = "the highest validation metric, the earliest of equals"


@dataclass(frozen=True)
class RunOutcome:
    """What a run leaves behind for its record.

    Attributes:
        plan: what was to be done.
        handle: the delta on its backbone, with the values that were kept.
        learning_rate: and how it was found.
        points: the curve.
        predictions: the validation answers with the values that were kept.
        test: score and answers of the test split, where there is one.
        data: what was read.
        splits: the same with tokens.
        max_input_length: tokens of an input, at most.
        devices: where the backbone lay.
        began: of the run, by `time.perf_counter`, seconds.
        started: the same by the calendar, UTC, ISO 8601.
        side_by_side: runs that were trained in one pass, this one included.
        notes: beside those of the plan.
    """

    plan: RunPlan
    handle: Handle
    learning_rate: LearningRate
    points: Sequence[EvalPoint]
    predictions: Sequence[Answer]
    test: Measurement | None
    data: TaskData
    splits: Mapping[str, Split]
    max_input_length: int
    devices: Sequence[torch.device]
    began: float
    started: str
    side_by_side: int = 1
    notes: Sequence[str] = ()


def build_result(run: RunOutcome) -> RunResult:
    """The record of a run: scores with intervals, exact counts, seeds, versions, fingerprints, times and memory.

    Returns:
        Every field checked against its type.
    """
    groups = (_identity(run), _seeds(run), _scores(run), _training(run), _data(run), _costs(run), _classes(run))
    result = RunResult.model_validate({name: value for group in groups for name, value in group.items()})
    return result.model_copy(update={"cautions": cautions(result)})


def _identity(run: RunOutcome) -> dict[str, object]:
    plan, delta, backbone = run.plan, run.plan.delta, run.plan.backbone
    # Read off what was trained, not off the settings: they may ask for a head where the backbone has none.
    head_use = "trained" if list(run.handle.head_values()) else "frozen"
    return {
        "run_id": plan.run_id,
        "backbone": plan.config.backbone,
        "backbone_family": backbone.family,
        "backbone_class": backbone.model_class,
        "num_backbone_parameters": backbone.num_parameters,
        "backbone_fingerprint": run.handle.backbone_fingerprint,
        "dtype": plan.dtype,
        "device": device_name(run.devices),
        "task": plan.task.name,
        "category": plan.task.category,
        "metric": run.points[0].score.metric,
        "task_type": plan.task.task_type,
        "objective": plan.objective,
        "scoring": plan.scoring,
        "method": plan.axes.method,
        "method_settings": dict(delta.recipe.settings) if delta.recipe else {},
        "budget": None if plan.config.budget is None else str(plan.config.budget),
        "num_trainable": delta.num_trainable,
        "trainable_percent": delta.trainable_percent,
        "head": head_use if backbone.head else "none",
        "num_head_parameters": backbone.num_head_parameters,
        "head_parameters": list(backbone.head),
        "imports": guest_fingerprints(plan.config),
        "config": plan.config,
    }


def _seeds(run: RunOutcome) -> dict[str, object]:
    config = run.plan.resolved
    return {
        "seed": config.seed,
        "mask_seed": config.mask_seed,
        "init_seed": config.init_seed,
        "data_seed": config.data_seed,
    }


def _scores(run: RunOutcome) -> dict[str, object]:
    kept, test = best_point(list(run.points)).score, run.test[0] if run.test else None
    references = _references(run, "validation")
    return {
        "score": kept.score,
        "ci_low": kept.ci_low,
        "ci_high": kept.ci_high,
        "ci_method": METRICS.get(kept.metric).interval,
        "num_examples": kept.num_examples,
        "score_untrained": run.points[0].score.score,
        "score_last": run.points[-1].score.score,
        # Of the validation examples that were scored, not of the task: a limit on them changes the shares.
        "majority_baseline": majority_baseline(references) if run.plan.task.is_classification else None,
        "untrained_baseline": untrained_baseline(run.plan.task, run.plan.objective, run.splits["validation"].examples),
        "other_scores": _other_scores(run),
        "test_score": test.score if test else None,
        "test_ci_low": test.ci_low if test else None,
        "test_ci_high": test.ci_high if test else None,
        "test_num_examples": test.num_examples if test else None,
    }


def _other_scores(run: RunOutcome) -> dict[str, float]:
    """The other metrics of the task's type over the same answers."""
    task, answers = run.plan.task, [p.scored for p in run.predictions]
    if task.type is None:  # of labels the counts by class say more, and the paper's texts have their one metric
        return {}
    names = [n for n, m in METRICS.entries().items() if task.task_type in m.types and n != task.metric]
    references = _references(run, "validation")
    return {n: compute_metric(n, answers, references, task.tokenizer, intervals=False).score for n in names}


def _classes(run: RunOutcome) -> dict[str, object]:
    """Answers by class, for tasks with labels."""
    words = run.plan.task.label_words
    if not run.plan.task.is_classification:
        return {"macro_f1": None, "class_counts": [], "num_other_answers": None, "test_macro_f1": None}
    counts, macro_f1 = count_by_class(words, run.predictions, _references(run, "validation"))
    test_macro_f1 = count_by_class(words, run.test[1], _references(run, "test"))[1] if run.test else None
    return {
        "macro_f1": macro_f1,
        "class_counts": [ClassCounts(**asdict(c)) for c in counts],
        "num_other_answers": sum(not p.is_valid for p in run.predictions),
        "test_macro_f1": test_macro_f1,
    }


def _references(run: RunOutcome, split: str) -> list[tuple[str, ...]]:
    return [e.references for e in run.splits[split].examples]


def _training(run: RunOutcome) -> dict[str, object]:
    config, last, rate = run.plan.config, run.points[-1], run.learning_rate
    return {
        "selection": SELECTION,
        "best_step": best_point(list(run.points)).step,
        "max_steps": config.max_steps,
        # The last step is always measured, so that the curve ends earlier only where target_score ended the run.
        "stopped_at": last.step if last.step < config.max_steps else None,
        "side_by_side": run.side_by_side,
        "batch_size": config.batch_size,
        "learning_rate": rate.value,
        "learning_rate_rule": rate.rule,
        "learning_rate_trials": list(rate.trials),
        "learning_rate_search_steps": sum(trial.max_steps for trial in rate.trials),
        "learning_rate_search_seconds": rate.seconds,
    }


def _data(run: RunOutcome) -> dict[str, object]:
    return {
        "notes": [*run.plan.notes, *run.notes],
        "data_fingerprint": run.data.fingerprint,
        "split_sizes": {name: len(split.examples) for name, split in run.splits.items()},
        "num_truncated": {name: split.encoded.num_truncated for name, split in run.splits.items()},
        "max_input_length": run.max_input_length,
        "data_notes": list(run.data.notes),
    }


def _costs(run: RunOutcome) -> dict[str, object]:
    last = run.points[-1]
    return {
        "training_seconds": round(last.seconds, 3),
        "steps_per_second": round(last.step / last.seconds, 3),
        "total_seconds": round(time.perf_counter() - run.began, 3),
        "started": run.started,
        "peak_memory_bytes": peak_memory(run.devices),
        "versions": library_versions(),
        "host": host_description(),
    }
