"""A saved delta: one safetensors file with its values and its recipe. No pickle, no mask, no backbone.

``delta.safetensors`` holds one flat fp32 tensor ``values`` (N,) and a header with the recipe it was planned from, its
fingerprint and that of the backbone: 4 bytes x N + less than 4 KiB, as masks follow from the seeds. Only masks that no
seed gives back, ranked by scores or listed by hand, carry their indices (4 or 8 bytes each); a delta built by hand also
carries its insertions. A trained task head lies beside it in ``head.safetensors``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from apet.backbones.positions import Backbone
from apet.delta import PLAN_VERSION, DeltaSpec, Init, Insertion, TrainableWeight
from apet.errors import ApetError, CannotWriteError
from apet.masks.mask import Mask, listed_mask
from apet.planning import plan

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
        CannotWriteError: the folder cannot be made or written.
    """
    tensors = {"values": torch.cat([v.detach().cpu().reshape(-1) for v in values.values()])}
    tensors |= _indices(spec)
    header: dict[str, object] = {
        "plan_version": PLAN_VERSION,
        "num_trainable": spec.num_trainable,
        "delta": spec.fingerprint,
        "model_class": spec.backbone,
        "backbone": fingerprint,
    }
    if spec.recipe is not None:
        header["recipe"] = spec.recipe.as_dict()
    else:
        insertions = [i.definition() for i in spec.insertions]
        header["custom"] = {"name": spec.name, "init_seed": spec.init_seed, "insertions": insertions}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = {DELTA_FILE: (tensors, {"apet": json.dumps(header, separators=(",", ":"))})}
        if head:
            flat = {name: v.detach().cpu().reshape(-1) for name, v in head.items()}
            files[HEAD_FILE] = (flat, {"backbone": fingerprint})
        _write_all(folder, files)
        if not head:  # the head of an earlier delta in this folder would be loaded with this one
            (folder / HEAD_FILE).unlink(missing_ok=True)
    except (OSError, SafetensorError, ValueError) as e:  # ValueError: a path with a null byte
        reason = getattr(e, "strerror", None) or e
        raise CannotWriteError(
            f"cannot write the delta to {str(folder)!r}: {reason}; give a folder that can be written"
        ) from e
    return folder / DELTA_FILE


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
    spec = _replan(header, tensors, backbone, path)
    trained_on = header.get("backbone")
    if fingerprint != trained_on:
        raise ApetError(
            f"the delta in {str(path)!r} was trained on a {header.get('model_class')} with weights {trained_on};"
            " these are"
            f" {backbone.model_class} with weights {fingerprint}. Load the backbone it was trained on"
        )
    values, start, flat = {}, 0, tensors["values"]
    for i in spec.insertions:
        for w in i.weights:
            values[f"{i.position}/{w.name}"] = flat[start : start + w.mask.num_trainable]
            start += w.mask.num_trainable
    head_path = path.with_name(HEAD_FILE)
    head = _read_file(head_path, header=False)[1] if head_path.is_file() else None
    if head is not None and set(head) != set(backbone.head):
        raise ApetError(
            f"the head in {str(head_path)!r} does not fit {backbone.model_class};"
            " load the model with the same head and labels"
        )
    return SavedDelta(spec, values, head)


def _replan(header: dict[str, Any], tensors: Values, backbone: Backbone, path: Path) -> DeltaSpec:
    """The spec that a header describes, on this backbone."""
    try:
        if header["plan_version"] > PLAN_VERSION:
            raise ApetError(f"{str(path)!r} was written by a newer apet; upgrade with pip install -U apet")
        if header["plan_version"] < PLAN_VERSION:
            raise ApetError(
                f"{str(path)!r} was written by an older apet, whose seeds chose other entries; train it again"
            )
        if "custom" in header:
            custom = header["custom"]
            spec = DeltaSpec(
                tuple(_parse_insertion(i) for i in custom["insertions"]),
                backbone.model_class,
                backbone.num_parameters,
                init_seed=custom["init_seed"],
                name=custom["name"],
            )
        else:
            spec = _plan_again(header, backbone, path)
        spec = _with_indices(spec, tensors)
        if spec.fingerprint != header["delta"] or spec.num_trainable != tensors["values"].numel():
            raise ApetError(
                f"the delta in {str(path)!r} has its entries at other positions than this {backbone.model_class}"
                " offers (it"
                f" was planned for {header['model_class']}); load the same architecture, with the same head"
            )
    except ApetError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ApetError(f"{str(path)!r} is not a complete delta ({e} is missing or malformed); save it again") from e
    return spec


def _plan_again(header: dict[str, Any], backbone: Backbone, path: Path) -> DeltaSpec:
    recipe = header["recipe"]
    seeds = {"mask_seed": recipe["mask_seed"], "init_seed": recipe["init_seed"]}
    try:
        return plan(backbone, recipe["method"], recipe["budget"], **seeds, **recipe["settings"])
    except ApetError as e:
        planned_for = f"was planned for {header['model_class']} and does not fit {backbone.model_class}"
        raise ApetError(f"the delta in {str(path)!r} {planned_for}: {e}") from e


def _indices(spec: DeltaSpec) -> Values:
    """Indices of the masks that no recipe gives back, by the place of their weight in the spec."""
    return {
        f"indices.{n}.{w.name}": torch.from_numpy(w.mask.indices.astype(_index_type(w.mask.size)))
        for n, i in enumerate(spec.insertions)
        for w in i.weights
        if w.mask.kind == "listed"
    }


def _index_type(size: int) -> type[np.signedinteger[Any]]:
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64


def _with_indices(spec: DeltaSpec, tensors: Values) -> DeltaSpec:
    """The spec with the stored indices where its masks need some."""

    def completed(n: int, w: TrainableWeight) -> TrainableWeight:
        if w.mask.kind not in ("listed", "scored"):
            return w
        return replace(w, mask=listed_mask(w.mask.shape, tensors[f"indices.{n}.{w.name}"].numpy().astype(np.int64)))

    insertions = tuple(
        replace(i, weights=tuple(completed(n, w) for w in i.weights)) for n, i in enumerate(spec.insertions)
    )
    return replace(spec, insertions=insertions)


def _parse_insertion(definition: list[Any]) -> Insertion:
    """An insertion of `Insertion.definition`; the indices of listed masks come later."""
    form, position, scale, weights = definition
    parsed = []
    for name, mask, init, bound, fan_in in weights:
        shape, count, kind, start, along, distribution, seed, cover, unused = mask
        restored = Mask(tuple(shape), count, kind, start, along, distribution, tuple(seed), cover, tuple(unused))
        parsed.append(TrainableWeight(name, restored, Init(init, bound, fan_in)))
    return Insertion(form, position, tuple(parsed), scale)


def _write_all(folder: Path, files: Mapping[str, tuple[Values, dict[str, str]]]) -> None:
    """Write all files whole, or change none of them."""
    partial = {folder / name: folder / f"{name}.part" for name in files}
    try:
        for (tensors, header), part in zip(files.values(), partial.values(), strict=True):
            save_file({k: v.contiguous() for k, v in tensors.items()}, part, header)
        for path, part in partial.items():
            os.replace(part, path)
    finally:
        for part in partial.values():
            part.unlink(missing_ok=True)


def _read_file(path: Path, header: bool = True) -> tuple[dict[str, Any], Values]:
    if not path.is_file():
        raise ApetError(f"no saved delta at {str(path)!r}; give a folder written by handle.save or apet tune")
    try:
        with safe_open(path, "pt") as f:
            meta = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        return (json.loads(meta["apet"]) if header else {}), tensors
    except (SafetensorError, KeyError, ValueError, OSError) as e:
        raise ApetError(f"{str(path)!r} is not a delta of apet, or is damaged ({e}); save it again") from e
