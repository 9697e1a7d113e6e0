"""Every place of a backbone where something can be trained, found strictly: nothing is skipped without a word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from transformers.pytorch_utils import Conv1D

from apet.backbones.family import Family, families, family_of
from apet.backbones.positions import Backbone, Layer, LayerKind, Position, layer_name
from apet.errors import ApetError

_described: WeakKeyDictionary[nn.Module, tuple[int, Backbone]] = WeakKeyDictionary()


def describe(model: nn.Module) -> Backbone:
    """Read the backbone's layers and positions off a model (weights may be on the meta device).

    Returns:
        Layers, positions and counts.

    Raises:
        ApetError: the architecture is unknown and its module tree fits no family, or a parameter of a known
            family plays no role in its file.
    """
    config: Any = getattr(model, "config", None)
    model_type = getattr(config, "model_type", None)
    if model_type is None:
        raise ApetError(
            f"{type(model).__name__} has no config.model_type; give a transformers model, configuration or folder"
        )
    # Attaching, fingerprints, heads and objectives ask again for every run on a model; its tree hardly ever changes.
    tree = _tree(model)
    known = _described.get(model)
    if known is None or known[0] != tree:
        known = _described[model] = tree, _describe(model, model_type)
    return known[1]


def _tree(model: nn.Module) -> int:
    """A number that is another one when a module or a parameter is added, removed, exchanged, tied or resized."""
    modules = tuple((name, id(type(m))) for name, m in model.named_modules(remove_duplicate=False))
    parameters = tuple((name, id(p), tuple(p.shape)) for name, p in model.named_parameters(remove_duplicate=False))
    return hash((modules, parameters))


def _describe(model: nn.Module, model_type: str) -> Backbone:
    family = family_of(model_type)
    if family is not None:
        found, missing = _read(model, family)
        if missing:
            raise ApetError(
                f"parameter {missing[0]!r} of {type(model).__name__} plays no role in family {family.name!r}"
                f" ({len(missing)} such); add its path to backbones/families/{family.name}.yaml"
            )
        return found
    # A guess would train other layers than the user means: exactly one family must explain every parameter.
    fits = []
    for candidate in families().values():
        try:
            found, missing = _read(model, candidate)
        except ApetError:  # a path of this family leads to another kind of module
            continue
        if not missing and any(x.index is not None for x in found.layers):
            fits.append(found)
    if len(fits) == 1:
        return fits[0]
    raise ApetError(
        f"no family describes model type {model_type!r} ({type(model).__name__}) and its module tree fits"
        f" {'no family' if not fits else 'several families'} fully; add it to `model_types` of its family,"
        f" or write backbones/families/{model_type}.yaml (known: {', '.join(families())})"
    )


def _read(model: nn.Module, family: Family) -> tuple[Backbone, list[str]]:
    """The backbone as this family sees it, and the parameters it has no role for."""
    modules = dict(model.named_modules(remove_duplicate=False))  # a family's file may name a shared one by any name
    base = getattr(model, "base_model", model)
    prefix = next((name for name, m in modules.items() if m is base), "")
    names: dict[int, list[str]] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        if not name.startswith(OWN_PREFIX):
            names.setdefault(id(p), []).append(name)
    seen: set[int] = set()
    layers: list[Layer] = []

    def add(stack: str, index: int | None, role: str, path: str) -> bool:
        module = modules.get(path)
        if module is None:
            return False
        layers.append(_layer(stack, index, role, path, modules, names, seen))
        return True

    for stack, roles in family.stacks.items():
        flat = {r: ps for r, ps in roles.items() if "*" not in ps[0]}
        blocks = {r: ps for r, ps in roles.items() if "*" in ps[0]}
        # What the file names before the blocks comes before them in the model (embeddings), the rest after (norms).
        first_block = list(roles).index(next(iter(blocks))) if blocks else len(roles)
        before = [r for r in flat if list(roles).index(r) < first_block]
        for role in before:
            any(add(stack, None, role, _join(prefix, p)) for p in flat[role])  # stops at the first path that exists
        for index in range(_depth(modules, [_join(prefix, p) for ps in blocks.values() for p in ps])):
            for role, paths in blocks.items():
                any(add(stack, index, role, _join(prefix, p).replace("*", str(index))) for p in paths)
        for role in flat:
            if role not in before:
                any(add(stack, None, role, _join(prefix, p)) for p in flat[role])
    for role, paths in family.lm_head.items():
        any(add("lm_head", None, role, p) for p in paths)

    inside = {id(p) for p in base.parameters()} if base is not model else set()
    head, missing, total, n_head = [], [], 0, 0
    for pid, aliases in names.items():
        n = model.get_parameter(aliases[0]).numel()
        total += n
        if pid in seen:
            continue
        if base is not model and pid not in inside:  # outside of what was pre-trained: a head put on it for a task
            head.append(aliases[0])
            n_head += n
        else:
            missing.append(aliases[0])
    tokens = next((x for x in layers if x.role == "embed.tokens"), None)
    backbone = Backbone(
        family=family,
        model_class=type(model).__name__,
        model_type=getattr(model, "config").model_type,
        layers=tuple(layers),
        num_parameters=total,
        num_head_parameters=n_head,
        width=tokens.d_out if tokens else 0,
        head=tuple(head),
    )
    return backbone, missing


OWN_PREFIX = "apet."
"""Parameters that this library attached live under ``model.apet`` and are not positions."""


def _join(prefix: str, path: str) -> str:
    return f"{prefix}.{path}" if prefix else path


def _depth(modules: dict[str, nn.Module], templates: Iterable[str]) -> int:
    lists = {t.split(".*")[0] for t in templates}
    return max((len(m) for name in lists if isinstance(m := modules.get(name), nn.ModuleList)), default=0)


def _layer(
    stack: str,
    index: int | None,
    role: str,
    path: str,
    modules: dict[str, nn.Module],
    names: dict[int, list[str]],
    seen: set[int],
) -> Layer:
    module = modules[path]
    kind, d_in, d_out = _shape_of(path, module)
    site = layer_name(stack, index, role)

    positions = []
    for parameter, p in module.named_parameters(recurse=False):
        if id(p) not in seen:
            seen.add(id(p))
            tied = tuple(n for n in names[id(p)] if n != f"{path}.{parameter}")
            # An output projection gives each row of a table that it shares a gradient, the padding's row, too.
            projects = any(isinstance(modules.get(n.rpartition(".")[0]), nn.Linear) for n in tied)
            unused = (0, 0) if projects else _unused(stack, role, module)
            name = f"{site}.{parameter}"
            positions.append(Position(name, stack, index, role, parameter, tuple(p.shape), kind, path, tied, unused))
    positions.append(Position(f"{site}.output", stack, index, role, "output", (d_out,), kind, path))
    # A bias that two layers share is listed at the first alone: what is added to it would change both.
    shares_bias = getattr(module, "bias", None) is not None and not any(p.parameter == "bias" for p in positions)
    can_hold_bias = isinstance(module, nn.Linear | Conv1D | nn.LayerNorm) and not shares_bias
    return Layer(stack, index, role, path, kind, d_in, d_out, tuple(positions), can_hold_bias)


def _unused(stack: str, role: str, module: nn.Module) -> tuple[int, int]:
    """Flat entries of the module's parameter that nothing can train."""
    if not isinstance(module, nn.Embedding):
        return 0, 0
    rows, d, padding = module.num_embeddings, module.embedding_dim, module.padding_idx
    if role == "embed.positions":
        first_used: int = getattr(module, "offset", 0) if padding is None else padding + 1
        return 0, first_used * d
    if role == "attn.relative_bias" and stack == "encoder":  # the upper half of the buckets looks ahead
        return rows // 2 * d, (rows // 2 + 1) * d
    return (0, 0) if padding is None else (padding * d, (padding + 1) * d)


def _shape_of(path: str, module: nn.Module) -> tuple[LayerKind, int, int]:
    if isinstance(module, nn.Linear):
        return "linear", module.in_features, module.out_features
    if isinstance(module, Conv1D):  # GPT-2's linear layer; stores (d_in, d_out)
        return "linear", module.nx, module.nf
    if isinstance(module, nn.Embedding):
        return "embedding", module.num_embeddings, module.embedding_dim
    if type(module).__name__.endswith("Norm"):
        scale = next(module.parameters(), None)
        if scale is not None:
            return "norm", scale.shape[-1], scale.shape[-1]
    raise ApetError(
        f"module {path!r} is a {type(module).__name__}; expected a linear layer, an embedding or a norm."
        " Correct the path in the family's YAML file"
    )
