"""The question, read from what people write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from apet.analysis.curve_values import Reach
from apet.errors import ApetError, UnknownNameError
from apet.recommendation.families import Limits
from apet.recommendation.parse import parse_duration, parse_memory, parse_reach
from apet.training.config import RunConfig

DEPLOYMENTS = ("attached", "merged")
DECIDED_HERE = ("method", "method_settings", "budget", "seed", "learning_rate", "eval_steps", "target_score")
"""Settings of a run that a recommendation decides itself."""


@dataclass(frozen=True)
class Asked:
    """A question.

    Attributes:
        base: backbone, task and all settings that are not chosen.
        folder: for all that is written.
        within: seconds that it may take.
        reach: what counts as reaching full fine-tuning.
        limits: what may be recommended.
        max_memory: bytes that training may take; None = what the machine has.
        test: file of rows to test on; None = the data's own, else some are held out.
    """

    base: RunConfig
    folder: Path
    within: float
    reach: Reach
    limits: Limits
    max_memory: float | None = None
    test: str | None = None


def ask(
    base: RunConfig,
    folder: Path,
    *,
    within: str,
    reach: str,
    test: str | None = None,
    max_params: int | None = None,
    max_memory: str | None = None,
    deploy: str = "attached",
) -> Asked:
    """Read a question.

    Args:
        base: backbone, task and all settings that are not chosen.
        folder: for all that is written.
        within: such as ``30m``.
        reach: ``95%`` or ``-1pt``.
        test: file of rows to test on.
        max_params: largest number of parameters that may be recommended.
        max_memory: such as ``8GB``.
        deploy: ``attached`` or ``merged``.

    Returns:
        The question.

    Raises:
        UnknownNameError: another way to deploy.
        ApetError: something that is not a duration, a reach or a size, or a setting that is decided here.
    """
    seconds, target = parse_duration(within), parse_reach(reach)
    memory = None if max_memory is None else parse_memory(max_memory)
    if deploy not in DEPLOYMENTS:
        raise UnknownNameError("way to deploy", deploy, DEPLOYMENTS)
    for name in DECIDED_HERE:
        if name in base.model_fields_set:
            raise ApetError(f"{name} is what a recommendation decides; leave it out, or use apet tune")
    return Asked(base, folder, seconds, target, Limits(max_params, deploy == "merged"), memory, test)
