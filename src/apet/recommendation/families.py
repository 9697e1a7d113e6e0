"""Families of a backbone: every registered method that compares, LoRA and APET in several structures, over their N."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from apet.errors import ApetError, UnreachableBudgetError
from apet.methods import registered_methods
from apet.recommendation.arms import Family
from apet.training.config import RunConfig, method_label
from apet.training.resolve import ResolveCache, resolve
from apet.training.run_plan import RunPlan

ORDER = ("lora", "bitfit", "apet", "ln-tuning", "ia3", "adapter", "prompt")
"""In which methods are tried; those of guests come before the last."""
OCTAVES_BELOW, OCTAVES_ABOVE = 12, 3
"""Doublings of a method's own size within which its counts lie."""
SLOWNESS = {"apet": 2.0, "prompt": 2.5}
"""Seconds of a step, of LoRA's, before one was measured (docs/log.md)."""
LEAST = 8
"""Smallest N that is tried."""
MOST_ROLES = 4
"""Positions that are named; more are all layers."""
STAND_IN_RANK = 64
"""Of the LoRA that stands in for full fine-tuning, at most."""


@dataclass(frozen=True)
class Limits:
    """What may be recommended.

    Attributes:
        max_params: largest N; None = any below full fine-tuning.
        merged: whether only what can be merged into the backbone is.
    """

    max_params: int | None = None
    merged: bool = False


@dataclass(frozen=True)
class Families:
    """What there is to choose from.

    Attributes:
        families: in the order in which they are tried.
        full: full fine-tuning.
        stand_in: the largest LoRA, for where full fine-tuning is too large; None where there is none.
        left_out: name -> why it is none of them.
    """

    families: tuple[Family, ...]
    full: Family
    stand_in: Family | None
    left_out: dict[str, str]


def families_of(base: RunConfig, cache: ResolveCache, limits: Limits) -> Families:
    """Count every family of a backbone; no weight is read.

    Args:
        base: backbone and task.
        cache: what has been described already.
        limits: what may be recommended.

    Returns:
        The families.

    Raises:
        ApetError: none is within the limits.
    """
    full_plan = _plan(base, cache, "fine-tuning", {}, None)
    full = Family(
        "fine-tuning",
        "fine-tuning",
        (full_plan.num_trainable,),
        full_plan.num_trainable,
        full_plan.default_learning_rate,
        where="everything",
    )
    linear = _linear_roles(full_plan)
    left_out: dict[str, str] = {}
    families = []
    for method, settings, where in _variants(linear):
        settings = {**settings, **({"mergeable": True} if limits.merged else {})}
        name = method_label(method, {k: v for k, v in settings.items() if k not in ("roles", "mergeable")})
        name = f"{name} ({where})" if "roles" in settings else name
        try:
            families.append(_family(base, cache, name, method, settings, full, limits))
        except ApetError as e:
            left_out[name] = str(e)
    if not families:
        raise ApetError(f"nothing is within the limits: {'; '.join(f'{k}: {v}' for k, v in left_out.items())}")
    return Families(tuple(families), full, _stand_in(base, cache, linear, full), left_out)


def _variants(linear: tuple[str, ...]) -> list[tuple[str, dict[str, JsonValue], str]]:
    """Method, settings, and positions in words, in the order in which they are tried."""
    registered = [name for name, m in registered_methods().items() if m.in_comparisons and name != "fine-tuning"]
    guests = [name for name in registered if name not in ORDER]
    order = [name for name in (*ORDER[:-1], *guests, ORDER[-1]) if name in registered]
    variants: list[tuple[str, dict[str, JsonValue], str]] = [(name, {}, "") for name in order]
    if "lora" in order and linear:
        variants.insert(2, ("lora", {"roles": list(linear)}, "every linear layer"))
    if "apet" in order:
        variants.insert(6, ("apet", {"sites": "all"}, "spread over all weights"))
    return variants


def _linear_roles(plan: RunPlan) -> tuple[str, ...]:
    layers = [x for x in plan.backbone.layers if x.kind == "linear" and x.role not in ("lm_head", "other", "head")]
    return tuple(dict.fromkeys(x.role for x in layers))


def _plan(
    base: RunConfig, cache: ResolveCache, method: str, settings: Mapping[str, JsonValue], budget: int | None
) -> RunPlan:
    return resolve(
        base.model_copy(update={"method": method, "method_settings": dict(settings), "budget": budget}), cache
    )


def _family(
    base: RunConfig,
    cache: ResolveCache,
    name: str,
    method: str,
    settings: Mapping[str, JsonValue],
    full: Family,
    limits: Limits,
) -> Family:
    plan = _plan(base, cache, method, settings, None)
    own = plan.num_trainable
    most = min(limits.max_params or full.anchor // 2, full.anchor // 2)
    counts: list[int] = []
    for octave in range(-OCTAVES_BELOW, OCTAVES_ABOVE + 1):
        n = own if octave == 0 else round(own * 2.0**octave)
        if LEAST <= n <= most or (octave == 0 and own <= most):
            try:
                counts.append(_plan(base, cache, method, settings, n).num_trainable)
            except UnreachableBudgetError as e:
                counts += [near for near in e.nearest if LEAST <= near <= most][:1]
    distinct = sorted(set(counts))
    if not distinct:
        raise ApetError(f"it has {own:,} parameters, more than {most:,}")
    anchor = own if own in distinct else distinct[-1]
    roles = settings.get("roles") or _roles(plan)
    where = ", ".join(map(str, roles)) if isinstance(roles, list) and len(roles) <= MOST_ROLES else "all layers"
    per_rank = own // 8 if method == "lora" else 0
    return Family(
        name,
        method,
        tuple(distinct),
        anchor,
        plan.default_learning_rate,
        dict(settings),
        per_rank,
        where,
        SLOWNESS.get(method, 1.0),
    )


def _roles(plan: RunPlan) -> list[str]:
    """Roles of the layers that a delta acts on, in order."""
    acted_on = {insertion.position for insertion in plan.delta.insertions}
    layers = [x for x in plan.backbone.layers if x.name in acted_on or acted_on & {p.name for p in x.positions}]
    return list(dict.fromkeys(x.role for x in layers))


def _stand_in(base: RunConfig, cache: ResolveCache, linear: tuple[str, ...], full: Family) -> Family | None:
    if not linear or "lora" not in registered_methods():
        return None
    settings: dict[str, JsonValue] = {"roles": list(linear)}
    plan = _plan(base, cache, "lora", settings, None)
    per_rank = plan.num_trainable // 8
    rank = min(STAND_IN_RANK, max(1, full.anchor // 2 // per_rank))
    rank = 2 ** int(math.log2(rank))
    n = rank * per_rank
    name = f"the largest LoRA (rank {rank} on every linear layer)"
    return Family(
        name, "lora", (n,), n, plan.default_learning_rate, {**settings, "rank": rank}, per_rank, ", ".join(linear)
    )
