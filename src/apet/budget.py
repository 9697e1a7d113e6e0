"""Budgets as people write them, ``4096``, ``0.3%`` or ``=lora``, and the exact count that one means on a backbone."""

from __future__ import annotations

import re
import string

from apet.backbones.positions import Backbone
from apet.errors import ApetError
from apet.methods import make_method

Budget = int | str | None

# ASCII digits; an underscore stands between groups of three.
_DIGITS = r"(?:[0-9]{1,3}(?:_[0-9]{3})+|[0-9]{1,18})"
_COUNT = re.compile(rf"[-+]?{_DIGITS}")
_SHARE = re.compile(rf"[-+]?(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{{1,2}})?[ ]?%")
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
        ApetError: none of the three forms, a comma in a number, or less than one parameter.
    """
    if budget is None:
        return None
    if isinstance(budget, bool) or not isinstance(budget, int | str):
        raise ApetError(f"budget={budget!r} is a {type(budget).__name__}; {_FORMS}")
    text = str(budget).strip(string.whitespace)  # ASCII's: other characters that look like a space are none
    if text.startswith("="):
        other = make_method(text[1:].strip())
        return other.count_trainable(backbone, parse_budget(other.default_budget, backbone))
    if "," in text:
        raise ApetError(_about_comma(text))
    is_share = text.endswith("%")
    if not (_SHARE if is_share else _COUNT).fullmatch(text):
        raise ApetError(f"budget={str(budget)!r} is not a number; {_FORMS}")
    count = round(float(text[:-1]) / 100 * backbone.num_parameters) if is_share else int(text.replace("_", ""))
    if count < 1:
        meaning = f"{count} of {backbone.num_parameters:,} parameters" if is_share else "nothing to train"
        raise ApetError(f"budget={budget!r} means {meaning}; {_FORMS}")
    return count


def _about_comma(text: str) -> str:
    """A comma is a decimal point to some people and parts thousands to others: which was meant is not guessed."""
    unit = "" if text.endswith("%") else "%"
    point, thousands = f"{text.replace(',', '.', 1)}{unit}", text.replace(",", "")
    if text.count(",") > 1:
        return f"budget={text!r} has commas; write {thousands}"
    return f"budget={text!r} has a comma; write {point} if it is a decimal point, {thousands} if it parts thousands"
