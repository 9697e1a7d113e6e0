"""A saved delta: one safetensors file with its values and its recipe. No pickle, no mask, no backbone.

Nothing in it is believed because it parses: values are finite and of their dtype, and the header's checksum is theirs.

``delta.safetensors`` holds one flat fp32 tensor ``values`` (N,) and a header with the recipe it was planned from, its
fingerprint and that of the backbone: 4 bytes x N + less than 4 KiB, as masks follow from the seeds. Only masks that no
seed gives back, ranked by scores or listed by hand, carry their indices (4 or 8 bytes each); a delta built by hand also
carries its insertions. A trained task head lies beside it in ``head.safetensors``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from apet.backbones.positions import Backbone
from apet.delta import PLAN_VERSION, DeltaSpec
from apet.delta_header import as_json, header_of, listed_indices, replan, require_same_backbone
from apet.errors import ApetError, CannotWriteError

DELTA_FILE = "delta.safetensors"
HEAD_FILE = "head.safetensors"

Values = dict[str, Tensor]


@dataclass(frozen=True)
class SavedDelta:
    """What a folder holds.

    Attributes:
        spec: planned again for the backbone that it was read for.
        values: entries of each trainable weight by ``position/weight``, (k,), fp32.
        head: values of the trained task head by parameter name, flat; None where the head was frozen.
    """

    spec: DeltaSpec
    values: Values
    head: Values | None


def write_delta(folder: Path, spec: DeltaSpec, fingerprint: str, values: Values, head: Values) -> Path:
    """Write a delta with its values; existing files of the same name are replaced whole.

    Args:
        folder: made if it is not there.
        spec: of the delta, its masks settled.
        fingerprint: of the backbone's weights.
        values: entries by ``position/weight``, in the order of the spec.
        head: flat values of a trained task head by parameter name; may be empty.

    Returns:
        The file of the delta.

    Raises:
        ApetError: values that are not finite, which nobody could load.
        CannotWriteError: the folder cannot be made or written.
    """
    tensors = {"values": torch.cat([v.detach().cpu().reshape(-1) for v in values.values()])}
    tensors |= listed_indices(spec)
    require_finite({**values, **head}, "the delta")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        flat = {name: v.detach().cpu().reshape(-1) for name, v in head.items()}
        head_header = {"backbone": fingerprint}
        # With the head's checksum: neither must be loaded with another one, or without it.
        head_checksum = _checksum(flat, head_header) if head else None
        files = {DELTA_FILE: _file(tensors, {**header_of(spec, fingerprint), "head": head_checksum})}
        if head:
            files[HEAD_FILE] = _file(flat, head_header)
        _write_all(folder, files)
        if not head:  # the head of an earlier delta in this folder would be loaded with this one
            (folder / HEAD_FILE).unlink(missing_ok=True)
    except (OSError, SafetensorError, ValueError) as e:  # ValueError: a path with a null byte
        reason = getattr(e, "strerror", None) or e
        raise CannotWriteError(
            f"cannot write the delta to {str(folder)!r}: {reason}; give a folder that can be written"
        ) from e
    return folder / DELTA_FILE


def holds_delta(path: Path) -> bool:
    """Whether this is a file, or a folder with a delta's file in it."""
    return path.is_file() or (path / DELTA_FILE).is_file()


def read_delta(folder: str | Path, backbone: Backbone, fingerprint: str) -> SavedDelta:
    """Read a saved delta for the backbone it was trained on.

    Args:
        folder: from `write_delta`, or the file in it.
        backbone: description of the model it shall sit on.
        fingerprint: of that model's weights.

    Returns:
        The spec, planned again, and the values.

    Raises:
        ApetError: no delta there, a damaged file, a newer format, or another backbone; the message says which.
    """
    path = Path(folder)
    path = path / DELTA_FILE if path.is_dir() else path
    header, tensors = _read_file(path)
    flat = tensors.get("values")
    spec = replan(header, tensors, None if flat is None else flat.numel(), backbone, str(path))
    require_same_backbone(header, backbone, fingerprint, str(path))
    assert flat is not None
    values = split_values(spec, flat)
    require_finite({"values": flat}, str(path))
    head_path = path.with_name(HEAD_FILE)
    head = None
    head_checksum = header.get("head")
    if head_checksum is not None or head_path.is_file():
        if not head_path.is_file():
            raise ApetError(f"the head that was trained with {str(path)!r} is gone; put {HEAD_FILE} beside it again")
        header, head = _read_file(head_path)
        if header["checksum"] != head_checksum:
            raise ApetError(
                f"{str(head_path)!r} is not the head that was saved with {path.name}; take both of one copy"
            )
        require_same_backbone({**header, "model_class": spec.backbone}, backbone, fingerprint, str(head_path))
        require_finite(head, str(head_path))
    require_same_head(head, backbone, str(head_path))
    return SavedDelta(spec, values, head)


def split_values(spec: DeltaSpec, flat: Tensor) -> Values:
    """Split the values of a delta, (N,), by ``position/weight``."""
    names = [(f"{i.position}/{w.name}", w.mask.num_trainable) for i in spec.insertions for w in i.weights]
    pieces = flat.split([k for _, k in names])
    return {name: piece for (name, _), piece in zip(names, pieces, strict=True)}


def require_same_head(head: Values | None, backbone: Backbone, source: str) -> None:
    """Refuse the values of a task head that this backbone does not have.

    Raises:
        ApetError: their names differ from those of the backbone's head.
    """
    if head is not None and set(head) != set(backbone.head):
        raise ApetError(
            f"the head in {source!r} does not fit {backbone.model_class}; load the model with the same head and labels"
        )


def require_finite(values: Mapping[str, Tensor], source: str) -> None:
    """Refuse values that are no finite real numbers.

    Args:
        values: by name.
        source: where they come from, for messages.

    Raises:
        ApetError: integers, complex numbers, NaN or infinite ones; the first name is given with how many there are.
    """
    for name, tensor in values.items():
        if not tensor.is_floating_point():
            raise ApetError(f"{source}: {name} holds {tensor.dtype}; values are floating-point numbers")
        wrong = int((~tensor.detach().isfinite()).sum())
        if wrong:
            raise ApetError(
                f"{source}: {name} holds {wrong} values that are NaN or infinite; take those of an earlier step"
            )


def _file(tensors: Values, header: Mapping[str, object]) -> tuple[Values, dict[str, str]]:
    """A file's tensors and its metadata: the header with the checksum of both."""
    return tensors, {"apet": as_json({**header, "checksum": _checksum(tensors, header)})}


def _checksum(tensors: Mapping[str, Tensor], header: Mapping[str, object]) -> str:
    """Of the header, and of names, dtypes, shapes and bytes, 16 hex digits."""
    h = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        h.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        h.update(tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return h.hexdigest()[:16]


def _write_all(folder: Path, files: Mapping[str, tuple[Values, dict[str, str]]]) -> None:
    """Write all files whole, or change none of them."""
    partial = {folder / name: folder / f"{name}.part" for name in files}
    try:
        for (tensors, header), part in zip(files.values(), partial.values(), strict=True):
            part.touch()  # safetensors keeps its files to their owner; all of ours have the mode of the user's umask
            mode = part.stat().st_mode
            save_file({k: v.contiguous() for k, v in tensors.items()}, part, header)
            part.chmod(mode)
        for path, part in partial.items():
            os.replace(part, path)
    finally:
        for part in partial.values():
            part.unlink(missing_ok=True)


def _read_file(path: Path) -> tuple[dict[str, Any], Values]:
    if not path.is_file():
        raise ApetError(
            f"no saved delta at {str(path)!r}; give a folder written by handle.save, by apet tune,"
            " or by save_pretrained while a delta was attached"
        )
    try:
        with safe_open(path, "pt") as f:
            meta = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        header: dict[str, Any] = json.loads(meta["apet"])
        bare = {key: value for key, value in header.items() if key != "checksum"}
        intact = header["checksum"] == _checksum(tensors, bare)
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, RecursionError, OSError) as e:
        raise ApetError(f"{str(path)!r} is not a delta of apet, or is damaged ({e}); save it again") from e
    version = header.get("plan_version")
    if not intact and not (isinstance(version, int) and version > PLAN_VERSION):  # a newer apet may sum up otherwise
        raise ApetError(
            f"{str(path)!r} is damaged: its checksum is not that of its header and values; take another copy"
        )
    return header, tensors
