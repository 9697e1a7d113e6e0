"""What a method is, and the one registry that feeds the API, the command line, the docs and the test matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import ValidationError, field_validator

from apet.backbones.positions import Backbone, Layer
from apet.delta import DeltaSpec, MethodSettings, Recipe
from apet.errors import ApetError, UnreachableBudgetError
from apet.layers.base import Target
from apet.layers.merging import OTHER_METHOD, merge_obstacles, obstacles
from apet.masks.allocation import allocate_budget
from apet.masks.distributions import DISTRIBUTIONS
from apet.registry import Registry, load_modules
from apet.setting_names import UnknownSettingError
from apet.settings import Settings, why_not

PAPER_MODULES = ("fine_tuning", "prompt", "bitfit", "lora", "adapter", "apet")
"""Modules in the order in which the paper names their methods; the others follow by name."""


def _load_builtin() -> None:
    from apet import methods

    for name in PAPER_MODULES:
        __import__(f"{methods.__name__}.{name}")
    load_modules(methods.__name__, methods.__path__)


METHODS: Registry[type[Method]] = Registry("method", "apet.methods", _load_builtin)
"""All methods by name."""


class Method(Settings, ABC):
    """A recipe: backbone, budget and seeds in, DeltaSpec out. The fields of a subclass are its settings.

    A subclass with a ``name`` is registered by being defined. It says where it may train (`targets`); counts, shares,
    masks, files, hooks and freezing are the library's business.
    """

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    """One line for people, with its source."""
    learning_rate: ClassVar[float] = 3e-4
    """Of ``learning_rate=paper``: the paper's (appendix B.1); of a method that it lacks, that one's own."""
    identity_at_start: ClassVar[bool] = True
    """Attached and untrained, outputs are bit-equal."""
    default_budget: ClassVar[str | None] = None
    """What is meant where no budget is given; None = the method's own full size."""
    in_comparisons: ClassVar[bool] = True
    """Whether ``apet compare`` runs it beside the others where no methods are named."""
    takes_distributions: ClassVar[bool] = False
    """Whether comparisons run it once for every distribution, as ``apet-adjacent``, ``apet-discrete`` and so on."""

    distribution: str = "adjacent"
    """How a budget below the full size falls on the entries of a weight: a registered distribution."""
    mergeable: bool = False
    """Whether only what can be merged into the backbone's own parameters is trained."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__()
        if cls.name:
            METHODS.register(cls.name, cls, cls.__module__)

    @field_validator("distribution")
    @classmethod
    def _is_registered(cls, name: str) -> str:
        DISTRIBUTIONS.get(name)
        return name

    @abstractmethod
    def targets(self, backbone: Backbone) -> list[Target]:
        """Where this method may train on a backbone, in model order.

        Args:
            backbone: described.

        Raises:
            UnknownNameError: a role matches nothing.
        """

    def default_layers(self, backbone: Backbone, roles: tuple[str, ...]) -> tuple[Layer, ...]:
        """Select the layers of the roles that a method trains at where none are given.

        Args:
            backbone: described.
            roles: all of which it must have.

        Returns:
            The layers, in model order.

        Raises:
            ApetError: the backbone lacks a role; those that it has are listed.
        """
        there = sorted({x.role for x in backbone.layers if x.kind != "other"})
        missing = [role for role in roles if role not in there]
        if missing:
            raise ApetError(
                f"{self.name} trains at {' and '.join(roles)}; {backbone.model_class} has no {' and no '.join(missing)}"
                f". Give roles=[...] out of: {', '.join(there) or 'none'}"
            )
        return tuple(x for x in backbone.layers if x.role in roles and x.kind != "other")

    def shares(self, targets: list[Target]) -> list[float]:
        """Shares of a budget, one for each target: by default proportional to the method's own full sizes."""
        return [float(t.default_params) for t in targets]

    def sites_of(self, targets: list[Target], budget: int, mask_seed: int) -> list[int]:
        """Numbers of the targets that a budget falls on, in ascending order: by default all.

        Args:
            targets: where this method may train.
            budget: N.
            mask_seed: decides which are drawn, where some are.

        Returns:
            At least one.

        Raises:
            ApetError: a number of them is asked for that cannot hold the budget.
        """
        return list(range(len(targets)))

    def plan(self, backbone: Backbone, budget: int | None, mask_seed: int, init_seed: int) -> DeltaSpec:
        """Plan a delta with exactly ``budget`` parameters.

        Args:
            backbone: described; no weight is read.
            budget: N; None = the method's own full size.
            mask_seed: decides which entries are trained.
            init_seed: decides their initial values.

        Returns:
            The spec.

        Raises:
            UnreachableBudgetError: the method cannot have that many here; the nearest reachable counts are named.
            UnknownNameError: a role matches nothing.
            ApetError: the backbone lacks what the method trains; or the distribution ranks entries of existing
                parameters, and this method trains none; or nothing of it can be merged, where that is asked for.
        """
        targets = self._usable_targets(backbone)
        counts = self._counts(targets, budget, mask_seed)
        total = sum(counts)
        spec = DeltaSpec(
            insertions=tuple(
                t.build(k, self.distribution, mask_seed) for t, k in zip(targets, counts, strict=True) if k
            ),
            backbone=backbone.model_class,
            num_backbone_parameters=backbone.num_parameters,
            recipe=Recipe(self.name, self.settings(), total, mask_seed, init_seed),
            init_seed=init_seed,
        )
        assert spec.num_trainable == total, f"{self.name}: planned {total}, built {spec.num_trainable}"
        return spec

    def count_trainable(self, backbone: Backbone, budget: int | None) -> int:
        """Count the parameters that `plan` would give, without planning where; raises as `plan` does."""
        return sum(self._counts(self._usable_targets(backbone), budget, 0))

    def settings(self) -> MethodSettings:
        """Its settings that differ from the defaults, as plain data."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def _usable_targets(self, backbone: Backbone) -> list[Target]:
        """Where it may train under the distribution and, where only that is asked for, what can be merged."""
        targets = self.targets(backbone)
        if not targets:
            roles = sorted({x.role for x in backbone.layers})
            raise ApetError(
                f"{self.name} finds nothing to train on {backbone.model_class}, whose layers are"
                f" {', '.join(roles) or 'none'}; give another method, or roles=[...] where it takes them"
            )
        targets = self._scored(targets)
        return self._merging(targets, backbone) if self.mergeable else targets

    def _merging(self, targets: list[Target], backbone: Backbone) -> list[Target]:
        """Targets that existing parameters can hold."""
        # Whether a layer merges is the same for every mask and count: the smallest one is asked.
        insertions = [t.build(t.min_params, self.distribution, 0) for t in targets]
        reasons = obstacles(insertions, backbone)
        merging = [t for t, reason in zip(targets, reasons, strict=True) if reason is None]
        if not merging:
            why = "; ".join(merge_obstacles(insertions, backbone))
            raise ApetError(f"{self.name} has nothing to train that can be merged ({why}); {OTHER_METHOD}")
        return merging

    def _scored(self, targets: list[Target]) -> list[Target]:
        """Targets that the distribution can serve: new weights have no scores by which to rank their entries."""
        if not DISTRIBUTIONS.get(self.distribution).needs_scores:
            return targets
        scored = [t for t in targets if t.has_scores]
        if not scored:
            others = ", ".join(name for name, d in DISTRIBUTIONS.entries().items() if not d.needs_scores)
            raise ApetError(
                f"distribution {self.distribution!r} ranks entries of the backbone's own parameters, and"
                f" {self.name} trains"
                f" none of them; give another distribution ({others}), or method apet or fine-tuning"
            )
        return scored

    def _counts(self, targets: list[Target], budget: int | None, mask_seed: int) -> list[int]:
        """How many parameters each target gets."""
        defaults = [t.default_params for t in targets]
        if budget is None:
            return defaults
        lowest, highest = [t.min_params for t in targets], [t.max_params for t in targets]
        sites = self.sites_of(targets, budget, mask_seed)
        # The full size is taken as it is: shared out anew, rounding could move a parameter from one target to another.
        if budget == sum(defaults) and len(sites) == len(targets):
            return defaults
        shares = self.shares(targets)
        shared_out = allocate_budget(
            budget, [lowest[i] for i in sites], [highest[i] for i in sites], [shares[i] for i in sites], mask_seed
        )
        if shared_out is None:
            raise self._unreachable(budget, lowest, highest)
        counts = [0] * len(targets)
        for i, count in zip(sites, shared_out, strict=True):
            counts[i] = count
        return counts

    def _unreachable(self, budget: int, lowest: list[int], highest: list[int]) -> UnreachableBudgetError:
        least, most = min(lowest), sum(highest)
        candidates = (range(min(budget - 1, most), least - 1, -1), range(max(budget + 1, least), most + 1))
        # Outward from the budget on either side: the first count that can be shared out is the nearest.
        nearest = [
            next((n for n in side if allocate_budget(n, lowest, highest, highest, 0) is not None), None)
            for side in candidates
        ]
        if budget < least:
            reason = f"{self.name} needs at least {least} parameters here for all of them to have a gradient"
        elif budget > most:
            what = "parameters that can be merged" if self.mergeable else "parameters"
            reason = f"{self.name} can hold at most {most:,} {what} here"
        else:
            reason = f"the targets of {self.name} cannot share it out"
        return UnreachableBudgetError(budget, [n for n in nearest if n is not None], reason)


def registered_methods() -> dict[str, type[Method]]:
    """All methods by name: in the paper's order, then the others."""
    return METHODS.entries()


def make_method(name: str, **settings: object) -> Method:
    """Create a method with its settings.

    Args:
        name: of a registered method; ``lora-discrete`` is short for ``lora`` with ``distribution="discrete"``.
        **settings: fields of that method.

    Returns:
        The method.

    Raises:
        UnknownNameError: no such method; the nearest names are given.
        UnknownSettingError: no such setting; what it is called here, or the nearest names.
        ApetError: the name is not a text, or a setting's value does not fit.
    """
    if not isinstance(name, str):
        raise ApetError(f"method={name!r} is a {type(name).__name__}; give a name: {', '.join(METHODS)}")
    # A name is tried as a whole first: a guest may register one that ends like a distribution.
    if name not in METHODS:
        # Both parts may hold hyphens themselves: fine-tuning, every-nth.
        for base in METHODS:
            suffix = name.removeprefix(f"{base}-")
            if suffix != name and suffix in DISTRIBUTIONS:
                name, settings = base, {"distribution": suffix, **settings}
                break
    if name not in METHODS:
        meant = [base for base in METHODS if name.startswith(f"{base}-")]
        raise METHODS.unknown(name, [f"{base}-{distribution}" for base in meant for distribution in DISTRIBUTIONS])
    method = METHODS.get(name)
    for key in settings:
        if key not in method.model_fields:
            raise UnknownSettingError(f"setting of {name}", key, method.model_fields)
    try:
        return method.model_validate(settings)
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(x) for x in first["loc"][:1])
        reason = why_not(e, method)
        raise ApetError(f"{name}: {field}={first['input']!r} is not valid: {reason[:1].lower()}{reason[1:]}") from e


def method_variants() -> list[str]:
    """Names under which methods are compared: each once, and those that take distributions once for each of these."""
    names: list[str] = []
    for name, method in METHODS.entries().items():
        if not method.in_comparisons:
            continue
        if method.takes_distributions:
            names += [f"{name}-{d}" for d, how in DISTRIBUTIONS.entries().items() if how.in_comparisons]
        else:
            names.append(name)
    return names
