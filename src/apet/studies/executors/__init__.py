"""Where runs happen: this process, processes of this machine, a Ray cluster, Slurm jobs; others register themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from apet.errors import ApetError
from apet.registry import Registry
from apet.studies.executors.base import Executor, ExecutorOptions

__all__ = ["EXECUTORS", "Executor", "ExecutorFactory", "ExecutorOptions", "running_executor"]

ExecutorFactory = Callable[[ExecutorOptions], Executor]


# Modules are imported when an executor is made: local needs torch, ray needs Ray, and a list of names needs neither.
def _local(options: ExecutorOptions) -> Executor:
    import os

    from apet.studies.executors.local import LocalExecutor, default_workers, visible_gpus

    cores = os.cpu_count() or 1
    size, gpus = default_workers(visible_gpus(), options.devices, options.device_maps, cores, options.num_threads)
    return LocalExecutor(options.num_workers or size, gpus)


def _ray(options: ExecutorOptions) -> Executor:
    from apet.studies.executors.ray import RayExecutor

    return RayExecutor(options.num_workers, options.ray_address, options.num_threads, options.num_gpus)


def _slurm(options: ExecutorOptions) -> Executor:
    from apet.studies.executors.slurm import SlurmExecutor

    if not options.num_workers or options.folder is None:
        raise ApetError("executor slurm: say how many jobs run at a time, such as --workers 8")
    if options.num_gpus % 1:
        raise ApetError(f"executor slurm: a job holds whole GPUs, not {options.num_gpus:g}")
    size, threads, gpus = options.num_workers, options.num_threads, int(options.num_gpus)
    return SlurmExecutor(size, options.folder, threads, gpus, options.slurm)


def _in_process(options: ExecutorOptions) -> Executor:
    from apet.studies.executors.base import InProcessExecutor
    from apet.training.progress import Progress
    from apet.training.resources import Resources

    return InProcessExecutor(Resources(Progress(quiet=True)))


def _load_builtin() -> None:
    for name, factory in (("local", _local), ("ray", _ray), ("slurm", _slurm), ("in-process", _in_process)):
        EXECUTORS.register(name, factory, __name__)


EXECUTORS: Registry[ExecutorFactory] = Registry("executor", "apet.executors", _load_builtin)
"""Every executor by name: a function that makes one from options."""


@contextmanager
def running_executor(name: str, options: ExecutorOptions) -> Iterator[Executor]:
    """An executor of a name, as a context manager; its workers are ended whatever happens inside.

    Yields:
        The executor.

    Raises:
        UnknownNameError: no such executor.
        ApetError: it cannot start with these options.
    """
    executor = EXECUTORS.get(name)(options)
    try:
        yield executor
    finally:
        # Workers are processes of their own: without this they would outlive an exception in this one.
        executor.stop()
