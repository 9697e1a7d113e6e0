"""What a training step costs, before any weight is loaded: a step on tensors without content, operation by operation.

Memory is counted: what is alive at the worst moment. Time is a model: an operation takes as long as its arithmetic or
its memory traffic, whichever is longer (Williams et al. 2009, the roofline), and no less than it takes to begin one.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
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

ANSWER_LENGTH = 8
"""Tokens of an answer that a writing backbone is trained on."""
CACHED = 2**23
"""Bytes that an operation's tensors may have together to be taken for cached."""
OPTIMIZER_TRAFFIC, MOMENTS, FLOAT = 28, 8, 4
"""Bytes for each trained value: moved by a step of fused AdamW, of its two moments, of the value itself."""


@dataclass(frozen=True)
class Machine:
    """What decides how long operations take.

    Attributes:
        flops_per_second: of large matrix products.
        bytes_per_second: read and written in memory.
        cached_bytes_per_second: read and written in a cache, by operations on at most `CACHED` bytes.
        seconds_per_operation: to begin one, on its way from Python.
    """

    flops_per_second: float
    bytes_per_second: float
    cached_bytes_per_second: float
    seconds_per_operation: float

    def seconds(self, flops: int, num_bytes: int) -> float:
        """How long an operation takes."""
        bandwidth = self.cached_bytes_per_second if num_bytes <= CACHED else self.bytes_per_second
        return max(flops / self.flops_per_second, num_bytes / bandwidth, self.seconds_per_operation)


@dataclass(frozen=True)
class StepCost:
    """What a training step takes.

    Attributes:
        weights_bytes: of the backbone.
        trained_bytes: trained values beside them, and AdamW's moments.
        step_bytes: activations and gradients that are alive at the worst moment of a step.
        flops: of matrix products.
        seconds: by the model of the machine.
    """

    weights_bytes: int
    trained_bytes: int
    step_bytes: int
    flops: int
    seconds: float

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
) -> Estimate:
    """Estimate memory and time of a training step.

    Args:
        backbone: name or configuration; no weight is read.
        spec: what is to be trained.
        batch_size: texts a step.
        length: tokens of each. An encoder-decoder writes `ANSWER_LENGTH` more; a decoder's last so many are the answer.
        dtype: of the backbone.
        carrier: how deltas of parameters act.
        machine: whose times are meant; None = the processor of this one, measured in a moment.

    Returns:
        The step of the delta and that of full fine-tuning.

    Raises:
        ApetError: a model whose computation depends on what its tensors hold, or a mask that needs the weights.

    Example:
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
    # Which formulas hold is found out by small checks with real numbers, whose outcome is kept: before there are none.
    attach_without_content(shapes, spec, description, carrier)
    logger = logging.getLogger("torch._subclasses.fake_tensor")  # it prints a page where a model cannot be tried
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.enable_grad():
            full = _step(build_model(config, dtype=dtype), None, batch_size, length, machine)
            model = build_model(config, dtype=dtype)
            handle = attach_without_content(model, spec, description, carrier)
            delta = _step(model, handle.parameters(), batch_size, length, machine)
    except RuntimeError as e:  # torch's own two for this derive from it, and models raise it where a shape is unknown
        raise ApetError(
            f"what a step of {type(shapes).__name__} costs is not known without its weights and texts"
            f" ({first_line_of(e)}), as with experts that are chosen, or masks that rank weights;"
            " train a few steps to see it"
        ) from e
    finally:
        logger.setLevel(level)
    return Estimate(delta, full)


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


def _step(model: nn.Module, trained: list[Tensor] | None, batch_size: int, length: int, machine: Machine) -> StepCost:
    """One forward and backward of a model in training mode; all of it is trained where nothing is named."""
    model.train()
    weights = {id(p): p for p in model.parameters() if trained is None or not p.requires_grad}
    values = list(weights.values()) if trained is None else trained
    num_values = sum(v.numel() for v in values)
    inputs = inputs_of(model, batch_size, length)
    with _Watch(machine) as watch:
        logits = model(**inputs).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, -2).float(), torch.zeros(logits[..., 0].numel()).long())
        loss.backward()
    own = 0 if trained is None else num_values * FLOAT
    return StepCost(
        weights_bytes=sum(p.nbytes for p in weights.values()),
        trained_bytes=own + num_values * MOMENTS,
        step_bytes=watch.peak,
        flops=watch.flops,
        seconds=watch.seconds + machine.seconds(0, num_values * OPTIMIZER_TRAFFIC),
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


def measure_machine(dtype: torch.dtype = torch.float32) -> Machine:
    """The processor of this machine, by a few operations that take a tenth of a second together.

    Args:
        dtype: of the products.

    Returns:
        What decides how long its operations take.
    """
    a = torch.randn(768, 768).to(dtype)
    large, cached, small = torch.randn(2**24), torch.randn(2**19), torch.randn(8, requires_grad=True)
    return Machine(
        flops_per_second=2 * 768**3 / _shortest(lambda: a @ a),
        bytes_per_second=2 * large.nbytes / _shortest(lambda: large.mul_(1)),
        cached_bytes_per_second=3 * cached.nbytes / _shortest(lambda: cached + cached),
        # Two products, a sum, and their three gradients with what autograd does around them.
        seconds_per_operation=_shortest(lambda: (small * small * small).sum().backward(), 50) / 6,
    )


def _shortest(run: Callable[[], object], times: int = 8) -> float:
    durations = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        durations.append(time.perf_counter() - began)
    return min(durations)
