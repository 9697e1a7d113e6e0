"""Whether a method is right on an architecture: exact N, identity, gradients, bits back, files and generation.

One call tries one method on one small model, so that a table of architectures × methods and a test of them say the
same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import apet
from apet.errors import ApetError, UnreachableBudgetError
from apet.handle import Handle
from apet.layers.weight import WeightDelta
from apet.methods import METHODS, Method, make_method
from apet.testing.tiny_models import shake

Inputs = dict[str, Tensor]
Status = Literal["right", "refused", "wrong"]

GRADIENT_TOLERANCE = 1e-3
"""Largest relative error of a parameter's entries against dense autograd."""

SLOPE_TOLERANCE = 0.1
"""Largest relative difference between the gradient's length and the loss's slope along it, in fp64."""


@dataclass(frozen=True)
class Verdict:
    """What came out of trying one method on one model.

    Attributes:
        status: ``right``, ``refused`` (with a reason, before training), or ``wrong``.
        reason: the refusal, or what is wrong.
        num_trainable: of the delta that was tried.
    """

    status: Status
    reason: str = ""
    num_trainable: int = 0


class _Wrong(Exception):
    """One check that does not hold."""


def check_method(model: nn.Module, inputs: Inputs, method: str, **settings: object) -> Verdict:
    """Try a method on a small random model; the model is what it was afterwards.

    Args:
        model: in evaluation mode, every parameter random.
        inputs: with labels, so that the model computes its own loss.
        method: name of a registered method.
        **settings: of the method.

    Returns:
        The verdict.
    """
    try:
        recipe = make_method(method, **settings)
        spec = _plan(model, recipe)
        handle = apet.attach(model, spec)
    except ApetError as e:
        return Verdict("refused", str(e))
    try:
        _check(model, inputs, handle, METHODS.get(recipe.name).identity_at_start)
    except ApetError as e:
        return Verdict("refused", str(e), spec.num_trainable)
    except _Wrong as e:
        return Verdict("wrong", str(e), spec.num_trainable)
    except Exception as e:  # a raw error is a fault of ours wherever it comes from
        reason = (str(e).strip().splitlines() or [""])[0][:120]
        return Verdict("wrong", f"{type(e).__name__}: {reason}", spec.num_trainable)
    finally:
        for attached in apet.attached(model):
            attached.detach()
    return Verdict("right", num_trainable=spec.num_trainable)


def _plan(model: nn.Module, method: Method) -> apet.DeltaSpec:
    if method.name == "fine-tuning":
        return apet.plan(model, method)
    try:
        return apet.plan(model, method, 401)
    except UnreachableBudgetError as e:
        return apet.plan(model, method, e.nearest[-1])


def _check(model: nn.Module, inputs: Inputs, handle: Handle, is_identity_at_start: bool) -> None:
    """Run every check on an attached delta, and detach it."""
    spec = handle.spec
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    _require(trainable == spec.num_trainable, f"{trainable} parameters require gradients, {spec.num_trainable} planned")
    attached = _logits(model, inputs)
    handle.detach()
    before = _logits(model, inputs)
    if is_identity_at_start and torch.equal(before, _logits(model, inputs)):
        _require(torch.equal(attached, before), "attached and untrained, outputs differ")
    original = {name: v.clone() for name, v in model.state_dict().items()}
    handle = apet.attach(model, spec)
    shake(handle, 0.05)
    _check_gradients(model, inputs, handle)
    trained = _logits(model, inputs)
    _require(not torch.equal(trained, before), "values that change change nothing")
    with tempfile.TemporaryDirectory() as folder:
        handle.save(folder)
        handle.detach()
        now = model.state_dict()
        _require(
            now.keys() == original.keys() and all(torch.equal(now[n], original[n]) for n in now),
            "detached, some bits are not the backbone's",
        )
        again = apet.load(model, folder)
    _require(torch.equal(_logits(model, inputs), trained), "loaded again, outputs differ")
    again.detach()


def _check_gradients(model: nn.Module, inputs: Inputs, handle: Handle) -> None:
    """Hold every entry against dense autograd, and all of them against the loss's slope."""
    layers = [x for x in handle._attached.all_layers() if isinstance(x, WeightDelta)]
    tensors = {layer.parameter: model.get_parameter(layer.parameter) for layer in layers}
    for tensor in tensors.values():
        tensor.requires_grad_(True)
    called: set[str] = set()
    try:
        with _listening(model, called):
            _loss(model, inputs).backward()
        dense = {name: t.grad for name, t in tensors.items()}
    finally:
        for tensor in tensors.values():
            tensor.requires_grad_(False)
            tensor.grad = None
    scale = max((float(g.norm()) for g in dense.values() if g is not None), default=0.0)
    for layer in layers:
        ours, whole = layer.delta.values.grad, dense[layer.parameter]
        if whole is None or ours is None:  # one that no token is routed to has neither
            nothing = (ours is None or not ours.any()) and (whole is None or not whole.any())
            _require(nothing, f"{layer.parameter}: {'autograd' if whole is None else 'the delta'} has no gradient")
            continue
        expected = whole.reshape(-1)[torch.from_numpy(layer.delta.mask.indices)].float()
        error = float((ours - expected).norm())
        _require(
            error <= GRADIENT_TOLERANCE * float(expected.norm()) + 1e-6 * scale,
            f"gradient of {layer.parameter} is off by {error / (float(expected.norm()) or 1.0):.1e}",
        )
    # What this text does not reach has none this time: experts that no token is routed to, parts for longer texts.
    places = {x.name: x.module for x in apet.describe(model).layers}
    places |= {p.name: p.module for p in apet.describe(model).positions}
    without = [name for name, v in handle.values() if v.grad is None and _place(places, name) in called]
    _require(not without, f"{without[:1]} has no gradient")
    _check_slope(model, inputs, handle)


def _place(places: dict[str, str], name: str) -> str:
    """The module behind ``position/weight``: of a layer, a parameter, or a layer's input."""
    position = name.rpartition("/")[0]
    return places[position if position in places else position.rpartition(".")[0]]


@contextmanager
def _listening(model: nn.Module, called: set[str]) -> Iterator[None]:
    """Note the modules that own parameters and are called."""

    def note(path: str) -> Callable[..., None]:
        return lambda *_: called.add(path)

    owners = [(n, m) for n, m in model.named_modules() if next(m.parameters(recurse=False), None) is not None]
    handles = [m.register_forward_hook(note(n)) for n, m in owners]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_slope(model: nn.Module, inputs: Inputs, handle: Handle) -> None:
    """Along the gradient, the loss must rise as steeply as the gradient is long.

    In fp64, where short steps are not lost in rounding. Nothing is said of models that compute in no other precision
    than their own, nor of those of which it does not hold itself: they send tokens to experts, choose which ones to
    attend to, or stop the gradient on the way.
    """
    model.double()
    try:
        error = _slope_error(model, inputs, handle.parameters())
        if error > SLOPE_TOLERANCE:
            own = [p for n, p in model.named_parameters() if not n.startswith("apet.") and p.is_floating_point()]
            for p in own:
                p.requires_grad_(True)
            own_error = _slope_error(model, inputs, own)
            for p in own:
                p.requires_grad_(False)
            _require(
                own_error > SLOPE_TOLERANCE, f"the loss's slope is off by {error:.1%}, the model's {own_error:.1%}"
            )
    except RuntimeError:  # a tensor that was made in fp32 on the way
        return
    finally:
        model.float()


def _slope_error(model: nn.Module, inputs: Inputs, tensors: Sequence[Tensor]) -> float:
    """Relative difference between the length of the gradient and the slope along it, at the best of several steps."""
    for t in tensors:
        t.grad = None
    _score(model, inputs).backward()
    gradients = [t.grad if t.grad is not None else torch.zeros_like(t) for t in tensors]
    length = float(torch.stack([g.double().pow(2).sum() for g in gradients]).sum().sqrt())
    errors = [0.0] if length == 0 else []
    for step in (1e-4, 1e-3, 1e-2, 1e-1) if length else ():
        losses = []
        kept = [t.detach().clone() for t in tensors]
        for side in (1.0, -1.0):
            with torch.no_grad():
                for t, k, g in zip(tensors, kept, gradients, strict=True):
                    t.copy_(k.double() + side * step / length * g.double())
                losses.append(float(_score(model, inputs)))
        with torch.no_grad():
            for t, k in zip(tensors, kept, strict=True):
                t.copy_(k)
                t.grad = None
        errors.append(abs((losses[0] - losses[1]) / (2 * step) - length) / length)
    return min(errors)


def check_generation(model: nn.Module, inputs: Inputs, method: str, **settings: object) -> Verdict:
    """Whether a model that carries a delta generates the same with and without a cache, and padded or alone.

    Args:
        model: that generates, in evaluation mode.
        inputs: ``input_ids`` and ``attention_mask``, padded on the left.
        method: name of a registered method.
        **settings: of the method.

    Returns:
        The verdict; refused where the model does not agree with itself without a delta.
    """
    try:
        without = [_generations(model, tried) for tried in (inputs, _longer(inputs))]
    except Exception as e:  # what a model cannot do itself is no matter of the delta
        return Verdict("refused", f"the model does not generate: {type(e).__name__}")
    # Also of a longer text, as a prompt makes it: models that attend to the best few tokens agree up to so many.
    agrees = [all(_alike(tried[0], tried[n]) for tried in without) for n in (1, 2)]
    try:
        handle = apet.attach(model, _plan(model, make_method(method, **settings)))
    except ApetError as e:
        return Verdict("refused", str(e))
    try:
        shake(handle, 0.05)
        attached = _generations(model, inputs)
    except ApetError as e:
        return Verdict("refused", str(e))
    except Exception as e:
        reason = (str(e).strip().splitlines() or [""])[0][:120]
        return Verdict("wrong", f"generation: {type(e).__name__}: {reason}")
    finally:
        handle.detach()
    names = ("with a cache", "alone")
    for name, agreed, other in zip(names, agrees, attached[1:], strict=True):
        if agreed and not _alike(attached[0], other):
            return Verdict("wrong", f"generates something else {name}")
    return Verdict("right") if any(agrees) else Verdict("refused", "the model does not agree with itself")


def _longer(inputs: Inputs) -> Inputs:
    """The same texts, each twice in a row."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    real = ids[torch.arange(len(ids)), -1]
    more = torch.where(mask.bool(), ids, real[:, None])  # no padding in the middle
    return {"input_ids": torch.cat([ids, more], 1), "attention_mask": torch.cat([mask, torch.ones_like(mask)], 1)}


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two generations came from the same logits: equal tokens alone may be luck."""
    # Models that choose which tokens to attend to choose others where two are as good, within rounding.
    return a.shape == b.shape and float((a - b).abs().max()) <= 2e-2 * float(a.abs().max())


def _generations(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Logits of greedy generation: of a left-padded batch without a cache, with one, and of the rows one by one.

    Returns:
        Each (rows, tokens, vocabulary).
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]

    def generate(ids: Tensor, mask: Tensor, use_cache: bool) -> Tensor:
        torch.manual_seed(0)
        run: Callable[..., Any] = getattr(model, "generate")
        out = run(
            input_ids=ids,
            attention_mask=mask,
            use_cache=use_cache,
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return torch.stack(out.logits, 1).nan_to_num(0, 0, 0)

    alone = [generate(ids[n : n + 1, mask[n].bool()], mask[n : n + 1, mask[n].bool()], True) for n in range(len(ids))]
    return [generate(ids, mask, False), generate(ids, mask, True), torch.cat(alone)]


def _logits(model: nn.Module, inputs: Inputs) -> Tensor:
    torch.manual_seed(0)  # some architectures hash or route at random, in evaluation too
    with torch.no_grad():
        logits: Tensor = model(**inputs).logits
    return logits


def _loss(model: nn.Module, inputs: Inputs) -> Tensor:
    torch.manual_seed(0)
    loss: Tensor = model(**inputs).loss
    return loss


def _score(model: nn.Module, inputs: Inputs) -> Tensor:
    """A random mean of the logits: losses are often computed in fp32, whatever the logits are."""
    torch.manual_seed(0)
    logits: Tensor = model(**inputs).logits
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (logits.double() * weights).mean()


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Wrong(otherwise)
