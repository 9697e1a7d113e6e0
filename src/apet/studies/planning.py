"""A study before a second is spent: every run resolved, each once, and what running them will take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from apet.errors import ApetError, UnknownNameError
from apet.studies.grid import cells
from apet.studies.study_config import AXES, Override, StudyConfig
from apet.training.lr_search import search_steps
from apet.training.resolve import ResolveCache, resolve
from apet.training.run_plan import RunPlan


def plan_study(study: StudyConfig, cache: ResolveCache | None = None) -> list[RunPlan]:
    """Resolve every run of a study. No data and no weights are loaded.

    Args:
        study: the grid.
        cache: what the runs share; None = a new one.

    Returns:
        The runs in the study's order; cells that mean the same run are one.

    Raises:
        ApetError: a cell that can never run, named: an unreachable budget, a task the backbone cannot serve.
    """
    cache = cache or ResolveCache()
    plans: dict[str, RunPlan] = {}
    for cell in cells(study):
        axes = cell.config.axes
        try:
            plan = resolve(cell.config, cache)
        except ApetError as e:
            raise ApetError(f"{axes.backbone}, {axes.task}, {axes.method}, budget {axes.budget}: {e}") from e
        plans.setdefault(plan.run_id, plan)
    return list(plans.values())


Patterns = Mapping[str, str | list[str]]
"""Axis -> pattern, or patterns of which one must match."""


def select_runs(plans: Sequence[RunPlan], patterns: Patterns, limit: int | None) -> list[RunPlan]:
    """Runs that match all patterns, at most ``limit``.

    Args:
        plans: to select from.
        patterns: by axis.
        limit: number of runs, at most; None = all.

    Returns:
        The runs, in their order.

    Raises:
        ApetError: an unknown axis, or nothing left.
    """
    match = parse_filter(patterns)
    selected = [p for p in plans if match.matches(p.axes.as_dict())][:limit]
    if plans and not selected:
        raise ApetError(f"no run matches {spell_patterns(patterns)}; the study has {len(plans)} runs")
    return selected


def parse_filter(patterns: Patterns) -> Override:
    """A filter over axes.

    Args:
        patterns: by axis.

    Returns:
        An override that matches what the patterns mean, and sets nothing.

    Raises:
        UnknownNameError: an unknown axis.
    """
    for axis in patterns:
        if axis not in AXES:
            raise UnknownNameError("axis", axis, AXES)
    return Override(match={axis: [*p] if isinstance(p, list) else p for axis, p in patterns.items()})


def spell_patterns(patterns: Patterns) -> str:
    """Patterns as they are written on the command line: ``method=lora, seed=0``."""
    return ", ".join(f"{axis}={'[' + ', '.join(p) + ']' if isinstance(p, list) else p}" for axis, p in patterns.items())


MEASURING = 1.2
"""Time of a run over the time of its steps: measuring on the way, our rough average."""


@dataclass(frozen=True)
class CostEstimate:
    """What a plan will take.

    Attributes:
        seconds: of one worker, all runs one after another.
        measured: share of the runs whose backbone and task were timed before, in [0, 1]; the others are scaled from a
            product of matrices timed on this machine.
        peak_bytes: of the largest run: the highest that was measured with its backbone and task, else weights, values
            with gradients and optimizer state, activations.
    """

    seconds: float
    measured: float
    peak_bytes: float


@dataclass(frozen=True)
class Cost:
    """What a finished run took.

    Attributes:
        step: seconds a step.
        peak: bytes at its peak.
    """

    step: float
    peak: float


def estimate(
    plans: Sequence[RunPlan], costs: Mapping[tuple[str, str, str], Cost], flops: float | None = None
) -> CostEstimate:
    """Time and memory of runs.

    Args:
        plans: those that are to be run.
        costs: (backbone, task, method) -> what finished runs took.
        flops: floating-point operations a second that the machine of the runs sustains; None = timed on this one.

    Returns:
        Time of one worker, memory of the largest run, and how much of this rests on measured runs.
    """
    # On a machine where nothing ran yet, one product of matrices says what its processor is worth.
    flops = flops or (_matmul_flops() if plans else 1.0)
    seconds, num_measured, peak = 0.0, 0, 0.0
    costs_of_pair: dict[tuple[str, str], list[Cost]] = {}
    for (backbone, task, _), cost in costs.items():
        costs_of_pair.setdefault((backbone, task), []).append(cost)
    for plan in plans:
        axes = plan.axes
        pair = costs_of_pair.get((axes.backbone, axes.task))
        measured = costs.get((axes.backbone, axes.task, axes.method))
        if measured is None and pair:
            # Another method on the same backbone and task: the frozen backbone dominates both time and memory.
            measured = Cost(sum(c.step for c in pair) / len(pair), max(c.peak for c in pair))
        num_measured += measured is not None
        cost = measured or _estimated_cost(plan, flops)
        seconds += cost.step * _num_steps(plan) * MEASURING
        peak = max(peak, cost.peak)
    return CostEstimate(seconds, num_measured / len(plans) if plans else 1.0, peak)


def _num_steps(plan: RunPlan) -> int:
    """Steps of a run, those of a search for its learning rate among them."""
    steps = plan.config.max_steps
    return steps + (search_steps(steps) if plan.config.learning_rate == "auto" else 0)


def _estimated_cost(plan: RunPlan, flops: float) -> Cost:
    """From the sizes of backbone, input and delta."""
    backbone = plan.backbone
    num_tokens = plan.config.batch_size * plan.task.max_input_length
    width = 2 if plan.dtype == "bfloat16" else 4
    num_layers = 1 + max((x.index or 0) for x in backbone.layers)
    # About 16 activations of the model's width are kept a layer and token: queries, keys, values, MLP, norms.
    activations = 16 * num_tokens * backbone.width * num_layers * width
    # 2 operations a weight and token forward, 2 for the gradient of the inputs; half of the tokens are padding.
    step = 4 * backbone.num_parameters * num_tokens / 2 / flops
    # A trained value, its gradient and AdamW's two moments: 16 bytes.
    return Cost(step, width * backbone.num_parameters + 16 * plan.num_trainable + activations)


def _matmul_flops() -> float:
    """Floating-point operations a second of matrix products, timed once on this machine."""
    import time

    import torch

    a = torch.randn(512, 512)
    a @ a  # the first product also loads the library
    began = time.perf_counter()
    for _ in range(8):
        a @ a
    return 8 * 2 * 512**3 / (time.perf_counter() - began)


def missing_reasons(plans: Sequence[RunPlan]) -> Iterator[tuple[str, int]]:
    """Each reason why runs cannot run here, and how many runs it keeps from running."""
    reasons = [p.missing for p in plans if p.missing is not None]
    for reason in dict.fromkeys(reasons):
        yield reason, reasons.count(reason)
