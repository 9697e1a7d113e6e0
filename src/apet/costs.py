"""What a training step costs, before any weight is loaded: a step on tensors without content, operation by operation.

Memory is counted: what is alive at the worst moment. Time is a model, see `apet.machine`.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import PreTrainedConfig

from apet.attachment import attach_without_content
from apet.backbones.describe import describe
from apet.backbones.loading import build_model, default_objective, load_config, meta_model
from apet.backbones.positions import Backbone
from apet.backbones.registry import first_line_of
from apet.delta import CarrierChoice, DeltaSpec
from apet.errors import ApetError
from apet.layers.prompt import prompt_length
from apet.machine import Machine, measure_machine
from apet.shortened import Part, Stacks, are_trained_alike, extrapolate_peak, find_stacks, shorten, shorten_spec

ANSWER_LENGTH = 8
"""Tokens of an answer that a writing backbone is trained on."""
OPTIMIZER_TRAFFIC, MOMENTS, FLOAT = 28, 8, 4
"""Bytes for each trained value: moved by a step of fused AdamW, of its two moments, of the value itself."""


@dataclass(frozen=True)
class StepCost:
    """What a training step takes.

    Attributes:
        weights_bytes: of the backbone.
        trained_bytes: trained values beside them, and AdamW's moments.
        step_bytes: activations and gradients that are alive at the worst moment of a step.
        flops: of matrix products.
        seconds: by the model of the machine.
        peaks: ``step_bytes`` of each part of a step that was tried with a few blocks.
    """

    weights_bytes: int
    trained_bytes: int
    step_bytes: int
    flops: int
    seconds: float
    peaks: dict[Part, int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def memory_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.trained_bytes + self.step_bytes


@dataclass(frozen=True)
class Estimate:
    """A method's step beside that of full fine-tuning.

    Attributes:
        delta: a step of the delta.
        full: a step of full fine-tuning, everything in the same precision.
    """

    delta: StepCost
    full: StepCost

    @property
    def relative_time(self) -> float:
        """Of full fine-tuning."""
        return self.delta.seconds / self.full.seconds

    @property
    def relative_memory(self) -> float:
        """Of full fine-tuning."""
        return self.delta.memory_bytes / self.full.memory_bytes


def estimate(
    backbone: str | PreTrainedConfig,
    spec: DeltaSpec,
    batch_size: int = 32,
    length: int = 128,
    *,
    dtype: torch.dtype = torch.float32,
    carrier: CarrierChoice = "auto",
    machine: Machine | None = None,
    log: Callable[[str], object] | None = None,
) -> Estimate:
    """Estimate memory and time of a training step.

    Of a deep stack, whose blocks in the middle are alike in structure and in how many values are trained where, a few
    blocks are tried and the others taken to cost what these do.

    Args:
        backbone: name or configuration; no weight is read.
        spec: what is to be trained.
        batch_size: texts a step.
        length: tokens of each. An encoder-decoder writes `ANSWER_LENGTH` more; a decoder's last so many are the answer.
        dtype: of the backbone.
        carrier: how deltas of parameters act.
        machine: whose times are meant; None = the processor of this one, measured in a moment.
        log: told what is tried, as it begins.

    Returns:
        The step of the delta and that of full fine-tuning.

    Raises:
        ApetError: a model whose computation depends on what its tensors hold, or a mask that needs the weights.

    Examples:
        >>> import apet
        >>> from apet.costs import Machine, estimate
        >>> spec = apet.plan("bert-small", "lora")
        >>> e = estimate("bert-small", spec, 8, 64, machine=Machine(1e11, 1e10, 3e10, 5e-6))
        >>> e.relative_time < 1 and e.relative_memory < 1
        True
    """
    config = load_config(backbone) if isinstance(backbone, str) else backbone
    machine = machine or measure_machine(dtype)
    shapes = meta_model(config)
    description = describe(shapes)
    _require_positions(description, spec, length)
    stacks = find_stacks(shapes)
    alike = stacks if stacks is not None and are_trained_alike(stacks, description, spec) else None
    left_out = () if alike is None else alike.left_out(2)
    shorten(shapes, left_out)
    # Which formulas hold is found out by small checks with real numbers, whose outcome is kept: before there are none.
    attach_without_content(shapes, shorten_spec(spec, description, left_out), description, carrier)
    logger = logging.getLogger("torch._subclasses.fake_tensor")  # it prints a page where a model cannot be tried
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.enable_grad():

            def step(trains_all: bool, stacks: Stacks | None, between: int) -> StepCost:
                """One step of either kind, with so many blocks between the first and the last of stacks."""
                model = build_model(config, dtype=dtype)
                left_out = () if stacks is None else stacks.left_out(between)
                shorten(model, left_out)
                trained = None
                if not trains_all:
                    part = shorten_spec(spec, description, left_out)
                    trained = attach_without_content(model, part, description, carrier).parameters()
                return _step(model, trained, batch_size, length, machine, stacks)

            full = _cost("full fine-tuning", partial(step, True), stacks, log)
            delta = _cost("the delta", partial(step, False), alike, log)
            full = _with_optimizer(full, full.trained_bytes // MOMENTS, machine)
            delta = _with_optimizer(delta, delta.trained_bytes // (FLOAT + MOMENTS), machine)
    except RuntimeError as e:  # torch's own two for this derive from it, and models raise it where a shape is unknown
        raise ApetError(
            f"what a step of {type(shapes).__name__} costs is not known without its weights and texts"
            f" ({first_line_of(e)}), as with experts that are chosen, or masks that rank weights;"
            " train a few steps to see it"
        ) from e
    finally:
        logger.setLevel(level)
    return Estimate(delta, full)


def _cost(
    kind: str,
    step: Callable[[Stacks | None, int], StepCost],
    stacks: Stacks | None,
    log: Callable[[str], object] | None,
) -> StepCost:
    """The cost of a step, by one with all blocks or by two with a few."""
    if log is not None:
        blocks = "" if stacks is None else f", with 3 and 4 of {stacks.depth} blocks"
        log(f"trying a step of {kind} on tensors without content{blocks}")
    if stacks is None:
        return step(None, 0)
    fewer, more = step(stacks, 1), step(stacks, 2)
    added = stacks.num_between - 1

    def whole(name: str) -> float:
        one, two = getattr(fewer, name), getattr(more, name)
        return one + added * (two - one)

    return StepCost(
        weights_bytes=int(whole("weights_bytes")),
        trained_bytes=int(whole("trained_bytes")),
        step_bytes=extrapolate_peak(fewer.peaks, more.peaks, stacks),
        flops=int(whole("flops")),
        seconds=whole("seconds"),
    )


def _with_optimizer(cost: StepCost, num_values: int, machine: Machine) -> StepCost:
    return replace(cost, seconds=cost.seconds + machine.seconds(0, num_values * OPTIMIZER_TRAFFIC))


def _require_positions(backbone: Backbone, spec: DeltaSpec, length: int) -> None:
    """Pass where a text of so many tokens has a place."""
    layer = next((x for x in backbone.layers if x.role == "embed.positions"), None)
    weight = layer.position("weight") if layer else None
    if layer is None or weight is None:
        return
    room = layer.d_in - weight.unused[1] // layer.d_out - prompt_length(spec)
    if length > room:
        where = f"{backbone.model_class} has places for {room} tokens"
        raise ApetError(f"length={length}: {where}; give at most so many")


def _step(
    model: nn.Module,
    trained: list[Tensor] | None,
    batch_size: int,
    length: int,
    machine: Machine,
    stacks: Stacks | None,
) -> StepCost:
    """One forward and backward of a model in training mode; all of it is trained where nothing is named."""
    model.train()
    weights = {id(p): p for p in model.parameters() if trained is None or not p.requires_grad}
    values = list(weights.values()) if trained is None else trained
    num_values = sum(v.numel() for v in values)
    inputs = inputs_of(model, batch_size, length)
    with _Watch(machine) as watch:
        for path in () if stacks is None else stacks.paths:
            watch.tell_parts(path, model.get_submodule(path))
        logits = model(**inputs).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, -2).float(), torch.zeros(logits[..., 0].numel()).long())
        loss.backward()
    own = 0 if trained is None else num_values * FLOAT
    return StepCost(
        weights_bytes=sum(p.nbytes for p in weights.values()),
        trained_bytes=own + num_values * MOMENTS,
        step_bytes=watch.peak,
        flops=watch.flops,
        seconds=watch.seconds,  # without the optimizer's, which is no sum over blocks
        peaks=watch.peaks,
    )


def inputs_of(model: nn.Module, batch_size: int, length: int) -> dict[str, Any]:
    """What the model reads in training."""
    ids = torch.zeros(batch_size, length, dtype=torch.long)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    objective = default_objective(getattr(model, "config"))
    if objective == "text-to-text":
        inputs |= {"decoder_input_ids": ids[:, :ANSWER_LENGTH], "use_cache": False}
    elif objective == "next-token":
        inputs |= {"logits_to_keep": ANSWER_LENGTH, "use_cache": False}
    return inputs


class _Watch(TorchDispatchMode):
    """Adds up what operations take, and what is alive."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.flops = 0
        self.seconds = 0.0
        self.alive = self.peak = 0
        self.part = Part("", 0, "forward")
        self.peaks: dict[Part, int] = {}
        self._seen: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        known = {id(t.untyped_storage()) for t in before}
        out = func(*args, **kwargs)
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        fresh = [t for t in made if id(t.untyped_storage()) not in known]
        for tensor in fresh:
            self._count(tensor.untyped_storage())
        count = flop_registry.get(func._overloadpacket) or _FLOPS.get(func._overloadpacket)
        flops = count(*args, **kwargs, out_val=out) if count is not None else 0
        writes = fresh or func._schema.is_mutable
        moved = sum(t.nbytes for t in (*before, *fresh)) if writes else 0  # a view moves nothing
        if func.namespace == "prim":  # questions about a tensor, which a real one answers at once
            return out
        self.flops += flops
        self.seconds += self.machine.seconds(flops, moved)
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._seen and self._seen[key]() is storage:
            return

        def free(_: object) -> None:
            self.alive -= size

        self._seen[key] = weakref.ref(storage, free)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        self.peaks[self.part] = max(self.peaks.get(self.part, 0), self.alive)

    def tell_parts(self, path: str, blocks: nn.Module) -> None:
        """Tell apart what is alive in each block of a stack, by the names of the blocks."""
        for number, block in blocks.named_children():

            def enter(phase: str, *_: object, number: int = int(number)) -> None:
                self.part = Part(path, number, phase)
                self.peaks[self.part] = max(self.peaks.get(self.part, 0), self.alive)

            def leave(module: nn.Module, args: object, output: object, enter: Callable[..., None] = enter) -> None:
                enter("after")
                first = next((t for t in tree_leaves(output) if isinstance(t, Tensor)), None)
                if first is not None and first.requires_grad:
                    first.register_hook(partial(enter, "backward"))

            block.register_forward_pre_hook(partial(enter, "forward"))
            block.register_forward_hook(leave)


def _attention_flops(times: int) -> Callable[..., int]:
    def count(*args: Any, **_: Any) -> int:
        q, k = [t for t in args if isinstance(t, Tensor) and t.dim() == 4][-3:-1] if times > 4 else args[:2]
        return times * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * q.shape[3]

    return count


def _sampled_flops(left: Tensor, right: Tensor, indices: Tensor, **_: Any) -> int:
    return 2 * len(left) * len(indices)


_FLOPS: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops(4),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_flops(10),
    torch.ops.apet.sampled_product: _sampled_flops,
}
"""Of products that torch's own counter does not know."""
