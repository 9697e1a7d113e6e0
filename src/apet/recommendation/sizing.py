"""How large the runs may be: steps that fit into the time, what stands in where full fine-tuning is too large."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from apet.costs import Estimate, estimate
from apet.errors import ApetError
from apet.recommendation.arms import Measurement
from apet.recommendation.racing import SHARE
from apet.training.resources import Resources
from apet.training.result import RunResult
from apet.training.run import Run
from apet.training.run_plan import RunPlan

PILOT_STEPS = 4
"""Of the first run, which tells how long steps and measurements take."""
LEAST_STEPS = 240
"""Of a whole run: with fewer, fewer families are counted on instead."""
SLOWER = 1.5
"""Of full fine-tuning's step, where the model of costs knows nothing."""
MOST_OF_TIME = 0.6
"""Share of the time that full fine-tuning may take, its race included."""


@dataclass(frozen=True)
class Speed:
    """How long things take.

    Attributes:
        step: seconds of a step of the first family.
        full_step: of full fine-tuning.
        item: of measuring on one row.
        full_memory: bytes that training all weights takes; 0 = not known.
    """

    step: float
    full_step: float
    item: float
    full_memory: float


def speed_of(pilot: RunResult, costs: Estimate | None) -> Speed:
    """What the first run tells.

    Args:
        pilot: of a few steps, measured before and after them.
        costs: of a step, by the model; None = not known.

    Returns:
        Seconds.
    """
    step = pilot.training_seconds / pilot.max_steps
    measuring = max(0.0, pilot.total_seconds / pilot.side_by_side - pilot.training_seconds)
    item = measuring / (2 * pilot.num_examples)
    if costs is None:
        return Speed(step, SLOWER * step, item, 0.0)
    return Speed(step, step / costs.relative_time, item, costs.full.memory_bytes)


def costs_of(plan: RunPlan, resources: Resources) -> Estimate | None:
    """A step of a run beside one of full fine-tuning, on texts of its mean length; None where it is not known.

    Args:
        plan: of the run.
        resources: that hold its rows.

    Returns:
        The model's estimate.
    """
    length = math.ceil(float(Run(plan, resources).splits["validation"].encoded.lengths.mean()))
    dtype = torch.bfloat16 if plan.dtype == "bfloat16" else torch.float32
    try:
        return estimate(plan.config.backbone, plan.delta, plan.config.batch_size, length, dtype=dtype)
    except ApetError:
        return None


def affordable_steps(num_families: int, within: float, speed: Speed, num_validation: int, most: int) -> int:
    """Steps of a whole run such that the answer rests on several runs, and as many families as there are, or fewer.

    Args:
        num_families: that there are.
        within: seconds that are left.
        speed: of this machine.
        num_validation: rows that whole runs are measured on.
        most: steps, at most.

    Returns:
        Steps, a multiple of what heats take.
    """
    steps = 0
    for families, runs in ((num_families, 8), (min(4, num_families), 6), (min(2, num_families), 4), (1, 2)):
        # Three heats a family and one run of full fine-tuning after its own; the first race is twice as long.
        per_step = speed.step * (3 * (families + 1) / SHARE + runs) + speed.full_step * (3 / SHARE + 1)
        measuring = speed.item * num_validation * (3 * families + 3 * (runs + 1))
        steps = int((0.85 * within - measuring) / per_step)
        if steps >= LEAST_STEPS:
            break
    return max(4 * PILOT_STEPS, min(steps, most)) // SHARE * SHARE


def stored_steps(measured: Sequence[Measurement], references: Sequence[str]) -> int | None:
    """Steps of the whole runs that an earlier call made: those of one question are alike.

    Args:
        measured: by then.
        references: names of full fine-tuning and its stand-in, which are run first.

    Returns:
        Steps; None where nothing but the first few steps was made.
    """
    whole = [m.trial for m in measured if not m.trial.racing]
    first = [t.steps for t in whole if t.arm.family in references]
    heats = [SHARE * m.trial.steps for m in measured if m.trial.racing and m.trial.steps != PILOT_STEPS]
    return max(first or [t.steps for t in whole] or heats, default=None)


def too_large(speed: Speed, steps: int, left: float, memory: float) -> str:
    """Why full fine-tuning cannot be run; empty where it can.

    Args:
        speed: of this machine.
        steps: of a whole run.
        left: seconds.
        memory: bytes that training may take.

    Returns:
        The reason, in words.
    """
    if speed.full_memory > memory:
        return f"full fine-tuning takes {speed.full_memory / 1e9:.2g} GB, more than {memory / 1e9:.2g} GB"
    if (1 + 3 / SHARE) * steps * speed.full_step > MOST_OF_TIME * max(left, 1):
        return "a run of full fine-tuning takes more than half of the time"
    return ""


def free_memory() -> float:
    """Bytes that training may take on the device, as far as the system tells."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    with suppress(ValueError, OSError):
        return 0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return math.inf
