"""What a delta layer is: how it is planned, how it acts on a module, how it is merged; and the registry of all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from apet.backbones.positions import Backbone, Layer
from apet.delta import CarrierChoice, Insertion, Operation
from apet.errors import NotMergeableError
from apet.kernels.formulas import Owner, owners_by_parameter
from apet.kernels.in_place import Fp32Module, InPlaceDelta, ParameterDeltas
from apet.kernels.storage import storage_of
from apet.kernels.term_matrices import Term
from apet.layers.stack import Stack
from apet.layers.weight_decay import parameter_decays
from apet.masks.mask import Mask, reshaped
from apet.registry import Registry, load_modules


def _load_builtin() -> None:
    # Imported at the first look-up: the package imports this module, which so cannot import the package at its top.
    from apet import layers

    load_modules(layers.__name__, layers.__path__)


LAYERS: Registry[type[DeltaLayer]] = Registry("delta layer", "apet.layers", _load_builtin)
"""All delta layers by their form."""

Shape = tuple[int | None, ...]
"""A weight's shape; None where the plan decides, such as a rank."""

ActsBy = Literal["weight", "input", "sum", "product", "output"]
"""What a delta layer does: change parameters, scale the input, add to the output, scale it, map it by a function."""

Args = tuple[Any, ...]
"""Positional arguments of a module's forward, as PyTorch hands them to a hook."""

Kwargs = dict[str, Any]
"""Keyword arguments of a module's forward, as PyTorch hands them to a hook registered ``with_kwargs``."""


@dataclass(frozen=True)
class Target:
    """Somewhere a budget can go: one possible delta layer and its size limits.

    Attributes:
        min_params: the fewest parameters with which all of them have a gradient.
        max_params: the most that fit.
        default_params: how many it takes where no budget is given.
        build: (count, distribution, mask_seed) -> the insertion with exactly ``count`` parameters.
        has_scores: whether its entries are those of an existing parameter, which a distribution can rank.
    """

    min_params: int
    max_params: int
    default_params: int
    build: Callable[[int, str, int], Insertion]
    has_scores: bool = False


StackedRun = Callable[[Stack, nn.Module, Args, Kwargs, Tensor], Tensor]


@dataclass(frozen=True)
class Hook:
    """A function to run around the forward of one module of the model, with keyword arguments.

    Attributes:
        module: of the model.
        when: ``before`` or ``after`` its forward.
        run: takes what PyTorch hands to a hook.
        also_after_failure: run it after a forward that raised an error, too.
        stacked: of one that runs after: (stack, module, args, kwargs, output) -> the output, changed for the rows of
            all runs at once, the same as ``run`` on each run's rows; None: there is no such way.
        prepend: run it before all others there; of one that reads the module's own output, or the gradient of that.
        term: of one that runs after: the same for a pass over all deltas of a linear layer; None: there is no such way.
    """

    module: nn.Module
    when: Literal["before", "after"]
    run: Callable[..., Any]
    also_after_failure: bool = False
    stacked: StackedRun | None = None
    prepend: bool = False
    term: Term | None = None


@dataclass(frozen=True)
class MergedDelta:
    """One edit that a merge asks for: these values, for good, in that parameter.

    Attributes:
        position: name of the parameter's position.
        delta: its values, which no optimizer sees.
        parameter: its name in the model, of one that is not a position (a task head's).
    """

    position: str
    delta: InPlaceDelta
    parameter: str | None = None


@dataclass(frozen=True)
class Host:
    """The model that delta layers are put on, as long as its tree stays as it is.

    Attributes:
        model: with its weights.
        backbone: its description.
        deltas_of: (host, position name, parameter name) -> all in-place deltas of that parameter.
        carrier: that deltas of parameters shall use.
    """

    model: nn.Module
    backbone: Backbone
    deltas_of: Callable[[Host, str, str], ParameterDeltas]
    carrier: CarrierChoice = "auto"

    def parameter_deltas(self, position: str, parameter: str) -> ParameterDeltas:
        """All in-place deltas of one parameter."""
        return self.deltas_of(self, position, parameter)

    def owners_of(self, parameter: Tensor) -> list[Owner]:
        """Every place where a parameter hangs in the model; several where it is tied."""
        return self._owners[id(parameter)]

    @cached_property
    def _owners(self) -> dict[int, list[Owner]]:
        # One walk for all: a large backbone has thousands of modules, and a delta may act on each of their parameters.
        return owners_by_parameter(self.model)


class DeltaLayer(Fp32Module, ABC):
    """Layer of a delta: the trainable weights of one insertion, as flat fp32 parameters with only the trained entries.

    A subclass with a ``form`` is registered by being defined. It also ships the function that plans it (a `Target`).

    Args:
        insertion: what it carries out.
        values: initial entries of each weight, (k,).
        device: where they shall be.
    """

    form: ClassVar[str] = ""
    operation: ClassVar[Operation]
    """Which of the paper's three operations it is (eq. 14-17)."""
    peft_name: ClassVar[str | None] = None
    """The tuner of the peft library with the same form, or None."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__()
        # A class without a form is a base for others: nothing could plan it, and no file could name it.
        if cls.form:
            LAYERS.register(cls.form, cls, cls.__module__)

    def __init__(self, insertion: Insertion, values: dict[str, Tensor], device: torch.device) -> None:
        super().__init__()
        self.insertion = insertion
        for w in insertion.weights:
            holder, name = self.holder(w.name)
            # fp32 beside a backbone of any precision: bf16 would round an optimizer's small steps away.
            holder.register_parameter(name, nn.Parameter(values[w.name].to(device, torch.float32)))
            indices = None if w.mask.slice is not None else torch.from_numpy(w.mask.indices).to(device)
            # A buffer, so that it follows the model to a device; never saved, since the mask's definition gives it
            # back.
            holder.register_buffer(f"{name}_indices", indices, persistent=False)

    @classmethod
    def create(cls, insertion: Insertion, values: dict[str, Tensor], host: Host) -> DeltaLayer:
        """Make the layer for a model, on the device of the module it acts on.

        Args:
            insertion: what it carries out.
            values: initial entries of each weight, (k,).
            host: the model.

        Returns:
            The layer, not yet hooked in.

        Raises:
            ApetError: the module's parameters are of a kind that this form cannot work with.
        """
        module = host.model.get_submodule(host.backbone.layer(cls.layer_name(insertion)).module)
        # A backbone may lie over several devices, so that the model as a whole has none to ask for.
        return cls(insertion, values, next(module.parameters()).device)

    @classmethod
    def layer_name(cls, insertion: Insertion) -> str:
        """Name of the backbone's layer that an insertion acts on."""
        return insertion.position

    @classmethod
    @abstractmethod
    def expected_shapes(cls, insertion: Insertion, backbone: Backbone) -> dict[str, Shape]:
        """Shapes that its weights must have on a backbone, by name.

        Raises:
            UnknownNameError: the backbone has no such position.
        """

    @abstractmethod
    def hooks(self, host: Host) -> Iterator[Hook]:
        """Where it acts, and how."""

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """Trained entries of each weight by name, (k,), in the order of the insertion."""
        for w in self.insertion.weights:
            yield w.name, self.get_parameter(w.name)

    def in_place(self) -> list[tuple[str, str, InPlaceDelta]]:
        """What it writes into parameters: (position, parameter name, delta). Most forms write nothing."""
        return []

    def decays(self, host: Host) -> bool:
        """Whether weight decay falls on its weights: on what is added to a parameter as on that parameter."""
        return all(parameter_decays(host.model, parameter) for _, parameter, _ in self.in_place())

    @property
    def acts_by(self) -> ActsBy | None:
        """What it does, so that a merge never changes the order of layers that do not commute; None: something else."""
        return None

    @classmethod
    def merge_obstacle(cls, insertion: Insertion, layer: Layer) -> str | None:
        """What keeps a layer of this form from being merged, known from the backbone's description alone.

        Args:
            insertion: the layer's; the answer is the same for every mask and count.
            layer: of the backbone that it acts on.

        Returns:
            The reason, as it follows ``lora at 'encoder.0.attn.q' cannot be merged:``; None where it merges, but for
            what other deltas on the same model may stand in the way of.
        """
        return "no parameter of the backbone computes it"

    def merged_deltas(self, host: Host) -> list[MergedDelta]:
        """The edits of existing parameters that compute what this layer computes.

        Asked for only where `merge_obstacle` knows of none.

        Raises:
            NotMergeableError: another delta on the model stands in the way.
        """
        raise NotImplementedError(f"{type(self).__name__} has no merge_obstacle; it needs merged_deltas")

    def dense(self, name: str, dtype: torch.dtype) -> Tensor:
        """Form ``W ⊙ m`` in its own shape; masked entries are zero and get no gradient.

        Args:
            name: of the weight.
            dtype: of the result, which takes part in the layer's own arithmetic.

        Returns:
            Of the weight's shape.
        """
        mask = self.mask(name)
        values: Tensor = self.get_parameter(name)
        holder, leaf = self.holder(name)
        indices: Tensor | None = getattr(holder, f"{leaf}_indices")
        if mask.kind == "dense":
            flat = values
        elif indices is None:
            assert mask.slice is not None
            flat = nn.functional.pad(values, (mask.slice.start, mask.size - mask.slice.stop))  # cheaper than a scatter
        else:
            # Out of place: autograd then gathers the gradient of the k values from that of the dense weight.
            flat = values.new_zeros(mask.size).scatter(0, indices, values)
        # Cast last: the values and their gradient stay fp32, only the copy that is computed with is rounded.
        return flat.view(mask.shape).to(dtype)

    def fit(self, backbone: Backbone) -> None:
        """Take on the shapes that a changed backbone asks for; the same entries are trained, and new ones are not."""
        expected = self.expected_shapes(self.insertion, backbone)
        weights = []
        for w in self.insertion.weights:
            shape = tuple(own if asked is None else asked for asked, own in zip(expected[w.name], w.shape, strict=True))
            mask = reshaped(w.mask, shape)
            holder, leaf = self.holder(w.name)
            device = self.get_parameter(w.name).device
            indices = None if mask.slice is not None else torch.from_numpy(mask.indices).to(device)
            setattr(holder, f"{leaf}_indices", indices)
            weights.append(replace(w, mask=mask))
        self.insertion = replace(self.insertion, weights=tuple(weights))

    def mask(self, name: str) -> Mask:
        """Mask of the weight of this name."""
        return next(w.mask for w in self.insertion.weights if w.name == name)

    def has_weight(self, name: str) -> bool:
        """Whether the insertion has a weight of this name."""
        return any(w.name == name for w in self.insertion.weights)

    def holder(self, name: str) -> tuple[nn.Module, str]:
        """The module that holds a weight, such as ``down_proj`` for ``down_proj.bias``, and the name it has there."""
        path, _, leaf = name.rpartition(".")
        if path and path not in self._modules:
            self.add_module(path, Fp32Module())
        return (self.get_submodule(path) if path else self), leaf


def first_input(args: Args, kwargs: Kwargs) -> Tensor:
    """What a layer was called with, by place or by keyword, (…, d_in)."""
    # A layer here has one input, so that the first keyword is the input under whatever name its class gives it.
    return args[0] if args else next(iter(kwargs.values()))


def tied_weight_obstacle(layer: Layer) -> str | None:
    """What keeps an edit of a layer's whole weight from being merged, or None."""
    weight = layer.position("weight")
    # A weight that an earlier layer lists is not among this one's positions.
    tied = weight is None or weight.tied
    return "its weight is tied to another layer, which would change too" if tied else None


def require_mergeable(insertion: Insertion, host: Host, parameter: str) -> None:
    """Refuse a merge into a parameter that holds no plain numbers.

    Args:
        insertion: that would be merged.
        host: the model.
        parameter: its name in the model.

    Raises:
        NotMergeableError: it is quantized or sharded; the message says what to load instead.
    """
    storage = storage_of(host.model.get_parameter(parameter))
    if storage != "plain":
        raise NotMergeableError(
            f"{insertion.form} at {insertion.position!r} cannot be merged: {parameter!r} is {storage}; load the"
            f" backbone un{storage}, and there apet.attach(model, handle.spec, values=dict(handle.values())).merge()"
        )


def fixed_delta(mask: Mask, values: Tensor) -> InPlaceDelta:
    """An in-place delta whose values no optimizer sees: what a merge leaves behind."""
    # Without requires_grad the values become a buffer: `parameters()`, and so any optimizer, passes them over.
    return InPlaceDelta(mask, values.detach().float())
