"""A family of backbones as data: which role each module path plays.

One YAML file is one family; those in ``families/`` ship with the package, others come through `FAMILIES`. Paths start
at the base model (``model.base_model``), those under ``lm_head`` at the model itself; ``*`` stands for the block
number; a list gives alternatives, of which the first that exists is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Literal

from pydantic import Field, ValidationError

from apet.errors import ApetError, UnknownNameError
from apet.registry import Registry
from apet.settings import Settings
from apet.yaml_text import read_mapping

BackboneKind = Literal["encoder", "decoder", "encoder-decoder"]
Roles = dict[str, tuple[str, ...]]
ObjectiveName = Literal[
    "classification-head", "masked-label-word", "text-to-text", "next-token",
    "regression-head", "multi-label-head", "multiple-choice-head", "token-classification-head",
]  # fmt: skip
"""Ways in which a backbone solves a task."""


@dataclass(frozen=True)
class PromptInsertion:
    """Where soft prompts enter a model and where their places are taken out again; paths start at the base model.

    Attributes:
        input_module: module whose forward takes the token ids that soft prompts go before ('' = base model).
        output_module: module after which the prompt's places are taken out again; None = they stay (the decoder of an
            encoder-decoder attends to them).
        decoder: of an encoder-decoder.
    """

    input_module: str = ""
    output_module: str | None = ""
    decoder: str = "decoder"


@dataclass(frozen=True)
class Family:
    """One architecture group: its stacks, the roles of their modules, and where prompts enter.

    Attributes:
        name: such as ``"t5"``.
        kind: which stacks there are, and so which objective fits.
        model_types: values of ``config.model_type`` that this file describes.
        stacks: stack name -> role -> candidate module paths.
        lm_head: role -> candidate paths of the pre-trained output head.
        prompt_insertion: where soft prompts enter and leave.
        rotary_embeddings: whether positions rotate queries and keys. Without it a constant added to every key shifts
            all attention scores of a query alike, the softmax cannot see it, and such values have no effect.
    """

    name: str
    kind: BackboneKind
    model_types: tuple[str, ...]
    stacks: dict[str, Roles]
    lm_head: Roles
    prompt_insertion: PromptInsertion = PromptInsertion()
    rotary_embeddings: bool = False


class _FamilyFile(Settings):
    """The keys of a family's YAML file."""

    family: str
    kind: BackboneKind
    model_types: tuple[str, ...] = Field(min_length=1)
    prompt_insertion: PromptInsertion = PromptInsertion()
    rotary_embeddings: bool = False
    stacks: dict[str, dict[str, str | tuple[str, ...]]]
    lm_head: dict[str, str | tuple[str, ...]] | None = None


def parse_family(text: str, origin: str) -> Family:
    """A family from YAML text.

    Args:
        text: of the file.
        origin: where it came from, for messages.

    Returns:
        The family; it is not registered.

    Raises:
        ApetError: a key that is missing, unknown or does not fit; the first one is named.
    """
    try:
        raw = _FamilyFile.model_validate(read_mapping(text, f"family file {origin!r}"))
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ApetError(f"family file {origin!r}: {UnknownNameError('key', key, _FamilyFile.model_fields)}") from e
        raise ApetError(f"family file {origin!r}: {f'{key}: ' if key else ''}{first['msg'].lower()}") from e
    return Family(
        name=raw.family,
        kind=raw.kind,
        model_types=raw.model_types,
        stacks={stack: _roles(roles) for stack, roles in raw.stacks.items()},
        lm_head=_roles(raw.lm_head),
        prompt_insertion=raw.prompt_insertion,
        rotary_embeddings=raw.rotary_embeddings,
    )


def _roles(paths_by_role: dict[str, str | tuple[str, ...]] | None) -> Roles:
    return {role: (p,) if isinstance(p, str) else p for role, p in (paths_by_role or {}).items()}


def _load_builtin() -> None:
    folder = resources.files("apet.backbones").joinpath("families")
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            _read_yaml(file.read_text("utf-8"), f"apet/backbones/families/{file.name}")


def _read_yaml(text: str, origin: str) -> None:
    family = parse_family(text, origin)
    FAMILIES.register(family.name, family, origin)


FAMILIES: Registry[Family] = Registry("family", "apet.families", _load_builtin, _read_yaml)
"""Every family by name."""


def is_built_in(family: Family) -> bool:
    """Whether a family's file is one of this package's, whose facts the tests hold for every model type it names."""
    return FAMILIES.origin(family.name).startswith("apet/backbones/")


def families() -> dict[str, Family]:
    """All registered families, by name."""
    return FAMILIES.entries()


def family_of(model_type: str) -> Family | None:
    """The family that describes a ``config.model_type``, or None.

    Returns:
        The family; None where no file names the type.

    Raises:
        ApetError: two families claim it.
    """
    claims = [f for f in families().values() if model_type in f.model_types]
    if len(claims) > 1:
        raise ApetError(
            f"model type {model_type!r} is claimed by two families: {', '.join(f.name for f in claims)};"
            " leave it to one of them"
        )
    return claims[0] if claims else None
