"""Which formula gives the gradient of a module's parameter from the module's input and output gradient, if one does.

PyTorch's own linear layers, embeddings and norms are known by their forward. Any other class is checked once against
autograd: an architecture's own norm may subtract the mean or not, its embedding may multiply by a factor, and a formula
that only looks right would train with wrong gradients.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from apet.kernels.sparse_gradients import embedding_weight_grad, linear_weight_grad, norm_scale_grad
from apet.kernels.storage import PLAIN, is_packed
from apet.masks.mask import Mask, dense_mask

FormulaName = Literal["linear", "conv1d", "embedding", "layer_norm", "rms_norm", "bias"]

TOLERANCE = 1e-3
"""Largest relative error of a formula on random numbers: rounding stays below 1e-5, a wrong formula is off by 1e-2."""

_SAMPLE_ROWS = 8
"""Rows of the small table on which an embedding's class is checked."""


@dataclass(frozen=True)
class GradientFormula:
    """How the gradient of a parameter follows from its module's input and the gradient of its output.

    Attributes:
        name: of the product that the module computes.
        eps: of a norm.
        padding: row of an embedding that gets no gradient.
        factor: that the module multiplies the product with.
    """

    name: FormulaName
    eps: float = 0.0
    padding: int | None = None
    factor: float = 1.0

    def entries(self, source: Tensor, grad: Tensor, mask: Mask, indices: Tensor | None) -> Tensor:
        """Form the gradient of the masked entries.

        Args:
            source: the module's input, (…, d_in), or the looked-up rows, (…).
            grad: of its output, (…, d_out).
            mask: which entries of the parameter.
            indices: flat indices (k,) on the same device; None where the mask is a slice.

        Returns:
            (k,), fp32.
        """
        flat_grad = grad.reshape(-1, grad.shape[-1])
        if self.name == "bias":
            # Summed in fp32: over thousands of tokens, bf16 would drop whatever is small beside the sum so far.
            return self._scaled(_pick(flat_grad.float().sum(0), mask, indices))
        if self.name == "embedding":
            ids = source.expand(grad.shape[:-1]).reshape(-1)  # position ids come as (1, seq), for the whole batch
            return self._scaled(embedding_weight_grad(ids, flat_grad, mask, indices, self.padding))
        x = source.reshape(-1, source.shape[-1])
        if self.name == "linear":
            return self._scaled(linear_weight_grad(flat_grad, x, mask, indices))
        if self.name == "conv1d":
            return self._scaled(linear_weight_grad(x, flat_grad, mask, indices))
        centered = self.name == "layer_norm"
        return self._scaled(_pick(norm_scale_grad(x, flat_grad, self.eps, centered), mask, indices))

    def _scaled(self, gradient: Tensor) -> Tensor:
        return gradient if self.factor == 1.0 else gradient * self.factor


@dataclass(frozen=True)
class Owner:
    """A place where a parameter hangs in a model: a module by its path, and the parameter's name in it."""

    path: str
    module: nn.Module
    name: str


def owners_by_parameter(model: nn.Module) -> dict[int, list[Owner]]:
    """Every place where each parameter hangs in a model; several where it is tied.

    Args:
        model: walked through once, for all parameters.

    Returns:
        The places by the parameter's identity, which holds while the model does.
    """
    # By identity, not by name: each module that uses a tied tensor contributes a part of its gradient.
    owners: dict[int, list[Owner]] = {}
    for path, module in model.named_modules():
        for name, p in module._parameters.items():
            if p is not None:
                owners.setdefault(id(p), []).append(Owner(path, module, name))
    return owners


def formulas_of(owners: list[Owner]) -> list[tuple[Owner, GradientFormula]] | None:
    """The formulas of all modules that compute with one parameter.

    Args:
        owners: of the parameter.

    Returns:
        Each computing owner with its formula; None where one of them has none.
    """
    found, unknown = [], []
    for owner in owners:
        formula = gradient_formula(owner.module, owner.name)
        if formula is None:
            unknown.append(owner)
        else:
            found.append((owner, formula))
    # Some modules only hold a tied tensor for one of their children, such as BERT's prediction head its bias.
    for owner in unknown:
        if not any(f.path.startswith(f"{owner.path}.") for f, _ in found):
            return None
    return found


def gradient_formula(module: nn.Module, parameter: str) -> GradientFormula | None:
    """The formula that gives the gradient of one parameter of a module.

    Args:
        module: that owns the parameter and computes with it; it may be on the meta device.
        parameter: its name in the module.

    Returns:
        The formula; None where there is none, or where autograd disagrees with all of them.
    """
    # Look-ups that renormalize rows write into the table, and frequencies are not seen by a check on a few rows.
    if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.scale_grad_by_freq):
        return None
    known = _known(module, parameter)
    if known is not None:
        return known
    if not _takes_one_tensor(module):
        return None
    key = _key(module, parameter)
    if key not in _checked:
        # Whatever the caller is in the middle of: a check needs real numbers and gradients.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.device("cpu"),
            torch.autocast("cpu", enabled=False),
        ):
            _checked[key] = _check(module, parameter)
    return _checked[key]


_checked: dict[tuple[object, ...], GradientFormula | None] = {}
"""Outcome of the check by class and everything in a module that its forward may depend on, apart from tensors."""


def _known(module: nn.Module, parameter: str) -> GradientFormula | None:
    """By the forward that the module runs, which a subclass may have replaced."""
    forward = type(module).forward
    weight = module._parameters.get("weight")
    if weight is not None and is_packed(weight):
        # Layers of bitsandbytes compute what the class that they derive from computes, from packed weights.
        forward = next((base.forward for base in (nn.Linear, nn.Embedding) if isinstance(module, base)), forward)
    if forward in (nn.Linear.forward, Conv1D.forward, nn.LayerNorm.forward) and parameter == "bias":
        return GradientFormula("bias")
    if parameter != "weight":
        return None
    if forward is nn.Linear.forward:
        return GradientFormula("linear")
    if forward is Conv1D.forward:
        return GradientFormula("conv1d")
    if forward is nn.Embedding.forward and isinstance(module, nn.Embedding):
        return GradientFormula("embedding", padding=module.padding_idx)
    if forward is nn.LayerNorm.forward and isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        return GradientFormula("layer_norm", eps=module.eps)
    if forward is nn.RMSNorm.forward and isinstance(module, nn.RMSNorm) and len(module.normalized_shape) == 1:
        return GradientFormula("rms_norm", eps=torch.finfo(torch.float32).eps if module.eps is None else module.eps)
    return None


def is_quantized(module: nn.Module) -> bool:
    """Whether a linear layer computes with a packed weight: what it computes is still the product with that weight."""
    weight = module._parameters.get("weight")
    return weight is not None and (not weight.is_floating_point() or type(weight) not in PLAIN)


def _takes_one_tensor(module: nn.Module) -> bool:
    """Whether the forward's only argument is the tensor it acts on: with a second one, a formula would miss a part."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    return len(parameters) == 1 and parameters[0].kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )


def _key(module: nn.Module, parameter: str) -> tuple[object, ...]:
    kinds = bool | int | float | str | None
    # transformers' own mark is on models that were given random weights, and not on those of the meta device.
    settings = sorted((k, v) for k, v in vars(module).items() if isinstance(v, kinds) and k != "_is_hf_initialized")
    shapes = [(name, tuple(p.shape)) for name, p in module.named_parameters()]
    # A factor may be kept in a buffer, such as the square root of the width.
    factors = [(n, b) for n, b in module.named_buffers() if b is not None and b.numel() == 1]
    buffers = [(n, b.item()) for n, b in factors if not b.is_meta and not isinstance(b, FakeTensor)]
    return type(module), parameter, repr(settings), repr(shapes), repr(buffers)


def _check(module: nn.Module, parameter: str) -> GradientFormula | None:
    """The first candidate that agrees with autograd on random numbers, with the factor that makes it agree."""
    for candidate in _candidates(module, parameter):
        factors = [_agrees(module, parameter, candidate, seed) for seed in range(2)]
        first = factors[0]
        if first is not None and all(f is not None and abs(f - first) <= TOLERANCE * abs(first) for f in factors):
            return replace(candidate, factor=1.0 if abs(first - 1) <= TOLERANCE else first)
    return None


def _candidates(module: nn.Module, parameter: str) -> Iterator[GradientFormula]:
    p = module._parameters[parameter]
    if p is None or list(module.children()):
        return
    if isinstance(module, nn.Embedding):
        # Rows up to the padding's must be in the sample, so that only small ones can be checked on one.
        if parameter == "weight" and (module.padding_idx or 0) < _SAMPLE_ROWS:
            yield GradientFormula("embedding", padding=module.padding_idx)
    elif p.dim() == 2:
        yield GradientFormula("linear")
        yield GradientFormula("conv1d")
    elif p.dim() == 1:
        yield GradientFormula("bias")
        small = [v for v in vars(module).values() if isinstance(v, float) and 0 < v < 1e-2]
        for eps in small:
            yield GradientFormula("rms_norm", eps=eps)
            yield GradientFormula("layer_norm", eps=eps)


def _agrees(module: nn.Module, parameter: str, formula: GradientFormula, seed: int) -> float | None:
    """The factor between autograd's gradient and the formula's on one random batch; None where they differ."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {}
    for name, p in module.named_parameters():
        rows = _SAMPLE_ROWS if isinstance(module, nn.Embedding) else p.shape[0]
        parameters[name] = (torch.randn(rows, *p.shape[1:], generator=generator) + 0.5).requires_grad_()
    buffers = {n: torch.ones(b.shape) if b.is_meta else b.detach().cpu() for n, b in module.named_buffers()}
    weight = parameters[parameter]
    if formula.name == "embedding":
        x = torch.randint(_SAMPLE_ROWS, (2, 12), generator=generator)
    else:
        d_in = weight.shape[0 if formula.name == "conv1d" else -1]
        # The second batch is small and off center: it tells a wrong eps and an RMSNorm from a LayerNorm.
        x = torch.randn(2, 3, d_in, generator=generator) * (1, 0.01)[seed] + (0, 0.02)[seed]
    try:
        y = functional_call(module, {**parameters, **buffers}, (x,))
        if not isinstance(y, Tensor) or y.dim() != (3 if formula.name == "embedding" else x.dim()):
            return None
        grad = torch.randn(y.shape, generator=generator)
        (dense,) = torch.autograd.grad(y, weight, grad, allow_unused=True)
        mask = dense_mask(tuple(weight.shape))
        ours = formula.entries(x, grad, mask, None)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, NotImplementedError):
        return None  # a forward that cannot take such an input is none of the products
    if dense is None or ours.numel() != dense.numel():
        return None
    dense = dense.reshape(-1)
    factor = float(dense @ ours / (ours @ ours))
    return factor if float((dense - factor * ours).norm()) <= TOLERANCE * float(dense.norm()) else None


def _pick(whole: Tensor, mask: Mask, indices: Tensor | None) -> Tensor:
    return whole[mask.slice] if indices is None else whole[indices]
