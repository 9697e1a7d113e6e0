"""The surroundings of a run that its numbers and costs depend on: library versions, machine, memory."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch


def library_versions() -> dict[str, str]:
    """Versions of everything that a number depends on.

    Returns:
        Library -> version; Python among them.
    """
    names = ("apet", "torch", "transformers", "tokenizers", "accelerate", "numpy")
    return {"python": platform.python_version(), **{n: version(n) for n in names}}


def host_description() -> dict[str, object]:
    """The machine that a run is on.

    Returns:
        System, number of threads in use, number of cores.
    """
    return {"system": platform.platform(), "num_threads": torch.get_num_threads(), "cores": os.cpu_count()}


def device_name(devices: Sequence[torch.device]) -> str:
    """The devices of a model in words.

    Returns:
        Such as ``cpu``, or the GPUs' product names.
    """
    return ", ".join(torch.cuda.get_device_name(d) if d.type == "cuda" else d.type for d in devices)


def reset_peak_memory() -> None:
    """Begin to measure the peak anew, where the system can."""
    # Successive runs share a process: without this, a small run would report the peak of a large one before it.
    if torch.cuda.is_available():
        torch.cuda.init()
        for i in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(i)
    with suppress(OSError):  # Linux: 5 resets the peak of the resident set
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(devices: Sequence[torch.device]) -> int:
    """Largest memory use since `reset_peak_memory`.

    Returns:
        Bytes: of the GPUs together, else of this process.
    """
    if devices[0].type == "cuda":
        return sum(int(torch.cuda.max_memory_allocated(d)) for d in devices)
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(x for x in lines if x.startswith("VmHWM")).split()[1])
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS reports bytes, the others KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
