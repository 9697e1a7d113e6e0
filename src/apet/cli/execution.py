"""Executors by name, for the commands that run many runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apet.errors import UnknownNameError

if TYPE_CHECKING:
    from apet.studies.executors.base import Executor
    from apet.training.config import RunConfig


@dataclass(frozen=True)
class ExecutorOptions:
    """What the command line says about the executor.

    Attributes:
        name: ``local`` or ``ray``.
        workers: how many; 0 = as many as fit.
        ray_address: address of the Ray cluster; None = Ray's own search.
        gpus: GPUs that each Ray worker holds.
    """

    name: str
    workers: int
    ray_address: str | None
    gpus: float


@contextlib.contextmanager
def open_executor(options: ExecutorOptions, configs: Sequence[RunConfig]) -> Iterator[Executor]:
    """Executor for runs of these settings, whose workers end with the block, whatever happens in it.

    Args:
        options: which one, and how large.
        configs: settings of the runs: their devices and threads decide how many workers fit on this machine.

    Yields:
        The executor.

    Raises:
        UnknownNameError: there is no executor of that name.
    """
    executor = _make_executor(options, configs)
    try:
        yield executor
    finally:
        executor.stop()  # else workers outlive the command after an error or Ctrl-C


def _make_executor(options: ExecutorOptions, configs: Sequence[RunConfig]) -> Executor:
    # All runs of a study have the number of threads that its defaults give; the first run stands for them.
    threads = configs[0].num_threads or 1
    if options.name == "local":
        from apet.studies.executors.local import LocalExecutor, default_workers, visible_gpus

        devices, device_maps = {config.device for config in configs}, {config.device_map for config in configs}
        size, gpu_names = default_workers(visible_gpus(), devices, device_maps, os.cpu_count() or 1, threads)
        return LocalExecutor(options.workers or size, gpu_names)
    if options.name == "ray":
        from apet.studies.executors.ray import RayExecutor

        return RayExecutor(options.workers, options.ray_address, threads, options.gpus)
    raise UnknownNameError("executor", options.name, ["local", "ray"])
