"""Beside weights that are sharded over processes (FSDP2): values gathered whole, gradients averaged over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from apet.errors import ApetError, CannotWriteError
from apet.kernels.storage import storage_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh


def whole(tensor: Tensor) -> Tensor:
    """The numbers of a tensor as one plain tensor; of a sharded one, every process has to ask.

    Args:
        tensor: plain, or sharded over processes.

    Returns:
        Itself where it is plain.
    """
    if storage_of(tensor) != "sharded":
        return tensor
    gather: Callable[[], Tensor] = getattr(tensor.detach(), "full_tensor")
    return gather()


def is_sharded_whole(model: nn.Module) -> bool:
    """Whether ``fully_shard`` was called on the model itself, not only on parts of it."""
    # By the module's name: importing it takes a while, and who has sharded has done it.
    return any(c.__module__.startswith("torch.distributed.fsdp.") for c in type(model).__mro__)


def sharded_mesh(model: nn.Module) -> DeviceMesh | None:
    """The processes that a model's parameters are sharded over.

    Args:
        model: any.

    Returns:
        None where every process has all of them.

    Raises:
        ApetError: they are sharded otherwise than by ``fully_shard``, so that processes compute different parts of one
            layer (tensor parallelism), and what is added to a layer's output would be added in one part only.
    """
    sharded = next((p for p in model.parameters() if storage_of(p) == "sharded"), None)
    if sharded is None:
        return None
    if not any(is_sharded_whole(module) for module in model.modules()):
        raise ApetError(
            "this model's parameters are sharded, and not by torch.distributed.fsdp.fully_shard; deltas cannot act on"
            " parts of layers: load it without a tensor-parallel plan, and shard it by fully_shard"
        )
    mesh: DeviceMesh = getattr(sharded, "device_mesh")
    return mesh


class AveragedGradients:
    """Averages, once in each backward, the gradients of values that every process holds whole.

    ``fully_shard`` reduces the gradients of those parameters only that it has sharded; values that came later, or that
    lie outside of what was sharded, would get those of the process's own rows, and drift apart without a word.

    All gradients go in one reduction, zeros standing for those that a process does not have: so no process waits for
    one that another never sends, as of an expert that none of its tokens was routed to. A gradient that was averaged
    before, and has been added to since, is averaged rightly again, the old part being the same everywhere.

    Args:
        parameters: the values.
        mesh: the processes.
    """

    def __init__(self, parameters: Iterable[Tensor], mesh: DeviceMesh) -> None:
        self.parameters = list(parameters)
        self.mesh = mesh
        self._queued_for = -1

    def register(self) -> list[RemovableHandle]:
        """Hook into the values' gradients; returns what takes the hooks off again."""
        return [p.register_post_accumulate_grad_hook(self._queue) for p in self.parameters]

    def _queue(self, parameter: Tensor) -> None:
        # By the backward's number, not by a flag: one that fails must not leave the next without its reduction.
        current: int = torch._C._current_graph_task_id()
        if self._queued_for != current:
            self._queued_for = current
            torch.autograd.Variable._execution_engine.queue_callback(self._average)

    @torch.no_grad()
    def _average(self) -> None:
        import torch.distributed as dist

        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.parameters])
        for axis in range(self.mesh.ndim):
            group: ProcessGroup = self.mesh.get_group(axis)
            dist.all_reduce(flat, group=group)
        flat /= self.mesh.size()
        pieces = flat.split([p.numel() for p in self.parameters])
        for p, piece in zip(self.parameters, pieces, strict=True):
            if p.grad is None:
                p.grad = piece.view_as(p).clone()
            else:
                p.grad.copy_(piece.view_as(p))


def by_first_process(model: nn.Module, write: Callable[[], object]) -> None:
    """Write something once, where a sharded model makes several processes want to; all go on when it is there.

    Args:
        model: that is saved; of one that is not sharded, whoever calls this writes.
        write: writes.

    Raises:
        CannotWriteError: in every process, where the first one cannot write.
    """
    mesh = sharded_mesh(model)
    if mesh is None:
        write()
        return
    import torch.distributed as dist

    refusal: list[str | None] = [None]
    if not any(mesh.get_coordinate() or ()):
        try:
            write()
        except CannotWriteError as e:
            refusal = [str(e)]
    for axis in range(mesh.ndim):
        dist.broadcast_object_list(refusal, group=mesh.get_group(axis), group_src=0)
    if refusal[0] is not None:
        raise CannotWriteError(refusal[0])
