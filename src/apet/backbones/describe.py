"""Every place of a backbone where something can be trained: each parameter of any module tree is a position.

A family's file names roles; paths tell those of other architectures; what neither names is addressed by its path.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal
from weakref import WeakKeyDictionary

from torch import nn
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from apet.backbones.base_model import base_model_of
from apet.backbones.family import Family, family_of, is_built_in
from apet.backbones.layer_kinds import OTHER, PYTORCHS_OWN, layer_kind, unused_entries
from apet.backbones.positions import Backbone, Layer, LayerKind, Position, layer_name
from apet.backbones.probe import Probe, generic_path, is_in_last_block, probe
from apet.backbones.roles import outside_role, role_of
from apet.errors import ApetError
from apet.kernels.formulas import Owner, formulas_of
from apet.kernels.storage import logical_shape

OWN_PREFIX = "apet."
"""Parameters that this library attached live under ``model.apet`` and are not positions."""

_described: WeakKeyDictionary[nn.Module, tuple[int, Backbone]] = WeakKeyDictionary()


def describe(model: nn.Module) -> Backbone:
    """Read the backbone's layers and positions off a model (weights may be on the meta device).

    Returns:
        Layers, positions and counts.

    Raises:
        ApetError: the model has no configuration of transformers.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, PreTrainedConfig):
        raise ApetError(
            f"{type(model).__name__} has no config.model_type; give a transformers model, configuration or folder"
        )
    # Attaching, fingerprints, heads and objectives ask again for every run on a model; its tree hardly ever changes.
    tree = _tree(model)
    known = _described.get(model)
    if known is None or known[0] != tree:
        known = _described[model] = tree, _describe(model, config)
    return known[1]


def _tree(model: nn.Module) -> int:
    """A number that is another one when a module or a parameter is added, removed, exchanged, tied or resized."""
    modules = tuple((name, id(type(m))) for name, m in model.named_modules(remove_duplicate=False))
    parameters = tuple((name, id(p), tuple(p.shape)) for name, p in model.named_parameters(remove_duplicate=False))
    return hash((modules, parameters))


def _describe(model: nn.Module, config: PreTrainedConfig) -> Backbone:
    return _Reader(model, config).read()


class _Reader:
    """One reading of a model's tree.

    Attributes:
        facts: what the architecture does, where no family of this package states it.
        seen: parameters that have a position already, by identity.
    """

    def __init__(self, model: nn.Module, config: PreTrainedConfig) -> None:
        self.model, self.config = model, config
        self.family = family_of(config.model_type)
        # A family of this package states facts about transformers' own classes, not about one that somebody derived.
        is_stated = self.family is not None and is_built_in(self.family) and type(model).__module__.startswith(_MODELS)
        self.facts = Probe() if is_stated else probe(type(model), config)
        self.modules = dict(model.named_modules(remove_duplicate=False))  # a shared one goes by any of its names
        self.base = base_model_of(model)
        self.prefix = next((name for name, m in self.modules.items() if m is self.base), "")
        self.owners: dict[int, list[Owner]] = {}
        for path, module in self.modules.items():
            if not f"{path}.".startswith(OWN_PREFIX):
                for name, p in module.named_parameters(recurse=False):
                    self.owners.setdefault(id(p), []).append(Owner(path, module, name))
        self.seen: set[int] = set()
        self.layers: list[Layer] = []
        self.names: set[str] = set()

    def read(self) -> Backbone:
        """Describe the model.

        Returns:
            The description.

        Raises:
            ApetError: a family's file leads to a module of another kind.
        """
        if self.family is not None:
            self._read_family(self.family)
        head, unreached = self._read_rest()
        family, facts = self.family, self.facts
        kind = family.kind if family is not None else facts.kind or _kind_by_config(self.config)
        tokens = next((x for x in self.layers if x.role == "embed.tokens"), None)
        insertion = family.prompt_insertion if family is not None else facts.prompt_insertion
        obstacle = "" if insertion is not None else facts.prompt_obstacle or "it could not be tried small"
        if tokens is None:
            insertion, obstacle = None, "its token embedding is not found"
        sizes = {
            owner[0].path + "." + owner[0].name: math.prod(logical_shape(self._parameter(pid)))
            for pid, owner in self.owners.items()
        }
        return Backbone(
            family=family.name if family is not None else self.config.model_type,
            kind=kind,
            model_class=type(self.model).__name__,
            model_type=self.config.model_type,
            layers=tuple(self.layers),
            num_parameters=sum(sizes.values()),
            num_head_parameters=sum(math.prod(logical_shape(self.model.get_parameter(name))) for name in head),
            width=tokens.d_out if tokens else 0,
            head=tuple(head),
            prompt_insertion=insertion,
            prompt_obstacle=obstacle,
            unreached=tuple(unreached),
            unprobed=facts.failure,
        )

    def _parameter(self, pid: int) -> nn.Parameter:
        owner = self.owners[pid][0]
        p = owner.module._parameters[owner.name]
        assert p is not None
        return p

    def _read_family(self, family: Family) -> None:
        """Add the layers that a family's file names, in its order."""

        def add(stack: str, index: int | None, role: str, path: str) -> bool:
            if path not in self.modules:
                return False
            constant = family.rotary_embeddings or not role.endswith((".k", ".qkv"))
            self._add(stack, index, role, path, layer_name(stack, index, role), constant)
            return True

        for stack, roles in family.stacks.items():
            flat = {r: ps for r, ps in roles.items() if "*" not in ps[0]}
            blocks = {r: ps for r, ps in roles.items() if "*" in ps[0]}
            # What the file names before the blocks comes before them in the model (embeddings), the rest after (norms).
            first_block = list(roles).index(next(iter(blocks))) if blocks else len(roles)
            before = [r for r in flat if list(roles).index(r) < first_block]
            for role in before:
                any(add(stack, None, role, _join(self.prefix, p)) for p in flat[role])  # stops at the first that exists
            for index in range(_depth(self.modules, [_join(self.prefix, p) for ps in blocks.values() for p in ps])):
                for role, paths in blocks.items():
                    any(add(stack, index, role, _join(self.prefix, p).replace("*", str(index))) for p in paths)
            for role in flat:
                if role not in before:
                    any(add(stack, None, role, _join(self.prefix, p)) for p in flat[role])
        for role, paths in family.lm_head.items():
            any(add("lm_head", None, role, p) for p in paths)

    def _read_rest(self) -> tuple[list[str], list[str]]:
        """Add every module whose parameters no family has named.

        Returns:
            Names of the task head's parameters, and of those that get no gradient.
        """
        inside = {id(p) for p in self.base.parameters()} if self.base is not self.model else None
        head, unreached = [], []
        paths: dict[str, None] = {}
        for pid, owners in self.owners.items():
            if pid in self.seen:
                continue
            path = f"{owners[0].path}.{owners[0].name}".lstrip(".")
            if self._is_task_head(path, pid, inside):
                head.append(path)
            elif self._is_unreached(path):
                self.seen.add(pid)
                unreached.append(path)
            else:
                paths[self._using_owner(owners)] = None
        if paths and not self.facts.parameters and not self.facts.failure:
            # The model has more than its family's file names: what that does must be tried.
            self.facts = probe(type(self.model), self.config)
        for path in paths:
            self._add_by_path(path)
        output = self._embedding("get_output_embeddings")
        if output is not None and self.family is None:  # tied and without a bias, it has no parameter of its own
            path = next((name for name, m in self.modules.items() if m is output), "")
            if path and all(x.module != path for x in self.layers):
                name = path if "lm_head" in self.names else "lm_head"
                self._add("lm_head", None, "lm_head", path, name, constant_has_effect=True)
        return head, unreached

    def _is_unreached(self, path: str) -> bool:
        """Whether no gradient reaches a parameter, or its authors do not train it."""
        facts, generic = self.facts, generic_path(path)
        in_last = generic in facts.unreached_in_last and is_in_last_block(self.model, path)
        return in_last or generic in facts.unreached | facts.constants

    def _using_owner(self, owners: list[Owner]) -> str:
        """Path of the module that computes with a parameter, among those that hold it."""
        used = [o.path for o in owners if generic_path(o.path) not in self.facts.uncalled]
        leaves = [o.path for o in owners if o.path in used and next(o.module.children(), None) is None]
        return (leaves or used or [owners[0].path])[0]

    def _embedding(self, getter: str) -> nn.Module | None:
        """What a model names as its embedding or its output projection."""
        get: Any = getattr(self.model, getter, None)
        try:
            module = get() if callable(get) else None
        except (NotImplementedError, AttributeError):  # transformers' way of saying that there is none
            return None
        return module if isinstance(module, nn.Module) else None

    def _is_embedding(self, module: nn.Module, getter: str) -> bool:
        """Whether a module is the embedding of that name, or another one around the same tensor."""
        named = self._embedding(getter)
        weight = None if named is None else named._parameters.get("weight")
        return module is named or (weight is not None and module._parameters.get("weight") is weight)

    def _is_task_head(self, path: str, pid: int, inside: set[int] | None) -> bool:
        """Whether a parameter belongs to what pre-training did not make: a head put on for a task."""
        name = type(self.model).__name__
        if not any(kind in name for kind in ("SequenceClassification", "TokenClassification")) and self.family is None:
            return False  # heads of language models are pre-trained
        if inside is not None:
            return pid not in inside
        return self.family is None and path.split(".")[0] in _HEADS

    def _add_by_path(self, path: str) -> None:
        """Add a layer by what its path tells."""
        module = self.modules[path]
        local = path.removeprefix(f"{self.prefix}.") if self.prefix else path
        parts = local.split(".")
        block = next((n for n, part in enumerate(parts) if part.isdigit()), None)
        is_norm = self._kind(path, module)[0] == "norm"
        outside = self.prefix != "" and not path.startswith(f"{self.prefix}.")
        index = None if block is None or outside else int(parts[block])
        before = parts if index is None else parts[:block]
        stack = "lm_head" if outside else self._stack(before)
        if index is not None:
            assert block is not None
            children = self.modules[_block_path(path, parts, block)].named_children()
            has_feedforward_norm = any("pre_feedforward" in name for name, _ in children)
            role = role_of(".".join(parts[block + 1 :]), is_norm, has_feedforward_norm)
        elif isinstance(module, nn.Embedding) and self._is_embedding(module, "get_input_embeddings"):
            role = "embed.tokens"
        elif self._embedding("get_output_embeddings") is module:
            stack, role = "lm_head", "lm_head"
        elif stack == "lm_head":
            linear = "lm_head.transform" if isinstance(module, nn.Linear) else "other"
            role = "lm_head.norm" if is_norm else linear
        else:
            role = outside_role(local, isinstance(module, nn.Embedding), is_norm)
        name = path if role == "other" else layer_name(stack, index, role)
        if name in self.names:  # several of a role in one block, such as experts: the path between tells them apart
            middle = parts[:-1] if block is None or index is None else parts[block + 1 : -1]
            name = layer_name(stack, index, ".".join([*middle, role]))
        if name in self.names:
            name = path
        self._add(stack, index, role, path, name, self._constant_has_effect(path, role))

    def _stack(self, before: list[str]) -> str:
        named = [s for s in ("encoder", "decoder") if s in before]
        if len(named) == 1:
            return named[0]
        kind = self.family.kind if self.family else self.facts.kind or _kind_by_config(self.config)
        return "encoder" if kind == "encoder" else "decoder"

    def _constant_has_effect(self, path: str, role: str) -> bool:
        if self.facts.failure:
            return not role.endswith((".k", ".qkv", ".kv"))  # nothing is known: better to leave one out
        return generic_path(path) not in self.facts.canceled

    def _add(self, stack: str, index: int | None, role: str, path: str, name: str, constant_has_effect: bool) -> None:
        """Add one layer with the positions of its parameters that have none yet."""
        module = self.modules[path]
        kind, d_in, d_out = self._kind(path, module)
        positions = []
        for parameter, p in module.named_parameters(recurse=False):
            if id(p) in self.seen or self._is_unreached(f"{path}.{parameter}"):
                continue
            self.seen.add(id(p))
            owners = self.owners[id(p)]
            tied = tuple(full for o in owners if (full := f"{o.path}.{o.name}".lstrip(".")) != f"{path}.{parameter}")
            # An output projection gives each row of a table that it shares a gradient, the padding's row, too.
            projects = any(isinstance(o.module, nn.Linear) for o in owners if o.path != path)
            unused = (0, 0) if projects else unused_entries(stack, role, module)
            place = f"{name}.{parameter}"
            carrier = self._carrier(path, parameter, owners)
            shape = logical_shape(p)
            positions.append(Position(place, stack, index, role, parameter, shape, kind, path, tied, unused, carrier))
        if kind != "other":
            positions.append(Position(f"{name}.output", stack, index, role, "output", (d_out,), kind, path))
        self.names.add(name)
        # A bias that two layers share is listed at the first alone: what is added to it would change both.
        shares_bias = getattr(module, "bias", None) is not None and not any(p.parameter == "bias" for p in positions)
        can_hold_bias = isinstance(module, nn.Linear | Conv1D | nn.LayerNorm) and kind != "other" and not shares_bias
        self.layers.append(
            Layer(
                name, stack, index, role, path, kind, d_in, d_out, tuple(positions), can_hold_bias, constant_has_effect
            )
        )

    def _carrier(self, path: str, parameter: str, owners: list[Owner]) -> Literal["in_place", "substituted"]:
        facts, generic = self.facts, {generic_path(f"{o.path}.{o.name}".lstrip(".")) for o in owners}
        is_untried = facts.parameters and not generic & facts.parameters  # somebody put it into this one model
        if facts.failure or is_untried or generic & facts.used_elsewhere:
            return "substituted"
        return "in_place" if formulas_of(owners) is not None else "substituted"

    def _kind(self, path: str, module: nn.Module) -> tuple[LayerKind, int, int]:
        """What a layer computes, and the sizes of its input and output, as far as the architecture bears it out."""
        generic, facts = generic_path(path), self.facts
        # Of a layer that is never called, or returns something else than its class says, only parameters are known.
        is_untried = facts.failure != "" and not isinstance(module, PYTORCHS_OWN)
        is_odd = self.family is None and facts.failure == "" and generic not in facts.widths
        return OTHER if generic in facts.uncalled or is_untried or is_odd else layer_kind(module)


_MODELS = "transformers.models."
_HEADS = (
    "classifier", "classification_head", "score", "qa_outputs", "logits_proj", "pre_classifier", "sequence_summary",
    "out_proj", "dense", "head", "pooler_classifier",
)  # fmt: skip
"""Names of task heads in models whose base model is the model itself."""


def _kind_by_config(config: PreTrainedConfig) -> Literal["encoder", "decoder", "encoder-decoder"]:
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    names = " ".join(getattr(config, "architectures", None) or ())
    return "decoder" if getattr(config, "is_decoder", False) or "CausalLM" in names else "encoder"


def _block_path(path: str, parts: list[str], block: int) -> str:
    whole = path.split(".")
    return ".".join(whole[: len(whole) - len(parts) + block + 1])


def _join(prefix: str, path: str) -> str:
    return f"{prefix}.{path}" if prefix else path


def _depth(modules: dict[str, nn.Module], templates: Iterable[str]) -> int:
    lists = {t.split(".*")[0] for t in templates}
    return max((len(m) for name in lists if isinstance(m := modules.get(name), nn.ModuleList)), default=0)
