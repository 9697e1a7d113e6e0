"""Deltas in a folder that ``save_pretrained`` wrote while they were attached: among the weights, under ``apet.``."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from apet.backbones.describe import OWN_PREFIX
from apet.backbones.positions import Backbone
from apet.checkpoint import SavedDelta, require_finite, require_same_head, split_values
from apet.delta_header import replan, require_same_backbone, unpack
from apet.errors import ApetError


def read_attached(folder: Path, backbone: Backbone, fingerprint: str) -> list[SavedDelta]:
    """Read the deltas that were attached to a saved model.

    Args:
        folder: from ``save_pretrained``, in one file or in shards.
        backbone: description of the model they shall sit on.
        fingerprint: of that model's weights.

    Returns:
        In the order in which they were attached; empty where the folder holds none.

    Raises:
        ApetError: a damaged file, a newer format, or another backbone; the message says which.
    """
    by_number: defaultdict[int, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in _tensors(folder).items():
        parts = re.fullmatch(re.escape(OWN_PREFIX) + r"attached\.(\d+)\.(.*)", key)
        if parts is not None:
            by_number[int(parts[1])][parts[2]] = tensor
    return [_read(tensors, backbone, fingerprint, str(folder)) for _, tensors in sorted(by_number.items())]


def _read(tensors: dict[str, Tensor], backbone: Backbone, fingerprint: str, source: str) -> SavedDelta:
    if "_extra_state" not in tensors:
        raise ApetError(
            f"a delta among the weights in {source!r} has no header; save the model again with save_pretrained"
        )
    header, indices = unpack(tensors["_extra_state"])
    flat = tensors.get("values")
    spec = replan(header, indices, None if flat is None else flat.numel(), backbone, source)
    require_same_backbone(header, backbone, fingerprint, source)
    assert flat is not None
    require_finite({name: t for name, t in tensors.items() if name in ("values", "head")}, source)
    head = None
    if "head" in header:
        try:
            sizes: dict[str, int] = header["head"]
            head = dict(zip(sizes, tensors["head"].split(list(sizes.values())), strict=True))
        except (KeyError, TypeError, AttributeError, RuntimeError) as e:
            raise ApetError(f"the trained head in {source!r} is damaged ({e}); save the model again") from e
        require_same_head(head, backbone, source)
    return SavedDelta(spec, split_values(spec, flat), head)


def _tensors(folder: Path) -> dict[str, Tensor]:
    """Our tensors of a saved model; no other is read."""
    tensors: dict[str, Tensor] = {}
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    path = folder / SAFE_WEIGHTS_NAME
    try:
        if path.is_file():
            files = {path}
        elif index.is_file():
            weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
            files = {folder / Path(file).name for key, file in weight_map.items() if key.startswith(OWN_PREFIX)}
        else:
            files = set()
        for path in files:
            with safe_open(path, "pt") as f:
                tensors |= {k: f.get_tensor(k) for k in f.keys() if k.startswith(OWN_PREFIX)}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError, AttributeError) as e:
        raise ApetError(f"the weights in {str(path)!r} are damaged or incomplete ({e}); save the model again") from e
    return tensors
