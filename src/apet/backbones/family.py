"""A family of backbones as data: which role is played by which module path.

One YAML file in ``families/`` is one family. Paths start at the base model (``model.base_model``), those under
``lm_head`` at the model itself; ``*`` marks the block number; a list gives alternatives, first found wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import yaml

from apet.errors import ApetError

Kind = Literal["encoder", "decoder", "encoder-decoder"]
Roles = dict[str, tuple[str, ...]]
ObjectiveName = Literal["classification-head", "masked-label-word", "text-to-text", "next-token"]
"""Ways in which a backbone solves a task."""


@dataclass(frozen=True)
class Family:
    """Everything the library knows about one architecture group.

    Attributes:
        name: such as ``"t5"``.
        kind: which stacks there are, and so which objective fits.
        model_types: values of ``config.model_type`` that this file describes.
        stacks: stack name -> role -> candidate module paths.
        lm_head: role -> candidate paths of the pre-trained output head.
        prompt_enter: module whose forward takes the token ids that soft prompts go before ('' = base model).
        prompt_leave: module after which the prompt's places are taken out again; None = they stay (the
            decoder of an encoder-decoder attends to them).
        rotary: whether positions rotate queries and keys. Without it a constant added to every key shifts
            all attention scores of a query alike, the softmax cannot see it, and such entries are dead.
    """

    name: str
    kind: Kind
    model_types: tuple[str, ...]
    stacks: dict[str, Roles]
    lm_head: Roles
    prompt_input_module: str = ""
    prompt_output_module: str | None = ""
    rotary_embeddings: bool = False


def _roles(table: dict[str, str | list[str]] | None) -> Roles:
    return {role: (p,) if isinstance(p, str) else tuple(p) for role, p in (table or {}).items()}


@cache
def families() -> dict[str, Family]:
    """All families that ship, by name."""
    found = {}
    for entry in sorted(resources.files("apet.backbones").joinpath("families").iterdir(), key=lambda e: e.name):
        if not entry.name.endswith(".yaml"):
            continue
        raw = yaml.safe_load(entry.read_text("utf-8"))
        found[raw["family"]] = Family(
            name=raw["family"],
            kind=raw["kind"],
            model_types=tuple(raw["model_types"]),
            stacks={stack: _roles(roles) for stack, roles in raw["stacks"].items()},
            lm_head=_roles(raw.get("lm_head")),
            prompt_input_module=raw["prompt_insertion"]["input_module"],
            prompt_output_module=raw["prompt_insertion"]["output_module"],
            rotary_embeddings=raw.get("rotary_embeddings", False),
        )
    return found


def family_of(model_type: str) -> Family | None:
    """The family whose file names this ``config.model_type``, or None."""
    claims = [f for f in families().values() if model_type in f.model_types]
    if len(claims) > 1:
        raise ApetError(f"model type {model_type!r} is claimed by two families: {', '.join(f.name for f in claims)}")
    return claims[0] if claims else None
