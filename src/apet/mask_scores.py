"""Scores of the entries of a backbone's parameters by a task's gradients, for masks that rank entries by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from apet.attachment_state import state_of
from apet.backbones.describe import describe
from apet.delta import DeltaSpec
from apet.errors import ApetError
from apet.masks.distributions import DISTRIBUTIONS, TaskDistribution

Batch = TypeVar("Batch")


def needs_task_scores(spec: DeltaSpec) -> bool:
    """Whether a delta has masks that rank entries by gradients of a task."""
    return bool(_ranked(spec))


def task_scores(
    model: nn.Module,
    spec: DeltaSpec,
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor] | None = None,
) -> dict[str, Tensor]:
    """Score the entries that a delta may train by the gradients of a task's loss, in one pass over some batches.

    The model computes as it came: in evaluation mode, without any delta; afterwards it is as it was. The smaller the
    batches, the nearer the sum of squares is to the Fisher information, which is of single examples.

    Args:
        model: a transformers model on which nothing is attached.
        spec: from `apet.plan`, with a distribution such as ``gradient`` or ``fisher``.
        batches: what the loss is computed of; a few hundred examples are enough (Sung et al. 2021, section 4).
        loss: of the model on a batch, ``()``; None = ``model(**batch).loss``.

    Returns:
        Position -> scores in the parameter's shape, fp32, on the processor: `apet.attach(..., scores=...)`.

    Raises:
        ApetError: a delta is attached, there is no batch, the parameters take no gradients (quantized), or a gradient
            is not a number.

    Examples:
        >>> import apet, torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=61, n_positions=32))
        >>> spec = apet.plan(model, "apet-fisher", budget=100, operations=["add"])
        >>> rows = torch.randint(61, (4, 8))
        >>> scores = apet.task_scores(model, spec, [{"input_ids": rows, "labels": rows}])
        >>> handle = apet.attach(model, spec, scores=scores)
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        100
    """
    if state_of(model) is not None:
        raise ApetError("a delta is attached to this model; take the scores first, or detach it")
    pass_over = _GradientPass(model, spec, loss or _own_loss)
    trained, required = model.training, {name: p.requires_grad for name, p in model.named_parameters()}
    try:
        model.eval()
        model.requires_grad_(False)
        return pass_over.scores(batches)
    finally:
        model.train(trained)
        for name, p in model.named_parameters():
            p.requires_grad_(required[name])


class _GradientPass(Generic[Batch]):
    """Sums over batches, of the parameters whose entries a delta ranks."""

    def __init__(self, model: nn.Module, spec: DeltaSpec, loss: Callable[[nn.Module, Batch], Tensor]) -> None:
        backbone = describe(model)
        self.model, self.loss, self.distributions = model, loss, _ranked(spec)
        places = {name: backbone.position(name) for name in self.distributions}
        self.parameters = {name: model.get_parameter(f"{p.module}.{p.parameter}") for name, p in places.items()}

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Scores of every ranked parameter.

        Returns:
            Position -> scores in the parameter's shape.

        Raises:
            ApetError: no batch, quantized parameters, or a gradient that is not finite.
        """
        for name, parameter in self.parameters.items():
            if not parameter.is_floating_point():
                raise ApetError(f"{name} is stored as {parameter.dtype}, which takes no gradients; load it unquantized")
            parameter.requires_grad_(True)
        totals: dict[str, npt.NDArray[np.float32]] = {}
        for batch in batches:
            with torch.enable_grad():
                value = self.loss(self.model, batch)
                found = torch.autograd.grad(value, list(self.parameters.values()), allow_unused=True)
            for (name, parameter), gradient in zip(self.parameters.items(), found, strict=True):
                seen = torch.zeros_like(parameter) if gradient is None else gradient
                added = self.distributions[name].of_batch(seen.detach().float().cpu().numpy())
                totals[name] = totals[name] + added if name in totals else added
        if not totals:
            raise ApetError("there is no batch to take gradients of; give at least one")
        scored = {name: torch.from_numpy(self.distributions[name].of_sum(total)) for name, total in totals.items()}
        for name, score in scored.items():
            if not bool(torch.isfinite(score).all()):
                raise ApetError(
                    f"the loss has gradients that are not finite at {name}; check the batches and the dtype"
                )
        return scored


def _own_loss(model: nn.Module, batch: Batch) -> Tensor:
    value = model(**batch).loss  # type: ignore[arg-type]  # without a loss of its own a batch is a mapping
    if not isinstance(value, Tensor):
        raise ApetError("the model returned no loss; put labels into the batches, or give a loss")
    return value


def _ranked(spec: DeltaSpec) -> dict[str, TaskDistribution]:
    """Position -> the distribution that ranks its entries by a task's gradients."""
    ranked = {}
    for insertion in spec.insertions:
        for weight in insertion.weights:
            if weight.mask.kind == "scored":
                distribution = DISTRIBUTIONS.get(weight.mask.distribution)
                if isinstance(distribution, TaskDistribution):
                    ranked[insertion.position] = distribution
    return ranked
