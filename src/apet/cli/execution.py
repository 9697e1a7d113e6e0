"""Executors by name, for the commands that run many runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apet.studies.executors.base import Executor
    from apet.training.config import RunConfig


@contextlib.contextmanager
def open_executor(
    name: str, num_workers: int, ray_address: str | None, num_gpus: float, configs: Sequence[RunConfig]
) -> Iterator[Executor]:
    """Executor for runs of these settings, whose workers end with the block, whatever happens in it.

    Args:
        name: of a registered executor.
        num_workers: runs at a time; 0 = as many as fit.
        ray_address: address of the Ray cluster; None = Ray's own search.
        num_gpus: GPUs that each Ray worker holds.
        configs: settings of the runs: their devices and threads decide how many workers fit on this machine.

    Yields:
        The executor.

    Raises:
        UnknownNameError: there is no executor of that name.
    """
    from apet.studies.executors import ExecutorOptions, running_executor

    options = ExecutorOptions(
        num_workers=num_workers,
        # All runs of a study have the number of threads that its defaults give; the first run stands for them.
        num_threads=configs[0].num_threads or 1,
        num_gpus=num_gpus,
        ray_address=ray_address,
        devices=frozenset(config.device for config in configs),
        device_maps=frozenset(config.device_map for config in configs),
    )
    with running_executor(name, options) as executor:
        yield executor
