"""A fresh task head: the part of a model that pre-training did not make."""

from __future__ import annotations

import torch
from torch import nn

from apet.backbones.describe import describe
from apet.seeding import derive_seed

STD = 0.02
"""BERT's own initializer_range."""


@torch.no_grad()
def reset_head(model: nn.Module, init_seed: int) -> None:
    """Draw the head's weights anew (normal, sd 0.02, biases zero), the same for a seed on every device and dtype."""
    for name in describe(model).head:
        p = model.get_parameter(name)
        if p.dim() < 2:
            p.zero_()
            continue
        # Drawn on the CPU in fp32, then copied: generators of other devices give other numbers. The shift keeps the
        # seed within the signed 64 bits that PyTorch takes.
        generator = torch.Generator().manual_seed(derive_seed(init_seed, "head", name) >> 1)
        p.copy_(torch.randn(p.shape, generator=generator) * STD)
