"""Records of runs that nobody trained, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

from apet.tasks.metrics import MetricScore
from apet.tasks.task import validate_task
from apet.training.config import RunConfig
from apet.training.result import RunResult

RESULT: dict[str, object] = {
    "run_id": "0123456789abcdef",
    "backbone": "little",
    "backbone_family": "bert",
    "backbone_class": "BertForSequenceClassification",
    "num_backbone_parameters": 20_000,
    "backbone_fingerprint": "d" * 16,
    "dtype": "float32",
    "device": "cpu",
    "task": "films",
    "category": "sentiment",
    "metric": "accuracy",
    "objective": "classification-head",
    "method": "apet-adjacent",
    "method_settings": {},
    "budget": None,
    "num_trainable": 64,
    "trainable_percent": 0.32,
    "head": "trained",
    "num_head_parameters": 66,
    "head_parameters": ["classifier.weight", "classifier.bias"],
    "seed": 0,
    "mask_seed": 0,
    "init_seed": 0,
    "data_seed": 0,
    "score": 0.75,
    "ci_low": 0.65,
    "ci_high": 0.85,
    "ci_method": "wilson",
    "num_examples": 4,
    "score_untrained": 0.5,
    "score_last": 0.75,
    "majority_baseline": 0.5,
    "macro_f1": 0.75,
    "class_counts": [],
    "num_other_answers": 0,
    "untrained_baseline": 0.5,
    "test_score": None,
    "test_ci_low": None,
    "test_ci_high": None,
    "test_macro_f1": None,
    "test_num_examples": None,
    "selection": "the highest validation metric, the earliest of equals",
    "best_step": 20,
    "max_steps": 30,
    "stopped_at": None,
    "batch_size": 8,
    "learning_rate": 3e-4,
    "learning_rate_rule": "paper",
    "learning_rate_trials": [],
    "learning_rate_search_steps": 0,
    "learning_rate_search_seconds": 0.0,
    "data_fingerprint": "e" * 16,
    "split_sizes": {"train": 8, "validation": 4},
    "num_truncated": {"train": 0, "validation": 0},
    "max_input_length": 128,
    "data_notes": [],
    "training_seconds": 1.5,
    "steps_per_second": 20.0,
    "total_seconds": 2.5,
    "started": "2026-11-01T00:00:00+00:00",
    "peak_memory_bytes": 2_000_000_000,
    "versions": {"apet": "0.1.0"},
    "host": {"system": "Linux", "num_threads": 1, "cores": 2},
    "imports": {},
    "config": RunConfig(backbone="little", task="films", method="apet-adjacent"),
}
TASK = {
    "name": "films",
    "category": "sentiment",
    "source": {"files": {"train": "films.csv"}},
    "columns": ["text"],
    "target": "stars",
    "template": "{text} Sentiment: {target}",
    "labels": {"0": "bad", "1": "good"},
}


def result_record(**changes: object) -> RunResult:
    """A record with some fields changed."""
    return RunResult(**{**RESULT, **changes})  # type: ignore[arg-type]


def write_run_folder(folder: Path, record: RunResult) -> None:
    """The folder that a run of this record would have left, but for the delta."""
    from apet.training.evaluation import EvalPoint
    from apet.training.manifest import write_manifest
    from apet.training.run_dir import PREDICTIONS, write_run

    folder.mkdir(parents=True)
    task = validate_task(TASK, "a test")
    kept = MetricScore("accuracy", record.score, record.ci_low, record.ci_high, record.num_examples)
    before = MetricScore("accuracy", 0.0, 0.0, 0.5, record.num_examples)
    points = [EvalPoint(0, None, before, 0.0)] if record.best_step else []
    points.append(EvalPoint(record.best_step, 0.5, kept, 1.0))
    write_run(folder, record.config, task, record, points)
    rows = [f"v:{n},good,good,{record.score!r}" for n in range(record.num_examples)]
    (folder / PREDICTIONS).write_text("\n".join(["location,prediction,references,score", *rows]) + "\n")
    write_manifest(folder, record.run_id)
