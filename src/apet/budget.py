"""Budgets as people write them, ``4096``, ``0.3%`` or ``=lora``, and the exact count that one means on a backbone."""

from __future__ import annotations

from apet.backbones.positions import Backbone
from apet.errors import ApetError
from apet.methods import make_method

Budget = int | str | None

_FORMS = "give a positive count (4096), a share of the backbone (0.3%) or another method's count (=lora)"


def parse_budget(budget: Budget, backbone: Backbone) -> int | None:
    """Parse a budget into the exact count that it means on a backbone.

    Args:
        budget: a count, a share or another method's count. ``0.3%`` is of all parameters of the model as given (the
            paper's denominator), rounded to the nearest count.
        backbone: described.

    Returns:
        The count; None stays None (the method's own full size).

    Raises:
        ApetError: none of the three forms, or less than one parameter.
    """
    if budget is None:
        return None
    if isinstance(budget, bool) or not isinstance(budget, int | str):
        raise ApetError(f"budget={budget!r} is a {type(budget).__name__}; {_FORMS}")
    text = str(budget).strip()
    if text.startswith("="):
        other = make_method(text[1:].strip())
        return other.count_trainable(backbone, parse_budget(other.default_budget, backbone))
    text = text.replace("_", "").replace(",", "")
    is_share = text.endswith("%")
    try:
        count = round(float(text[:-1]) / 100 * backbone.num_parameters) if is_share else int(text)
    except (ValueError, OverflowError):
        raise ApetError(f"budget={budget!r} is not a number; {_FORMS}") from None
    if count < 1:
        meaning = f"{count} of {backbone.num_parameters:,} parameters" if is_share else "nothing to train"
        raise ApetError(f"budget={budget!r} means {meaning}; {_FORMS}")
    return count
