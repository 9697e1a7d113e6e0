"""What a method would train on a backbone, and what it costs; no weight is loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd
import torch
from pydantic import JsonValue

from apet.api import describe
from apet.backbones.positions import Backbone, Layer, Position
from apet.costs import Estimate, estimate
from apet.delta import DeltaSpec, Insertion, TrainableWeight
from apet.display import html_notes, html_table
from apet.errors import ApetError
from apet.layers.merging import merge_note
from apet.planning import plan

OPTIMIZER_BYTES = 16
"""Of one trained float32 value: itself, its gradient and the two moments of AdamW."""
FILE_BYTES = 4
"""Of one saved float32 value."""
DEFAULT_LENGTH = 128
"""Tokens of a text, where an estimate is asked for without saying."""


@dataclass(frozen=True)
class TrainedTensor:
    """A tensor of a delta at its place.

    Attributes:
        name: of the position or layer.
        form: of the delta there.
        role: of the place.
        weight: name of the tensor.
        shape: of it.
        num_trainable: entries that are trained.
        carrier: how it acts.
        transient_bytes: of the dense float32 gradient that lives for a moment in each step.
    """

    name: str
    form: str
    role: str
    weight: str
    shape: tuple[int, ...]
    num_trainable: int
    carrier: str
    transient_bytes: int


@dataclass(frozen=True)
class Inspection:
    """What a method would train: where, exactly how many parameters, and what they cost.

    Attributes:
        name: of the backbone, as it was asked for.
        method: registered name.
        settings: of the method.
        backbone: its description.
        spec: what is trained.
        step: what a training step takes; None = not asked for.
        tensors: that are trained, with their places.
    """

    name: str
    method: str
    settings: Mapping[str, JsonValue]
    backbone: Backbone
    spec: DeltaSpec
    step: Estimate | None = None
    tensors: tuple[TrainedTensor, ...] = field(default=(), repr=False)

    @property
    def training_bytes(self) -> int:
        """Of values, gradients and AdamW's state."""
        return OPTIMIZER_BYTES * self.spec.num_trainable

    @property
    def file_bytes(self) -> int:
        """Of the saved values."""
        return FILE_BYTES * self.spec.num_trainable

    @property
    def merge_note(self) -> str:
        """Whether it merges into the backbone, and what to pass where it does not."""
        return merge_note(self.spec, self.backbone)

    def table(self) -> pd.DataFrame:
        """One row a tensor: name, form, role, weight, shape, num_trainable, carrier, transient_bytes."""
        return pd.DataFrame([vars(t) for t in self.tensors])

    def step_record(self) -> dict[str, float] | None:
        """What a training step takes, as plain data."""
        e = self.step
        if e is None:
            return None
        return {
            "weights_bytes": e.delta.weights_bytes,
            "trained_bytes": e.delta.trained_bytes,
            "step_bytes": e.delta.step_bytes,
            "memory_bytes": e.delta.memory_bytes,
            "full_memory_bytes": e.full.memory_bytes,
            "relative_memory": e.relative_memory,
            "relative_time": e.relative_time,
            "flops": e.delta.flops,
        }

    def as_dict(self) -> dict[str, object]:
        """Everything as plain data, for JSON."""
        backbone, spec = self.backbone, self.spec
        return {
            "backbone": self.name,
            "family": backbone.family,
            "num_backbone_parameters": backbone.num_parameters,
            "num_head_parameters": backbone.num_head_parameters,
            "method": self.method,
            "settings": dict(self.settings),
            "num_trainable": spec.num_trainable,
            "trainable_percent": spec.trainable_percent,
            "num_sites": len(spec.insertions),
            "training_bytes": self.training_bytes,
            "file_bytes": self.file_bytes,
            "delta_fingerprint": spec.fingerprint,
            "unreached": list(backbone.unreached),
            "unprobed": backbone.unprobed,
            "mergeable": spec.mergeable,
            "merge_obstacles": list(spec.merge_obstacles or ()),
            "positions": [{**vars(t), "shape": list(t.shape)} for t in self.tensors],
            "step": self.step_record(),
        }

    def _repr_html_(self) -> str:
        counts: dict[tuple[str, str, str, str, str], list[int]] = {}
        for t in self.tensors:
            shape = " x ".join(map(str, t.shape))
            counts.setdefault((t.form, t.role, t.weight, shape, t.carrier), []).append(t.num_trainable)
        rows = [(*key, len(trained), sum(trained)) for key, trained in counts.items()]
        title = f"{self.method} on {self.name}: {self.spec.num_trainable:,} = {self.spec.trainable_percent:.4g} %"
        columns = ("form", "role", "weight", "shape", "carrier", "positions", "trainable")
        return html_table(title, columns, rows) + html_notes([self.merge_note])


def inspect(
    backbone: str,
    *,
    method: str = "apet",
    budget: int | str | None = None,
    seed: int = 0,
    batch: int | None = None,
    length: int | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    **settings: JsonValue,
) -> Inspection:
    """Say what a method would train, where, and what it costs; before any weight is loaded.

    Args:
        backbone: packaged name, folder or hub id.
        method: registered name.
        budget: exact number of parameters: 4096, ``"0.3%"``, ``"=lora"``; None = the method's default.
        seed: of the mask and of the initial values.
        batch: texts a step: estimates its memory and time beside full fine-tuning; None = no estimate.
        length: tokens of a text, for that estimate; None = 128.
        dtype: of the backbone, for that estimate; None = float32.
        **settings: of the method, such as ``rank``.

    Returns:
        Counts, tensors and costs.

    Raises:
        ApetError: a name that leads nowhere, a budget that the method cannot have, or half of an estimate.

    Examples:
        >>> import apet
        >>> found = apet.inspect("bert-small", method="lora", rank=1)
        >>> found.spec.num_trainable, found.table()["role"].unique().tolist()
        (8192, ['attn.q', 'attn.v'])
    """
    description = describe(backbone)
    spec = plan(description, method, budget, mask_seed=seed, init_seed=seed, **settings)
    if batch is None and not (length is None and dtype is None):
        raise ApetError("--length and --dtype are of the estimate of a step; give --batch, too, such as --batch 32")
    step = None
    if batch is not None:
        # On the standard error: of a large backbone that is not shortened it takes half a minute.
        precision = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        step = estimate(backbone, spec, batch, length or DEFAULT_LENGTH, dtype=precision, log=_log)
    return Inspection(backbone, method, settings, description, spec, step, _tensors(description, spec))


def _log(line: str) -> None:
    print(line, file=sys.stderr)


def _tensors(backbone: Backbone, spec: DeltaSpec) -> tuple[TrainedTensor, ...]:
    """The tensors that a DeltaSpec trains, with their places."""
    places: dict[str, Layer | Position] = {layer.name: layer for layer in backbone.layers}
    places |= {f"{layer.name}.input": layer for layer in backbone.layers}  # (IA)³ scales what a layer is given
    places |= {p.name: p for p in backbone.positions}
    return tuple(
        _tensor(insertion, weight, places[insertion.position])
        for insertion in spec.insertions
        for weight in insertion.weights
    )


def _tensor(insertion: Insertion, weight: TrainableWeight, place: Layer | Position) -> TrainedTensor:
    # How it acts where nothing else is asked for; all but deltas of parameters add to an output.
    carrier = getattr(place, "carrier", "additive") if insertion.form == "weight" else "additive"
    return TrainedTensor(
        name=insertion.position,
        form=insertion.form,
        role=place.role,
        weight=weight.name,
        shape=tuple(weight.shape),
        num_trainable=weight.mask.num_trainable,
        carrier=carrier,
        transient_bytes=4 * weight.mask.size if carrier == "substituted" else 0,
    )
