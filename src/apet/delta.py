"""θ, a trainable module, as data: a list of insertions, each an operation at a position with its trainable weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from apet.errors import ApetError
from apet.masks.mask import Mask
from apet.seeding import derive_seed

Operation = Literal["add", "concatenate", "plugin"]
Form = Literal["parameter", "output", "tokens", "pair", "bottleneck"]

FORMS: dict[Form, Operation] = {
    "parameter": "add",
    "output": "add",
    "tokens": "concatenate",
    "pair": "concatenate",
    "bottleneck": "plugin",
}
"""How an operation of the paper (eq. 14–17) is carried, and which operation it is."""

PLAN_VERSION = 2
"""Raised when the same recipe begins to give other supports or other initial values."""


@dataclass(frozen=True)
class Init:
    """Initial values of a trainable weight's entries.

    ``zeros``; ``uniform`` in ±bound, or, where ``fan_in`` is set, in ±1/√(live entries of the entry's column);
    ``vocabulary``: rows of the backbone's token embedding, drawn by ``init_seed`` (Lester et al. 2021, section 3.2).
    """

    kind: Literal["zeros", "uniform", "vocabulary"] = "zeros"
    bound: float = 0.0
    fan_in: bool = False


@dataclass(frozen=True)
class TrainableWeight:
    """``W̃ = W ⊙ m`` (paper section 5.1): only the entries of the support exist.

    Attributes:
        name: ``delta`` (eq. 14: W₁), ``prompt_embeddings`` (eq. 15: W₂), ``lora_A``, ``lora_B`` (eq. 16: W₃, W₄),
            ``down_proj.weight``, ``up_proj.weight`` and their biases (eq. 17: W₅, W₆).
        support: the unmasked entries.
        init: their initial values.
    """

    name: str
    mask: Mask
    init: Init = Init()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of W, masked entries included."""
        return self.mask.shape


@dataclass(frozen=True)
class Insertion:
    """An operation at a position.

    Attributes:
        form: how it is carried; decides the operation.
        at: name of the position (``parameter``, ``output``) or of the layer (``pair``, ``bottleneck``, ``tokens``).
        weights: its trainable weights.
        scale: factor of a low-rank pair, α/r for LoRA.
    """

    form: Form
    position: str
    weights: tuple[TrainableWeight, ...]
    scale: float = 1.0

    @property
    def operation(self) -> Operation:
        """Of the paper: add, concatenate or plugin."""
        return FORMS[self.form]

    @property
    def num_trainable(self) -> int:
        """Live scalars."""
        return sum(w.mask.num_trainable for w in self.weights)

    def definition(self) -> list[Any]:
        """Plain data that fixes it."""
        return [
            self.form,
            self.position,
            self.scale,
            [[w.name, w.mask.definition(), w.init.kind, w.init.bound, w.init.fan_in] for w in self.weights],
        ]


@dataclass(frozen=True)
class Recipe:
    """What a θ was planned from: enough to plan it again."""

    method: str
    settings: dict[str, Any]
    budget: int
    mask_seed: int
    init_seed: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as written into files."""
        return {
            "method": self.method,
            "settings": self.settings,
            "budget": self.budget,
            "mask_seed": self.mask_seed,
            "init_seed": self.init_seed,
        }


@dataclass(frozen=True)
class DeltaSpec:
    """A trainable module: planned, counted and printed without any weights in memory.

    Attributes:
        insertions: in the order in which they act on a layer.
        backbone: name of the model class it was planned for, such as ``BertForSequenceClassification``.
        backbone_parameters: of that model, the denominator of `trainable_percent`.
        recipe: how it was planned; None for one built by hand.
        init_seed: of the initial values.
    """

    insertions: tuple[Insertion, ...]
    backbone: str
    num_backbone_parameters: int
    recipe: Recipe | None = None
    init_seed: int = 0
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for i in self.insertions:
            if (i.form, i.position) in seen:
                raise ApetError(
                    f"θ holds two insertions of form {i.form!r} at {i.position!r}; join them or plan two θs"
                )
            seen.add((i.form, i.position))

    @property
    def num_trainable(self) -> int:
        """Trainable scalars, exactly. A task head is not among them."""
        return sum(i.num_trainable for i in self.insertions)

    @property
    def trainable_percent(self) -> float:
        """100 × n / backbone parameters, as the paper prints it."""
        return 100 * self.num_trainable / self.num_backbone_parameters

    @property
    def method(self) -> str:
        """Of the recipe, or ``"own"``."""
        return self.recipe.method if self.recipe else self.name or "own"

    @property
    def fingerprint(self) -> str:
        """Fingerprint of structure and supports, 16 hex digits: two θs of one digest hold the same entries."""
        h = hashlib.sha256(json.dumps([PLAN_VERSION, [i.definition() for i in self.insertions]]).encode())
        for i in self.insertions:
            for w in i.weights:
                if w.mask.kind == "listed":
                    h.update(w.mask.indices.tobytes())
        return h.hexdigest()[:16]

    def __repr__(self) -> str:
        return (
            f"DeltaSpec({self.method}, {self.num_trainable:,} scalars = {self.trainable_percent:.4g} % of {self.backbone},"
            f" {len(self.insertions)} insertions)"
        )


def initial_values(
    weight: TrainableWeight, at: str, init_seed: int, vocabulary: torch.Tensor | None = None
) -> torch.Tensor:
    """Initial values of a trainable weight, fp32, (k,).

    Args:
        weight: whose entries are asked for.
        at: the insertion's position, the address of its random stream.
        init_seed: the user's seed.
        vocabulary: the backbone's token embedding, (vocab, d); needed for ``vocabulary`` only.
    """
    k, kind = weight.mask.num_trainable, weight.init.kind
    if kind == "zeros":
        return torch.zeros(k)
    # On the CPU whatever the backbone's device: the same seed gives the same values everywhere.
    generator = torch.Generator().manual_seed(derive_seed(init_seed, at, weight.name) >> 1)
    if kind == "vocabulary":
        if vocabulary is None:
            raise ApetError("initial values from the vocabulary need the backbone's token embedding")
        tokens, d = weight.shape
        rows = torch.randint(vocabulary.shape[0], (tokens,), generator=generator)
        at_entry = torch.from_numpy(weight.mask.indices)
        picked = vocabulary.detach()[rows[at_entry // d].to(vocabulary.device), (at_entry % d).to(vocabulary.device)]
        return picked.float().cpu()
    bound: float | torch.Tensor = weight.init.bound
    if weight.init.fan_in:
        columns = torch.from_numpy(weight.mask.indices) % weight.shape[-1]
        live = torch.bincount(columns, minlength=weight.shape[-1])
        bound = live[columns].float().rsqrt()
    return (torch.rand(k, generator=generator) * 2 - 1) * bound
