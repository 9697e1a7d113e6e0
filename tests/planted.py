"""A made study whose answers are known: levels, gaps, thresholds, noise and curves are planted, not measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from apet.analysis.frames import RUNS

SIZES = {"tiny": 100_000, "mid": 1_000_000, "large": 10_000_000}
TASKS = {"films": "sentiment", "shops": "sentiment", "claims": "inference"}
OWN = {"prompt": 512, "bitfit": 1_024, "lora": 4_096, "adapter": 16_384}
GRID = (64, 256, 1_024, 4_096, 16_384)
CHANCE = 0.5
FULL_LEVEL = 0.9
GAPS = {"tiny": 0.06, "mid": 0.04, "large": 0.02}


def row(**given: object) -> dict[str, object]:
    """One complete run; what is not given is plain."""
    value = float(given.get("score", 0.8))
    base = dict.fromkeys(RUNS) | {
        "state": "complete",
        "backbone": "mid",
        "backbone_family": "bert",
        "num_backbone_parameters": SIZES.get(str(given.get("backbone", "mid")), 1_000_000),
        "task": "films",
        "category": TASKS.get(str(given.get("task", "films")), "other"),
        "metric": "accuracy",
        "method": "lora",
        "num_trainable": 4_096,
        "trainable_percent": 0.4,
        "seed": 0,
        "score": value,
        "ci_low": max(0.0, value - 0.01),
        "ci_high": min(1.0, value + 0.01),
        "num_examples": 1_000,
        "score_untrained": CHANCE,
        "untrained_baseline": CHANCE,
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
    made = base | given
    made.setdefault("run_id", None)
    if made["run_id"] is None:
        made["run_id"] = "-".join(str(made[k]) for k in ("backbone", "task", "method", "num_trainable", "seed"))
    return made


def level(method: str, backbone: str, n: int) -> float:
    """The planted metric: chance up to 64, then the gap of the scale below full; adjacent has none from 4,096 on."""
    if method == "fine-tuning":
        return FULL_LEVEL
    if n <= 64:
        return CHANCE
    if n >= 4_096 and method == "apet-adjacent":
        return FULL_LEVEL
    return FULL_LEVEL - GAPS[backbone]


def study(
    seeds: int = 3,
    sd: float = 0.0,
    tasks: Sequence[str] = tuple(TASKS),
    backbones: Sequence[str] = tuple(SIZES),
    grid: Sequence[int] = GRID,
    planted: Callable[[str, str, int], float] = level,
    rng_seed: int = 0,
) -> pd.DataFrame:
    """Full fine-tuning and the four methods at their own sizes; both APETs at those sizes and over a grid."""
    rng = np.random.default_rng(rng_seed)
    rows = []
    for backbone in backbones:
        sizes = [("fine-tuning", SIZES[backbone], None), *((m, n, None) for m, n in OWN.items())]
        for m in ("apet-adjacent", "apet-discrete"):
            sizes += [(m, n, str(n)) for n in sorted({*grid, *OWN.values()})]
        for method, n, budget in sizes:
            for task in tasks:
                for seed in range(seeds):
                    value = float(np.clip(planted(method, backbone, n) + sd * rng.standard_normal(), 0, 1))
                    rows.append(
                        row(
                            backbone=backbone,
                            task=task,
                            method=method,
                            num_trainable=n,
                            trainable_percent=100 * n / SIZES[backbone],
                            budget=budget,
                            seed=seed,
                            score=value,
                        )
                    )
    return pd.DataFrame(rows)


def failing(frame: pd.DataFrame, at: int, reason: str = "diverged: loss is not finite at step 7") -> pd.DataFrame:
    """The same study with one run failed."""
    frame = frame.copy()
    numbers = [c for c, (kind, _) in RUNS.items() if kind == "number" and c not in ("seed", "num_backbone_parameters")]
    frame.loc[frame.index[at], numbers] = np.nan
    frame.loc[frame.index[at], "state"] = "failed"
    frame.loc[frame.index[at], "error"] = reason
    return frame


def curves(runs: pd.DataFrame, half_life: Callable[[str], float], points: int = 21, every: int = 10) -> pd.DataFrame:
    """Every complete run rises from chance to its value as 1 − 2^(−step / half-life)."""
    steps = every * np.arange(points)
    parts = []
    for r in runs[runs["state"] == "complete"].itertuples():
        value = CHANCE + (r.score - CHANCE) * (1 - 0.5 ** (steps / half_life(r.method)))
        parts.append(
            pd.DataFrame(
                {
                    "run_id": r.run_id,
                    "step": steps,
                    "loss": np.where(steps > 0, 1 - value, np.nan),
                    "score": value,
                    "ci_low": np.clip(value - 0.01, 0, 1),
                    "ci_high": np.clip(value + 0.01, 0, 1),
                    "seconds": steps / 20,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def transfer(own: float = 0.8, within: float = 0.6, across: float = 0.4, seeds: int = 3) -> pd.DataFrame:
    """Zero-shot measures that depend on the category alone."""
    rows = []
    for source, a in TASKS.items():
        for target, b in TASKS.items():
            for seed in range(seeds):
                value = (own if source == target else within if a == b else across) + 0.001 * seed
                rows.append(
                    {
                        "source": source,
                        "target": target,
                        "backbone": "mid",
                        "method": "apet-adjacent",
                        "num_trainable": GRID[-1],
                        "seed": seed,
                        "score": value,
                        "ci_low": value - 0.02,
                        "ci_high": value + 0.02,
                        "num_examples": 500,
                    }
                )
    return pd.DataFrame(rows)
