"""Whether a delta can be merged, known before anything is attached: from its insertions and the backbone's description.

A merge may still be refused for what only the model shows: another delta at the same layer that would have to act in
another order afterwards, or that writes into a weight that is to be scaled.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from apet.backbones.positions import Backbone
from apet.delta import DeltaSpec, Insertion
from apet.errors import NotMergeableError
from apet.layers.base import LAYERS, ActsBy, DeltaLayer

LEAVE_OUT = "mergeable=True leaves out what does not merge"
OTHER_METHOD = "give a method that merges: apet with mergeable=True, lora, fine-tuning"


def obstacles(insertions: Sequence[Insertion], backbone: Backbone) -> list[str | None]:
    """What keeps each insertion from being merged.

    Args:
        insertions: of a delta.
        backbone: that it was planned for.

    Returns:
        A reason for each, or None where it merges.

    Raises:
        UnknownNameError: the backbone has no such layer.
    """
    # Looked up once: a backbone may have thousands of layers, and a delta as many insertions.
    layers = {layer.name: layer for layer in backbone.layers}
    reasons = []
    for insertion in insertions:
        form = LAYERS.get(insertion.form)
        name = form.layer_name(insertion)
        layer = layers.get(name)
        reasons.append(form.merge_obstacle(insertion, backbone.layer(name) if layer is None else layer))
    return reasons


def merge_obstacles(insertions: Sequence[Insertion], backbone: Backbone) -> tuple[str, ...]:
    """What keeps a delta from being merged, one line for all insertions of one form and reason.

    Args:
        insertions: of the delta.
        backbone: that it was planned for.

    Returns:
        Such as ``("adapter at 24 layers: no parameter of the backbone computes it",)``; empty where it merges.

    Raises:
        UnknownNameError: the backbone has no such layer.
    """
    layers: dict[tuple[str, str], dict[str, None]] = {}
    for insertion, reason in zip(insertions, obstacles(insertions, backbone), strict=True):
        if reason is not None:
            name = LAYERS.get(insertion.form).layer_name(insertion)
            layers.setdefault((insertion.form, reason), {})[name] = None
    return tuple(
        f"{form} at {repr(next(iter(names))) if len(names) == 1 else f'{len(names):,} layers'}: {reason}"
        for (form, reason), names in layers.items()
    )


def merge_remedy(insertions: Sequence[Insertion], backbone: Backbone) -> str:
    """What to pass for a delta that can be merged, where this one cannot."""
    # Where nothing of it merges, nothing would be left to train.
    return LEAVE_OUT if None in obstacles(insertions, backbone) else OTHER_METHOD


def merge_note(spec: DeltaSpec, backbone: Backbone) -> str:
    """Whether a delta can be merged, in one line for people: the reasons, and what to pass where it cannot."""
    if spec.mergeable:
        return "can be merged into the backbone"
    assert spec.merge_obstacles is not None
    return f"cannot be merged: {'; '.join(spec.merge_obstacles)}; {merge_remedy(spec.insertions, backbone)}"


def require_mergeable(insertions: Sequence[Insertion], backbone: Backbone) -> None:
    """Pass a delta that merges.

    Args:
        insertions: of the delta.
        backbone: that it sits on.

    Raises:
        NotMergeableError: one of them does not; the first is named, with the reason and what to do.
    """
    for insertion, reason in zip(insertions, obstacles(insertions, backbone), strict=True):
        if reason is not None:
            remedy = merge_remedy(insertions, backbone)
            raise NotMergeableError(f"{insertion.form} at {insertion.position!r} cannot be merged: {reason}; {remedy}")


_MAY_ACT_BEFORE: dict[ActsBy, set[ActsBy]] = {
    "sum": {"weight", "input", "sum"},
    "product": {"weight", "input", "product"},
}
_MAY_STAY: set[ActsBy] = {"weight", "input", "product", "output"}


def require_same_order(merged: Collection[DeltaLayer], attached: Sequence[DeltaLayer]) -> None:
    """Pass layers that can become part of the backbone without another result.

    What is merged acts before every hook from then on: a summand must not change places with a factor or an adapter
    that came before it, and nobody who reads a layer's input may lose the factors on it.

    Args:
        merged: the layers that are to be merged.
        attached: all layers on the model that are not merged yet, these included, in the order of attachment.

    Raises:
        NotMergeableError: one that acts on the same layer stands in the way; it is named.
    """
    ids = {id(layer) for layer in merged}
    at_layer: dict[str, list[DeltaLayer]] = {}
    for layer in attached:
        at_layer.setdefault(layer.layer_name(layer.insertion), []).append(layer)
    for layers in at_layer.values():
        for n, layer in enumerate(layers):
            if id(layer) not in ids or layer.acts_by == "weight":
                continue
            if layer.acts_by == "input":
                others, may = [x for x in layers if x is not layer], _MAY_STAY
            else:
                others, may = layers[:n], _MAY_ACT_BEFORE.get(layer.acts_by or "output", {"weight", "input"})
            other = next((x for x in others if x.acts_by not in may), None)
            if other is not None:
                raise NotMergeableError(
                    f"{layer.form} at {layer.insertion.position!r} cannot be merged while {other.form} at"
                    f" {other.insertion.position!r} is not: the result would be another one; merge or detach that one"
                    " first"
                )
