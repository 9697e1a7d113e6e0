"""Which runs may share a pass, and how many of them gain by it."""

from __future__ import annotations

from collections.abc import Hashable

from apet.layers.prompt import prompt_length
from apet.training.run_id import OF_DATA
from apet.training.run_plan import RunPlan

MOST = 8
"""Runs in one pass, where nobody says how many."""

MAX_WORK = 2**24
"""Parameters of a backbone x examples of a batch up to which runs gain by sharing a pass.

Above, a processor is busy with one run's products already, and the deltas' detours cost more than is shared.
Measured by benchmarks/side_by_side.py (docs/log.md): 0.45 of the time at 2**20 (8 runs), no gain at 2**27; in between
the line is drawn low.
"""

_SAME = (
    "backbone", *sorted(OF_DATA), "batch_size", "head", "dtype", "device", "max_train_samples", "max_eval_samples",
    "max_test_samples",     "max_input_length", "num_threads", "imports", "side_by_side",
)  # fmt: skip


def pass_key(plan: RunPlan) -> Hashable | None:
    """What runs must have in common to share a pass.

    Returns:
        Equal for those that may; None for a run that is made alone: one that trains all weights or asks for a carrier
        that writes into them, for several devices, or for less memory.
    """
    config = plan.config
    fits = config.carrier in ("auto", "additive") and config.device_map is None and not config.gradient_checkpointing
    if not fits or config.method.startswith("fine-tuning"):
        return None
    # Prompts of one length leave the same room for the text; a budget decides it where no setting does.
    length = prompt_length(plan.delta) if _may_have_prompt(plan) else 0
    return (*(str(getattr(config, name)) for name in _SAME), plan.objective, plan.dtype, length)


def _may_have_prompt(plan: RunPlan) -> bool:
    return plan.config.method.startswith("prompt") or bool(plan.config.method_settings.get("prompt"))


def runs_side_by_side(plan: RunPlan) -> int:
    """How many runs such as this one make a pass, at most; 1 = it is made alone.

    Args:
        plan: of any of them.

    Returns:
        What the settings say; where they leave it open, several for small backbones and batches.
    """
    asked = plan.config.side_by_side
    if pass_key(plan) is None:
        return 1
    if asked != "auto":
        return asked
    if _may_have_prompt(plan):  # its tokens are computed for every example: there is little besides to share
        return 1
    return MOST if plan.backbone.num_parameters * plan.config.batch_size <= MAX_WORK else 1
