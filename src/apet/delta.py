"""DeltaSpec: what is trained, where and how many, as plain data that needs no model and no weight."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from apet.display import html_table
from apet.errors import ApetError
from apet.masks.distributions import DISTRIBUTIONS, ScoredDistribution
from apet.masks.mask import Mask

if TYPE_CHECKING:  # numbers for printing need no torch
    from torch import Tensor

Operation = Literal["add", "concatenate", "plugin"]
"""The paper's three ways of putting a trainable weight into a layer (eq. 14-17)."""

Carrier = Literal["in_place", "substituted", "additive"]
"""How a delta of a parameter acts and gets its gradient; see `apet.layers.weight.WeightDelta`."""

CarrierChoice = Literal["auto", "in_place", "substituted", "additive"]
"""The same, as it is asked for; ``auto`` = the cheapest that is certified for each parameter."""

PLAN_VERSION = 3
"""Raised when the same recipe begins to give other masks or other initial values."""

MethodSettings = dict[str, "SettingValue"]
SettingValue = str | int | float | bool | None | list["SettingValue"] | dict[str, "SettingValue"]


@dataclass(frozen=True)
class Init:
    """Initial values of a trainable weight's entries.

    Attributes:
        kind: ``zeros``; ``uniform`` in ±bound, or, where ``fan_in`` is set, in ±1/√(trained entries of the entry's
            column); ``vocabulary``: rows of the backbone's token embedding, drawn by ``init_seed`` (Lester et al. 2021,
            section 3.2).
        bound: of ``uniform``.
        fan_in: whether ``uniform`` takes its bound from the column.
    """

    kind: Literal["zeros", "uniform", "vocabulary"] = "zeros"
    bound: float = 0.0
    fan_in: bool = False


@dataclass(frozen=True)
class TrainableWeight:
    """Trainable weight ``W̃ = W ⊙ m`` (paper section 5.1): only the entries of the mask exist.

    Attributes:
        name: ``delta`` (eq. 14: W₁), ``prompt_embeddings`` (eq. 15: W₂), ``lora_A``, ``lora_B`` (eq. 16: W₃, W₄),
            ``down_proj.weight``, ``up_proj.weight`` and their biases (eq. 17: W₅, W₆), ``ia3_l``.
        mask: the trained entries.
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
    """One delta layer of a spec: a form of delta at a position, with its trainable weights.

    Attributes:
        form: name of a registered delta layer: ``weight``, ``bias``, ``prompt``, ``lora``, ``adapter``, ``scale``.
        position: name of the position (``weight``, ``bias``, ``scale``) or of the layer (``lora``, ``adapter``,
            ``prompt``).
        weights: its trainable weights.
        scale: factor of a low-rank pair, α/r for LoRA.
    """

    form: str
    position: str
    weights: tuple[TrainableWeight, ...]
    scale: float = 1.0

    @property
    def num_trainable(self) -> int:
        """Trained entries of all its weights."""
        return sum(w.mask.num_trainable for w in self.weights)

    def definition(self) -> list[object]:
        """The insertion as plain data that fixes it, listed indices apart."""
        weights = [[w.name, w.mask.definition(), w.init.kind, w.init.bound, w.init.fan_in] for w in self.weights]
        return [self.form, self.position, self.scale, weights]


@dataclass(frozen=True)
class Recipe:
    """What a spec was planned from: enough to plan it again.

    Attributes:
        method: name of a registered method.
        settings: of the method, those that differ from its defaults.
        budget: N.
        mask_seed: decided which entries are trained.
        init_seed: decides their initial values.
    """

    method: str
    settings: MethodSettings
    budget: int
    mask_seed: int
    init_seed: int

    def as_dict(self) -> MethodSettings:
        """The recipe as plain data, as it is written into files."""
        return {
            "method": self.method,
            "settings": self.settings,
            "budget": self.budget,
            "mask_seed": self.mask_seed,
            "init_seed": self.init_seed,
        }


@dataclass(frozen=True)
class DeltaSpec:
    """Specification of a delta: which entries are trained, where, and how many, without a weight in memory.

    Attributes:
        insertions: in the order in which they act on a layer.
        backbone: name of the model class it was planned for, such as ``BertForSequenceClassification``.
        num_backbone_parameters: of that model, the denominator of `trainable_percent`.
        recipe: how it was planned; None for one built by hand.
        init_seed: of the initial values.
        name: of one built by hand.
        merge_obstacles: why it cannot be merged into the backbone that it was planned for or attached to, one line
            for all insertions of one form and reason; empty where it can, None for one built by hand.

    Raises:
        ApetError: two insertions of one form at one position.

    Examples:
        >>> import apet
        >>> spec = apet.plan("bert-small", "apet", budget=4096)
        >>> isinstance(spec, apet.DeltaSpec), spec.num_trainable
        (True, 4096)
        >>> apet.plan("bert-small", "adapter").merge_obstacles
        ('adapter at 8 layers: no parameter of the backbone computes it',)
    """

    insertions: tuple[Insertion, ...]
    backbone: str
    num_backbone_parameters: int
    recipe: Recipe | None = None
    init_seed: int = 0
    name: str = field(default="", compare=False)
    merge_obstacles: tuple[str, ...] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        taken: set[tuple[str, str]] = set()
        for i in self.insertions:
            if (i.form, i.position) in taken:
                raise ApetError(
                    f"the delta holds two insertions of form {i.form!r} at {i.position!r}; join them, or plan two"
                    " deltas"
                )
            taken.add((i.form, i.position))

    @property
    def num_trainable(self) -> int:
        """Trainable parameters, exactly. A task head is not among them."""
        return sum(i.num_trainable for i in self.insertions)

    @property
    def trainable_percent(self) -> float:
        """100 × trainable / backbone parameters, as the paper prints it."""
        return 100 * self.num_trainable / self.num_backbone_parameters

    @property
    def method(self) -> str:
        """Name of the method it was planned by; of one built by hand its own name, or ``"custom"``."""
        return self.recipe.method if self.recipe else self.name or "custom"

    @property
    def mergeable(self) -> bool:
        """Whether `Handle.merge` can make it part of the backbone's own parameters.

        Said of the delta alone on its backbone: a scale also needs that no other delta writes into its weight.

        Raises:
            ApetError: it was built by hand, and no backbone has been asked yet.
        """
        if self.merge_obstacles is None:
            raise ApetError(
                "whether a delta built by hand can be merged depends on the backbone; attach it and ask"
                " handle.spec.mergeable, or ask apet.planning.with_merge_obstacles(spec, model).mergeable"
            )
        return not self.merge_obstacles

    @property
    def needs_scores(self) -> bool:
        """Whether some masks are known only once the backbone's weights are (`apet.attach` settles them)."""
        return any(w.mask.kind == "scored" for i in self.insertions for w in i.weights)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of structure and masks, 16 hex digits: equal ones train the same entries."""
        h = hashlib.sha256(json.dumps([PLAN_VERSION, [i.definition() for i in self.insertions]]).encode())
        for i in self.insertions:
            for w in i.weights:
                if w.mask.kind == "listed":
                    h.update(w.mask.indices.tobytes())
        return h.hexdigest()[:16]

    def __repr__(self) -> str:
        return (
            f"DeltaSpec({self.method}, {self.num_trainable:,} parameters = {self.trainable_percent:.4g} % of"
            f" {self.backbone},"
            f" {len(self.insertions)} insertions)"
        )

    def _repr_html_(self) -> str:
        counts: dict[tuple[str, str, str], list[int]] = {}
        for i in self.insertions:
            for w in i.weights:
                counts.setdefault((i.form, w.name, " x ".join(map(str, w.shape))), []).append(w.mask.num_trainable)
        title = f"{self.method}: {self.num_trainable:,} parameters = {self.trainable_percent:.4g} % of {self.backbone}"
        rows = [(*key, len(n), sum(n)) for key, n in counts.items()]
        return html_table(title, ("form", "weight", "shape", "positions", "trained"), rows)


def initial_values(weight: TrainableWeight, position: str, init_seed: int, vocabulary: Tensor | None = None) -> Tensor:
    """Draw the initial values of a trainable weight's entries.

    Args:
        weight: whose entries are asked for.
        position: of its insertion, the address of its random stream.
        init_seed: the user's seed.
        vocabulary: the backbone's token embedding, (vocab, d); needed for ``vocabulary`` only.

    Returns:
        (k,), fp32, on the processor.

    Raises:
        ApetError: values from the vocabulary are asked for without one.
    """
    import torch

    from apet.seeding import derive_seed

    k, kind = weight.mask.num_trainable, weight.init.kind
    if kind == "zeros":
        return torch.zeros(k)
    # On the processor whatever the backbone's device: the same seed gives the same values everywhere.
    generator = torch.Generator().manual_seed(derive_seed(init_seed, position, weight.name) >> 1)
    if kind == "vocabulary":
        if vocabulary is None:
            raise ApetError("initial values from the vocabulary need the backbone's token embedding; it has none")
        num_tokens, d = weight.shape
        rows = torch.randint(vocabulary.shape[0], (num_tokens,), generator=generator)
        entries = torch.from_numpy(weight.mask.indices)
        picked = vocabulary.detach()[rows[entries // d].to(vocabulary.device), (entries % d).to(vocabulary.device)]
        return picked.float().cpu()
    bound: float | Tensor = weight.init.bound
    if weight.init.fan_in:
        # A masked column has fewer inputs than the weight is tall: the bound follows those that are trained.
        columns = torch.from_numpy(weight.mask.indices) % weight.shape[-1]
        fan_in = torch.bincount(columns, minlength=weight.shape[-1])
        bound = fan_in[columns].float().rsqrt()
    return (torch.rand(k, generator=generator) * 2 - 1) * bound


def settle_masks(
    spec: DeltaSpec, parameter: Callable[[str], Tensor], scores: Mapping[str, Tensor] | None = None
) -> DeltaSpec:
    """Settle the masks that rank entries by scores, now that the backbone's weights are at hand.

    Args:
        spec: as it was planned.
        parameter: position -> the parameter's values as the backbone came.
        scores: position -> one score for each entry; None = what each mask's distribution makes of the parameter.

    Returns:
        The spec with listed masks in place of scored ones; itself where there are none.

    Raises:
        ApetError: scores are missing, or do not fit a parameter.
    """
    if not spec.needs_scores:
        return spec

    def settled(position: str, weight: TrainableWeight) -> TrainableWeight:
        """A weight with a listed mask in place of a scored one.

        Returns:
            The weight; itself where its mask is not scored.

        Raises:
            ApetError: the given scores lack its position.
        """
        if weight.mask.kind != "scored":
            return weight
        distribution = DISTRIBUTIONS.get(weight.mask.distribution)
        assert isinstance(distribution, ScoredDistribution)
        if scores is None:
            ranked = distribution.scores(parameter(position).float().cpu().numpy())
        elif position in scores:
            ranked = scores[position].detach().float().cpu().numpy()
        else:
            raise ApetError(f"scores hold none for {position!r}; give one tensor for each position of the delta")
        return replace(weight, mask=distribution.settle(weight.mask, ranked))

    insertions = tuple(replace(i, weights=tuple(settled(i.position, w) for w in i.weights)) for i in spec.insertions)
    return replace(spec, insertions=insertions)
