"""A model with a few of its blocks, whose training step tells what a step of all of them takes.

Blocks in the middle of a stack that are alike cost the same, so that sums over a step grow by the same amount with each
of them. What is alive grows so, too, if it is looked at in one part of the step at a time: its highest point is the
highest of the parts, and among the blocks in the middle one of the outermost has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn
from transformers import PreTrainedConfig

from apet.backbones.positions import Backbone
from apet.delta import DeltaSpec

FEWEST = 6
"""Blocks of a stack from which on leaving some out is worth it: 3 and 4 are tried in their stead."""
_OWN_NUMBER = frozenset({"layer_idx", "layer_id", "layer_number", "block_idx", "idx", "training"})
_COUNTS_ALIKE = 0.1


@dataclass(frozen=True)
class Stacks:
    """Stacks of blocks of which those in the middle are alike.

    Attributes:
        paths: of their module lists.
        depth: blocks of each, the same for all.
    """

    paths: tuple[str, ...]
    depth: int

    @property
    def num_between(self) -> int:
        """Blocks between the first and the last."""
        return self.depth - 2

    def left_out(self, between: int) -> tuple[str, ...]:
        """Paths of the blocks that are left out where so many stay between the first and the last."""
        return tuple(f"{path}.{n}" for path in self.paths for n in range(1 + between, self.depth - 1))


def find_stacks(model: nn.Module) -> Stacks | None:
    """Find the stacks that can be shortened.

    Args:
        model: on the meta device.

    Returns:
        All stacks of the model; None where they are of unlike depths, short, or of blocks that are not alike.
    """
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    outer = {name: m for name, m in lists.items() if not any(name.startswith(f"{other}.") for other in lists)}
    depths = {len(m) for m in outer.values()}
    if len(depths) != 1 or (depth := depths.pop()) < FEWEST or _is_mixed(getattr(model, "config"), depth):
        return None
    mixed = any(len({_structure(blocks[n]) for n in range(1, depth - 1)}) > 1 for blocks in outer.values())
    return None if mixed else Stacks(tuple(outer), depth)


def are_trained_alike(stacks: Stacks, backbone: Backbone, spec: DeltaSpec) -> bool:
    """Whether a delta trains as much of all blocks in the middle, in the same places.

    Args:
        stacks: of the model.
        backbone: its description.
        spec: of the delta.

    Returns:
        False where blocks differ by more than which entries are trained, and a tenth more or less of them.
    """
    trained = _trained_by_module(backbone, spec)
    between = range(1, stacks.depth - 1)
    return all(_are_alike([_trained_in(trained, f"{path}.{n}.") for n in between]) for path in stacks.paths)


def _is_mixed(config: PreTrainedConfig, depth: int) -> bool:
    """Whether the configuration says something of each block, and not the same of all."""
    values = (v for v in config.get_text_config().to_dict().values() if isinstance(v, list) and len(v) == depth)
    return any(any(v != value[0] for v in value) for value in values)


def _structure(block: nn.Module) -> tuple[object, ...]:
    """Everything in a block that its forward may depend on, apart from what its tensors hold."""
    return tuple(
        (
            name,
            type(module),
            tuple((n, tuple(p.shape), p.dtype) for n, p in module.named_parameters(recurse=False)),
            tuple((k, v) for k, v in vars(module).items() if isinstance(v, int | float | str) and k not in _OWN_NUMBER),
        )
        for name, module in block.named_modules()
    )


def _trained_by_module(backbone: Backbone, spec: DeltaSpec) -> dict[str, list[tuple[object, ...]]]:
    modules = {x.name: x.module for x in backbone.layers} | {p.name: p.module for p in backbone.positions}
    parameters = {p.name: p.parameter for p in backbone.positions}
    trained: dict[str, list[tuple[object, ...]]] = {}
    for i in spec.insertions:
        place = i.form, parameters.get(i.position, "")
        for w in i.weights:
            trained.setdefault(modules.get(i.position, ""), []).append((*place, w.name, w.shape, w.mask.num_trainable))
    return trained


def _trained_in(trained: dict[str, list[tuple[object, ...]]], block: str) -> list[tuple[object, ...]]:
    return [(m.removeprefix(block), *row) for m, rows in trained.items() if m.startswith(block) for row in rows]


def _are_alike(blocks: list[list[tuple[object, ...]]]) -> bool:
    """Whether the same is trained in all blocks, but for which entries of it and a few more or less."""
    if any([row[:-1] for row in rows] != [row[:-1] for row in blocks[0]] for rows in blocks):
        return False
    counts = [[int(str(row[-1])) for row in rows] for rows in blocks]
    return all(max(c) - min(c) <= max(1, _COUNTS_ALIKE * min(c)) for c in zip(*counts, strict=True))


def shorten(model: nn.Module, left_out: Iterable[str]) -> None:
    """Take blocks out of a model; the others keep their names.

    Args:
        model: of a step that is only tried.
        left_out: paths of blocks.
    """
    for path in left_out:
        stack, _, number = path.rpartition(".")
        del model.get_submodule(stack)._modules[number]


def shorten_spec(spec: DeltaSpec, backbone: Backbone, left_out: Iterable[str]) -> DeltaSpec:
    """What a delta trains outside of the blocks that are left out."""
    prefixes = tuple(f"{path}." for path in left_out)
    gone = {x.name for x in backbone.layers if f"{x.module}.".startswith(prefixes)}
    gone |= {p.name for p in backbone.positions if f"{p.module}.".startswith(prefixes)}
    return replace(spec, insertions=tuple(i for i in spec.insertions if i.position not in gone))


@dataclass(frozen=True)
class Part:
    """A part of a step: up to, in, or after a block.

    Attributes:
        stack: path of the block's stack; '' = before the first block.
        block: its number.
        phase: ``forward``, ``after`` its forward and before the next one's, or ``backward``.
    """

    stack: str
    block: int
    phase: str


def extrapolate_peak(fewer: dict[Part, int], more: dict[Part, int], stacks: Stacks) -> int:
    """The most that is alive at any time in a step of all blocks.

    Args:
        fewer: most bytes in each part of a step with one block between the first and the last.
        more: the same with two.
        stacks: of the whole model.

    Returns:
        Bytes.
    """
    added, highest = stacks.num_between - 1, 0
    for part, one in fewer.items():
        growth = more.get(part, one) - one
        highest = max(highest, one + added * growth)
        second = more.get(replace(part, block=2)) if part.block == 1 else None
        if second is not None:  # the one just before the last block, of as many as there are
            highest = max(highest, one + added * (second - one))
    return highest
