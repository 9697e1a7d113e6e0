"""A short fingerprint of a backbone's weights, the same for fp32 and bf16 copies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from torch import Tensor, nn

from apet.backbones.describe import describe
from apet.backbones.positions import Backbone
from apet.kernels.sharding import whole
from apet.kernels.storage import sample_bytes, storage_of, stored_tensors

SAMPLES = 1024


def weights_fingerprint(
    model: nn.Module, backbone: Backbone | None = None, values: Callable[[str, Tensor], Tensor] | None = None
) -> str:
    """Fingerprint of the pre-trained weights (a task head is left out), 16 hex digits.

    Every tensor enters with its name, its shape and up to 1,024 entries spread evenly over it, rounded to bf16 so
    that a backbone loaded in either precision has one fingerprint. A quantized tensor enters with its codes: a
    quantized backbone has a fingerprint of its own. It tells checkpoints apart in milliseconds; it is no protection
    against forgery.

    Args:
        model: with its weights.
        backbone: its description, where it is known.
        values: (position, parameter) -> the backbone's own values, where something else stands in the parameter.

    Returns:
        16 hex digits.
    """
    h = hashlib.sha256()
    for p in (backbone or describe(model)).positions:
        if p.parameter == "output":
            continue
        parameter = model.get_parameter(f"{p.module}.{p.parameter}").detach()
        if values is not None and storage_of(parameter) == "plain":
            tensors = [values(p.name, parameter)]
        elif storage_of(parameter) == "sharded":
            tensors = [whole(parameter)]  # of the backbone, not of the way it is laid over processes
        else:
            tensors = stored_tensors(model.get_submodule(p.module), p.parameter)
        h.update(f"{p.name}{p.shape}".encode())
        for tensor in tensors:
            h.update(sample_bytes(tensor, SAMPLES))
    return h.hexdigest()[:16]
