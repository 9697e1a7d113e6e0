"""Commands that look: no weight is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from apet.cli import output as show
from apet.cli.defaults import BACKBONE
from apet.errors import ApetError

Named = Annotated[str, typer.Argument(metavar="BACKBONE", help="Name (apet backbones), folder or hub id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def inspect(
    backbone: Named = BACKBONE,
    settings: Annotated[list[str] | None, typer.Argument(help="Of the method: rank=4, prompt_length=50.")] = None,
    method: Annotated[str, typer.Option(help="See apet methods.")] = "apet",
    budget: Annotated[str | None, typer.Option(help="4096, 0.3%, =lora; none = the method's own size.")] = None,
    seed: Annotated[int, typer.Option(help="mask_seed and init_seed.")] = 0,
    json: Json = False,
) -> None:
    """What would be trained, where, exactly how much, and what it costs; before any weight is loaded."""
    from apet.api import describe
    from apet.budget import plan
    from apet.cli.overrides import parse_pairs

    if "=" in backbone and not Path(backbone).exists():  # inspect rank=4
        settings, backbone = [backbone, *(settings or ())], BACKBONE
    values = parse_pairs(settings or ())
    taken = sorted({"method", "budget", "mask_seed", "init_seed", "seed"} & set(values))
    if taken:
        raise ApetError(f"{taken[0]}=… is no setting of {method}; give it as --{taken[0].removeprefix('mask_')}")
    described = describe(backbone)
    theta = plan(described, method, budget, mask_seed=seed, init_seed=seed, **values)
    layer_of = {x.name: x for x in described.layers} | {p.name: p for p in described.positions}
    places: list[dict[str, Any]] = [
        {
            "name": i.position,
            "operation": i.operation,
            "role": layer_of[i.position].role,
            "weight": w.name,
            "shape": list(w.shape),
            "trainable": w.mask.num_trainable,
        }
        for i in theta.insertions
        for w in i.weights
    ]
    facts: dict[str, Any] = {
        "backbone": backbone,
        "family": described.family.name,
        "backbone_parameters": described.num_parameters,
        "head_parameters": described.num_head_parameters,
        "method": method,
        "settings": values,
        "num_trainable": theta.num_trainable,
        "trainable_percent": theta.trainable_percent,
        "training_bytes": 16 * theta.num_trainable,
        "file_bytes": 4 * theta.num_trainable,
        "delta_fingerprint": theta.fingerprint,
    }
    if json:
        show.as_json({**facts, "positions": places})
        return
    rows: dict[tuple[str, ...], list[int]] = {}
    for p in places:
        key = (str(p["operation"]), str(p["role"]), str(p["weight"]), " x ".join(map(str, p["shape"])))
        rows.setdefault(key, []).append(p["trainable"])
    print(
        f"{backbone} ({described.family.name}, {described.num_parameters:,} parameters)  {method}:"
        f"  {theta.num_trainable:,} trainable = {theta.trainable_percent:.4g} %"
    )
    print(
        f"values, gradients and AdamW's state: {show.size(16 * theta.num_trainable)}; saved: {show.size(4 * theta.num_trainable)}"
        + (f"; task head, counted apart: {described.num_head_parameters:,}" if described.num_head_parameters else "")
    )
    show.as_table(
        ["operation", "role", "weight", "shape", "places#", "trainable#"],
        [[*key, str(len(counts)), f"{sum(counts):,}"] for key, counts in rows.items()],
    )


def positions(
    backbone: Named = BACKBONE,
    pattern: Annotated[
        list[str] | None, typer.Argument(help="Roles or names, such as attn.q or 'encoder.*.mlp.*'.")
    ] = None,
    json: Json = False,
) -> None:
    """Every place of a backbone where something can be trained."""
    from apet.api import describe

    described = describe(backbone)
    layers = described.select(pattern) if pattern else described.layers
    found = [p for x in layers for p in x.positions]
    if json:
        show.as_json([{"name": p.name, "role": p.role, "shape": list(p.shape), "tied": list(p.tied)} for p in found])
        return
    show.as_table(
        ["position", "role", "shape", "size#"],
        [[p.name, p.role, " x ".join(map(str, p.shape)), f"{p.size:,}"] for p in found],
    )


def methods(
    json: Json = False, markdown: Annotated[bool, typer.Option("--markdown", help="As docs/methods.md.")] = False
) -> None:
    """Methods and their settings."""
    from apet.api import list_methods as registered

    found = registered()
    if json:
        show.as_json(
            {
                name: {"description": m.description, "settings": {k: f.description for k, f in m.model_fields.items()}}
                for name, m in found.items()
            }
        )
        return
    if markdown:
        print("# Methods\n\nWritten by `apet methods --markdown` from the registry.")
        for name, m in found.items():
            usual = f"{m.learning_rate:g}"
            print(
                f"\n## {name}\n\n{m.description}. The paper's learning rate: {usual}.\n\n| setting | default | meaning |"
            )
            print("| --- | --- | --- |")
            for key, f in m.model_fields.items():
                default = "none" if f.default is None else f.default
                print(
                    f"| `{key}` | {', '.join(default) if isinstance(default, tuple) else default} | {f.description} |"
                )
        return
    show.as_table(
        ["method", "what it trains", "settings"],
        [[name, m.description, ", ".join(m.model_fields)] for name, m in found.items()],
    )


def tasks(json: Json = False) -> None:
    """Tasks that ship. Your own: a YAML like theirs, or --data FILE --text COLUMN --label COLUMN."""
    from apet.tasks.task import registered_tasks as shipped

    found = shipped()
    if json:
        show.as_json({name: t.model_dump(mode="json") for name, t in found.items()})
        return
    show.as_table(
        ["task", "category", "metric", "labels", "description"],
        [
            [t.name, t.category, t.metric, ", ".join(t.label_words) or "free text", t.description]
            for t in found.values()
        ],
    )


def backbones(json: Json = False) -> None:
    """Backbones by name; any local folder, hub id or transformers configuration of a known family serves, too."""
    from apet.backbones.family import families
    from apet.backbones.loading import has_local_weights
    from apet.backbones.registry import package_folder, packaged_backbones, published_shapes

    rows = [
        {"name": n, "weights": package_folder(p.module) is not None, "description": p.description}
        for n, p in packaged_backbones().items()
    ] + [
        {"name": n, "weights": has_local_weights(n), "description": f"{s.description}; on the hub as {s.hub}"}
        for n, s in published_shapes().items()
    ]
    kinds = {f.name: {"kind": f.kind, "model_types": list(f.model_types)} for f in families().values()}
    if json:
        show.as_json({"backbones": rows, "families": kinds})
        return
    show.as_table(
        ["backbone", "weights here", "description"],
        [[str(r["name"]), "yes" if r["weights"] else "no", str(r["description"])] for r in rows],
    )
    print()
    show.as_table(
        ["family", "kind", "model types"],
        [[name, str(k["kind"]), ", ".join(k["model_types"])] for name, k in kinds.items()],
    )
