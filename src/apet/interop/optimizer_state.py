"""An optimizer's state in few bytes: a delta may be many small tensors, and ``torch.save`` spends 270 on each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def pack(state: dict[str, Any]) -> dict[str, Any]:
    """The same state dict of an optimizer, with its tensors in one storage of each dtype.

    Args:
        state: from ``optimizer.state_dict()``.

    Returns:
        What loads as the same state, bit for bit.
    """
    tensors = [t for entry in state["state"].values() for t in entry.values() if isinstance(t, Tensor)]
    kinds = {(t.dtype, t.device) for t in tensors}
    shared = {k: torch.cat([t.reshape(-1) for t in tensors if (t.dtype, t.device) == k]) for k in kinds}
    begin = dict.fromkeys(kinds, 0)

    def packed(tensor: Tensor) -> Tensor:  # asked in the order of `tensors`
        kind = tensor.dtype, tensor.device
        begin[kind] += tensor.numel()
        return shared[kind][begin[kind] - tensor.numel() : begin[kind]].view(tensor.shape)

    entries = {
        n: {name: packed(v) if isinstance(v, Tensor) else v for name, v in entry.items()}
        for n, entry in state["state"].items()
    }
    return {**state, "state": entries}


def pack_file(path: Path) -> None:
    """Pack the state in a file of ``torch.save``; nothing happens where there is none.

    Args:
        path: of the file, which is replaced whole.
    """
    if not path.is_file():
        return
    part = path.with_suffix(".part")
    torch.save(pack(torch.load(path, map_location="cpu", weights_only=True)), part)
    os.replace(part, path)
