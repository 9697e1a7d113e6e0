"""A short fingerprint of a backbone's weights, the same for fp32 and bf16 copies."""

from __future__ import annotations

import hashlib

from torch import nn

from apet.backbones.describe import describe
from apet.kernels.storage import sample_bytes, stored_tensors

SAMPLES = 1024


def weights_fingerprint(model: nn.Module) -> str:
    """Fingerprint of the pre-trained weights (a task head is left out), 16 hex digits.

    Every tensor enters with its name, its shape and up to 1,024 entries spread evenly over it, rounded to bf16 so
    that a backbone loaded in either precision has one fingerprint. A quantized tensor enters with its codes: a
    quantized backbone has a fingerprint of its own. It tells checkpoints apart in milliseconds; it is no protection
    against forgery.

    Returns:
        16 hex digits.
    """
    h = hashlib.sha256()
    for p in describe(model).positions:
        if p.parameter == "output":
            continue
        h.update(f"{p.name}{p.shape}".encode())
        for tensor in stored_tensors(model.get_submodule(p.module), p.parameter):
            h.update(sample_bytes(tensor, SAMPLES))
    return h.hexdigest()[:16]
