"""Weight delta: values added to k entries of an existing parameter; W̃₁ of *add* (eq. 14)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from apet.backbones.positions import Backbone, Layer, Position
from apet.delta import Carrier, Insertion, Operation, TrainableWeight
from apet.kernels.additive import AdditiveTerm
from apet.kernels.formulas import GradientFormula, Owner, formulas_of
from apet.kernels.in_place import InPlaceDelta, ParameterDeltas
from apet.kernels.outside_graphs import outside_graphs
from apet.kernels.sparse_gradients import SparseGradientTap
from apet.kernels.storage import dense_values
from apet.kernels.term_matrices import Term
from apet.layers.base import (
    ActsBy,
    Args,
    DeltaLayer,
    Hook,
    Host,
    Kwargs,
    MergedDelta,
    Shape,
    Target,
    first_input,
    fixed_delta,
    require_mergeable,
)
from apet.layers.carriers import choose_carrier, require_editable
from apet.layers.stack import Stack, add_vectors
from apet.masks.distributions import draw_mask
from apet.masks.mask import reshaped

_TERMS: dict[str, Literal["weight", "bias"]] = {"linear": "weight", "bias": "bias"}
"""What an entry's gradient is in a pass over all deltas of a linear layer, by the name of its formula."""

MAX_STACKED = 2**20
"""Entries of the largest parameter whose deltas of several runs are formed dense, side by side."""


def weight_target(position: Position) -> Target:
    """Entries of an existing parameter; any number from one to all that an input reaches."""

    def build(count: int, distribution: str, mask_seed: int) -> Insertion:
        mask = draw_mask(position.shape, count, distribution, mask_seed, position.name, unused=position.unused)
        return Insertion("weight", position.name, (TrainableWeight("delta", mask),))

    # Entries that no input reaches would take a share of N and never get a gradient.
    reached = position.size - position.num_unused
    return Target(1, reached, reached, build, has_scores=True)


def full_target(position: Position) -> Target:
    """All entries of an existing parameter, also those that no input reaches: as full fine-tuning counts them."""

    def build(count: int, distribution: str, mask_seed: int) -> Insertion:
        mask = draw_mask(position.shape, count, distribution, mask_seed, position.name)
        return Insertion("weight", position.name, (TrainableWeight("delta", mask),))

    return Target(position.size, position.size, position.size, build, has_scores=True)


class WeightDelta(DeltaLayer):
    """Delta added to k entries of a parameter, by the cheapest carrier that is certified for the modules that use it.

    *in place*: before a module runs, the entries are written into its parameter; after it ran, its output is tapped: in
    backward the gradient of the k entries is formed from the module's input and its output's gradient, at a fraction
    of a dense gradient. A tensor that several modules use (tied embeddings) is tapped at each of them.
    *substituted*: the entries are written, too; an alias in the parameter's place takes the k entries out of the
    parameter's dense gradient. Right for any module, at the price of that gradient.
    *additive*: nothing is written; what the entries add to a module's output is computed beside it.

    Args:
        insertion: what it carries out.
        values: initial entries, (k,).
        position: name of the parameter's position.
        parameter: its name in the model.
        parameter_deltas: all in-place deltas of that parameter.
        carrier: how it acts.
        replaces: the values are the entries themselves, as those of a trained task head, not what is added to them.
    """

    form: ClassVar[str] = "weight"
    operation: ClassVar[Operation] = "add"

    def __init__(
        self,
        insertion: Insertion,
        values: Tensor,
        position: str,
        parameter: str,
        parameter_deltas: ParameterDeltas,
        carrier: Carrier,
        replaces: bool = False,
    ) -> None:
        nn.Module.__init__(self)  # its one weight lives in the in-place delta, which knows how to write it
        self.insertion = insertion
        self.delta = InPlaceDelta(insertion.weights[0].mask, values.float().requires_grad_(), replaces)
        self.position, self.parameter = position, parameter
        self.parameter_deltas = parameter_deltas
        self.carrier: Carrier = carrier
        self.terms = nn.ModuleList()  # of the additive carrier, one for each module that uses the parameter

    @classmethod
    def create(cls, insertion: Insertion, values: dict[str, Tensor], host: Host) -> DeltaLayer:
        """Choose a carrier; unless it is the additive one, write the entries and keep the original ones.

        Returns:
            The layer.

        Raises:
            ApetError: the carrier that was asked for, or any, cannot act on this parameter.
        """
        position = host.backbone.position(insertion.position)
        return cls.on_parameter(
            insertion, values["delta"], host, position.name, f"{position.module}.{position.parameter}"
        )

    @classmethod
    def on_parameter(
        cls, insertion: Insertion, values: Tensor, host: Host, position: str, parameter: str, replaces: bool = False
    ) -> WeightDelta:
        """Create the layer on a parameter by its name in the model, also one that is not a position (a task head's).

        Returns:
            The layer.

        Raises:
            ApetError: the carrier that was asked for, or any, cannot act on this parameter.
        """
        tensor = host.model.get_parameter(parameter)
        carrier = choose_carrier(host, position, parameter, tensor)
        deltas = ParameterDeltas() if carrier == "additive" else host.parameter_deltas(position, parameter)
        layer = cls(insertion, values.to(tensor.device), position, parameter, deltas, carrier, replaces)
        if carrier != "additive":
            # Written at once, so that the weight is right for whoever reads it before the first forward.
            deltas.add(layer.delta, require_editable(tensor, parameter))
        return layer

    @classmethod
    def layer_name(cls, insertion: Insertion) -> str:
        """Name of the layer whose parameter it is."""
        return insertion.position.rpartition(".")[0]

    @classmethod
    def expected_shapes(cls, insertion: Insertion, backbone: Backbone) -> dict[str, Shape]:
        """The parameter's own shape."""
        return {"delta": backbone.position(insertion.position).shape}

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """The entries, (k,)."""
        yield "delta", self.delta.values

    def in_place(self) -> list[tuple[str, str, InPlaceDelta]]:
        """Its one in-place delta; none where it is additive."""
        return [] if self.carrier == "additive" else [(self.position, self.parameter, self.delta)]

    @property
    def acts_by(self) -> ActsBy | None:
        """Entries of the parameter."""
        return "weight"

    @classmethod
    def merge_obstacle(cls, insertion: Insertion, layer: Layer) -> str | None:
        """None: the parameter holds its entries already."""
        return None

    def fit(self, backbone: Backbone) -> None:
        """Take on the shape of a resized parameter; one that is written into is moved by who owns the edit."""
        mask = reshaped(self.delta.mask, backbone.position(self.insertion.position).shape)
        self.delta.move_to(mask)
        for n, term in enumerate(self.terms):
            assert isinstance(term, AdditiveTerm)
            self.terms[n] = AdditiveTerm(term.formula, mask, self.delta.values.device)
        self.insertion = replace(self.insertion, weights=(replace(self.insertion.weights[0], mask=mask),))

    def merged_deltas(self, host: Host) -> list[MergedDelta]:
        """Its own entries with the values that they have now, which no optimizer sees.

        Returns:
            One edit.

        Raises:
            NotMergeableError: the parameter is quantized or sharded, so that nothing can be written into it.
        """
        require_mergeable(self.insertion, host, self.parameter)
        fixed = fixed_delta(self.delta.mask, self.delta.values)
        fixed.replaces = self.delta.replaces
        return [MergedDelta(self.position, fixed, self.parameter)]

    def hooks(self, host: Host) -> Iterator[Hook]:
        """Around every module that computes with the tensor, or around everything that contains one of them."""
        owners = host.owners_of(host.model.get_parameter(self.parameter))
        self.parameter_deltas.owners = [(owner.module, owner.name) for owner in owners]
        if self.carrier == "substituted":
            self.parameter_deltas.substitute(self.delta)
            for module in _around(host.model, owners):
                yield Hook(module, "before", self.enter)
                yield Hook(module, "after", self.exit, also_after_failure=True)
            return
        formulas = formulas_of(owners)
        assert formulas is not None  # `choose_carrier` asked before
        for owner, formula in formulas:
            if self.carrier == "additive":
                self.terms.append(AdditiveTerm(formula, self.delta.mask, self.delta.values.device))
                # A head's values replace its parameter, and tables are large: these go run by run.
                stackable = (
                    formula.name != "embedding" and self.delta.mask.size <= MAX_STACKED and not self.delta.replaces
                )
                yield Hook(
                    owner.module,
                    "after",
                    partial(self.add_to_output, len(self.terms) - 1, owner.name),
                    stacked=partial(add_entries, formula) if stackable else None,
                )
            else:
                yield Hook(owner.module, "before", partial(self.write, owner.name))
                term = _TERMS.get(formula.name) if formula.factor == 1.0 else None
                yield Hook(
                    owner.module,
                    "after",
                    partial(self.tap, formula),
                    # What other deltas add may depend on this output, and their gradients come with its own.
                    prepend=True,
                    term=None if term is None else Term(term, delta=self.delta),
                )

    def write(self, name: str, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        """Write the parameter before a layer that is called by itself (a recomputed block, `generate`'s encoder)."""
        # In a forward of the whole model everything is written before it starts, and compiled code cannot write at all.
        if not torch.compiler.is_compiling() and not self.parameter_deltas.in_forward:
            self.parameter_deltas.write(getattr(module, name))

    def tap(self, formula: GradientFormula, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
        """Tie the k values to the gradient of the output, (…, d_out)."""
        # Evaluation and generation have no backward: they go without the tap, and keep no input for it.
        if not torch.is_grad_enabled():
            return output
        # A bias needs no input. In a backbone laid over devices, the input may come from another one.
        source = output.new_empty(0) if formula.name == "bias" else first_input(args, kwargs).detach()
        mask, indices = self.delta.mask, self.delta.indices
        gradient = partial(formula.entries, mask=mask, indices=indices)
        tapped: Tensor = SparseGradientTap.apply(output, self.delta.values, source.to(output.device), gradient)
        return tapped

    @outside_graphs
    def enter(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        """Put an alias with a gradient in the parameter's place."""
        self.parameter_deltas.enter()

    @outside_graphs
    def exit(self, module: nn.Module, args: Args, kwargs: Kwargs, output: object) -> None:
        """Put the parameter back in its place."""
        self.parameter_deltas.exit()

    def add_to_output(
        self, term: int, name: str, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor
    ) -> Tensor:
        """Compute ``f(h_in; W) + f(h_in; ΔW)``, (…, d_out), for an f that is linear in its parameter."""
        source = first_input(args, kwargs).to(output.device)
        values = self.delta.values.to(output.device)
        if self.delta.replaces:
            values = values - dense_values(module, name).reshape(-1).to(values)
        added: Tensor = self.terms[term](source, output, values)
        return output + added


def add_entries(
    formula: GradientFormula, stack: Stack, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor
) -> Tensor:
    """Add to each run's rows of a module's output what its own entries make of the module's input.

    As `AdditiveTerm` does for one run; dense here: small products of all runs at once cost less than many steps.

    Args:
        formula: of the module and the parameter.
        stack: the runs' layers.
        module: whose output it is.
        args: of its forward.
        kwargs: of its forward.
        output: (…, d_out).

    Returns:
        Of the output's shape.
    """
    delta = stack.dense("delta", torch.float32)
    assert delta is not None
    if formula.factor != 1.0:
        delta = delta * formula.factor
    if formula.name == "bias":
        return add_vectors(output, stack, delta.to(output.dtype))
    x = stack.apart(first_input(args, kwargs).to(output.device))
    if formula.name in ("linear", "conv1d"):
        weight = delta.transpose(1, 2) if formula.name == "linear" else delta
        return torch.baddbmm(stack.apart(output), x.to(output.dtype), weight.to(output.dtype)).view_as(output)
    x = x.float()  # norms compute in fp32 whatever their input
    if formula.name == "layer_norm":
        x = x - x.mean(-1, keepdim=True)
    normal = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + formula.eps)
    return (stack.apart(output) + (normal * delta[:, None]).to(output.dtype)).view_as(output)


def _around(model: nn.Module, owners: list[Owner]) -> list[nn.Module]:
    """Every module that contains an owner, the outermost first: any of them may be called by itself."""
    names = [""]
    for owner in owners:
        parts = owner.path.split(".")
        names += [".".join(parts[:n]) for n in range(1, len(parts) + 1) if parts != [""]]
    return [model.get_submodule(name) for name in dict.fromkeys(names)]
