"""Every place of a backbone where something can be trained, found strictly: nothing is skipped without a word."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

from torch import nn
from transformers.pytorch_utils import Conv1D

from apet.backbones.family import Family, families, family_of
from apet.errors import ApetError, UnknownNameError

LayerKind = Literal["linear", "norm", "embedding"]


@dataclass(frozen=True)
class Position:
    """One addressable place: a parameter of a layer, or the layer's output.

    Attributes:
        name: ``stack.layer.role.parameter`` (the layer number is absent outside the blocks).
        parameter: ``"weight"`` and ``"bias"`` are parameters that exist; ``"output"`` is the hidden state the
            layer returns, ``(batch, seq, d_out)``, addressed by its last axis.
        shape: of the parameter as PyTorch stores it; ``(d_out,)`` for an output.
        tied: other names of the same tensor. It is listed and counted once.
        unused: flat entries ``[first, last)`` that no input reaches or no gradient: the first rows where positions are
            counted from row 2 (RoBERTa, OPT); a padding token's row, unless an output projection shares it; the
            encoder's bucket of T5 for "zero steps ahead".
    """

    name: str
    stack: str
    layer: int | None
    role: str
    parameter: str
    shape: tuple[int, ...]
    kind: LayerKind
    module: str
    tied: tuple[str, ...] = ()
    unused: tuple[int, int] = (0, 0)

    @property
    def size(self) -> int:
        """Number of entries."""
        n = 1
        for s in self.shape:
            n *= s
        return n

    @property
    def num_unused(self) -> int:
        """Number of unused entries."""
        return self.unused[1] - self.unused[0]

    @property
    def layer_name(self) -> str:
        """The layer's name, without the parameter: ``encoder.0.attn.q``."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Layer:
    """One layer f of the paper (eq. 1): ``h_out (batch, seq, d_out) = f(h_in (batch, seq, d_in))``."""

    stack: str
    index: int | None
    role: str
    module: str
    kind: LayerKind
    d_in: int
    d_out: int
    positions: tuple[Position, ...]

    @property
    def name(self) -> str:
        """Such as ``encoder.0.attn.q``."""
        return layer_name(self.stack, self.index, self.role)

    def position(self, parameter: str) -> Position | None:
        """The position of this parameter, or None where the layer has none (or shares one listed elsewhere)."""
        return next((p for p in self.positions if p.parameter == parameter), None)


@dataclass(frozen=True)
class Backbone:
    """What is known of a model without looking at one weight.

    Attributes:
        num_parameters: every parameter of the model as given, tied tensors once, the task head included: the number
            that the paper divides by.
        num_head_parameters: those of a task head (a classifier that pre-training did not make).
        width: entries of one input embedding, and so of one soft prompt token.
        head: names of the task head's parameters in the model.
    """

    family: Family
    model_class: str
    model_type: str
    layers: tuple[Layer, ...]
    num_parameters: int
    num_head_parameters: int
    width: int
    head: tuple[str, ...]

    @property
    def positions(self) -> tuple[Position, ...]:
        """All positions, in the order of the layers."""
        return tuple(p for layer in self.layers for p in layer.positions)

    def layer(self, name: str) -> Layer:
        """Look up a layer by its name.

        Returns:
            The layer.

        Raises:
            UnknownNameError: there is none; the nearest names are given.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise UnknownNameError(f"layer of {self.model_class}", name, (x.name for x in self.layers))

    def position(self, name: str) -> Position:
        """Look up a position by its name.

        Returns:
            The position.

        Raises:
            UnknownNameError: there is none; the nearest names are given.
        """
        for position in self.positions:
            if position.name == name:
                return position
        raise UnknownNameError(f"position of {self.model_class}", name, (p.name for p in self.positions))

    def select(self, patterns: Sequence[str]) -> tuple[Layer, ...]:
        """Layers whose role or name matches a pattern, each once, in model order.

        A pattern is a role (``attn.q``), the beginning of one up to a dot (``attn``), a layer's name
        (``encoder.0.attn.q``) or either with wildcards (``encoder.*.mlp.*``).

        Returns:
            The layers.

        Raises:
            UnknownNameError: a pattern matches nothing.
        """
        chosen: set[str] = set()
        for pattern in patterns:
            hits = {x.name for x in self.layers if _matches(pattern, x)}
            if not hits:
                known = {x.role for x in self.layers} | {x.name for x in self.layers if x.index in (None, 0)}
                raise UnknownNameError(f"role of {self.model_class}", pattern, known)
            chosen |= hits
        return tuple(x for x in self.layers if x.name in chosen)

    def has_role(self, role: str) -> bool:
        """Whether any layer plays exactly this role."""
        return any(x.role == role for x in self.layers)


def _matches(pattern: str, layer: Layer) -> bool:
    return any(
        name == pattern or name.startswith(pattern + ".") or fnmatch.fnmatchcase(name, pattern)
        for name in (layer.role, layer.name)
    )


def layer_name(stack: str, index: int | None, role: str) -> str:
    """``stack.layer.role``; the role alone where it begins with the stack's name (``lm_head.norm``)."""
    if role == stack or role.startswith(stack + "."):
        return role
    return ".".join([stack, role] if index is None else [stack, str(index), role])


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
    found = Backbone(
        family=family,
        model_class=type(model).__name__,
        model_type=getattr(model, "config").model_type,
        layers=tuple(layers),
        num_parameters=total,
        num_head_parameters=n_head,
        width=tokens.d_out if tokens else 0,
        head=tuple(head),
    )
    return found, missing


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
    return Layer(stack, index, role, path, kind, d_in, d_out, tuple(positions))


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
