"""Commands that look at backbones, methods and tasks; no weight is loaded."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apet.cli import defaults
from apet.cli.options import BudgetOption, Json
from apet.cli.output import format_bytes, print_json, print_table
from apet.errors import ApetError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from apet.commands.inspect import Inspection

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
    from apet.cli.overrides import parse_pairs
    from apet.commands.inspect import inspect as look

    if backbone is not None and "=" in backbone and not Path(backbone).exists():
        # The backbone may be left out: in ``inspect rank=4`` the first word is a setting.
        settings, backbone = [backbone, *(settings or ())], None
    name = defaults.default_backbone(backbone)
    values = parse_pairs(settings or ())
    for key in sorted({"method", "budget", "mask_seed", "init_seed", "seed"} & set(values)):
        option = "--seed" if key.endswith("seed") else f"--{key}"
        raise ApetError(f"{key}=… is not a setting of {method}; give it as {option}")
    found = look(
        name,
        method=method,
        budget=budget,
        seed=seed,
        batch=batch,
        length=length,
        dtype=None if dtype is None else dtype.value,
        **values,
    )
    if json:
        print_json(found.as_dict())
        return
    _print_inspection(found)
    step = found.step_record()
    if step is not None:
        print(
            f"a step of {batch} texts of {length or 128} tokens in {(dtype or Dtype.float32).value}: about"
            f" {format_bytes(step['memory_bytes'])}"
            f" (weights {format_bytes(step['weights_bytes'])}, activations and gradients"
            f" {format_bytes(step['step_bytes'])}), {step['relative_memory']:.2f} x full fine-tuning's"
            f" {format_bytes(step['full_memory_bytes'])}; on this processor {step['relative_time']:.2f} x its time"
        )


def _print_inspection(found: Inspection) -> None:
    """Counts, costs, and a table with one row for all tensors of one form, role and shape."""
    description, spec = found.backbone, found.spec
    counts: dict[tuple[str, ...], list[int]] = {}
    for t in found.tensors:
        carrier = t.carrier.replace("_", " ")
        if t.transient_bytes:
            carrier = f"{carrier}, {format_bytes(t.transient_bytes)} for a moment"
        key = (t.form, t.role, t.weight, " x ".join(map(str, t.shape)), carrier)
        counts.setdefault(key, []).append(t.num_trainable)
    print(
        f"{found.name} ({description.family}, {description.num_parameters:,} parameters)  {found.method}:"
        f"  {spec.num_trainable:,} trainable = {spec.trainable_percent:.4g} %, on {len(spec.insertions):,} layers and"
        " parameters"
    )
    head = description.num_head_parameters
    print(
        f"values, gradients and AdamW's state: {format_bytes(found.training_bytes)};"
        f" saved: {format_bytes(found.file_bytes)}" + (f"; task head, counted apart: {head:,}" if head else "")
    )
    if description.unprobed:
        print(
            f"{description.model_class} could not be tried small ({description.unprobed}): gradients of parameters are"
            " taken from dense ones, and whether each of them is reached is not known"
        )
    if description.unreached:
        first, *others = description.unreached
        print(f"left out, as no gradient reaches them: {first}{f' and {len(others)} more' if others else ''}")
    print(found.merge_note)
    print_table(
        ["form", "role", "weight", "shape", "carrier", "positions#", "trainable#"],
        [[*key, str(len(trainable)), f"{sum(trainable):,}"] for key, trainable in counts.items()],
    )


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
    from apet.api import positions as listed

    selected = listed(defaults.default_backbone(backbone), pattern or ())
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
    from apet.commands.listing import list_tasks

    registered = list_tasks()
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
    from apet.commands.listing import list_backbones

    rows: list[dict[str, JsonValue]] = [{**vars(b)} for b in list_backbones().values()]
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
