"""How a delta of a parameter acts: by the carrier that was asked for, else the cheapest that is certified."""

from __future__ import annotations

from torch import Tensor

from apet.delta import Carrier
from apet.errors import ApetError
from apet.kernels.formulas import formulas_of
from apet.kernels.storage import PLAIN, storage_of
from apet.layers.base import Host


def choose_carrier(host: Host, position: str, parameter: str, tensor: Tensor) -> Carrier:
    """The carrier that was asked for, else the cheapest that is certified.

    Returns:
        The carrier.

    Raises:
        ApetError: the one asked for cannot act here, or the tensor can neither be written nor added to.
    """
    described = host.backbone.positions_by_name.get(position)
    owners = host.owners_of(tensor)
    tapped = (described is None or described.carrier == "in_place") and formulas_of(owners) is not None
    wanted = host.carrier
    if wanted == "additive" or (wanted == "auto" and not is_editable(tensor)):
        if tapped:
            return "additive"
        used_by = type(owners[0].module).__name__
        stored = storage_of(tensor)
        or_else = "leave carrier='additive' out" if stored == "plain" else f"load the backbone un{stored}"
        raise ApetError(
            f"parameter {parameter!r} ({used_by}) cannot be trained by adding to an output: its module is not a plain"
            f" linear layer, embedding or norm. Leave it out (roles=...), or {or_else}"
        )
    if wanted == "in_place" and not tapped:
        raise ApetError(
            f"parameter {parameter!r} of a {type(owners[0].module).__name__} has no certified gradient formula;"
            " leave the carrier out, or give carrier='substituted'"
        )
    if wanted == "auto":
        return "in_place" if tapped else "substituted"
    return wanted


def is_editable(tensor: Tensor) -> bool:
    """Whether entries of a tensor can be written: it is neither quantized nor sharded."""
    return tensor.is_floating_point() and type(tensor) in PLAIN and tensor.is_contiguous()


def require_editable(tensor: Tensor, name: str) -> Tensor:
    """Pass a tensor whose entries can be written.

    Returns:
        The tensor.

    Raises:
        ApetError: it is quantized, sharded or not contiguous.
    """
    if not is_editable(tensor):
        raise ApetError(
            f"parameter {name!r} is {tensor.dtype} ({type(tensor).__name__}); entries can be added to plain"
            " floating-point tensors only. Leave the carrier out, or give carrier='additive'"
        )
    return tensor
