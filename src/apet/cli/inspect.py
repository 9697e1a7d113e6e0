"""Commands that look at backbones, methods and tasks; no weight is loaded."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apet.cli import defaults
from apet.cli.options import BudgetOption, Json
from apet.cli.output import format_bytes, print_json, print_table
from apet.errors import ApetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from apet.backbones.positions import Backbone, Layer, Position
    from apet.delta import DeltaSpec, Insertion, TrainableWeight

BackboneArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[BACKBONE]",
        help=f"Name (see apet backbones), folder or hub id; without it, {defaults.BACKBONE}.",
    ),
]


class Dtype(StrEnum):
    """Precision of the frozen weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"


OPTIMIZER_BYTES = 16
"""Of one trained float32 value: itself, its gradient and the two moments of AdamW."""
FILE_BYTES = 4
"""Of one saved float32 value."""


def inspect(
    backbone: BackboneArgument = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the method, such as rank=4 or prompt_length=50."),
    ] = None,
    method: Annotated[str, typer.Option(help="Name of the method (see apet methods).")] = "apet",
    budget: BudgetOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the mask and of the initial values.")] = 0,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Texts a step: estimates its memory and time beside full fine-tuning.")
    ] = None,
    length: Annotated[int | None, typer.Option(min=1, help="Tokens of a text, for that estimate; else 128.")] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Of the backbone, for that estimate; else float32.")] = None,
    json: Json = False,
) -> None:
    """Show what a method would train.

    Where, exactly how many parameters, and what they cost; before any weight is loaded.
    """
    from apet.api import describe
    from apet.cli.overrides import parse_pairs
    from apet.planning import plan

    if backbone is not None and "=" in backbone and not Path(backbone).exists():
        # The backbone may be left out: in ``inspect rank=4`` the first word is a setting.
        settings, backbone = [backbone, *(settings or ())], None
    name = defaults.default_backbone(backbone)
    values = parse_pairs(settings or ())
    for key in sorted({"method", "budget", "mask_seed", "init_seed", "seed"} & set(values)):
        option = "--seed" if key.endswith("seed") else f"--{key}"
        raise ApetError(f"{key}=… is not a setting of {method}; give it as {option}")
    description = describe(name)
    spec = plan(description, method, budget, mask_seed=seed, init_seed=seed, **values)
    if batch is None and not (length is None and dtype is None):
        raise ApetError("--length and --dtype are of the estimate of a step; give --batch, too, such as --batch 32")
    length, precision = length or 128, (dtype or Dtype.float32).value
    step = _estimate(name, spec, batch, length, precision) if batch is not None else None
    if json:
        print_json(
            {
                "backbone": name,
                "family": description.family,
                "num_backbone_parameters": description.num_parameters,
                "num_head_parameters": description.num_head_parameters,
                "method": method,
                "settings": values,
                "num_trainable": spec.num_trainable,
                "trainable_percent": spec.trainable_percent,
                "num_sites": len(spec.insertions),
                "training_bytes": OPTIMIZER_BYTES * spec.num_trainable,
                "file_bytes": FILE_BYTES * spec.num_trainable,
                "delta_fingerprint": spec.fingerprint,
                "unreached": list(description.unreached),
                "unprobed": description.unprobed,
                "mergeable": spec.mergeable,
                "merge_obstacles": list(spec.merge_obstacles or ()),
                "positions": _delta_weights(description, spec),
                "step": step,
            }
        )
        return
    _print_spec(name, method, description, spec)
    if step is not None:
        print(
            f"a step of {batch} texts of {length} tokens in {precision}: about {format_bytes(step['memory_bytes'])}"
            f" (weights {format_bytes(step['weights_bytes'])}, activations and gradients"
            f" {format_bytes(step['step_bytes'])}), {step['relative_memory']:.2f} x full fine-tuning's"
            f" {format_bytes(step['full_memory_bytes'])}; on this processor {step['relative_time']:.2f} x its time"
        )


def _estimate(name: str, spec: DeltaSpec, batch: int, length: int, dtype: str) -> dict[str, float]:
    """What a training step takes, as plain data."""
    import torch

    from apet.costs import estimate

    # On the standard error: of a large backbone that is not shortened it takes half a minute.
    e = estimate(name, spec, batch, length, dtype=getattr(torch, dtype), log=lambda line: print(line, file=sys.stderr))
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


def _delta_weights(description: Backbone, spec: DeltaSpec) -> list[dict[str, JsonValue]]:
    """The tensors that a DeltaSpec trains, with their position, role, shape and count."""
    places = _places(description)
    return [
        {
            "name": insertion.position,
            "form": insertion.form,
            "role": places[insertion.position].role,
            "weight": weight.name,
            "shape": list(weight.shape),
            "num_trainable": weight.mask.num_trainable,
            "carrier": _carrier(insertion, places),
            "transient_bytes": _transient_bytes(insertion, weight, places),
        }
        for insertion in spec.insertions
        for weight in insertion.weights
    ]


def _print_spec(name: str, method: str, description: Backbone, spec: DeltaSpec) -> None:
    """Counts, costs, and a table with one row for all tensors of one form, role and shape."""
    from apet.layers.merging import merge_note

    counts: dict[tuple[str, ...], list[int]] = {}
    places = _places(description)
    for insertion in spec.insertions:
        for weight in insertion.weights:
            key = (
                insertion.form,
                places[insertion.position].role,
                weight.name,
                " x ".join(map(str, weight.shape)),
                _described_carrier(insertion, weight, places),
            )
            counts.setdefault(key, []).append(weight.mask.num_trainable)
    print(
        f"{name} ({description.family}, {description.num_parameters:,} parameters)  {method}:"
        f"  {spec.num_trainable:,} trainable = {spec.trainable_percent:.4g} %, on {len(spec.insertions):,} layers and"
        " parameters"
    )
    head = description.num_head_parameters
    print(
        f"values, gradients and AdamW's state: {format_bytes(OPTIMIZER_BYTES * spec.num_trainable)};"
        f" saved: {format_bytes(FILE_BYTES * spec.num_trainable)}"
        + (f"; task head, counted apart: {head:,}" if head else "")
    )
    if description.unprobed:
        print(
            f"{description.model_class} could not be tried small ({description.unprobed}): gradients of parameters are"
            " taken from dense ones, and whether each of them is reached is not known"
        )
    if description.unreached:
        first, *others = description.unreached
        print(f"left out, as no gradient reaches them: {first}{f' and {len(others)} more' if others else ''}")
    print(merge_note(spec, description))
    print_table(
        ["form", "role", "weight", "shape", "carrier", "positions#", "trainable#"],
        [[*key, str(len(trainable)), f"{sum(trainable):,}"] for key, trainable in counts.items()],
    )


def _places(description: Backbone) -> dict[str, Layer | Position]:
    """Layers and positions by name; what an insertion acts on is one of them."""
    layers: dict[str, Layer | Position] = {layer.name: layer for layer in description.layers}
    return layers | {p.name: p for p in description.positions}


def _carrier(insertion: Insertion, places: Mapping[str, Layer | Position]) -> str:
    """How one insertion acts where nothing else is asked for; all but deltas of parameters add to an output."""
    place = places[insertion.position]
    return getattr(place, "carrier", "additive") if insertion.form == "weight" else "additive"


def _transient_bytes(insertion: Insertion, weight: TrainableWeight, places: Mapping[str, Layer | Position]) -> int:
    """Bytes of the dense float32 gradient that lives for a moment in each step."""
    return 4 * weight.mask.size if _carrier(insertion, places) == "substituted" else 0


def _described_carrier(insertion: Insertion, weight: TrainableWeight, places: Mapping[str, Layer | Position]) -> str:
    carrier = _carrier(insertion, places)
    if carrier == "substituted":
        return f"substituted, {format_bytes(_transient_bytes(insertion, weight, places))} for a moment"
    return carrier.replace("_", " ")


def positions(
    backbone: BackboneArgument = None,
    pattern: Annotated[
        list[str] | None, typer.Argument(help="Roles or names, such as attn.q or 'encoder.*.mlp.*'.")
    ] = None,
    json: Json = False,
) -> None:
    """List the positions of a backbone.

    Every parameter that a method can train, with its role and shape; tied tensors once.
    """
    from apet.api import describe

    description = describe(defaults.default_backbone(backbone))
    layers = description.select(pattern) if pattern else description.layers
    selected = [position for layer in layers for position in layer.positions]
    if json:
        print_json([{"name": p.name, "role": p.role, "shape": list(p.shape), "tied": list(p.tied)} for p in selected])
        return
    print_table(
        ["position", "role", "shape", "size#"],
        [[p.name, p.role, " x ".join(map(str, p.shape)), f"{p.size:,}"] for p in selected],
    )


def methods(
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, as in docs/methods.md.")] = False,
) -> None:
    """List methods, settings and distributions."""
    from apet.cli.listing import methods_in_words

    if markdown:
        _print_methods_page()
        return
    listing = methods_in_words()
    if json:
        print_json(listing)
        return
    print_table(
        ["method", "what it trains", "settings"],
        [[name, method["description"], ", ".join(method["settings"])] for name, method in listing["methods"].items()],
    )
    print()
    print_table(["distribution", "how entries lie in a weight"], [list(x) for x in listing["distributions"].items()])


def _print_methods_page() -> None:
    from apet.masks.distributions import DISTRIBUTIONS
    from apet.methods import registered_methods

    print("# Methods and distributions\n\nWritten by `apet methods --markdown` from the registries.")
    for name, method in registered_methods().items():
        print(f"\n## {name}\n\n{method.description}. Learning rate by default: {method.learning_rate:g}.")
        print("\n| setting | default | meaning |\n| --- | --- | --- |")
        for key, field in method.model_fields.items():
            default = "none" if field.default is None else field.default
            shown = ", ".join(default) if isinstance(default, tuple) else default
            print(f"| `{key}` | {shown} | {field.description} |")
    print("\n# Distributions\n\n| distribution | how entries lie in a weight | for |\n| --- | --- | --- |")
    for name, how in DISTRIBUTIONS.entries().items():
        serves = "parameters that the backbone has" if how.needs_scores else "every method"
        print(f"| `{name}` | {how.description.replace('|', chr(92) + '|')} | {serves} |")


def tasks(json: Json = False) -> None:
    """List the registered tasks.

    A task of your own is a YAML file like theirs, or --data FILE --text COLUMN --label COLUMN.
    """
    from apet.tasks.task import registered_tasks

    registered = registered_tasks()
    if json:
        print_json({name: task.model_dump(mode="json") for name, task in registered.items()})
        return
    print_table(
        ["task", "category", "metric", "labels", "description"],
        [
            [task.name, task.category, task.metric, ", ".join(task.label_words) or "free text", task.description]
            for task in registered.values()
        ],
    )


def backbones(json: Json = False) -> None:
    """List backbones by name, and families.

    Any local folder, hub id or transformers configuration of a known family serves, too.
    """
    from apet.backbones.family import families
    from apet.backbones.loading import has_local_weights
    from apet.backbones.registry import package_folder, packaged_backbones, published_shapes

    rows: list[dict[str, JsonValue]] = [
        {"name": name, "weights": package_folder(b.module) is not None, "description": b.description}
        for name, b in packaged_backbones().items()
    ]
    rows += [
        {"name": name, "weights": has_local_weights(name), "description": f"{s.description}; on the hub as {s.hub}"}
        for name, s in published_shapes().items()
    ]
    registered = families().values()
    if json:
        kinds = {f.name: {"kind": f.kind, "model_types": list(f.model_types)} for f in registered}
        print_json({"backbones": rows, "families": kinds})
        return
    print_table(
        ["backbone", "local weights", "description"],
        [[str(row["name"]), "yes" if row["weights"] else "no", str(row["description"])] for row in rows],
    )
    print()
    print_table(["family", "kind", "model types"], [[f.name, f.kind, ", ".join(f.model_types)] for f in registered])
