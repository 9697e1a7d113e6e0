"""At which steps a run is measured on validation: at equal distances, or at equal ratios."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

EvalSteps = Annotated[int, Field(ge=1)] | Literal["log"]
"""Steps between measurements; ``log`` = at powers of the square root of 2, rounded: 1, 2, 3, 4, 6, 8, 11, 16, 23 …"""

_PER_OCTAVE = 2


def is_measured(step: int, eval_steps: EvalSteps) -> bool:
    """Whether a step is one after which validation is measured; the last step of a run is, whatever this says.

    Args:
        step: at least 1.
        eval_steps: distance, or ``log``.

    Returns:
        Whether it is.

    Examples:
        >>> [step for step in range(1, 20) if is_measured(step, "log")]
        [1, 2, 3, 4, 6, 8, 11, 16]
    """
    if eval_steps != "log":
        return step % eval_steps == 0
    power = round(_PER_OCTAVE * math.log2(step))
    return step == round(2 ** (power / _PER_OCTAVE))


def num_measured(max_steps: int, eval_steps: EvalSteps) -> int:
    """How many measurements a run of so many steps has, that of the untrained model not counted."""
    if eval_steps != "log":
        return math.ceil(max_steps / eval_steps)
    powers = range(math.ceil(_PER_OCTAVE * math.log2(max_steps)) + 1)
    return len({s for p in powers if (s := round(2 ** (p / _PER_OCTAVE))) < max_steps}) + 1
