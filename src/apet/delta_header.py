"""What a saved delta says of itself beside its values: enough to plan it again and to know its backbone.

The header is JSON: the recipe it was planned from (or its insertions, where it was built by hand), its fingerprint and
that of the backbone. Masks that no seed gives back, ranked by scores or listed by hand, add their indices as tensors.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor

from apet.backbones.positions import Backbone
from apet.delta import PLAN_VERSION, DeltaSpec, Init, Insertion, TrainableWeight
from apet.errors import ApetError
from apet.masks.mask import Mask, listed_mask
from apet.planning import plan

Header = dict[str, Any]
Tensors = dict[str, Tensor]


def header_of(spec: DeltaSpec, fingerprint: str) -> Header:
    """Describe a delta as plain data.

    Args:
        spec: of the delta, its masks settled.
        fingerprint: of the backbone's weights.

    Returns:
        What is written as JSON.
    """
    header: Header = {
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
    return header


def as_json(header: Header) -> str:
    """Write a header down, without spaces: small deltas are most of all header."""
    return json.dumps(header, separators=(",", ":"))


def listed_indices(spec: DeltaSpec) -> Tensors:
    """Indices of the masks that no recipe gives back, by the place of their weight in the spec."""
    return {
        f"indices.{n}.{w.name}": torch.from_numpy(w.mask.indices.astype(_index_type(w.mask.size)))
        for n, i in enumerate(spec.insertions)
        for w in i.weights
        if w.mask.kind == "listed"
    }


def pack(header: Header, indices: Tensors) -> Tensor:
    """Pack a header and indices into one tensor: a state dict that safetensors shall write can hold nothing else.

    Args:
        header: from `header_of`.
        indices: from `listed_indices`.

    Returns:
        (bytes,), uint8: a safetensors file of the indices, with the header as its metadata.
    """
    return torch.frombuffer(bytearray(save_bytes(indices, {"apet": as_json(header)})), dtype=torch.uint8)


def unpack(packed: Tensor) -> tuple[Header, Tensors]:
    """Read what `pack` packed.

    Args:
        packed: (bytes,), uint8.

    Returns:
        The header and the indices.

    Raises:
        ApetError: the tensor is something else, or damaged.
    """
    try:
        content = packed.detach().cpu().numpy().tobytes()
        # safetensors gives the metadata of a file only; of bytes, it is the JSON after eight bytes of length.
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        return json.loads(metadata["apet"]), load_bytes(content)
    except Exception as e:  # whatever breaks here, the bytes are not what was packed
        raise ApetError(f"the header of a delta among these weights is damaged ({e}); save the model again") from e


def replan(header: Header, indices: Tensors, num_values: int | None, backbone: Backbone, source: str) -> DeltaSpec:
    """Plan the delta that a header describes again.

    Args:
        header: of the saved delta.
        indices: from `listed_indices`; other tensors among them are left alone.
        num_values: how many values were saved with it; None where there are none.
        backbone: description of the model it shall sit on.
        source: where it was read, for messages.

    Returns:
        The spec on this backbone.

    Raises:
        ApetError: a damaged header, a newer or older format, or another backbone.
    """
    try:
        if header["plan_version"] > PLAN_VERSION:
            raise ApetError(f"{source!r} was written by a newer apet; upgrade with pip install -U apet")
        if header["plan_version"] < PLAN_VERSION:
            raise ApetError(f"{source!r} was written by an older apet, whose seeds chose other entries; train it again")
        if num_values is None:
            raise ApetError(f"{source!r} is not a complete delta (values are missing); save it again")
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
            spec = _plan_again(header, backbone, source)
        spec = _with_indices(spec, indices)
        if spec.fingerprint != header["delta"] or spec.num_trainable != num_values:
            raise ApetError(
                f"the delta in {source!r} has its entries at other positions than this {backbone.model_class}"
                f" offers (it was planned for {header['model_class']}); load the same architecture, with the same head"
            )
    except ApetError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ApetError(f"{source!r} is not a complete delta ({e} is missing or malformed); save it again") from e
    return spec


def require_same_backbone(header: Header, backbone: Backbone, fingerprint: str, source: str) -> None:
    """Refuse a backbone that the delta was not trained on.

    Raises:
        ApetError: the fingerprints differ; both are named.
    """
    trained_on = header.get("backbone")
    if fingerprint != trained_on:
        raise ApetError(
            f"the delta in {source!r} was trained on a {header.get('model_class')} with weights {trained_on}; these are"
            f" {backbone.model_class} with weights {fingerprint}. Load the backbone it was trained on"
        )


def _plan_again(header: Header, backbone: Backbone, source: str) -> DeltaSpec:
    recipe = header["recipe"]
    seeds = {"mask_seed": recipe["mask_seed"], "init_seed": recipe["init_seed"]}
    try:
        return plan(backbone, recipe["method"], recipe["budget"], **seeds, **recipe["settings"])
    except ApetError as e:
        planned_for = f"was planned for {header['model_class']} and does not fit {backbone.model_class}"
        raise ApetError(f"the delta in {source!r} {planned_for}: {e}") from e


def _index_type(size: int) -> type[np.signedinteger[Any]]:
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64


def _with_indices(spec: DeltaSpec, indices: Tensors) -> DeltaSpec:
    """The spec with the stored indices where its masks need some."""

    def completed(n: int, w: TrainableWeight) -> TrainableWeight:
        if w.mask.kind not in ("listed", "scored"):
            return w
        return replace(w, mask=listed_mask(w.mask.shape, indices[f"indices.{n}.{w.name}"].numpy().astype(np.int64)))

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
