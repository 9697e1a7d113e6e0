"""How a parameter is stored, plain, quantized or sharded, and the numbers that it stands for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

if TYPE_CHECKING:
    from bitsandbytes.functional import QuantState

Storage = Literal["plain", "quantized", "sharded"]
PLAIN = (Tensor, nn.Parameter, FakeTensor)
"""Types of tensors whose entries are what they are; a fake one has none, and stands for such a tensor."""


def storage_of(tensor: Tensor) -> Storage:
    """How a tensor holds its numbers: as they are, in another code (torchao, bitsandbytes), or over several processes.

    Args:
        tensor: a parameter, or one of its kind.

    Returns:
        ``plain`` where its entries can be read one by one.
    """
    # By their modules' names: neither library is imported unless the user has done it.
    if type(tensor).__module__.startswith("torch.distributed."):
        return "sharded"
    plain = type(tensor) in PLAIN and tensor.is_floating_point()
    return "plain" if plain else "quantized"


def logical_shape(parameter: Tensor) -> tuple[int, ...]:
    """The shape that a module computes with; bitsandbytes packs two 4-bit numbers into a byte of one long column."""
    state = getattr(parameter, "quant_state", None)
    return tuple(parameter.shape if state is None else state.shape)


def dense_values(module: nn.Module, name: str) -> Tensor:
    """The numbers that a parameter stands for, as a plain tensor in its logical shape.

    Args:
        module: that owns it.
        name: of the parameter in the module.

    Returns:
        The parameter itself, detached, where it is plain; else a dense copy. Of a sharded one, every process has to
        ask.
    """
    parameter = module._parameters[name]
    assert parameter is not None
    tensor = parameter.detach()
    storage = storage_of(tensor)
    if storage == "plain":
        return tensor
    if storage == "sharded":
        gather: Callable[[], Tensor] = getattr(tensor, "full_tensor")
        return gather()
    if not is_packed(parameter):
        return tensor.dequantize()
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    if _is_4bit(parameter):
        return dequantize_4bit(*_unpacked_4bit(parameter))
    return int8_vectorwise_dequant(parameter.data, _row_scales(module, parameter))


def stored_tensors(module: nn.Module, name: str) -> list[Tensor]:
    """The plain tensors that a parameter consists of, the same before and after a forward.

    Args:
        module: that owns it.
        name: of the parameter in the module.

    Returns:
        One where it is plain, else codes and their scales.
    """
    parameter = module._parameters[name]
    assert parameter is not None
    if not is_packed(parameter):
        return _flattened(parameter.detach())
    if _is_4bit(parameter):
        return [_unpacked_4bit(parameter)[0]]  # without the scales, which a forward on a processor rounds
    return [parameter.data, _row_scales(module, parameter)]


def is_packed(tensor: Tensor) -> bool:
    """Whether bitsandbytes holds a tensor: integers, whose dtype and shape are not those of the numbers."""
    return type(tensor).__module__.startswith("bitsandbytes.")


def keep_differentiable(model: nn.Module) -> None:
    """Keep 4-bit layers of bitsandbytes on a processor in the layout through which gradients flow.

    Their first forward without gradients takes another one where the processor has bf16 instructions, and from then on
    they hand no gradient to their input, without a word.

    Args:
        model: to train a delta on; of a layer that has the other layout already, the scales stay rounded to bf16.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            setattr(module, "support_avx512bf16_for_cpu", False)
            weight = module._parameters["weight"]
            if weight is not None and _is_4bit(weight):
                codes, state = _unpacked_4bit(weight)
                weight.data = codes
                setattr(weight, "quant_state", state)
                setattr(module, "quant_state", state)


def _is_4bit(parameter: Tensor) -> bool:
    return getattr(parameter, "quant_state", None) is not None


def _unpacked_4bit(parameter: Tensor) -> tuple[Tensor, QuantState]:
    """Codes and scales in the layout that they came in, (entries / 2, 1) and (blocks,); itself where it has that."""
    from bitsandbytes import functional

    state: QuantState = getattr(parameter, "quant_state")
    if not getattr(state, "packing_format_for_cpu", False):
        return parameter.data, state
    state = copy.copy(state)
    setattr(state, "original_nested", False)  # the scales are no longer quantized; to do it again would change them
    unpack: Callable[[Tensor, QuantState], tuple[Tensor, QuantState]]
    unpack = getattr(functional, "_convert_weight_packed_for_cpu_inverse")
    codes, state = unpack(parameter.data, state)
    state.absmax = state.absmax.t().reshape(-1).float()  # that function leaves them transposed
    return codes, state


def _row_scales(module: nn.Module, parameter: Tensor) -> Tensor:
    # They move from the parameter to the module's state at the first forward.
    scales = getattr(parameter, "SCB", None)
    return getattr(getattr(module, "state"), "SCB") if scales is None else scales


def _flattened(tensor: Tensor) -> list[Tensor]:
    """What a wrapper around plain tensors wraps, at any depth."""
    if type(tensor) in (Tensor, nn.Parameter):
        return [tensor]
    flatten: Callable[[], tuple[list[str], object]] = getattr(tensor, "__tensor_flatten__")
    inner = (getattr(tensor, name) for name in flatten()[0])
    return [plain for t in inner if isinstance(t, Tensor) for plain in _flattened(t)]


def sample_bytes(tensor: Tensor, samples: int) -> bytes:
    """Up to ``samples`` entries spread evenly over a plain tensor; floating-point ones are rounded to bf16.

    Returns:
        Their bytes.
    """
    flat = tensor.reshape(-1)
    n = flat.numel()
    # A fixed step, no draw: the same entries on every machine, at a cost that does not grow with the tensor's size.
    entries = flat[torch.arange(min(n, samples), device=flat.device) * max(1, n // samples)]
    if entries.is_floating_point():
        entries = entries.to(torch.bfloat16)
    # As integers, since NumPy has no bfloat16.
    return entries.contiguous().cpu().view(torch.uint8).numpy().tobytes()
