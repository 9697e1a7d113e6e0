"""A short fingerprint of a backbone's weights, the same for fp32 and bf16 copies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from apet.backbones.describe import describe
from apet.backbones.positions import Backbone

SAMPLES = 1024


def weights_fingerprint(
    model: nn.Module, backbone: Backbone | None = None, values: Callable[[str, Tensor], Tensor] | None = None
) -> str:
    """Fingerprint of the pre-trained weights (a task head is left out), 16 hex digits.

    Every tensor enters with its name, its shape and up to 1,024 entries spread evenly over it, rounded to bf16 so
    that a backbone loaded in either precision has one fingerprint. It tells checkpoints apart in milliseconds; it is no
    protection against forgery.

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
        weight = (parameter if values is None else values(p.name, parameter)).reshape(-1)
        n = weight.numel()
        # A fixed step, no draw: the same entries on every machine, at a cost that does not grow with the tensor's size.
        entries = torch.arange(min(n, SAMPLES), device=weight.device) * max(1, n // SAMPLES)
        # As 16-bit integers, since NumPy has no bfloat16.
        sample = weight[entries].to(torch.bfloat16).cpu().view(torch.int16)
        h.update(f"{p.name}{p.shape}".encode())
        h.update(sample.numpy().tobytes())
    return h.hexdigest()[:16]
