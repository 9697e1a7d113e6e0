"""Worlds in which the right recommendation is known, for tests and for benchmarks/recommend_replay.py."""

from __future__ import annotations

import math

import numpy as np

from apet.recommendation.arms import Arm, Family, Question, Trial
from apet.recommendation.replay import World

METHODS = {"lora": 8192, "apet": 8192, "bitfit": 4096, "ln-tuning": 1024, "ia3": 2048, "lora-all": 65536}
FULL = Family("fine-tuning", "fine-tuning", (2**20,), 2**20, 3e-4)


def family(name: str, own: int, least: int = 8, above: int = 2) -> Family:
    counts = tuple(n for k in range(-12, above + 1) if (n := int(own * 2.0**k)) >= least)
    return Family(name, name, counts, own, 3e-4)


def drawn_world(seed: int, steps: int = 100, noise: float = 0.008) -> World:
    """Families with logistic curves of random place, width and ceiling, and rates that follow N."""
    rng = np.random.default_rng(seed)
    families = [family(name, n, above=2 if name in ("lora", "apet", "lora-all") else 0) for name, n in METHODS.items()]
    shapes = {
        f.name: (rng.uniform(4, 13), rng.uniform(0.5, 2.5), rng.uniform(0.8, 1.02), rng.uniform(0, 2.5))
        for f in families
    }
    full = rng.uniform(0.6, 0.92)

    def score(arm: Arm) -> float:
        if arm.family == FULL.name:
            return full
        location, width, ceiling, _ = shapes[arm.family]
        way = ceiling / (1 + math.exp(-(math.log2(arm.num_trainable) - location) / width))
        return 0.5 + (full - 0.5) * way

    def power(arm: Arm) -> float:
        if arm.family == FULL.name:
            return 0.5
        return shapes[arm.family][3] + 0.04 * math.log2(2**13 / arm.num_trainable)

    def seconds(trial: Trial) -> float:
        return (1.3 if trial.arm.family == FULL.name else 1.0) * trial.steps * 0.1 + 1

    return World(Question(tuple(families), FULL, steps), score, power, seconds, seed_sd=noise)


def step_world(reaching: dict[str, int], full: float = 0.8, noise: float = 0.003) -> World:
    """Families that reach full fine-tuning from a count on, and are no better than guessing below it."""
    families = tuple(family(name, 8192) for name in reaching)

    def score(arm: Arm) -> float:
        if arm.family == FULL.name:
            return full
        return full if arm.num_trainable >= reaching[arm.family] else 0.5

    return World(
        Question(families, FULL, 100),
        score,
        lambda arm: 1.0,
        lambda trial: trial.steps * 0.1,
        seed_sd=noise,
        num_items=4000,
    )
