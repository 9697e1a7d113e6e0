"""Budgets as people write them: ``4096`` · ``0.3%`` · ``=lora``  →  N, and the plan that meets it."""

from __future__ import annotations

import operator
from typing import Any

from apet.backbones.describe import Backbone
from apet.backbones.loading import resolve_backbone
from apet.delta import DeltaSpec
from apet.errors import ApetError
from apet.methods import Method, make_method

Budget = int | str | None

_FORMS = "give a positive count (4096), a share of the backbone (0.3%) or another method's count (=lora)"


def parse_budget(budget: Budget, backbone: Backbone) -> int | None:
    """The exact count that a budget means on a backbone; None stays None (the method's own full size).

    ``0.3%`` is of all parameters of the model as given (the paper's denominator), rounded to the nearest count.

    Raises:
        ApetError: not one of the three forms, or less than one scalar.
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
    share = text.endswith("%")
    try:
        n = round(float(text[:-1]) / 100 * backbone.num_parameters) if share else int(text)
    except (ValueError, OverflowError):
        raise ApetError(f"budget={budget!r} is no number; {_FORMS}") from None
    if n < 1:
        what = f"{n} of {backbone.num_parameters:,} parameters" if share else "no module"
        raise ApetError(f"budget={budget!r} means {what}; {_FORMS}")
    return n


def plan(
    model_or_config: Any,
    method: str | Method,
    budget: Budget = None,
    *,
    mask_seed: int = 0,
    init_seed: int = 0,
    **settings: Any,
) -> DeltaSpec:
    """Plan a trainable module with an exact number of scalars. No weight is read, no model is changed.

    Args:
        model_or_config: a transformers model, its configuration, a backbone's name or description.
        method: a registered name (see `apet.methods`) or a `Method`.
        budget: ``4096``, ``"0.3%"``, ``"=lora"``; None = the method's own full size.
        mask_seed: decides which entries are unmasked.
        init_seed: decides their initial values.
        **settings: of the method, such as ``distribution="discrete"``, ``rank=4``, ``roles=["mlp"]``.

    Returns:
        θ with exactly the budget's scalars.

    Raises:
        UnknownNameError: a method, setting or role that does not exist, with the nearest ones.
        UnreachableBudgetError: the method cannot have that many scalars here; the nearest counts are named.
        ApetError: an ill-formed budget, a seed that is no integer, or settings beside a finished `Method`.
    """
    mask_seed, init_seed = (_seed(name, s) for name, s in (("mask_seed", mask_seed), ("init_seed", init_seed)))
    backbone = model_or_config if isinstance(model_or_config, Backbone) else resolve_backbone(model_or_config)
    if isinstance(method, Method):
        if settings:
            raise ApetError(
                f"settings {', '.join(settings)} came beside a finished {method.name} method; give one or the other"
            )
        recipe = method
    else:
        recipe = make_method(method, **settings)
    wanted = parse_budget(recipe.default_budget if budget is None else budget, backbone)
    return recipe.plan(backbone, wanted, mask_seed, init_seed)


def _seed(name: str, seed: Any) -> int:
    """A seed as a plain integer, so that it can be written into a file."""
    try:
        return operator.index(seed)
    except TypeError:
        raise ApetError(f"{name}={seed!r} is a {type(seed).__name__}; give an integer") from None
