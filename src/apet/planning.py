"""Planning: from a backbone, a method and a budget to a DeltaSpec with exactly that many parameters."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import TYPE_CHECKING, SupportsIndex

from apet.backbones.described import resolve_backbone
from apet.backbones.positions import Backbone
from apet.budget import Budget, parse_budget
from apet.delta import DeltaSpec
from apet.errors import ApetError
from apet.layers.merging import merge_obstacles
from apet.methods import Method, make_method

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig


def plan(
    model_or_config: nn.Module | PreTrainedConfig | Backbone | str,
    method: str | Method,
    budget: Budget = None,
    *,
    mask_seed: SupportsIndex = 0,
    init_seed: SupportsIndex = 0,
    **settings: object,
) -> DeltaSpec:
    """Plan a delta with an exact number of parameters. No weight is read, no model is changed.

    Args:
        model_or_config: a transformers model, its configuration, a backbone's name or its description.
        method: a registered name (see `apet.list_methods`) or a `Method`.
        budget: ``4096``, ``"0.3%"``, ``"=lora"``; None = the method's own full size.
        mask_seed: decides which entries are trained.
        init_seed: decides their initial values.
        **settings: of the method, such as ``distribution="discrete"``, ``rank=4``, ``roles=["mlp"]``; of every method
            ``mergeable=True``, which trains only what can be merged into the backbone's own parameters.

    Returns:
        The spec, with exactly the budget's parameters.

    Raises:
        UnknownNameError: a method, setting or role that does not exist, with the nearest ones.
        UnreachableBudgetError: the method cannot have that many parameters here; the nearest counts are named.
        ApetError: an ill-formed budget, a seed that is not an integer, settings beside a finished `Method`, or nothing
            that could be merged.

    Examples:
        >>> import apet
        >>> apet.plan("bert-small", "lora", rank=4).num_trainable
        32768
        >>> apet.plan("bert-small", "apet", budget=1000, distribution="discrete").num_trainable
        1000
        >>> apet.plan("bert-small", "apet").mergeable, apet.plan("bert-small", "apet", mergeable=True).mergeable
        (False, True)
    """
    seeds = {"mask_seed": _plain_seed("mask_seed", mask_seed), "init_seed": _plain_seed("init_seed", init_seed)}
    backbone = model_or_config if isinstance(model_or_config, Backbone) else resolve_backbone(model_or_config)
    if not isinstance(method, Method):
        method = make_method(method, **settings)
    elif settings:
        raise ApetError(
            f"settings {', '.join(settings)} came beside a finished {method.name} method; give one or the other"
        )
    count = parse_budget(method.default_budget if budget is None else budget, backbone)
    return with_merge_obstacles(method.plan(backbone, count, **seeds), backbone)


def with_merge_obstacles(spec: DeltaSpec, model_or_config: nn.Module | PreTrainedConfig | Backbone | str) -> DeltaSpec:
    """Find out whether a delta can be merged into a backbone.

    Args:
        spec: planned, or built by hand.
        model_or_config: a transformers model, its configuration, a backbone's name or its description.

    Returns:
        The spec with `DeltaSpec.merge_obstacles` as they are on this backbone.

    Raises:
        UnknownNameError: the spec names a position that this backbone does not have.
    """
    backbone = model_or_config if isinstance(model_or_config, Backbone) else resolve_backbone(model_or_config)
    return replace(spec, merge_obstacles=merge_obstacles(spec.insertions, backbone))


def _plain_seed(name: str, seed: SupportsIndex) -> int:
    """A seed as a plain integer, so that it can be written into a file (NumPy's integers cannot)."""
    try:
        return operator.index(seed)
    except TypeError:
        raise ApetError(f"{name}={seed!r} is a {type(seed).__name__}; give an integer") from None
