"""A synthetic study with known answers: scores, gaps, thresholds, noise and curves are set here, not measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from apet.analysis.frames import RUNS

SIZES = {"tiny": 100_000, "mid": 1_000_000, "large": 10_000_000}
TASKS = {"films": "sentiment", "shops": "sentiment", "claims": "inference"}
DEFAULT_SIZES = {"prompt": 512, "bitfit": 1_024, "lora": 4_096, "adapter": 16_384}
VARIANTS = ("apet-adjacent", "apet-discrete")
GRID = (64, 256, 1_024, 4_096, 16_384)
MAJORITY_SCORE = 0.5
FULL_SCORE = 0.9
GAPS = {"tiny": 0.06, "mid": 0.04, "large": 0.02}


def row(**columns: object) -> dict[str, object]:
    """One complete run; a column that is not given has a plain default."""
    score = float(str(columns.get("score", 0.8)))
    defaults = dict.fromkeys(RUNS) | {
        "state": "complete",
        "backbone": "mid",
        "backbone_family": "bert",
        "num_backbone_parameters": SIZES.get(str(columns.get("backbone", "mid")), 1_000_000),
        "task": "films",
        "category": TASKS.get(str(columns.get("task", "films")), "other"),
        "metric": "accuracy",
        "method": "lora",
        "num_trainable": 4_096,
        "trainable_percent": 0.4,
        "seed": 0,
        "score": score,
        "ci_low": max(0.0, score - 0.01),
        "ci_high": min(1.0, score + 0.01),
        "num_examples": 1_000,
        "score_untrained": MAJORITY_SCORE,
        "untrained_baseline": MAJORITY_SCORE,
        "best_step": 100,
        "max_steps": 200,
        "learning_rate": 3e-4,
        "training_seconds": 10.0,
        "steps_per_second": 20.0,
        "peak_memory_bytes": 1e9,
        "data_fingerprint": "d",
        "backbone_fingerprint": "b",
        "num_head_parameters": 0,
        "objective": "classification-head",
    }
    run = defaults | columns
    run.setdefault("run_id", None)
    if run["run_id"] is None:
        run["run_id"] = "-".join(str(run[c]) for c in ("backbone", "task", "method", "num_trainable", "seed"))
    return run


def known_score(method: str, backbone: str, n: int) -> float:
    """The true score: the majority class up to 64, then below full by the scale's gap; adjacent has none from 4,096."""
    if method == "fine-tuning":
        return FULL_SCORE
    if n <= 64:
        return MAJORITY_SCORE
    if n >= 4_096 and method == "apet-adjacent":
        return FULL_SCORE
    return FULL_SCORE - GAPS[backbone]


def study(
    seeds: int = 3,
    sd: float = 0.0,
    tasks: Sequence[str] = tuple(TASKS),
    backbones: Sequence[str] = tuple(SIZES),
    grid: Sequence[int] = GRID,
    true_score: Callable[[str, str, int], float] = known_score,
    rng_seed: int = 0,
    variants: Sequence[str] = VARIANTS,
) -> pd.DataFrame:
    """Full fine-tuning and the four methods at their default sizes; APET's variants at those sizes and over a grid."""
    rng = np.random.default_rng(rng_seed)
    rows = []
    for backbone in backbones:
        sizes: list[tuple[str, int, str | None]] = [
            ("fine-tuning", SIZES[backbone], None),
            *((m, n, None) for m, n in DEFAULT_SIZES.items()),
        ]
        for variant in variants:
            sizes += [(variant, n, str(n)) for n in sorted({*grid, *DEFAULT_SIZES.values()})]
        for method, n, budget in sizes:
            for task in tasks:
                for seed in range(seeds):
                    score = float(np.clip(true_score(method, backbone, n) + sd * rng.standard_normal(), 0, 1))
                    rows.append(
                        row(
                            backbone=backbone,
                            task=task,
                            method=method,
                            num_trainable=n,
                            trainable_percent=100 * n / SIZES[backbone],
                            budget=budget,
                            seed=seed,
                            score=score,
                        )
                    )
    return pd.DataFrame(rows)


def failing(runs: pd.DataFrame, index: int, error: str = "diverged: loss is not finite at step 7") -> pd.DataFrame:
    """The same study with one failed run, which keeps its error and loses its numbers."""
    runs = runs.copy()
    numbers = [c for c, (kind, _) in RUNS.items() if kind == "number" and c not in ("seed", "num_backbone_parameters")]
    runs.loc[runs.index[index], numbers] = np.nan
    runs.loc[runs.index[index], "state"] = "failed"
    runs.loc[runs.index[index], "error"] = error
    return runs


def curves(runs: pd.DataFrame, half_life: Callable[[str], float], points: int = 21, every: int = 10) -> pd.DataFrame:
    """Learning curves: each complete run rises from the majority class to its score as 1 − 2^(−step / half-life)."""
    steps = every * np.arange(points)
    tables = []
    for run in runs[runs["state"] == "complete"].itertuples():
        score = MAJORITY_SCORE + (run.score - MAJORITY_SCORE) * (1 - 0.5 ** (steps / half_life(run.method)))
        tables.append(
            pd.DataFrame(
                {
                    "run_id": run.run_id,
                    "step": steps,
                    "loss": np.where(steps > 0, 1 - score, np.nan),
                    "score": score,
                    "ci_low": np.clip(score - 0.01, 0, 1),
                    "ci_high": np.clip(score + 0.01, 0, 1),
                    "seconds": steps / 20,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def transfer(on_itself: float = 0.8, within: float = 0.6, across: float = 0.4, seeds: int = 3) -> pd.DataFrame:
    """Zero-shot scores that depend on nothing but whether source and target are one task or share a category."""
    rows = []
    for source, source_category in TASKS.items():
        for target, target_category in TASKS.items():
            for seed in range(seeds):
                base = on_itself if source == target else within if source_category == target_category else across
                score = base + 0.001 * seed
                rows.append(
                    {
                        "source": source,
                        "target": target,
                        "backbone": "mid",
                        "method": "apet-adjacent",
                        "num_trainable": GRID[-1],
                        "seed": seed,
                        "score": score,
                        "ci_low": score - 0.02,
                        "ci_high": score + 0.02,
                        "num_examples": 500,
                        "majority_baseline": MAJORITY_SCORE,
                    }
                )
    return pd.DataFrame(rows)
