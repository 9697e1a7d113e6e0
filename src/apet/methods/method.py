"""What a method is, and the one registry that feeds the API, the command line, the docs and the test matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from apet.backbones.describe import Backbone
from apet.delta import DeltaSpec, Recipe
from apet.errors import ApetError, UnknownNameError, UnreachableBudgetError
from apet.masks.allocation import allocate_budget
from apet.masks.mask import Distribution
from apet.methods.target import Target


class Method(BaseModel, ABC):
    """A recipe: positions, budget and seeds in, θ out. The fields of a subclass are its settings.

    A subclass with a ``name`` is registered by being defined. It says where it may train (`slots`); counts, shares,
    supports, files, hooks and freezing are the library's business.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True)

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    """One line for people, with its source."""
    learning_rate: ClassVar[float] = 3e-4
    """The paper's default (appendix B.1)."""
    identity_at_start: ClassVar[bool] = True
    """Attached and untrained, outputs are bit-equal."""
    default_budget: ClassVar[str | None] = None
    """What is meant where no budget is given; None = the method's own full size."""

    distribution: Distribution = "adjacent"
    """How a budget below the full size falls on the entries: in runs, or scattered."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name:
            if cls.name in _REGISTRY:
                raise ApetError(
                    f"two methods are called {cls.name!r}: {_REGISTRY[cls.name].__module__}, {cls.__module__}"
                )
            _REGISTRY[cls.name] = cls

    @abstractmethod
    def targets(self, backbone: Backbone) -> list[Target]:
        """Where this method may train on this backbone, in model order; a role that matches nothing raises."""

    def shares(self, slots: list[Target]) -> list[float]:
        """Shares of a budget are proportional to these: by default to the method's own full sizes."""
        return [float(s.default_params) for s in slots]

    def plan(self, backbone: Backbone, budget: int | None, mask_seed: int, init_seed: int) -> DeltaSpec:
        """θ with exactly ``budget`` scalars; None means the method's own full size.

        Raises:
            UnreachableBudgetError: no θ of this method has that many; the nearest reachable counts are named.
            UnknownNameError: a role matches nothing.
        """
        slots = self.targets(backbone)
        counts = self._counts(slots, budget, mask_seed)
        total = sum(counts)
        insertions = tuple(s.build(k, self.distribution, mask_seed) for s, k in zip(slots, counts, strict=True) if k)
        settings = self.model_dump(mode="json", exclude_defaults=True)
        theta = DeltaSpec(
            insertions=insertions,
            backbone=backbone.model_class,
            num_backbone_parameters=backbone.num_parameters,
            recipe=Recipe(self.name, settings, total, mask_seed, init_seed),
            init_seed=init_seed,
        )
        assert theta.num_trainable == total, f"{self.name}: planned {total}, built {theta.num_trainable}"
        return theta

    def count_trainable(self, backbone: Backbone, budget: int | None) -> int:
        """Scalars that `plan` would give, without planning where; raises as it does."""
        return sum(self._counts(self.targets(backbone), budget, 0))

    def _counts(self, slots: list[Target], budget: int | None, mask_seed: int) -> list[int]:
        natural = [s.default_params for s in slots]
        if budget is None or budget == sum(natural):
            return natural
        minima, caps = [s.min_params for s in slots], [s.max_params for s in slots]
        shared = allocate_budget(budget, minima, caps, self.shares(slots), mask_seed)
        if shared is None:
            raise self._unreachable(budget, minima, caps)
        return shared

    def _unreachable(self, budget: int, minima: list[int], caps: list[int]) -> UnreachableBudgetError:
        least, most = min(minima), sum(caps)
        candidates = (range(min(budget - 1, most), least - 1, -1), range(max(budget + 1, least), most + 1))
        nearest = [
            next((n for n in side if allocate_budget(n, minima, caps, caps, 0) is not None), None)
            for side in candidates
        ]
        if budget < least:
            why = f"{self.name} needs at least {least} scalars to be alive here"
        elif budget > most:
            why = f"{self.name} can hold at most {most:,} scalars here"
        else:
            why = f"the places of {self.name} cannot share it out"
        return UnreachableBudgetError(budget, [n for n in nearest if n is not None], why)


_REGISTRY: dict[str, type[Method]] = {}


def registered_methods() -> dict[str, type[Method]]:
    """All methods by name, in the paper's order."""
    order = ["fine-tuning", "prompt", "bitfit", "lora", "adapter", "apet"]
    return dict(sorted(_REGISTRY.items(), key=lambda kv: (order.index(kv[0]) if kv[0] in order else len(order), kv[0])))


def make_method(name: str, **settings: Any) -> Method:
    """A method with its settings. ``lora-discrete`` is short for ``lora`` with ``distribution="discrete"``.

    Raises:
        UnknownNameError: no such method or setting; the nearest names are given.
        ApetError: the name is no text, or a setting's value does not fit.
    """
    if not isinstance(name, str):
        raise ApetError(f"method={name!r} is a {type(name).__name__}; give a name: {', '.join(registered_methods())}")
    base, _, suffix = name.rpartition("-")
    if name not in _REGISTRY and base in _REGISTRY and suffix in ("adjacent", "discrete"):
        name, settings = base, {"distribution": suffix, **settings}
    if name not in _REGISTRY:
        raise UnknownNameError("method", name, registered_methods())
    method = _REGISTRY[name]
    for key in settings:
        if key not in method.model_fields:
            raise UnknownNameError(f"setting of {name}", key, method.model_fields)
    try:
        return method(**settings)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(x) for x in first["loc"][:1])
        raise ApetError(f"{name}: {where}={first['input']!r} does not fit: {first['msg'].lower()}") from e
