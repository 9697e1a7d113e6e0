"""A saved θ: one safetensors file with its values and its recipe. No pickle, no mask, no backbone.

``delta.safetensors`` holds one flat fp32 tensor ``values`` (N,) and a header with the recipe it was planned from,
its digest and that of the backbone: 4 bytes x N + less than 4 KiB, as the supports follow from the seeds. Only a θ
built by hand carries its insertions and indices. A trained task head lies beside it in ``head.safetensors``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from apet.backbones.describe import Backbone
from apet.budget import plan
from apet.delta import PLAN_VERSION, DeltaSpec, Init, Insertion, TrainableWeight
from apet.errors import ApetError, CannotWriteError
from apet.masks.mask import Mask, listed_mask

DELTA_FILE = "delta.safetensors"
HEAD_FILE = "head.safetensors"

Values = dict[str, Tensor]


@dataclass(frozen=True)
class SavedDelta:
    """What a folder holds.

    Attributes:
        theta: planned again for the backbone that it was read for.
        values: entries of each trainable weight by ``position/weight``, (k,) fp32.
        head: values of the trained task head by parameter name, flat; None where the head was frozen.
    """

    spec: DeltaSpec
    values: Values
    head: Values | None


def write_delta(folder: Path, theta: DeltaSpec, fingerprint: str, values: Values, head: Values) -> Path:
    """Save a θ with its values; existing files of the same name are replaced whole.

    Args:
        folder: made if it is not there.
        theta: what to save.
        fingerprint: the backbone's digest.
        values: entries by ``position/weight``, in the order of θ.
        head: flat values of a trained task head by parameter name; may be empty.

    Raises:
        CannotWriteError: the folder cannot be made or written.
    """
    tensors = {"values": torch.cat([v.detach().cpu().reshape(-1) for v in values.values()])}
    header: dict[str, Any] = {
        "plan_version": PLAN_VERSION,
        "n": theta.num_trainable,
        "theta": theta.fingerprint,
        "model_class": theta.backbone,
        "backbone": fingerprint,
    }
    if theta.recipe is not None:
        header["recipe"] = theta.recipe.as_dict()
    else:
        header["own"] = {"name": theta.name, "init_seed": theta.init_seed, "insertions": _spelt(theta, tensors)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = {DELTA_FILE: (tensors, {"apet": json.dumps(header, separators=(",", ":"))})}
        if head:
            flat = {name: v.detach().cpu().reshape(-1) for name, v in head.items()}
            files[HEAD_FILE] = (flat, {"backbone": fingerprint})
        _write(folder, files)
        if not head:
            (folder / HEAD_FILE).unlink(missing_ok=True)
    except (OSError, SafetensorError, ValueError) as e:  # ValueError: a path with a null byte
        why = getattr(e, "strerror", None) or e
        raise CannotWriteError(f"cannot write θ to {str(folder)!r}: {why}; give a folder that can be written") from e
    return folder / DELTA_FILE


def read_delta(folder: str | Path, backbone: Backbone, fingerprint: str) -> SavedDelta:
    """A saved θ, for the backbone it was trained on.

    Args:
        folder: from `write`, or the file in it.
        backbone: description of the model it shall sit on.
        fingerprint: digest of that model's weights.

    Raises:
        ApetError: no θ there, a damaged file, a newer format, or another backbone; the message says which.
    """
    path = Path(folder)
    path = path / DELTA_FILE if path.is_dir() else path
    header, tensors = _read(path)
    theta = _planned(header, tensors, backbone, path)
    trained_on = header.get("backbone")
    if fingerprint != trained_on:
        raise ApetError(
            f"θ in {str(path)!r} was trained on a {header.get('model_class')} with weights {trained_on}; these are"
            f" {backbone.model_class} with weights {fingerprint}. Load the backbone it was trained on"
        )
    values, start, flat = {}, 0, tensors["values"]
    for i in theta.insertions:
        for w in i.weights:
            values[f"{i.position}/{w.name}"] = flat[start : start + w.mask.num_trainable]
            start += w.mask.num_trainable
    head_path = path.with_name(HEAD_FILE)
    head = _read(head_path, header=False)[1] if head_path.is_file() else None
    if head is not None and set(head) != set(backbone.head):
        raise ApetError(
            f"the head in {str(head_path)!r} does not fit {backbone.model_class};"
            " load the model with the same head and labels"
        )
    return SavedDelta(theta, values, head)


def _planned(header: dict[str, Any], tensors: dict[str, Tensor], backbone: Backbone, path: Path) -> DeltaSpec:
    """The θ that a header describes, on this backbone."""
    try:
        if header["plan_version"] > PLAN_VERSION:
            raise ApetError(f"{str(path)!r} was written by a newer apet; upgrade with pip install -U apet")
        if "own" in header:
            theta = DeltaSpec(
                _unspelt(header["own"]["insertions"], tensors),
                backbone.model_class,
                backbone.num_parameters,
                init_seed=header["own"]["init_seed"],
                name=header["own"]["name"],
            )
        else:
            r = header["recipe"]
            try:
                theta = plan(
                    backbone,
                    r["method"],
                    r["budget"],
                    mask_seed=r["mask_seed"],
                    init_seed=r["init_seed"],
                    **r["settings"],
                )
            except ApetError as e:
                made_for = f"was planned for {header['model_class']} and does not fit {backbone.model_class}"
                raise ApetError(f"θ in {str(path)!r} {made_for}: {e}") from e
        if theta.fingerprint != header["theta"] or theta.num_trainable != tensors["values"].numel():
            raise ApetError(
                f"θ in {str(path)!r} has its entries at other places than this {backbone.model_class} offers (it was"
                f" planned for {header['model_class']}); load the same architecture, with the same head"
            )
    except ApetError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ApetError(f"{str(path)!r} is no complete θ ({e} is missing or malformed); save it again") from e
    return theta


def _spelt(theta: DeltaSpec, tensors: dict[str, Tensor]) -> list[Any]:
    """Insertions as plain data, their listed indices as tensors."""
    out = []
    for n, i in enumerate(theta.insertions):
        weights = []
        for w in i.weights:
            if w.mask.kind == "listed":
                tensors[f"indices.{n}.{w.name}"] = torch.from_numpy(w.mask.indices.astype(_index_type(w.mask.size)))
            weights.append([w.name, w.mask.definition(), w.init.kind, w.init.bound, w.init.fan_in])
        out.append([i.form, i.position, i.scale, weights])
    return out


def _index_type(size: int) -> type[np.signedinteger[Any]]:
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64


def _unspelt(spelt: list[Any], tensors: dict[str, Tensor]) -> tuple[Insertion, ...]:
    insertions = []
    for n, (form, at, scale, weights) in enumerate(spelt):
        made = []
        for name, (shape, count, kind, start, along, seed, cover, gap), init, bound, fan_in in weights:
            if kind == "listed":
                support = listed_mask(tuple(shape), tensors[f"indices.{n}.{name}"].numpy().astype(np.int64))
            else:
                support = Mask(tuple(shape), count, kind, start, along, tuple(seed), cover, tuple(gap))
            made.append(TrainableWeight(name, support, Init(init, bound, fan_in)))
        insertions.append(Insertion(form, at, tuple(made), scale))
    return tuple(insertions)


def _write(folder: Path, files: dict[str, tuple[dict[str, Tensor], dict[str, str]]]) -> None:
    """All files whole, or none of them changed."""
    parts = {folder / name: folder / f"{name}.part" for name in files}
    try:
        for (tensors, header), part in zip(files.values(), parts.values(), strict=True):
            save_file({k: v.contiguous() for k, v in tensors.items()}, part, header)
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _read(path: Path, header: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise ApetError(f"no saved θ at {str(path)!r}; give a folder written by handle.save or apet tune")
    try:
        with safe_open(path, "pt") as f:
            meta = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        return (json.loads(meta["apet"]) if header else {}), tensors
    except (SafetensorError, KeyError, ValueError, OSError) as e:
        raise ApetError(f"{str(path)!r} is no θ of apet, or is damaged ({e}); save it again") from e
